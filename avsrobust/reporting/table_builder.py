"""From results to one table: pure, no files, no formats.

Conventions
    One line per (model, dataset, release, split, protocol), and one per part of a breakdown (`breakdowns`). Lines are sorted by
    dataset, release, split, task (semantic first), protocol, category (all first) and model; baselines come last.
    By category, in the semantic task, a part is a class, and its line the class's own scores over all clips.
    Results of one model, data set and split from several files are lines of their own, never averaged, and never named alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import OptionError, ResultsError, did_you_mean
from avsrobust.metrics import (
    ClassStatistics,
    ClipScores,
    DatasetScore,
    Protocol,
    ScoredFrames,
    SemanticProtocol,
    SemanticScores,
    SemanticSums,
    binary_intervals,
    class_intervals,
    clip_scores,
    semantic_ceiling_scores,
    semantic_intervals,
    semantic_scores,
    semantic_sums,
    semantic_trivial_scores,
    summarise,
    take_classes,
)
from avsrobust.metrics.intervals import ScoreIntervals
from avsrobust.metrics.resampling import Clusters, Resamplings
from avsrobust.remote import address_of
from avsrobust.reporting.aggregate import aggregated, check_aggregate
from avsrobust.reporting.bounds import Bounds
from avsrobust.reporting.breakdowns import CATEGORY, GROUPINGS, class_parts, clip_parts, scores_of_clips
from avsrobust.reporting.clip_clusters import clip_clusters
from avsrobust.reporting.columns import ALL_CATEGORIES
from avsrobust.reporting.diagnostics import Diagnostics, diagnose
from avsrobust.reporting.extra_scores import OVERLAP, Evidence, ExtraScore, extra_scores, requested_groups
from avsrobust.reporting.model import Line, RunDetails, Subject, Table
from avsrobust.reporting.naming import Label, labels, split_name, split_order
from avsrobust.reporting.operating_points import OperatingPoint, operating_points
from avsrobust.reporting.pair_overlaps import pair_overlaps
from avsrobust.reporting.plausibility import check_scores
from avsrobust.reporting.selection import (
    ALL_PROTOCOLS,
    AnyProtocol,
    check_renames,
    check_task,
    renamed,
    requested_negatives,
    requested_protocols,
    scored_task,
    with_task,
)
from avsrobust.reporting.split_results import SplitResult, split_result, splits_of
from avsrobust.reporting.warnings import find_notes, find_warnings
from avsrobust.results import Run, Scores, is_baseline
from avsrobust.vocabulary import BINARY, TASKS

# Probability above which a pixel of class scores is any class but background.
_CLASS_THRESHOLD = 0.5


def check_choices(
    protocols: Sequence[str], by: str | None, task: str | None, scores: Sequence[str], aggregate: str | None
) -> None:
    """Raise `OptionError` for names that `build_table` does not know, whatever the results are."""
    check_task(task)
    check_aggregate(aggregate)
    if by is not None and by not in GROUPINGS:
        raise OptionError(f"--by: found '{by}'; expected {', '.join(GROUPINGS)}{did_you_mean(by, GROUPINGS)}")
    requested_protocols(protocols)
    requested_groups(scores)


def build_table(
    results: Sequence[Scores],
    protocols: Sequence[str],
    by: str | None = None,
    runs: Sequence[Run | None] | None = None,
    task: str | None = None,
    negatives: Sequence[str] | None = None,
    scores: Sequence[str] = (),
    renames: Mapping[str, str] | None = None,
    intervals: bool = False,
    aggregate: str | None = None,
) -> Table:
    """Return the table of `results` under these protocols.

    Args:
        results: Stored results, in any order.
        protocols: Protocols, each named as in `metrics.find_protocol`.
        by: A breakdown (`breakdowns.GROUPINGS`) for a line per part as well, or None.
        runs: The content of ``run.json`` of each of `results`, where there is one.
        task: "semantic" for the results that hold classes, "binary" for all as foreground and background, or None: semantic
            where available.
        negatives: The negative conditions that G averages over (`selection.requested_negatives`); None: the default ones.
        scores: Groups of extra scores (`extra_scores.requested_groups`).
        renames: Names that the table gives models, by those of their results; None: none.
        intervals: Compute 95 % intervals of the scores over all clips, and of those over each part (`metrics.intervals`).
        aggregate: "seeds" makes one line of all results of a model that differ in seeds alone (`aggregate`); None: none.

    Raises:
        OptionError: A protocol, breakdown, task, negative, group of scores or model to rename is unknown.
        ResultsError: The results cannot be true, or none can be shown.
    """
    check_choices(protocols, by, task, scores, aggregate)
    found = requested_protocols(protocols)
    binary = tuple(entry.binary for entry in found if entry.binary is not None)
    semantic = tuple(entry.semantic for entry in found if entry.semantic is not None)
    groups = requested_groups(scores)
    for entry in results:
        check_scores(entry)
    split_results = _split_results(results, runs, task, renames or {})
    if not split_results:
        raise ResultsError("results: found no scored frame and no failed clip in them; evaluate again")
    sources = [result for _, result, _ in split_results]
    of_g = requested_negatives(negatives, sources)
    diagnostics = [diagnose(result, of_g) for result in sources]
    subjects: list[Subject] = []
    lines: list[Line] = []
    classes: list[Line] = []
    resamplings = Resamplings()
    known_bounds = Bounds(of_g)
    without_sounds: dict[str, list[str]] = {}
    for position, ((label, result, run), diagnosis) in enumerate(zip(split_results, diagnostics, strict=True)):
        subject = _subject(label, result, run, task, diagnosis)
        subjects.append(subject)
        points = operating_points(position, sources, diagnostics) if groups else ()
        clusters = None
        if intervals:
            clusters, reason = clip_clusters(result, run)
            if reason is not None:
                without_sounds.setdefault(reason, []).append(f"{label.name} on {split_name(result.split_key)}")
        request = _Request(by, of_g, groups, points, clusters, resamplings, known_bounds)
        if subject.task == BINARY and len(result.frames):
            lines += _lines(subject, result, binary, request)
        elif result.classes is not None and len(result.frames):
            for of_clips, of_classes in _semantic_lines(subject, result, result.classes, semantic, request):
                lines += of_clips
                classes += of_classes
    lines += classes if by == CATEGORY else []
    table = Table(
        lines=tuple(sorted(lines, key=_line_order)),
        subjects=tuple(subjects),
        protocols=binary,
        by=by,
        notes=(),
        warnings=(),
        semantic_protocols=semantic,
        classes=tuple(sorted(classes, key=_line_order)),
        negatives=of_g,
    )
    warnings = find_warnings(table, sources, ALL_PROTOCOLS in protocols, several_seeds=aggregate is not None)
    warnings += tuple(
        f"{', '.join(names)}: intervals under borrowed sounds are by source video alone, and too narrow where a sound serves "
        f"several clips: {reason}"
        for reason, names in without_sounds.items()
    )
    table = replace(table, notes=find_notes(table, sources), warnings=warnings)
    return table if aggregate is None else aggregated(table)


def _line_order(line: Line) -> tuple[tuple[tuple[int, str], str, str], int, str, str, bool, str, bool, str]:
    subject = line.subject
    category = line.category or ""
    return (
        split_order(subject.split_key),
        TASKS.index(subject.task),
        line.protocol.name,
        subject.score_size,
        not line.is_overall,
        category,
        subject.is_baseline,
        subject.model,
    )


def _split_results(
    results: Sequence[Scores], runs: Sequence[Run | None] | None, task: str | None, renames: Mapping[str, str]
) -> list[tuple[Label, SplitResult, RunDetails]]:
    """Every (label, result, run details) that the task can score, sorted as subjects are."""
    details = [{} if run is None else run.details for run in (runs if runs is not None else [None] * len(results))]
    check_renames(renames, [scores.info.model for scores in results])
    pairs = [
        (renamed(split_result(scores, split), renames), run)
        for scores, run in zip(results, details, strict=True)
        for split in splits_of(scores)
    ]
    wanted = with_task([entry for entry, _ in pairs], task)
    pairs = [pair for pair in pairs if any(pair[0] is entry for entry in wanted)]
    pairs.sort(key=lambda pair: _result_order(*pair))
    named = labels([entry for entry, _ in pairs])
    return [(label, entry, run) for label, (entry, run) in zip(named, pairs, strict=True)]


def _result_order(
    result: SplitResult, run: RunDetails
) -> tuple[tuple[tuple[int, str], str, str], bool, str, int, str, str]:
    last = is_baseline(result.original_model, run)
    return (split_order(result.split_key), last, result.model, result.seed, result.recipe, result.source or "")


def _subject(label: Label, result: SplitResult, run: RunDetails, task: str | None, diagnostics: Diagnostics) -> Subject:
    return Subject(
        name=label.name,
        csv_model=label.model,
        model=result.model,
        dataset=result.dataset,
        split=result.split,
        seed=result.seed,
        recipe=result.recipe,
        release=result.release,
        source=None if result.source is None else address_of(result.source),
        diagnostics=diagnostics,
        failed=result.failed,
        run=MappingProxyType(dict(run)),
        task=scored_task(result, task),
        units=result.units,
        original_model=result.original_model,
    )


def _lines(subject: Subject, result: SplitResult, protocols: Sequence[Protocol], request: _Request) -> Iterator[Line]:
    """The binary lines of a result: over all clips, and over those of each part."""
    parts = {} if request.by is None else clip_parts(result, request.by)
    for protocol, of_bounds in zip(protocols, request.bounds.of(result.frames, protocols, parts), strict=True):
        of_model = clip_scores(result.frames, protocol)
        bounds = [summarise(of_model, request.negatives), *of_bounds.overall]
        extra = request.extra_scores(result, protocol.threshold, bounds)
        yield request.with_intervals(_line(subject, protocol, request.overall, bounds, extra=extra), of_model)
        for title, clips in parts.items():
            of_part = scores_of_clips(of_model, clips)
            line = _line(subject, protocol, title, [summarise(of_part, request.negatives), *of_bounds.parts[title]])
            yield request.with_intervals(line, of_part)


def _line(
    subject: Subject,
    protocol: AnyProtocol,
    category: str | None,
    scores: Sequence[DatasetScore],
    semantic: SemanticScores | None = None,
    extra: tuple[ExtraScore, ...] = (),
) -> Line:
    """A line; `scores` are the model's, those of a model that predicts nothing, and those of a perfect one."""
    score, trivial, ceiling = scores
    return Line(subject, protocol, category, score, trivial, ceiling, semantic, extra)


