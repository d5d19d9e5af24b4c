"""From results to one table: pure, no files, no formats.

Conventions
    One line per (model, dataset, release, split, protocol), by category also one per label of the clips; a clip with several
    labels counts in each of them. Lines are sorted by dataset, release, split, task (classes first), protocol, category (all
    first) and model; the baselines, which are no models, come last.
    Where classes are scored, a category is a class, and its line the class's own scores over all clips.
    Results of one model, data set and split from several files are lines of their own, never averaged, and never named alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import OptionError, ResultsError, did_you_mean
from avsrobust.metrics import (
    PROTOCOLS,
    SEMANTIC_PROTOCOLS,
    ClassStatistics,
    ClipScores,
    DatasetScore,
    Protocol,
    ScoredFrames,
    SemanticProtocol,
    SemanticScores,
    clip_scores,
    empty_prediction,
    semantic_scores,
    semantic_trivial_scores,
    summarise,
)
from avsrobust.report.builds import Label, Place, labels, place_order
from avsrobust.report.checks import check_scores
from avsrobust.report.columns import (
    ALL_CATEGORIES,
    CATEGORY_COLUMN,
    CSV_COLUMNS,
    MEASURES,
    ConditionKey,
    condition_columns,
)
from avsrobust.report.diagnostics import Diagnostics, diagnose
from avsrobust.report.evaluations import Evaluation, evaluation, splits_of
from avsrobust.report.findings import find_notes, find_warnings
from avsrobust.report.tasks import AnyProtocol, check_protocols, check_task, of_task, task_of
from avsrobust.results import FailedClip, Run, Scores
from avsrobust.vocabulary import BASELINES, BINARY, SEMANTIC, TASKS

GROUPINGS = (CATEGORY_COLUMN,)
Details = Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """One model's results on one split of a data set, scored under `task`.

    `name` is the model, told apart from others of the same name; `csv_model` is the model with a number where not even seed,
    recipe and release of the build tell two results apart. `run` is what ``run.json`` says (empty: there was none).
    """

    name: str
    csv_model: str
    model: str
    dataset: str
    split: str
    seed: int
    recipe: str
    release: str
    source: str | None
    diagnostics: Diagnostics
    failed: tuple[FailedClip, ...]
    run: Details
    task: str = BINARY

    @property
    def is_baseline(self) -> bool:
        """Whether this is no model, but a measure of what the protocol can show."""
        return self.model in BASELINES

    @property
    def place(self) -> Place:
        """Data set, release and split."""
        return (self.dataset, self.release, self.split)


@dataclass(frozen=True)
class Line:
    """One line of the table. `category` is None unless lines are by category.

    `score` is the model's, `floor` that of a model which predicts nothing on the same targets. `semantic` has the means with
    and without background, where all classes are scored.
    """

    subject: Subject
    protocol: AnyProtocol
    category: str | None
    score: DatasetScore
    floor: DatasetScore
    semantic: SemanticScores | None = None

    @property
    def is_overall(self) -> bool:
        """Whether the line is about all clips."""
        return self.category in (None, ALL_CATEGORIES)

    def cells(self) -> dict[str, str | int | float | None]:
        """Return the line's cells by column, but for extended conditions, in the order of the csv; None is undefined."""
        keys = {
            "model": self.subject.model,
            "dataset": self.subject.dataset,
            "split": self.subject.split,
            "protocol": self.protocol.name,
            **({} if self.category is None else {CATEGORY_COLUMN: self.category}),
        }
        subject = self.subject
        return {
            **keys,
            "clips": self.score.clips,
            **self.score.columns(),
            "seed": subject.seed,
            "recipe": subject.recipe,
            "release": subject.release,
        }


@dataclass(frozen=True)
class Table:
    """The whole report. `warnings` are things to put right or to know before quoting a number, `notes` explain.

    `classes` are the lines of single classes, whether or not `lines` holds them too. `protocols` and `semantic_protocols` are
    those asked for.
    """

    lines: tuple[Line, ...]
    subjects: tuple[Subject, ...]
    protocols: tuple[Protocol, ...]
    by: str | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    semantic_protocols: tuple[SemanticProtocol, ...] = ()
    classes: tuple[Line, ...] = ()

    def protocol_cell(self, line: Line) -> str:
        """Return what csv has under `protocol`: marked where lines of classes stand beside lines of sounding or not."""
        mixed = line.subject.task == BINARY and any(
            subject.place == line.subject.place for subject in self.subjects if subject.task == SEMANTIC
        )
        return f"{line.protocol.name}-{BINARY}" if mixed else line.protocol.name

    @cached_property
    def extended(self) -> dict[ConditionKey, str]:
        """What the columns of each condition beyond those of the G scores begin with."""
        return condition_columns(score for line in self.lines for score in line.score.conditions)

    @property
    def columns(self) -> tuple[str, ...]:
        """The csv's columns."""
        place = CSV_COLUMNS.index("protocol") + 1
        category = () if self.by is None else (CATEGORY_COLUMN,)
        extended = (f"{name}_{measure}" for name in self.extended.values() for measure in MEASURES)
        return (*CSV_COLUMNS[:place], *category, *CSV_COLUMNS[place:], *extended)


