"""From results to one table: pure, no files, no formats.

Conventions
    One line per (model, dataset, split, protocol), by category also one per label of the clips; a clip with several labels
    counts in each of them. Lines are sorted by dataset, split, protocol, category (all first) and model; the yardsticks,
    which are no models, come last.
    Results of one model, data set and split from several files are lines of their own, never averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from avsrobust.errors import OptionError, ResultsError, did_you_mean
from avsrobust.metrics import (
    ClipScores,
    DatasetScore,
    Protocol,
    ScoredFrames,
    clip_scores,
    empty_prediction,
    get_protocol,
    summarise,
)
from avsrobust.report.columns import ALL_CATEGORIES, CATEGORY_COLUMN, CSV_COLUMNS, YARDSTICKS
from avsrobust.report.diagnostics import Diagnostics, diagnose
from avsrobust.report.evaluations import Evaluation, evaluation, splits_of
from avsrobust.report.findings import find_notes, find_warnings
from avsrobust.results import FailedClip, Run, Scores

GROUPINGS = (CATEGORY_COLUMN,)
Details = Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """One model's results on one split of a data set.

    `name` is the model, told apart from others of the same name; `run` is what ``run.json`` says (empty: there was none).
    """

    name: str
    model: str
    dataset: str
    split: str
    seed: int
    source: str | None
    diagnostics: Diagnostics
    failed: tuple[FailedClip, ...]
    run: Details

    @property
    def is_yardstick(self) -> bool:
        """Whether this is no model, but a measure of what the protocol can show."""
        return self.model in YARDSTICKS


@dataclass(frozen=True)
class Line:
    """One line of the table. `category` is None unless lines are by category.

    `score` is the model's, `floor` that of a model which predicts nothing on the same targets.
    """

    subject: Subject
    protocol: Protocol
    category: str | None
    score: DatasetScore
    floor: DatasetScore

    @property
    def is_overall(self) -> bool:
        """Whether the line is about all clips."""
        return self.category in (None, ALL_CATEGORIES)

    def cells(self) -> dict[str, str | int | float | None]:
        """Return the line's cells by column, in the order of the csv; None is undefined."""
        keys = {
            "model": self.subject.model,
            "dataset": self.subject.dataset,
            "split": self.subject.split,
            "protocol": self.protocol.name,
            **({} if self.category is None else {CATEGORY_COLUMN: self.category}),
        }
        return {**keys, "clips": self.score.clips, **self.score.columns()}


@dataclass(frozen=True)
class Table:
    """The whole report. `warnings` are things to put right or to know before quoting a number, `notes` explain."""

    lines: tuple[Line, ...]
    subjects: tuple[Subject, ...]
    protocols: tuple[Protocol, ...]
    by: str | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The csv's columns."""
        if self.by is None:
            return CSV_COLUMNS
        place = CSV_COLUMNS.index("protocol") + 1
        return (*CSV_COLUMNS[:place], CATEGORY_COLUMN, *CSV_COLUMNS[place:])


def build_table(
    results: Sequence[Scores],
    protocols: Sequence[str],
    by: str | None = None,
    runs: Sequence[Run | None] | None = None,
) -> Table:
    """Return the table of `results` under these protocols.

    `runs[i]` is what is known about the making of `results[i]`. Raises `OptionError` for an unknown protocol or grouping,
    `ResultsError` where there is nothing to show.
    """
    chosen = tuple(get_protocol(name) for name in sorted(set(protocols)))
    if not chosen:
        raise OptionError("--protocol: found none; expected at least one; leave the option out for avsbench")
    if by is not None and by not in GROUPINGS:
        raise OptionError(f"--by: found '{by}'; expected {', '.join(GROUPINGS)}{did_you_mean(by, GROUPINGS)}")
    found = _evaluations(results, runs)
    if not found:
        raise ResultsError("results: found no scored frame and no failed clip in them; evaluate again")
    subjects: list[Subject] = []
    lines: list[Line] = []
    for name, entry, run in found:
        subject = _subject(name, entry, run)
        subjects.append(subject)
        if len(entry.frames):
            lines += _lines(subject, entry, chosen, by)
    lines.sort(key=_place)
    table = Table(tuple(lines), tuple(subjects), chosen, by, (), ())
    return replace(table, notes=find_notes(table), warnings=find_warnings(table, [entry for _, entry, _ in found]))


def _place(line: Line) -> tuple[str, str, str, bool, str, bool, str]:
    subject = line.subject
    category = line.category or ""
    return (
        subject.dataset,
        subject.split,
        line.protocol.name,
        not line.is_overall,
        category,
        subject.is_yardstick,
        subject.model,
    )


def _evaluations(results: Sequence[Scores], runs: Sequence[Run | None] | None) -> list[tuple[str, Evaluation, Details]]:
    """Every (name for people, evaluation, run's details), sorted as subjects are."""
    details = [{} if run is None else run.details for run in (runs if runs is not None else [None] * len(results))]
    pairs = [
        (evaluation(scores, split), run)
        for scores, run in zip(results, details, strict=True)
        for split in splits_of(scores)
    ]
    pairs.sort(key=lambda pair: (pair[0].dataset, pair[0].split, pair[0].model, pair[0].seed, pair[0].source or ""))
    named = [(_name(entry, [other for other, _ in pairs]), entry, run) for entry, run in pairs]
    return sorted(named, key=lambda item: (item[1].dataset, item[1].split, item[1].model in YARDSTICKS, item[1].model))


def _name(entry: Evaluation, others: Sequence[Evaluation]) -> str:
    same = [
        other
        for other in others
        if (other.model, other.dataset, other.split) == (entry.model, entry.dataset, entry.split)
    ]
    if len(same) == 1:
        return entry.model
    if len({other.seed for other in same}) == len(same):
        return f"{entry.model} (seed {entry.seed})"
    position = next(place for place, other in enumerate(same, 1) if other is entry)
    return f"{entry.model} ({position})"


def _subject(name: str, entry: Evaluation, run: Details) -> Subject:
    return Subject(
        name=name,
        model=entry.model,
        dataset=entry.dataset,
        split=entry.split,
        seed=entry.seed,
        source=entry.source,
        diagnostics=diagnose(entry),
        failed=entry.failed,
        run=MappingProxyType(dict(run)),
    )


def _lines(subject: Subject, entry: Evaluation, protocols: Sequence[Protocol], by: str | None) -> Iterator[Line]:
    frames = entry.frames
    nothing = ScoredFrames(
        empty_prediction(frames.statistics), frames.clip, frames.condition, frames.negative, frames.level
    )
    for protocol in protocols:
        scores, floors = clip_scores(frames, protocol), clip_scores(nothing, protocol)
        overall = None if by is None else ALL_CATEGORIES
        yield Line(subject, protocol, overall, summarise(scores), summarise(floors))
        for category in entry.categories if by is not None else ():
            clips = entry.clips_of(category)
            yield Line(subject, protocol, category, summarise(_of(scores, clips)), summarise(_of(floors, clips)))


def _of(scores: ClipScores, clips: npt.NDArray[np.int64]) -> ClipScores:
    """Return the rows of these clips: every row is a clip's own, so nothing has to be counted again."""
    chosen = np.isin(scores.clip, clips)
    rows = {entry.name: getattr(scores, entry.name)[chosen] for entry in fields(ClipScores) if entry.name != "protocol"}
    return replace(scores, **rows)