def _semantic_lines(
    subject: Subject,
    result: SplitResult,
    classes: ClassStatistics,
    protocols: Sequence[SemanticProtocol],
    request: _Request,
) -> Iterator[tuple[list[Line], list[Line]]]:
    """Yield, for each protocol, the lines over all clips and over parts of them, and those of the single classes."""
    of_classes = None if request.by is None else class_parts(request.by)
    of_clips = {} if request.by in (None, CATEGORY) or of_classes is not None else clip_parts(result, request.by or "")
    for protocol in protocols:
        scores = _semantic_bounds(classes, result.frames, protocol, request.negatives)
        bounds = [entry.headline for entry in scores]
        extra = request.extra_scores(result, _CLASS_THRESHOLD, bounds)
        overall = [_line(subject, protocol, request.overall, bounds, semantic=scores[0], extra=extra)]
        sums = None if request.clusters is None else semantic_sums(classes, result.frames, protocol)
        overall = [request.with_intervals(line, sums) for line in overall]
        for title, ids in (of_classes or {}).items():
            overall.append(_line(subject, protocol, title, [entry.means_over(ids) for entry in scores]))
        for title, clips in of_clips.items():
            chosen = np.isin(result.frames.clip, clips)
            part = _semantic_bounds(
                take_classes(classes, chosen), result.frames.select(chosen), protocol, request.negatives
            )
            line = _line(subject, protocol, title, [entry.headline for entry in part])
            overall.append(request.with_intervals(line, None if sums is None else scores_of_clips(sums, clips)))
        class_ids = scores[0].occurring_classes()
        intervals = request.class_intervals(sums, class_ids)
        of_single = [
            (_line(subject, protocol, AVSS_CLASSES[class_id], [entry.of_class(class_id) for entry in scores]), class_id)
            for class_id in class_ids
        ]
        yield overall, [replace(line, intervals=intervals.get(class_id, {})) for line, class_id in of_single]


