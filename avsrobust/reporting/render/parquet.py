"""Format parquet: the csv's columns, trivial scores (``trivial_`` and the column), ceilings (``ceiling_``) and diagnostics.

Conventions
    A row per line. Fractions are float64; undefined is null. `task` is "semantic" or "binary". Texts are as they are, but for
    halves of surrogate pairs. The key-value metadata holds the constants of the protocols, notes and warnings as JSON.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avsrobust import __version__
from avsrobust.metrics import Protocol
from avsrobust.reporting.columns import (
    CEILING_PREFIX,
    MEAN_COLUMNS,
    METRICS,
    REPORTED_COLUMN,
    SIGNATURE_COLUMN,
    TRIVIAL_PREFIX,
)
from avsrobust.reporting.escape import unicode_text
from avsrobust.reporting.formats import REPORT_VERSION, Format
from avsrobust.reporting.model import Line, Table

_INTEGERS = ("clips", "clips_skipped", "empty_frames", "failed_clips", "muted_clips")
_TEXTS = (
    "model",
    "name",
    "dataset",
    "split",
    "task",
    "protocol",
    "category",
    "recipe",
    "release",
    "source",
    SIGNATURE_COLUMN,
    REPORTED_COLUMN,
)


def render_parquet(table: Table) -> bytes:
    """Return the table as a parquet file."""
    names = _names(table)
    rows = [_row(table, line) for line in table.lines]
    rows += [{**dict.fromkeys(names), **cells, "name": cells["model"]} for cells in table.reported_rows]
    columns = [pa.array([_storable(row[name]) for row in rows], type=_type(name)) for name in names]
    metadata = {
        "avsrobust.report_version": str(REPORT_VERSION),
        "avsrobust.version": __version__,
        "avsrobust.protocols": json.dumps({entry.name: asdict(entry) for entry in table.protocols}),
        "avsrobust.semantic_protocols": json.dumps({entry.name: asdict(entry) for entry in table.semantic_protocols}),
        "avsrobust.negatives": json.dumps(table.negatives),
        "avsrobust.notes": json.dumps(table.notes),
        "avsrobust.warnings": json.dumps(table.warnings),
    }
    schema = pa.schema([pa.field(unicode_text(name), _type(name)) for name in names], metadata=metadata)
    stream = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), stream, compression="zstd")
    return stream.getvalue()


def _row(table: Table, line: Line) -> dict[str, Any]:
    """One row by column."""
    subject, diagnostics = line.subject, line.subject.diagnostics
    return {
        **table.cells(line),
        **{f"{TRIVIAL_PREFIX}{name}": value for name, value in line.trivial.columns().items()},
        **{f"{CEILING_PREFIX}{name}": value for name, value in line.ceiling.columns().items()},
        "mIoU_negative": line.score.miou_negative,
        "F_negative": line.score.f_negative,
        "clips_skipped": line.score.clips_skipped,
        "empty_frames": line.score.empty_frames,
        "failed_clips": len(subject.failed),
        "muted_clips": diagnostics.muted_clips,
        "threshold": line.protocol.threshold if isinstance(line.protocol, Protocol) else None,
        "beta2": line.protocol.beta2,
        "overlap": diagnostics.overlap.value,
        "auroc": diagnostics.auroc,
        "best_threshold": diagnostics.best_threshold,
        "best_threshold_G_mIoU": diagnostics.best_g_miou,
        "task": subject.task,
        **line.mean_columns(),
        "name": subject.name,
        "source": subject.source,
    }


def _names(table: Table) -> tuple[str, ...]:
    """Names of all columns, in order."""
    return (
        *table.columns,
        *(f"{TRIVIAL_PREFIX}{name}" for name in METRICS),
        *("mIoU_negative", "F_negative", "clips_skipped", "empty_frames", "failed_clips", "muted_clips"),
        *("threshold", "beta2"),
        *("overlap", "auroc", "best_threshold", "best_threshold_G_mIoU", "task"),
        *MEAN_COLUMNS,
        *("name", "source"),
        *(f"{CEILING_PREFIX}{name}" for name in METRICS),
    )


def _storable(value: str | float | None) -> str | float | None:
    """A value that parquet can hold."""
    return unicode_text(value) if isinstance(value, str) else value


def _type(name: str) -> pa.DataType:
    """The type of a column."""
    if name in _TEXTS:
        return pa.string()
    if name == "seed":
        return pa.uint64()
    return pa.int64() if name in _INTEGERS else pa.float64()


FORMAT = Format("parquet", ".parquet", render_parquet)
