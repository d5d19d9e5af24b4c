"""Extra scores of a line, in groups that a report shows on request.

Conventions
    All follow from the stored statistics per frame. A score has a column of its own in csv and parquet, after all others, and a
    cell in a table of its group for people: a row per model and `row`, a column per `measure`.
    Masks are taken at the protocol's threshold (classes: any but background at probability 0.5), but overlaps at 0.5.
    Every score is computed three times: for the model, for a model that predicts nothing (`trivial`), and for a perfect one
    (`ceiling`), on the same targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.metrics import (
    CLEAN,
    DatasetScore,
    MaskOverlap,
    ScoredFrames,
    activation_scores,
    interactive_iou,
    level_curves,
    natural_negatives,
    perfect_frames,
    trivial_frames,
)
from avsrobust.metrics.dataset_score import ConditionKey
from avsrobust.metrics.natural import EMPTY_FRAMES
from avsrobust.metrics.rows import Flags
from avsrobust.reporting.columns import condition_name, condition_title, level_text
from avsrobust.reporting.operating_points import OperatingPoint

ALL_GROUPS = "all"
LEVELS, OVERLAP = "levels", "overlap"
_MEASURES = MappingProxyType({"miou": "mIoU", "f": "F"})


@dataclass(frozen=True)
class ExtraScore:
    """One extra score of a line.

    Attributes:
        group: Name of its group (`GROUPS`).
        column: Its column in csv and parquet.
        row: The condition, pair or threshold that it is of, for people.
        measure: The heading of its column in the group's table.
        value: The score, or None where it is undefined.
        higher_is_better: Whether more is better; None where it only describes.
        clips: Clips that count, or None.
        frames: Frames that count, or None.
        highest: Largest value, or None where there is none; the smallest is 0.
        is_fraction: Whether it is shown as a fraction, not in percent.
        trivial: The score of a model that predicts nothing, or None.
        ceiling: The score of a perfect model, or None.
        is_detail: Whether it is for programs alone: tables for people leave it out.
    """

    group: str
    column: str
    row: str
    measure: str
    value: float | None
    higher_is_better: bool | None = None
    clips: int | None = None
    frames: int | None = None
    highest: float | None = 1.0
    is_fraction: bool = False
    trivial: float | None = None
    ceiling: float | None = None
    is_detail: bool = False

    @property
    def heading(self) -> str:
        """The measure, with an arrow towards better values where there is a better."""
        arrow = {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]
        return self.measure + arrow


@dataclass(frozen=True)
class Evidence:
    """The data that the extra scores of a line are computed from.

    Attributes:
        frames: The scored frames.
        score: Scores under every condition, under the line's protocol.
        threshold: Threshold of the masks.
        is_unlabelled: Whether the clip of each frame has no on-screen label, bool [N].
        overlaps: Overlap of the masks of each stored pair of conditions; empty where there is none to compare.
        points: Scores at one threshold for all conditions, by how it was chosen.
        title: Returns a condition's name for people, from its name and level.
    """

    frames: ScoredFrames
    score: DatasetScore
    threshold: float
    is_unlabelled: Flags
    overlaps: Mapping[tuple[ConditionKey, ConditionKey], tuple[MaskOverlap, MaskOverlap]]
    points: tuple[OperatingPoint, ...]
    title: Callable[[str, float | None], str] = condition_title


@dataclass(frozen=True)
class ScoreGroup:
    """A group of extra scores.

    Attributes:
        name: Name on the command line.
        title: Heading for people.
        caption: One sentence for people.
        compute: Returns the scores, without their bounds.
    """

    name: str
    title: str
    caption: str
    compute: Callable[[Evidence], Iterator[ExtraScore]]


def extra_scores(
    groups: Sequence[str], evidence: Evidence, trivial: DatasetScore, ceiling: DatasetScore
) -> tuple[ExtraScore, ...]:
    """Return the scores of some groups, each with its trivial score and its ceiling.

    Args:
        groups: Names of `GROUPS`.
        evidence: The model's evidence.
        trivial: Scores of a model that predicts nothing, under the line's protocol.
        ceiling: Scores of a perfect model, under the line's protocol.
    """
    if not groups:
        return ()
    bounds = []
    for frames, score in ((trivial_frames(evidence.frames), trivial), (perfect_frames(evidence.frames), ceiling)):
        known = replace(evidence, frames=frames, score=score, overlaps={}, points=())
        bounds.append({found.column: found.value for name in groups for found in GROUPS[name].compute(known)})
    return tuple(
        replace(found, trivial=bounds[0].get(found.column), ceiling=bounds[1].get(found.column))
        for name in groups
        for found in GROUPS[name].compute(evidence)
    )


def requested_groups(names: Sequence[str]) -> tuple[str, ...]:
    """Return the groups that `names` name, separated by commas too, each once; "all" is every group.

    Raises:
        OptionError: There is no such group.
    """
    chosen: list[str] = []
    for name in (part.strip() for text in names for part in text.split(",")):
        if name not in (*GROUPS, ALL_GROUPS):
            known = (*GROUPS, ALL_GROUPS)
            raise OptionError(f"--scores: found '{name}'; expected {', '.join(known)}{did_you_mean(name, known)}")
        chosen += GROUPS if name == ALL_GROUPS else [name]
    return tuple(name for name in GROUPS if name in chosen)


def _levels(evidence: Evidence) -> Iterator[ExtraScore]:
    """Scores at the levels of each condition, and the area under them."""
    for curve in level_curves(evidence.score):
        measure = _MEASURES[curve.measure]
        low, high = level_text(curve.levels[0]), level_text(curve.levels[-1])
        levels = zip(curve.levels, curve.scores, curve.kept, strict=True)
        points = [
            (condition_name(curve.condition, level), evidence.title(curve.condition, level), value, kept, True)
            for level, value, kept in levels
        ]
        area = f"{evidence.title(curve.condition, None)}, area over {low} to {high}"
        points.append((f"{curve.condition}_area", area, curve.area, curve.area_kept, False))
        for name, row, value, kept, detail in points:
            of = ExtraScore(LEVELS, f"{name}_{measure}", row, measure, value, not curve.negative, curve.clips)
            yield replace(of, is_detail=detail)
            if not curve.negative:
                column = f"{name}_{measure}_kept"
                yield replace(of, column=column, measure=f"{measure} kept", value=kept, highest=None, is_detail=detail)


def _iiou(evidence: Evidence) -> Iterator[ExtraScore]:
    """Interactive IoU of the pair of distractor conditions."""
    for found in interactive_iou(evidence.frames, evidence.threshold):
        name, row = condition_name("distractor", found.level), evidence.title("distractor", found.level)
        for column, measure, value in (("IIoU", "IIoU at 0.5", found.at_half), ("IIoU_area", "IIoU area", found.area)):
            yield ExtraScore("iiou", f"{name}_{column}", row, measure, value, True, found.clips, found.pictures)


def _activation(evidence: Evidence) -> Iterator[ExtraScore]:
    """Activated shares under each condition."""
    for found in activation_scores(evidence.frames, evidence.threshold):
        name, row = condition_name(found.condition, found.level), evidence.title(found.condition, found.level)
        better = True if found.negative else None
        worse = False if found.negative else None
        yield ExtraScore("activation", f"{name}_AOC", row, "AOC", found.aoc, better, found.clips)
        yield ExtraScore("activation", f"{name}_S", row, "S", found.s, worse, found.clips)
        yield ExtraScore("activation", f"{name}_TNR", row, "TNR, area 0", found.empty_rate, better, found.clips)
        yield ExtraScore("activation", f"{name}_TNR1", row, "TNR, area ≤ 1 %", found.lenient_rate, better, found.clips)


def _overlap(evidence: Evidence) -> Iterator[ExtraScore]:
    """Overlap of the masks of two conditions of one clip."""
    for (first, second), (defined, with_empty) in evidence.overlaps.items():
        name = f"{condition_name(*first)}_{condition_name(*second)}"
        row = f"{evidence.title(*first)} / {evidence.title(*second)}"
        better = False if CLEAN in (first[0], second[0]) else None
        yield ExtraScore(
            "overlap", f"overlap_{name}", row, "overlap", defined.value, better, defined.clips, defined.frames
        )
        yield ExtraScore(
            OVERLAP,
            f"overlap1_{name}",
            row,
            "overlap, both empty = 1",
            with_empty.value,
            None,
            with_empty.clips,
            with_empty.frames,
        )


def _threshold(evidence: Evidence) -> Iterator[ExtraScore]:
    """Scores at one threshold for all conditions: fixed, chosen on val, and the best on the split itself."""
    for point in evidence.points:
        values = (
            ("threshold", "threshold", point.threshold, None),
            ("mIoU", "mIoU", point.miou, True),
            ("mIoU-", "mIoU-", point.miou_negative, False),
            ("G_mIoU", "G-mIoU", point.g_miou, True),
            ("G_F", "G-F", point.g_f, True),
            ("G_FPR", "G-FPR", point.fpr_negative, False),
        )
        for column, measure, value, better in values:
            yield ExtraScore(
                "threshold",
                f"{point.choice}_{column}",
                point.title,
                measure,
                value,
                better,
                is_fraction=column == "threshold",
            )


def _natural(evidence: Evidence) -> Iterator[ExtraScore]:
    """False positives under clean audio where nothing that sounds is in the picture."""
    for found in natural_negatives(evidence.frames, evidence.is_unlabelled, evidence.threshold):
        row = "frames with an empty target" if found.group == EMPTY_FRAMES else "clips without an on-screen label"
        for column, measure, value in (("FPR", "FPR", found.fpr), ("marked", "frames marked", found.marked_rate)):
            yield ExtraScore(
                "natural", f"natural_{found.group}_{column}", row, measure, value, False, found.clips, found.frames
            )


GROUPS: Mapping[str, ScoreGroup] = MappingProxyType(
    {
        group.name: group
        for group in (
            ScoreGroup(
                LEVELS,
                "Over the levels of a condition",
                "Area: the mean score over the range of levels. Kept: the share of the score under clean audio",
                _levels,
            ),
            ScoreGroup(
                "iiou",
                "Interactive IoU: one picture, two sounds",
                "Share of pictures in which the mask follows both sounds, IoU at least 0.5, and its area over bars from 0 to 1",
                _iiou,
            ),
            ScoreGroup(
                "activation",
                "Activated share of the picture",
                "AOC: area under the share of frames with at most t activated. S: root of the clip's activated share. TNR: "
                "share of frames with nothing, or at most 1 %, activated",
                _activation,
            ),
            ScoreGroup(
                OVERLAP,
                "Overlap of the masks under two conditions",
                "Masks at 0.5 of the same frames; 1: the two sounds give one mask. Both empty: skipped, or 1 as in VSSL-Eval",
                _overlap,
            ),
            ScoreGroup(
                "threshold",
                "One threshold for all conditions",
                "Counted as protocol strict does, with p ≥ threshold",
                _threshold,
            ),
            ScoreGroup(
                "natural",
                "Natural negatives: false positives under clean audio",
                "Frames of the data set in which nothing that sounds is in the picture; they enter no G score",
                _natural,
            ),
        )
    }
)
