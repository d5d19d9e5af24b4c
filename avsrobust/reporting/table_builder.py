"""From results to one table: pure, no files, no formats.

Conventions
    One line per (model, dataset, release, split, protocol), by category also one per label of the clips; a clip with several
    labels counts in each of them. Lines are sorted by dataset, release, split, task (semantic first), protocol, category (all
    first) and model; baselines come last.
    In the semantic task a category is a class, and its line the class's own scores over all clips.
    Results of one model, data set and split from several files are lines of their own, never averaged, and never named alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import OptionError, ResultsError, did_you_mean
from avsrobust.metrics import (
    ClassStatistics,
    ClipScores,
    Protocol,
    ScoredFrames,
    SemanticProtocol,
    clip_scores,
    semantic_scores,
    semantic_trivial_scores,
    summarise,
    trivial_frames,
)
from avsrobust.reporting.columns import ALL_CATEGORIES, CATEGORY_COLUMN
from avsrobust.reporting.diagnostics import diagnose
from avsrobust.reporting.model import Line, RunDetails, Subject, Table
from avsrobust.reporting.naming import Label, labels, split_order
from avsrobust.reporting.plausibility import check_scores
from avsrobust.reporting.selection import check_task, requested_protocols, scored_task, with_task
from avsrobust.reporting.split_results import SplitResult, split_result, splits_of
from avsrobust.reporting.warnings import find_notes, find_warnings
from avsrobust.results import Run, Scores
from avsrobust.vocabulary import BASELINES, BINARY, TASKS

GROUPINGS = (CATEGORY_COLUMN,)


def build_table(
    results: Sequence[Scores],
    protocols: Sequence[str],
    by: str | None = None,
    runs: Sequence[Run | None] | None = None,
    task: str | None = None,
) -> Table:
    """Return the table of `results` under these protocols.

    Args:
        results: Stored results, in any order.
        protocols: Protocols, each named as in `metrics.find_protocol`.
        by: "category" for a line per category (semantic task: class) as well, or None.
        runs: The content of ``run.json`` of each of `results`, where there is one.
        task: "semantic" for the results that hold classes, "binary" for all as foreground and background, or None: semantic
            where available.

    Raises:
        OptionError: A protocol, grouping or task is unknown.
        ResultsError: The results cannot be true, or none can be shown.
    """
    check_task(task)
    if by is not None and by not in GROUPINGS:
        raise OptionError(f"--by: found '{by}'; expected {', '.join(GROUPINGS)}{did_you_mean(by, GROUPINGS)}")
    found = requested_protocols(protocols)
    binary = tuple(entry.binary for entry in found if entry.binary is not None)
    semantic = tuple(entry.semantic for entry in found if entry.semantic is not None)
    for scores in results:
        check_scores(scores)
    split_results = _split_results(results, runs, task)
    if not split_results:
        raise ResultsError("results: found no scored frame and no failed clip in them; evaluate again")
    subjects: list[Subject] = []
    lines: list[Line] = []
    classes: list[Line] = []
    for label, result, run in split_results:
        subject = _subject(label, result, run, task)
        subjects.append(subject)
        if subject.task == BINARY and len(result.frames):
            lines += _lines(subject, result, binary, by)
        elif result.classes is not None and len(result.frames):
            for overall, of_classes in _semantic_lines(subject, result.classes, result.frames, semantic, by):
                lines.append(overall)
                classes += of_classes
    lines += classes if by is not None else []
    table = Table(
        lines=tuple(sorted(lines, key=_line_order)),
        subjects=tuple(subjects),
        protocols=binary,
        by=by,
        notes=(),
        warnings=(),
        semantic_protocols=semantic,
        classes=tuple(sorted(classes, key=_line_order)),
    )
    sources = [result for _, result, _ in split_results]
    return replace(table, notes=find_notes(table, sources), warnings=find_warnings(table, sources))


def _line_order(line: Line) -> tuple[tuple[tuple[int, str], str, str], int, str, bool, str, bool, str]:
    subject = line.subject
    category = line.category or ""
    return (
        split_order(subject.split_key),
        TASKS.index(subject.task),
        line.protocol.name,
        not line.is_overall,
        category,
        subject.is_baseline,
        subject.model,
    )


def _split_results(
    results: Sequence[Scores], runs: Sequence[Run | None] | None, task: str | None
) -> list[tuple[Label, SplitResult, RunDetails]]:
    """Every (label, result, run details) that the task can score, sorted as subjects are."""
    details = [{} if run is None else run.details for run in (runs if runs is not None else [None] * len(results))]
    pairs = [
        (split_result(scores, split), run)
        for scores, run in zip(results, details, strict=True)
        for split in splits_of(scores)
    ]
    wanted = with_task([entry for entry, _ in pairs], task)
    pairs = [pair for pair in pairs if any(pair[0] is entry for entry in wanted)]
    pairs.sort(key=lambda pair: _result_order(pair[0]))
    named = labels([entry for entry, _ in pairs])
    return [(label, entry, run) for label, (entry, run) in zip(named, pairs, strict=True)]


def _result_order(result: SplitResult) -> tuple[tuple[tuple[int, str], str, str], bool, str, int, str, str]:
    is_baseline = result.model in BASELINES
    return (split_order(result.split_key), is_baseline, result.model, result.seed, result.recipe, result.source or "")


def _subject(label: Label, result: SplitResult, run: RunDetails, task: str | None) -> Subject:
    return Subject(
        name=label.name,
        csv_model=label.model,
        model=result.model,
        dataset=result.dataset,
        split=result.split,
        seed=result.seed,
        recipe=result.recipe,
        release=result.release,
        source=result.source,
        diagnostics=diagnose(result),
        failed=result.failed,
        run=MappingProxyType(dict(run)),
        task=scored_task(result, task),
    )


def _lines(subject: Subject, result: SplitResult, protocols: Sequence[Protocol], by: str | None) -> Iterator[Line]:
    frames = result.frames
    empty = trivial_frames(frames)
    for protocol in protocols:
        scores, trivial = clip_scores(frames, protocol), clip_scores(empty, protocol)
        overall = None if by is None else ALL_CATEGORIES
        yield Line(subject, protocol, overall, summarise(scores), summarise(trivial))
        for category in result.categories if by is not None else ():
            clips = result.clips_of(category)
            yield Line(subject, protocol, category, summarise(_of(scores, clips)), summarise(_of(trivial, clips)))


def _semantic_lines(
    subject: Subject,
    classes: ClassStatistics,
    frames: ScoredFrames,
    protocols: Sequence[SemanticProtocol],
    by: str | None,
) -> Iterator[tuple[Line, list[Line]]]:
    """Yield, for each protocol, the line over all classes and those of the single ones."""
    for protocol in protocols:
        scores, trivial = semantic_scores(classes, frames, protocol), semantic_trivial_scores(classes, frames, protocol)
        overall = None if by is None else ALL_CATEGORIES
        yield (
            Line(subject, protocol, overall, scores.headline, trivial.headline, scores),
            [
                Line(subject, protocol, AVSS_CLASSES[class_id], scores.of_class(class_id), trivial.of_class(class_id))
                for class_id in scores.occurring_classes()
            ],
        )


def _of(scores: ClipScores, clips: npt.NDArray[np.int64]) -> ClipScores:
    """Return the rows of these clips: every row is a clip's own, so nothing has to be counted again."""
    chosen = np.isin(scores.clip, clips)
    rows = {entry.name: getattr(scores, entry.name)[chosen] for entry in fields(ClipScores) if entry.name != "protocol"}
    return replace(scores, **rows)
