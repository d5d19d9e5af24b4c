"""Diagnostics next to the scores: does audio change the masks, would one threshold do, and which rows are missing.

Conventions
    Fractions in [0, 1]; None is undefined. Overlap 1: the mask is the same as under clean audio. AUROC of the clips'
    activated area, clean against negative: 0.5 is chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from avsrobust.metrics import (
    FrameStatistics,
    MaskOverlap,
    ThresholdCurve,
    activated_area,
    auroc,
    mask_overlap,
    threshold_curve,
)
from avsrobust.metrics.binary.histograms import blocks
from avsrobust.metrics.coded_texts import CodedTexts
from avsrobust.metrics.dataset_score import ConditionKey, negative_key
from avsrobust.metrics.rows import ClipRows, distinct_conditions
from avsrobust.reporting.split_results import SplitResult
from avsrobust.vocabulary import CLEAN, NEGATIVES

Flags = npt.NDArray[np.bool_]

AREA_BINS = 20


@dataclass(frozen=True)
class AreaHistogram:
    """Clips by their activated share of the frame: `clips` of each of `AREA_BINS` equal parts of [0, 1]."""

    condition: str
    level: float | None
    negative: bool
    clips: tuple[int, ...]


@dataclass(frozen=True)
class ConditionDiagnostics:
    """Diagnostics of one condition other than clean.

    Attributes:
        condition: Name of the condition.
        level: Its level in dB, or None.
        missing_clips: Clips that were scored under some condition, but not under this one.
        overlap: Overlap of its masks with those under clean audio.
        auroc: AUROC of the activated area, clean against this condition; None under positive conditions, where both are meant
            to show a mask.
    """

    condition: str
    level: float | None
    missing_clips: int
    overlap: MaskOverlap
    auroc: float | None


@dataclass(frozen=True)
class Diagnostics:
    """Diagnostics of one model on one split.

    Attributes:
        overlap: Overlap of the masks under the negatives of G with those under clean audio.
        auroc: AUROC of the activated area, clean against the negatives of G.
        compute_curve: Returns `curve`, which takes as long as all the rest and which not every format needs.
        conditions: Each condition other than clean.
        clips: Clips with a scored frame.
        frames: Scored frames of `clips`, each counted once however many conditions it was scored under.
        empty_frames: Those of `frames` whose target is empty.
        missing_clean: Clips that were not scored under clean audio.
        muted_clips: Clips whose own recording is silent, so that clean equals silence.
        binary_masks: Whether every probability is 0 or 1 (or less than 1/254 from 0), so that thresholds change nothing.
        areas: Activated areas under clean audio and under each condition of `conditions`.
    """

    overlap: MaskOverlap
    auroc: float | None
    compute_curve: Callable[[], ThresholdCurve | None] = field(repr=False, compare=False)
    conditions: tuple[ConditionDiagnostics, ...]
    clips: int
    frames: int
    empty_frames: int
    missing_clean: int
    muted_clips: int
    binary_masks: bool
    areas: tuple[AreaHistogram, ...] = ()

    @cached_property
    def curve(self) -> ThresholdCurve | None:
        """G-mIoU over the thresholds; None where a condition of it is missing."""
        return self.compute_curve()

    @property
    def missing_rows(self) -> int:
        """Rows that would be there had every clip been scored under every condition found."""
        return self.missing_clean + sum(entry.missing_clips for entry in self.conditions)

    def under(self, condition: str, level: float | None = None) -> ConditionDiagnostics | None:
        """Return the diagnostics of one condition, or None where it was not evaluated."""
        found = (entry for entry in self.conditions if (entry.condition, entry.level) == (condition, level))
        return next(found, None)

    @property
    def best_threshold(self) -> float | None:
        """The single threshold with the largest strict G-mIoU."""
        return None if self.curve is None else self.curve.best_threshold

    @property
    def best_g_miou(self) -> float | None:
        """Strict G-mIoU at `best_threshold`."""
        return None if self.curve is None else float(self.curve.g_miou[self.curve.best_index])


def diagnose(result: SplitResult, negatives: Sequence[str] = NEGATIVES) -> Diagnostics:
    """Return the diagnostics of a result; a result without frames has zeros and None.

    Args:
        result: The result.
        negatives: The negative conditions that G averages over.
    """
    frames = result.frames
    rows = frames.rows.clips
    area = activated_area(frames)
    clean_area = area[rows.condition == CLEAN]
    clips = np.unique(rows.clip)
    conditions = []
    for name, level in _conditions(result):
        of_rows = _matches(rows.condition, rows.level, name, level)
        negative = bool(rows.negative[of_rows].any())
        conditions.append(
            ConditionDiagnostics(
                condition=name,
                level=level,
                missing_clips=len(clips) - int(np.count_nonzero(of_rows)),
                overlap=_overlap(result, _matches(frames.condition, _level(result), name, level)),
                auroc=auroc(clean_area, area[of_rows]) if negative else None,
            )
        )
    keys = [negative_key(name) for name in negatives]
    is_negative = _any_of(rows.condition, rows.level, keys)
    num_frames, empty_frames = _frames(result)
    return Diagnostics(
        overlap=_overlap(result, _any_of(frames.condition, _level(result), keys)),
        auroc=auroc(clean_area, area[is_negative]),
        compute_curve=partial(threshold_curve, frames, negatives),
        conditions=tuple(conditions),
        clips=len(clips),
        frames=num_frames,
        empty_frames=empty_frames,
        missing_clean=len(clips) - len(clean_area),
        muted_clips=len(result.muted_clips),
        binary_masks=_is_binary(frames.statistics),
        areas=tuple(_areas(area, rows, [(CLEAN, None), *_conditions(result)])),
    )


def _areas(
    area: npt.NDArray[np.float64], rows: ClipRows, conditions: Sequence[ConditionKey]
) -> Iterator[AreaHistogram]:
    """Yield the histogram of each condition that has clips."""
    for name, level in conditions:
        of_rows = _matches(rows.condition, rows.level, name, level)
        if of_rows.any():
            counts, _ = np.histogram(area[of_rows], AREA_BINS, (0.0, 1.0))
            yield AreaHistogram(name, level, bool(rows.negative[of_rows].any()), tuple(counts.tolist()))


def _is_binary(statistics: FrameStatistics) -> bool:
    """Return whether all pixels lie in the first and the last bin of the histograms; no frame is no mask."""
    return len(statistics) > 0 and not any(
        block[:, 1:-1].any() for histograms in (statistics.inside, statistics.outside) for block in blocks(histograms)
    )


def _conditions(result: SplitResult) -> list[tuple[str, float | None]]:
    """The conditions other than clean, the three negatives first, then the others by name and level."""
    rows = result.frames.rows.clips
    level = np.where(np.isnan(rows.level), -np.inf, rows.level)
    found = {
        (name, None if np.isinf(value) else value)
        for name, value in distinct_conditions(rows.condition, level)
        if name != CLEAN
    }
    return sorted(found, key=lambda key: (_position(key[0]), key[0], -np.inf if key[1] is None else key[1]))


def _position(condition: str) -> int:
    return NEGATIVES.index(condition) if condition in NEGATIVES else len(NEGATIVES)


def _level(result: SplitResult) -> npt.NDArray[np.floating]:
    level = result.frames.level
    return np.full(len(result.frames), np.nan) if level is None else level


def _matches(
    conditions: npt.NDArray[np.str_] | CodedTexts, levels: npt.NDArray[np.floating], name: str, level: float | None
) -> Flags:
    at_level: Flags = np.isnan(levels) if level is None else levels == level
    matched: Flags = at_level & (conditions == name)
    return matched


def _any_of(
    conditions: npt.NDArray[np.str_] | CodedTexts, levels: npt.NDArray[np.floating], keys: Sequence[ConditionKey]
) -> Flags:
    """Those under any of some conditions."""
    found = np.zeros(len(conditions), dtype=np.bool_)
    for key in keys:
        found |= _matches(conditions, levels, *key)
    return found


def _overlap(result: SplitResult, chosen: Flags) -> MaskOverlap:
    compared = chosen & ~np.isnan(result.clean_union)
    return mask_overlap(
        result.clean_intersection[compared].astype(np.int64),
        result.clean_union[compared].astype(np.int64),
        result.frames.clip[compared],
    )


def _frames(result: SplitResult) -> tuple[int, int]:
    """Count the scored frames of all clips, and those with an empty target: of each clip under its fullest condition."""
    rows = result.frames.rows
    if len(rows) == 0:
        return 0, 0
    empty = rows.sum(result.frames.statistics.target_pixels[rows.order] == 0)
    most = np.zeros((2, int(rows.clip.max()) + 1), dtype=np.int64)
    np.maximum.at(most[0], rows.clip, rows.frames)
    np.maximum.at(most[1], rows.clip, empty.astype(np.int64))
    return int(most[0].sum()), int(most[1].sum())