def build_table(
    results: Sequence[Scores],
    protocols: Sequence[str],
    by: str | None = None,
    runs: Sequence[Run | None] | None = None,
    task: str | None = None,
) -> Table:
    """Return the table of `results` under these protocols.

    `runs[i]` is what is known about the making of `results[i]`. `task` is None, "semantic" or "binary" (`report.tasks`).
    Raises `OptionError` for an unknown protocol, grouping or task, `ResultsError` where there is nothing to show.
    """
    check_protocols(protocols)
    check_task(task)
    chosen = tuple(PROTOCOLS[name] for name in sorted(set(protocols)) if name in PROTOCOLS)
    semantic = tuple(SEMANTIC_PROTOCOLS[name] for name in sorted(set(protocols)) if name in SEMANTIC_PROTOCOLS)
    if by is not None and by not in GROUPINGS:
        raise OptionError(f"--by: found '{by}'; expected {', '.join(GROUPINGS)}{did_you_mean(by, GROUPINGS)}")
    for scores in results:
        check_scores(scores)
    found = _evaluations(results, runs, task)
    if not found:
        raise ResultsError("results: found no scored frame and no failed clip in them; evaluate again")
    subjects: list[Subject] = []
    lines: list[Line] = []
    classes: list[Line] = []
    for label, entry, run in found:
        subject = _subject(label, entry, run, task)
        subjects.append(subject)
        if subject.task == BINARY and len(entry.frames):
            lines += _lines(subject, entry, chosen, by)
        elif entry.classes is not None and len(entry.frames):
            for overall, of_classes in _semantic_lines(subject, entry.classes, entry.frames, semantic, by):
                lines.append(overall)
                classes += of_classes
    lines += classes if by is not None else []
    table = Table(
        lines=tuple(sorted(lines, key=_order)),
        subjects=tuple(subjects),
        protocols=chosen,
        by=by,
        notes=(),
        warnings=(),
        semantic_protocols=semantic,
        classes=tuple(sorted(classes, key=_order)),
    )
    evaluations = [entry for _, entry, _ in found]
    return replace(table, notes=find_notes(table, evaluations), warnings=find_warnings(table, evaluations))


def _order(line: Line) -> tuple[tuple[tuple[int, str], str, str], int, str, bool, str, bool, str]:
    subject = line.subject
    category = line.category or ""
    return (
        place_order(subject.place),
        TASKS.index(subject.task),
        line.protocol.name,
        not line.is_overall,
        category,
        subject.is_baseline,
        subject.model,
    )


def _evaluations(
    results: Sequence[Scores], runs: Sequence[Run | None] | None, task: str | None
) -> list[tuple[Label, Evaluation, Details]]:
    """Every (label, evaluation, run's details) that the task can score, sorted as subjects are."""
    details = [{} if run is None else run.details for run in (runs if runs is not None else [None] * len(results))]
    pairs = [
        (evaluation(scores, split), run)
        for scores, run in zip(results, details, strict=True)
        for split in splits_of(scores)
    ]
    wanted = of_task([entry for entry, _ in pairs], task)
    pairs = [pair for pair in pairs if any(pair[0] is entry for entry in wanted)]
    pairs.sort(key=lambda pair: _evaluation_order(pair[0]))
    named = labels([entry for entry, _ in pairs])
    return [(label, entry, run) for label, (entry, run) in zip(named, pairs, strict=True)]


def _evaluation_order(entry: Evaluation) -> tuple[tuple[tuple[int, str], str, str], bool, str, int, str, str]:
    is_baseline = entry.model in BASELINES
    return (place_order(entry.place), is_baseline, entry.model, entry.seed, entry.recipe, entry.source or "")


def _subject(label: Label, entry: Evaluation, run: Details, task: str | None) -> Subject:
    return Subject(
        name=label.name,
        csv_model=label.model,
        model=entry.model,
        dataset=entry.dataset,
        split=entry.split,
        seed=entry.seed,
        recipe=entry.recipe,
        release=entry.release,
        source=entry.source,
        diagnostics=diagnose(entry),
        failed=entry.failed,
        run=MappingProxyType(dict(run)),
        task=task_of(entry, task),
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


def _semantic_lines(
    subject: Subject,
    classes: ClassStatistics,
    frames: ScoredFrames,
    protocols: Sequence[SemanticProtocol],
    by: str | None,
) -> Iterator[tuple[Line, list[Line]]]:
    """Yield, for each protocol, the line over all classes and those of the single ones."""
    for protocol in protocols:
        scores, floors = semantic_scores(classes, frames, protocol), semantic_trivial_scores(classes, frames, protocol)
        overall = None if by is None else ALL_CATEGORIES
        yield (
            Line(subject, protocol, overall, scores.headline, floors.headline, scores),
            [
                Line(subject, protocol, AVSS_CLASSES[class_id], scores.of_class(class_id), floors.of_class(class_id))
                for class_id in scores.occurring_classes()
            ],
        )


def _of(scores: ClipScores, clips: npt.NDArray[np.int64]) -> ClipScores:
    """Return the rows of these clips: every row is a clip's own, so nothing has to be counted again."""
    chosen = np.isin(scores.clip, clips)
    rows = {entry.name: getattr(scores, entry.name)[chosen] for entry in fields(ClipScores) if entry.name != "protocol"}
    return replace(scores, **rows)
