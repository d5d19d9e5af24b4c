"""AVSBench's csv tables: reading them by column name, whatever wrote them.

Conventions
    Accepted are UTF-8 with or without a byte order mark, any line ending, quoted cells. Cells and headers are stripped of
    surrounding blanks; headers are compared without regard to case. Blank lines are skipped.
    Lines count from 1, the header included.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avsrobust.datasets.clips import Finding
from avsrobust.errors import DataSetError


@dataclass(frozen=True)
class TableRow:
    """One row: its line and as many cells as the table has columns."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A csv table; `path` is relative to the data root. `findings` are rows that do not fit the header."""

    path: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    findings: tuple[Finding, ...] = ()

    def column(self, *names: str) -> int | None:
        """Return the index of the first column that has one of these names, or None.

        Raises `DataSetError` where that name is there twice.
        """
        folded = [column.casefold() for column in self.columns]
        for index, name in enumerate(folded):
            if name in names:
                if folded.count(name) > 1:
                    raise DataSetError(f"{self.path}: has the column '{name}' twice; expected it once; remove one")
                return index
        return None

    def require(self, *names: str) -> Mapping[str, int]:
        """Return the index of each of these columns. Raises `DataSetError` that names those missing and those found."""
        found = {name: self.column(name) for name in names}
        missing = [name for name, index in found.items() if index is None]
        if missing:
            raise DataSetError(
                f"{self.path}: has no column {', '.join(missing)}; found the columns {', '.join(self.columns)}; "
                f"expected {', '.join(names)}; take the table that comes with AVSBench"
            )
        return {name: index for name, index in found.items() if index is not None}

    def where(self, row: TableRow) -> str:
        """Return a row's place, for findings."""
        return f"{self.path}:{row.line}"


def read_table(root: Path, path: str) -> Table:
    """Read the csv file `path` below `root`.

    Raises `DataSetError` where it cannot be read, is no UTF-8 or no csv, or has no rows.
    """
    advice = "expected the csv table that comes with AVSBench"
    lines: list[TableRow] = []
    try:
        with (root / path).open(encoding="utf-8-sig", newline="") as stream:
            # strict: an unclosed quote would otherwise swallow the rest of the table.
            reader = csv.reader(stream, strict=True)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    lines.append(TableRow(reader.line_num, tuple(cell.strip() for cell in cells)))
    except OSError as error:
        raise DataSetError(f"{path}: cannot be read ({error.strerror or error}); {advice}") from error
    except UnicodeDecodeError as error:
        raise DataSetError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start}); {advice}") from error
    except csv.Error as error:
        raise DataSetError(f"{path}: is no well-formed csv, line {reader.line_num} ({error}); {advice}") from error
    if len(lines) < 2:
        raise DataSetError(f"{path}: found {'a header without rows' if lines else 'no header'}; {advice}")
    return _table(path, lines[0].cells, lines[1:])


def _table(path: str, columns: tuple[str, ...], lines: Sequence[TableRow]) -> Table:
    rows: list[TableRow] = []
    findings: list[Finding] = []
    for row in lines:
        cells = row.cells
        while len(cells) > len(columns) and not cells[-1]:
            cells = cells[:-1]
        if len(cells) == len(columns):
            rows.append(TableRow(row.line, cells))
        else:
            found, expected = f"{len(cells)} cells", f"{len(columns)}, as in the header"
            findings.append(Finding(f"{path}:{row.line}", found, expected, clip_id=f"line {row.line}"))
    return Table(path, columns, tuple(rows), tuple(findings))
