"""Several results of one model in one line: mean and spread over the seeds of builds and of trainings.

Conventions
    Lines of one model, recipe, data set, release, split, task, protocol, size and category are one line, whatever their seed or
    weights: training seeds count too, where their results have one name (``--rename net_seed1=net``).
    Every score is the mean over the results, G scores too (not the G score of means); the spread is the sample standard
    deviation.
    A score that is undefined in one of the results is undefined in the mean.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.metrics import ConditionScore, DatasetScore
from avsrobust.reporting.model import Line, Table
from avsrobust.reporting.naming import split_name
from avsrobust.vocabulary import counted

SEEDS = "seeds"
_SCORES = ("miou", "f", "miou_negative", "f_negative", "fpr_negative", "g_miou", "g_f", "g_fpr")
_MEASURES = ("miou", "f", "fpr")


def check_aggregate(name: str | None) -> None:
    """Raise `OptionError` unless there is such an aggregation."""
    if name not in (None, SEEDS):
        raise OptionError(f"--aggregate: found '{name}'; expected {SEEDS}{did_you_mean(str(name), [SEEDS])}")


def aggregated(table: Table) -> Table:
    """Return the table with one line for all results of a model that differ in seeds alone."""
    groups: dict[tuple[object, ...], list[Line]] = {}
    for line in table.lines:
        groups.setdefault(_key(line), []).append(line)
    classes: dict[tuple[object, ...], list[Line]] = {}
    for line in table.classes:
        classes.setdefault(_key(line), []).append(line)
    notes = dict.fromkeys(note for lines in groups.values() if len(lines) > 1 and (note := _note(lines)))
    return replace(
        table,
        lines=tuple(_merged(lines) for lines in groups.values()),
        classes=tuple(_merged(lines) for lines in classes.values()),
        notes=(*table.notes, *notes),
    )


def _key(line: Line) -> tuple[object, ...]:
    """Lines with the same key become one."""
    subject = line.subject
    return (
        subject.model,
        subject.recipe,
        subject.split_key,
        subject.task,
        subject.score_size,
        line.protocol.name,
        line.category,
        subject.is_baseline,
    )


def _note(lines: Sequence[Line]) -> str:
    """The results that a line is the mean of."""
    subject = lines[0].subject
    seeds = ", ".join(str(line.subject.seed) for line in lines)
    return (
        f"{subject.model} on {split_name(subject.split_key)}: mean and sample standard deviation of "
        f"{counted(len(lines), 'result')}, of builds with seeds {seeds}"
    )


def _merged(lines: Sequence[Line]) -> Line:
    """The mean line."""
    if len(lines) == 1:
        return lines[0]
    first = lines[0]
    name = f"{first.subject.model} ({len(lines)} runs)"
    return replace(
        first,
        subject=replace(first.subject, name=name, csv_model=first.subject.model),
        score=_mean_score([line.score for line in lines]),
        trivial=_mean_score([line.trivial for line in lines]),
        ceiling=_mean_score([line.ceiling for line in lines]),
        semantic=None,
        extra=(),
        intervals={},
        runs=len(lines),
        spread=_spread([line.score for line in lines]),
    )


def _mean_score(scores: Sequence[DatasetScore]) -> DatasetScore:
    """The mean of every score."""
    keys = [entry.key for entry in scores[0].conditions if all(score.condition(*entry.key) for score in scores)]
    conditions = [[found for score in scores if (found := score.condition(*key)) is not None] for key in keys]
    means: dict[str, Any] = {name: _mean([getattr(score, name) for score in scores]) for name in _SCORES}
    return replace(
        scores[0],
        conditions=tuple(_mean_condition(entries) for entries in conditions),
        missing=tuple(dict.fromkeys(name for score in scores for name in score.missing)),
        **means,
    )


def _mean_condition(entries: Sequence[ConditionScore]) -> ConditionScore:
    """The mean of the scores under one condition."""
    means: dict[str, Any] = {name: _mean([getattr(entry, name) for entry in entries]) for name in _MEASURES}
    return replace(entries[0], **means)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is undefined."""
    present = [value for value in values if value is not None]
    return statistics.fmean(present) if len(present) == len(values) else None


def _spread(scores: Sequence[DatasetScore]) -> dict[str, float]:
    """The sample standard deviation of every score column that is defined in all results."""
    columns = [score.columns() for score in scores]
    found = {}
    for name in columns[0]:
        values = [value for of in columns if (value := of[name]) is not None]
        if len(values) == len(columns):
            found[name] = statistics.stdev(values)
    return found
