"""Binary scores of rows (clip, condition, level) under one protocol, ready to be averaged or resampled.

Conventions
    R rows, in the order of `ScoredFrames.rows`. The columns of all score arrays are `MEASURES`: IoU, F, FPR.
    A data set's score is the sum of numerators over the sum of denominators. Where clips are averaged, a row's numerator is
    its score and its denominator 1; where pixels are pooled, both are counts; a row that does not count has 0 / 0.
    Scores are fractions in [0, 1]. Under a negative condition IoU and F are taken against the clip's original mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avsrobust.metrics import ratios
from avsrobust.metrics.binary.counts import FrameStatistics, activated_at
from avsrobust.metrics.binary.protocols import Protocol
from avsrobust.metrics.binary.thresholds import at_least
from avsrobust.metrics.dataset_score import MEASURES
from avsrobust.metrics.rows import Flags, Floats, Ints, Rows, ScoredFrames, Strings, sums_from


@dataclass(frozen=True)
class ClipScores:
    """Scores of R rows under one protocol.

    `numerator`, `denominator`: float64 [R, 3]. `frames`, `empty_frames` (those with an empty target): int64 [R].
    `skipped` [R]: the protocol leaves the row out of everything.
    """

    protocol: Protocol
    clip: Ints
    condition: Strings
    level: Floats
    negative: Flags
    frames: Ints
    empty_frames: Ints
    skipped: Flags
    numerator: Floats
    denominator: Floats

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def value(self) -> Floats:
        """The rows' own scores, float64 [R, 3]; NaN where undefined."""
        undefined = np.full_like(self.numerator, np.nan)
        return np.divide(self.numerator, self.denominator, out=undefined, where=self.denominator > 0)


@dataclass(frozen=True)
class _Counts:
    """Counts of the N frames in the order of the rows, at the protocol's threshold; all int64 [N]."""

    pixels: Ints
    target: Ints
    tp: Ints
    fp: Ints

    @property
    def activated(self) -> Ints:
        return self.tp + self.fp

    @property
    def has_target(self) -> Flags:
        return self.target > 0


def clip_scores(frames: ScoredFrames, protocol: Protocol) -> ClipScores:
    """Return the score of every row of `frames` under `protocol`."""
    rows = frames.rows
    counts = _counts(frames.statistics, rows, protocol)
    frames_with_target = rows.sum(counts.has_target)
    skipped = np.zeros(len(rows), dtype=np.bool_)
    if protocol.empty_targets == "skipped":
        skipped = frames_with_target == 0
    if protocol.average == "pixels":
        numerator, denominator = _pooled(counts, rows, protocol)
    else:
        numerator = np.where(skipped[:, None], 0.0, _averaged(frames, counts, protocol, frames_with_target))
        denominator = np.repeat(~skipped[:, None], len(MEASURES), axis=1).astype(np.float64)
    return ClipScores(
        protocol=protocol,
        clip=rows.clip,
        condition=rows.condition,
        level=rows.level,
        negative=rows.negative,
        frames=rows.frames,
        empty_frames=rows.frames - frames_with_target.astype(np.int64),
        skipped=skipped,
        numerator=numerator,
        denominator=denominator,
    )


def activated_area(frames: ScoredFrames) -> Floats:
    """Return the activated share (``p > 0.5``) of every row of `frames`, averaged over its frames: float64 [R] in [0, 1]."""
    rows, statistics = frames.rows, frames.statistics
    share = (statistics.tp_050 + statistics.fp_050) / statistics.pixels
    return rows.sum(share[rows.order]) / rows.frames


def _counts(statistics: FrameStatistics, rows: Rows, protocol: Protocol) -> _Counts:
    tp, fp = activated_at(statistics, protocol.threshold)
    order = rows.order
    return _Counts(statistics.pixels[order], statistics.target_pixels[order], tp[order], fp[order])


def _averaged(frames: ScoredFrames, counts: _Counts, protocol: Protocol, frames_with_target: Floats) -> Floats:
    """Mean over each row's frames of IoU, F and FPR, float64 [R, 3]."""
    rows = frames.rows
    at_least_one = np.maximum(frames_with_target, 1.0)
    iou = ratios.iou(counts.tp, counts.fp, counts.target, counts.pixels)
    if protocol.empty_targets == "skipped":
        scored = counts.has_target | ~np.repeat(rows.negative, rows.frames)
        miou = rows.sum(iou * scored) / np.maximum(rows.sum(scored), 1.0)
    else:
        miou = rows.sum(iou) / rows.frames
    if protocol.f_at == "best_of_255":
        f = _best_f(frames, protocol.beta2, at_least_one)
    else:
        f = rows.sum(ratios.f_measure(counts.tp, counts.activated, counts.target, protocol.beta2)) / at_least_one
    return np.stack([miou, f, rows.sum(counts.activated / counts.pixels) / rows.frames], axis=1)


def _best_f(frames: ScoredFrames, beta2: float, frames_with_target: Floats) -> Floats:
    """Largest over the 255 thresholds of the mean F over the frames whose target is not empty (those add 0), [R]."""
    statistics = frames.statistics
    best = np.empty(len(frames.rows))
    for block, index, start in frames.rows.blocks():
        tp = at_least(statistics.inside[index])
        activated = tp + at_least(statistics.outside[index])
        f = ratios.f_measure(tp, activated, statistics.target_pixels[index, None], beta2)
        best[block] = sums_from(f, start).max(axis=1)
    return best / frames_with_target


def _pooled(counts: _Counts, rows: Rows, protocol: Protocol) -> tuple[Floats, Floats]:
    """Numerators and denominators of the ratios of sums, each float64 [R, 3]."""
    f_numerator, f_denominator = ratios.f_terms(counts.tp, counts.activated, counts.target, protocol.beta2)
    numerators = (counts.tp, f_numerator, counts.activated)
    denominators = (counts.target + counts.fp, f_denominator, counts.pixels)
    return (
        np.stack([rows.sum(values) for values in numerators], axis=1),
        np.stack([rows.sum(values) for values in denominators], axis=1),
    )
