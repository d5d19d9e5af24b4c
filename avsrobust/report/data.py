"""Tables for programs: csv, json, parquet.

Conventions
    Fractions at full precision: the shortest decimal that reads back as the same float64. Undefined is an empty cell, null.
    csv (RFC 4180 quoting, "\\n" at the end of lines) holds `columns.CSV_COLUMNS` and those of further conditions where there are
    any; json holds everything; parquet holds csv's columns and what stands beside them. Text in csv is inert (`escape.csv_cell`).
    Where two results of one model agree even in seed, recipe and release, csv numbers them: ``<model> (1)``, ``<model> (2)``.
    json and parquet say in `task` whether a line scores classes ("semantic") or sounding or not ("binary"). csv has no column
    for it: where one data set and split has both, the protocol of the latter reads ``<protocol>-binary``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from avsrobust import __version__
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.metrics import DatasetScore, MaskOverlap, Protocol, ThresholdCurve
from avsrobust.report.blocks import HEADLINES
from avsrobust.report.columns import METRICS, extended_cells
from avsrobust.report.diagnostics import Diagnostics
from avsrobust.report.escape import csv_cell, json_text, unicode_text
from avsrobust.report.tables import Line, Subject, Table

REPORT_VERSION = 1
_INTEGERS = ("clips", "clips_skipped", "empty_frames", "failed_clips", "muted_clips")
_TEXTS = ("model", "name", "dataset", "split", "task", "protocol", "category", "recipe", "release", "source")
_OVER_CLASSES = ("mIoU", "F", "G_mIoU", "G_F")


def render_csv(table: Table) -> str:
    """Return the table as csv."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in table.columns])
    for line in table.lines:
        cells = _cells(table, line)
        cells |= {"model": line.subject.csv_model, "protocol": table.protocol_cell(line)}
        writer.writerow([csv_cell(cells[name]) for name in table.columns])
    return stream.getvalue()


def render_json(table: Table) -> str:
    """Return the table, its floors, conditions, diagnostics, notes and warnings as JSON."""
    content = {
        "avsrobust": __version__,
        "report_version": REPORT_VERSION,
        "columns": list(table.columns),
        "metrics": {name: _metric(name) for name in METRICS},
        "protocols": {protocol.name: asdict(protocol) for protocol in table.protocols},
        "semantic_protocols": {protocol.name: asdict(protocol) for protocol in table.semantic_protocols},
        "lines": [_line(table, line) for line in table.lines],
        "classes": [_class_line(table, line) for line in table.classes],
        "diagnostics": [_subject(subject) for subject in table.subjects],
        "notes": list(table.notes),
        "warnings": list(table.warnings),
    }
    return json_text(content)


def render_parquet(table: Table) -> bytes:
    """Return csv's columns, the floors (``floor_`` and the column) and the diagnostics as a parquet file."""
    rows = [_flat(table, line) for line in table.lines]
    names = list(_flat_names(table))
    columns = [pa.array([_storable(row[name]) for row in rows], type=_type(name)) for name in names]
    metadata = {
        "avsrobust.report_version": str(REPORT_VERSION),
        "avsrobust.version": __version__,
        "avsrobust.protocols": json.dumps({entry.name: asdict(entry) for entry in table.protocols}),
        "avsrobust.semantic_protocols": json.dumps({entry.name: asdict(entry) for entry in table.semantic_protocols}),
        "avsrobust.notes": json.dumps(table.notes),
        "avsrobust.warnings": json.dumps(table.warnings),
    }
    schema = pa.schema([pa.field(unicode_text(name), _type(name)) for name in names], metadata=metadata)
    stream = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), stream, compression="zstd")
    return stream.getvalue()


def _cells(table: Table, line: Line) -> dict[str, str | int | float | None]:
    """Return the cells of the table's columns."""
    return {**line.cells(), **extended_cells(line.score.conditions, table.extended)}


def _storable(value: str | float | None) -> str | float | None:
    return unicode_text(value) if isinstance(value, str) else value


def _metric(name: str) -> dict[str, Any]:
    metric = METRICS[name]
    bounds = [metric.lowest, metric.highest]
    return {"label": metric.label, "higher_is_better": metric.higher_is_better, "bounds": bounds}


def _line(table: Table, line: Line) -> dict[str, Any]:
    score = line.score
    return {
        **_cells(table, line),
        "task": line.subject.task,
        "name": line.subject.name,
        **_backgrounds(line),
        "mIoU_negative": score.miou_negative,
        "F_negative": score.f_negative,
        "clips_skipped": score.clips_skipped,
        "empty_frames": score.empty_frames,
        "missing": list(score.missing),
        "floors": line.floor.columns(),
        "conditions": _conditions(score),
    }


