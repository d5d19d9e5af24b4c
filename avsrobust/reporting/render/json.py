"""Format json: everything the table holds, for programs.

Conventions
    Fractions at full precision; undefined is null. Lines have the csv's columns and `task`, "semantic" or "binary"; `trivial`
    are the scores of a model that predicts nothing, `ceiling` those of a perfect one, `conditions` those under each condition,
    `extra` the extra scores requested. `negatives` are the conditions of G. `protocols` and `semantic_protocols` hold the
    constants of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from avsrobust import __version__
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.metrics import DatasetScore, ThresholdCurve
from avsrobust.reporting.columns import MEASURES, METRICS
from avsrobust.reporting.diagnostics import Diagnostics
from avsrobust.reporting.escape import json_text
from avsrobust.reporting.formats import REPORT_VERSION, Format
from avsrobust.reporting.model import Line, Subject, Table
from avsrobust.reporting.presentation import sections
from avsrobust.reporting.reported import ReportedScore
from avsrobust.vocabulary import NEGATIVE, POSITIVE


def render_json(table: Table) -> str:
    """Return the table with trivial scores, conditions, diagnostics, notes and warnings as JSON."""
    blocks = [block for section in sections(table) for block in section.blocks] if table.reported else []
    content = {
        "avsrobust": __version__,
        "report_version": REPORT_VERSION,
        "columns": list(table.columns),
        "negatives": list(table.negatives),
        "metrics": {name: _metric(name) for name in METRICS},
        "protocols": {protocol.name: asdict(protocol) for protocol in table.protocols},
        "semantic_protocols": {protocol.name: asdict(protocol) for protocol in table.semantic_protocols},
        "lines": [_line(table, line) for line in table.lines],
        "classes": [_class_line(table, line) for line in table.classes],
        **({"reported": [_reported(score) for block in blocks for score in block.reported]} if table.reported else {}),
        "diagnostics": [_subject(subject) for subject in table.subjects],
        "notes": list(table.notes),
        "warnings": list(table.warnings),
    }
    return json_text(content)


def _metric(name: str) -> dict[str, Any]:
    """Label, direction and bounds of a score column."""
    metric = METRICS[name]
    bounds = [metric.lowest, metric.highest]
    return {"label": metric.label, "higher_is_better": metric.higher_is_better, "bounds": bounds}


def _line(table: Table, line: Line) -> dict[str, Any]:
    """One line."""
    score = line.score
    return {
        **table.cells(line),
        "task": line.subject.task,
        "name": line.subject.name,
        **line.mean_columns(),
        "mIoU_negative": score.miou_negative,
        "F_negative": score.f_negative,
        "clips_skipped": score.clips_skipped,
        "empty_frames": score.empty_frames,
        "missing": list(score.missing),
        **({"intervals": _intervals(table, line)} if line.intervals else {}),
        **({"runs": line.runs, "spread": dict(line.spread)} if line.runs > 1 else {}),
        "trivial": line.trivial.columns(),
        "ceiling": line.ceiling.columns(),
        "extra": [asdict(entry) for entry in line.extra],
        "conditions": _conditions(score),
    }


def _reported(score: ReportedScore) -> dict[str, Any]:
    """One published score, and the measured ones of the same model."""
    line = score.line
    return {
        "model": line.model,
        "dataset": line.dataset,
        "split": line.split,
        "task": line.task,
        "protocol": line.protocol,
        "column": score.column,
        "reported": score.value,
        "source": line.source,
        "table": line.table,
        "comparable": line.comparable,
        "reason": line.reason,
        "measured": [
            {"name": subject.name, "value": value, "difference": value - score.value}
            for subject, value in score.measured
        ],
    }


def _intervals(table: Table, line: Line) -> dict[str, list[float]]:
    """The 95 % interval of every score column, those of extended conditions included."""
    names = [f"{prefix}_{measure}" for prefix in table.extended.values() for measure in MEASURES]
    found = ((name, table.interval(line, name)) for name in dict.fromkeys((*line.score.columns(), *names)))
    return {name: [interval.low, interval.high] for name, interval in found if interval is not None}


def _class_line(table: Table, line: Line) -> dict[str, Any]:
    """The line of one class."""
    entry = _line(table, line)
    return {"class": line.category, "class_id": AVSS_CLASSES.index(line.category or ""), **entry}


def _conditions(score: DatasetScore) -> list[dict[str, Any]]:
    """Scores under each condition."""
    return [
        {
            "condition": entry.condition,
            "level": entry.level,
            "polarity": NEGATIVE if entry.negative else POSITIVE,
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
    """Provenance and diagnostics of one result."""
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
    """Diagnostics of one result."""
    return {
        "clips": diagnostics.clips,
        "frames": diagnostics.frames,
        "empty_frames": diagnostics.empty_frames,
        "muted_clips": diagnostics.muted_clips,
        "binary_masks": diagnostics.binary_masks,
        "missing_rows": diagnostics.missing_rows,
        "missing_clean": diagnostics.missing_clean,
        "overlap": asdict(diagnostics.overlap),
        "auroc": diagnostics.auroc,
        "best_threshold": diagnostics.best_threshold,
        "best_threshold_G_mIoU": diagnostics.best_g_miou,
        "threshold_curve": _curve(diagnostics.curve),
        "conditions": [
            {
                "condition": entry.condition,
                "level": entry.level,
                "missing_clips": entry.missing_clips,
                "overlap": asdict(entry.overlap),
                "auroc": entry.auroc,
            }
            for entry in diagnostics.conditions
        ],
    }


def _curve(curve: ThresholdCurve | None) -> dict[str, Any] | None:
    """The threshold curve; None where there is none."""
    if curve is None:
        return None
    return {
        "threshold": curve.threshold.tolist(),
        "mIoU": curve.miou.tolist(),
        "mIoU_negative": curve.miou_negative.tolist(),
        "G_mIoU": curve.g_miou.tolist(),
    }


def _plain(value: Any) -> Any:
    """A value of ``run.json``, with None for NaN and infinite numbers, which JSON cannot hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


FORMAT = Format("json", ".json", render_json)