def _semantic_bounds(
    classes: ClassStatistics, frames: ScoredFrames, protocol: SemanticProtocol, negatives: Sequence[str]
) -> tuple[SemanticScores, SemanticScores, SemanticScores]:
    """The semantic scores of a model, of one that predicts background alone, and of a perfect one."""
    return (
        semantic_scores(classes, frames, protocol, negatives),
        semantic_trivial_scores(classes, frames, protocol, negatives),
        semantic_ceiling_scores(classes, frames, protocol, negatives),
    )


@dataclass(frozen=True)
class _Request:
    """The requested content of a table for one result, besides its protocols."""

    by: str | None
    negatives: tuple[str, ...]
    groups: tuple[str, ...]
    points: tuple[OperatingPoint, ...]
    clusters: Clusters | None
    resamplings: Resamplings
    bounds: Bounds

    @property
    def overall(self) -> str | None:
        """The category of lines over all clips."""
        return None if self.by is None else ALL_CATEGORIES

    def with_intervals(self, line: Line, scores: ClipScores | SemanticSums | None) -> Line:
        """The line with the intervals of its scores, where they were requested."""
        if self.clusters is None or scores is None:
            return line
        intervals_of = binary_intervals if isinstance(scores, ClipScores) else semantic_intervals
        found = intervals_of(scores, self.clusters, self.negatives, resampling_of=self.resamplings)  # type: ignore[arg-type]
        return replace(line, intervals=found)

    def class_intervals(self, sums: SemanticSums | None, class_ids: Sequence[int]) -> dict[int, ScoreIntervals]:
        """The intervals of the scores of single classes, where they were requested."""
        if self.clusters is None or sums is None:
            return {}
        return class_intervals(sums, self.clusters, self.negatives, class_ids, resampling_of=self.resamplings)

    def extra_scores(
        self, result: SplitResult, threshold: float, bounds: Sequence[DatasetScore]
    ) -> tuple[ExtraScore, ...]:
        """The extra scores of a line; `bounds` are its score, its trivial score and its ceiling."""
        if not self.groups:
            return ()
        score, trivial, ceiling = bounds
        pairs = pair_overlaps(result) if OVERLAP in self.groups else {}
        evidence = Evidence(
            result.frames, score, threshold, result.is_unlabelled, pairs, self.points, result.condition_title
        )
        return extra_scores(self.groups, evidence, trivial, ceiling)