def _class_line(table: Table, line: Line) -> dict[str, Any]:
    entry = _line(table, line)
    return {"class": line.category, "class_id": AVSS_CLASSES.index(line.category or ""), **entry}


def _backgrounds(line: Line) -> dict[str, float | None]:
    """The four means over classes with and without background; None where classes are not scored."""
    both = (None, None) if line.semantic is None else (line.semantic.with_background, line.semantic.without_background)
    return {
        f"{name}_{title.replace(' ', '_')}": None if score is None else score.columns()[name]
        for title, score in zip(HEADLINES, both, strict=True)
        for name in _OVER_CLASSES
    }


def _conditions(score: DatasetScore) -> list[dict[str, Any]]:
    return [
        {
            "condition": entry.condition,
            "level": entry.level,
            "polarity": "negative" if entry.negative else "positive",
            "mIoU": entry.miou,
            "F": entry.f,
            "FPR": entry.fpr,
            "clips": entry.clips,
            "frames": entry.frames,
            "empty_frames": entry.empty_frames,
            "clips_skipped": entry.skipped,
        }
        for entry in score.conditions
    ]


def _subject(subject: Subject) -> dict[str, Any]:
    return {
        "name": subject.name,
        "model": subject.model,
        "dataset": subject.dataset,
        "split": subject.split,
        "task": subject.task,
        "seed": subject.seed,
        "recipe": subject.recipe,
        "release": subject.release,
        "source": subject.source,
        **_diagnostics(subject.diagnostics),
        "failed": [asdict(entry) for entry in subject.failed],
        "run": _plain(subject.run),
    }


def _diagnostics(diagnostics: Diagnostics) -> dict[str, Any]:
    return {
        "clips": diagnostics.clips,
        "frames": diagnostics.frames,
        "empty_frames": diagnostics.empty_frames,
        "muted_clips": diagnostics.muted_clips,
        "binary_masks": diagnostics.binary_masks,
        "missing_rows": diagnostics.missing_rows,
        "missing_clean": diagnostics.missing_clean,
        "overlap": _overlap(diagnostics.overlap),
        "auroc": diagnostics.auroc,
        "best_threshold": diagnostics.best_threshold,
        "best_threshold_G_mIoU": diagnostics.best_g_miou,
        "threshold_curve": _curve(diagnostics.curve),
        "conditions": [
            {
                "condition": entry.condition,
                "level": entry.level,
                "missing_clips": entry.missing_clips,
                "overlap": _overlap(entry.overlap),
                "auroc": entry.auroc,
            }
            for entry in diagnostics.conditions
        ],
    }


def _overlap(overlap: MaskOverlap) -> dict[str, Any]:
    return asdict(overlap)


def _curve(curve: ThresholdCurve | None) -> dict[str, Any] | None:
    if curve is None:
        return None
    return {
        "threshold": curve.threshold.tolist(),
        "mIoU": curve.miou.tolist(),
        "mIoU_negative": curve.miou_negative.tolist(),
        "G_mIoU": curve.g_miou.tolist(),
    }


def _plain(value: Any) -> Any:
    """Return what ``run.json`` said, without numbers that JSON has no word for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _flat(table: Table, line: Line) -> dict[str, Any]:
    subject, diagnostics = line.subject, line.subject.diagnostics
    return {
        **_cells(table, line),
        **{f"floor_{name}": value for name, value in line.floor.columns().items()},
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
        **_backgrounds(line),
        "name": subject.name,
        "source": subject.source,
    }


def _flat_names(table: Table) -> tuple[str, ...]:
    beside = (
        *(f"floor_{name}" for name in METRICS),
        *("mIoU_negative", "F_negative", "clips_skipped", "empty_frames", "failed_clips", "muted_clips"),
        *("threshold", "beta2"),
        *("overlap", "auroc", "best_threshold", "best_threshold_G_mIoU", "task"),
        *(f"{name}_{title.replace(' ', '_')}" for title in HEADLINES for name in _OVER_CLASSES),
        *("name", "source"),
    )
    return (*table.columns, *beside)


def _type(name: str) -> pa.DataType:
    if name in _TEXTS:
        return pa.string()
    if name == "seed":
        return pa.uint64()
    return pa.int64() if name in _INTEGERS else pa.float64()
