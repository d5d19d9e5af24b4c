"""Format csv: one line per line of the table, for programs and spreadsheets.

Conventions
    Fractions at full precision: the shortest decimal that reads back as the same float64. Undefined is an empty cell.
    RFC 4180 quoting, "\\n" at the end of lines. Columns are `columns.CSV_COLUMNS`, then those of extended conditions where
    there are any. Text is inert (`escape.csv_cell`).
    Where two results of one model agree even in seed, recipe and release, they are numbered: ``<model> (1)``, ``<model> (2)``.
    There is no column for the task: where one split has semantic and binary lines, the protocol of the latter reads
    ``<protocol>-binary``.
    Published scores are rows of their own at the end, marked by the column `reported_by`.
"""

from __future__ import annotations

import csv
import io

from avsrobust.reporting.escape import csv_cell
from avsrobust.reporting.formats import Format
from avsrobust.reporting.model import Table


def render_csv(table: Table) -> str:
    """Return the table as csv."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in table.columns])
    for line in table.lines:
        cells = {**table.cells(line), "model": line.subject.csv_model, "protocol": table.csv_protocol(line)}
        writer.writerow([csv_cell(cells[name]) for name in table.columns])
    for cells in table.reported_rows:
        writer.writerow([csv_cell(cells[name]) for name in table.columns])
    return stream.getvalue()


FORMAT = Format("csv", ".csv", render_csv)
