"""Binary scores of rows (clip, condition, level) under one protocol, ready to be averaged or resampled.

Conventions
    R clip rows, in the order of `ScoredFrames.rows.clips`: the draws of a clip are averaged before anything else. The columns
    of all score arrays are `MEASURES`: IoU, F, FPR.
    A data set's score is the sum of numerators over the sum of denominators. Where clips are averaged, a row's numerator is
    its score and its denominator 1; where pixels are pooled, both are counts; a row that does not count has 0 / 0. Where
    the protocol scores batches, each row of a batch of b clips has the batch's F and counts 1 / b: every batch counts once.
    Scores are fractions in [0, 1]. Under a negative condition IoU and F are taken against the clip's original mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from avsrobust.metrics import ratios
from avsrobust.metrics.binary.counts import activated_at, activated_from
from avsrobust.metrics.binary.frames import ScoredFrames
from avsrobust.metrics.binary.protocols import Protocol
from avsrobust.metrics.dataset_score import MEASURES
from avsrobust.metrics.rows import CACHED_FRAMES, Flags, Floats, Ints, Rows, Strings, blocks_of, in_place, sums_from

# Frames whose counts are worked on at once.
_BLOCK_FRAMES = 1 << 16


@dataclass(frozen=True)
class ClipScores:
    """Scores of R rows under one protocol.

    Attributes:
        protocol: The protocol.
        clip: Clip of each row, int64 [R].
        condition: Condition of each row, str [R].
        level: Level of each row in dB, float64 [R]; NaN where it has none.
        negative: Whether none of the picture's objects makes the sound, bool [R].
        frames: Frames of each row, int64 [R].
        empty_frames: Frames whose target is empty, int64 [R].
        skipped: Whether the protocol skips the row altogether, bool [R].
        numerator: Numerators, float64 [R, 3].
        denominator: Denominators, float64 [R, 3].
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


def clip_scores(frames: ScoredFrames, protocol: Protocol) -> ClipScores:
    """Return the score of every row of `frames` under `protocol`.

    >>> import numpy as np
    >>> from avsrobust.metrics import PROTOCOLS, ScoredFrames, frame_statistics
    >>> target = np.array([[[True, False], [False, False]]])
    >>> statistics = frame_statistics(np.where(target, 0.9, 0.1), target)
    >>> frames = ScoredFrames(statistics, np.array([0]), np.array(["clean"]), np.array([False]))
    >>> clip_scores(frames, PROTOCOLS["strict"]).value
    array([[1.  , 1.  , 0.25]])
    """
    rows = frames.rows
    target = frames.statistics.target_pixels[rows.order]
    frames_with_target = rows.sum(target > 0)
    skipped = np.zeros(len(rows), dtype=np.bool_)
    if protocol.empty_targets == "skipped":
        skipped = frames_with_target == 0
    if protocol.average == "pixels":
        numerator, denominator = _pooled(frames, protocol)
    else:
        weight = np.where(skipped, 0.0, 1.0 / _batch_sizes(rows, protocol))[:, None]
        numerator = weight * _averaged(frames, protocol, frames_with_target)
        denominator = np.repeat(weight, len(MEASURES), axis=1)
    clips = rows.clips
    first = np.unique(rows.clip_row, return_index=True)[1]
    return ClipScores(
        protocol=protocol,
        clip=clips.clip,
        condition=clips.condition,
        level=clips.level,
        negative=clips.negative,
        frames=rows.frames[first],
        empty_frames=(rows.frames - frames_with_target.astype(np.int64))[first],
        skipped=skipped[first],
        numerator=rows.over_draws(numerator),
        denominator=rows.over_draws(denominator),
    )


def activated_area(frames: ScoredFrames) -> Floats:
    """Return the activated share (``p > 0.5``) of every clip row, averaged over its frames and draws: float64 [C] in [0, 1]."""
    rows, statistics = frames.rows, frames.statistics
    share = (statistics.tp_050 + statistics.fp_050) / statistics.pixels
    return rows.over_draws(rows.sum(share[rows.order]) / rows.frames)


def _counts_in_blocks(
    frames: ScoredFrames, protocol: Protocol
) -> Iterator[tuple[slice, Ints, tuple[Ints, Ints, Ints, Ints]]]:
    """Yield groups of rows: their slice, where each begins, and their frames' pixels, target, true and false positives.

    The positives are those at the protocol's threshold.
    """
    statistics = frames.statistics
    tp, fp = activated_at(statistics, protocol.threshold)
    for block, index, start in frames.rows.blocks(_BLOCK_FRAMES):
        yield block, start, (statistics.pixels[index], statistics.target_pixels[index], tp[index], fp[index])


def _averaged(frames: ScoredFrames, protocol: Protocol, frames_with_target: Floats) -> Floats:
    """Mean over each row's frames of IoU, F and FPR, float64 [R, 3]."""
    rows = frames.rows
    means = np.empty((len(rows), len(MEASURES)))
    for block, start, (pixels, target, tp, fp) in _counts_in_blocks(frames, protocol):
        number = rows.frames[block]
        iou = ratios.iou(tp, fp, target, pixels)
        if protocol.empty_targets == "skipped":
            scored = (target > 0) | ~np.repeat(rows.negative[block], number)
            means[block, 0] = sums_from(iou * scored, start) / np.maximum(sums_from(scored, start), 1.0)
        else:
            means[block, 0] = sums_from(iou, start) / number
        if protocol.f_at != "best_of_255":
            f = ratios.f_measure(tp, tp + fp, target, protocol.beta2)
            means[block, 1] = sums_from(f, start) / np.maximum(frames_with_target[block], 1.0)
        means[block, 2] = sums_from((tp + fp) / pixels, start) / number
    if protocol.f_at == "best_of_255":
        means[:, 1] = _best_f(frames, protocol, frames_with_target)
    return means


def _best_f(frames: ScoredFrames, protocol: Protocol, frames_with_target: Floats) -> Floats:
    """Largest over the 255 thresholds of the mean F over the frames of a batch whose target is not empty, of each row, [R]."""
    statistics, rows = frames.statistics, frames.rows
    batches = _batch_starts(rows, protocol)
    best = np.empty(len(batches))
    # Where the frames lie, since histograms may have to be read: each batch's best is its own.
    visited, order, starts = in_place(rows.order, rows.start[batches])
    for block, index, start in blocks_of(order, starts, CACHED_FRAMES):
        tp, fp = activated_from(statistics, index)
        activated = tp + fp
        # Frames with an empty target add 0.
        f = ratios.f_measure(tp, activated, statistics.target_pixels[index, None], protocol.beta2)
        best[visited[block]] = sums_from(f, start).max(axis=1)
    best /= np.maximum(sums_from(frames_with_target, batches), 1.0)
    return np.repeat(best, np.diff(np.append(batches, len(rows))))


def _batch_starts(rows: Rows, protocol: Protocol) -> Ints:
    """First row of each batch: consecutive clips under one condition, level and draw."""
    position = np.arange(len(rows))
    if max(protocol.batch_under(negative=False), protocol.batch_under(negative=True)) == 1:
        return position
    level = np.where(np.isnan(rows.level), -np.inf, rows.level)
    is_first = np.ones(len(rows), dtype=np.bool_)
    is_first[1:] = False
    for key in (rows.condition, level, rows.draw):
        is_first[1:] |= key[1:] != key[:-1]
    begin = np.maximum.accumulate(np.where(is_first, position, 0))
    sizes = (protocol.batch_under(negative=False), protocol.batch_under(negative=True))
    return np.flatnonzero((position - begin) % np.where(rows.negative, sizes[1], sizes[0]) == 0)


def _batch_sizes(rows: Rows, protocol: Protocol) -> Ints:
    """Number of clips in the batch of each row, int64 [R]."""
    sizes = np.diff(np.append(_batch_starts(rows, protocol), len(rows)))
    return np.repeat(sizes, sizes)


def _pooled(frames: ScoredFrames, protocol: Protocol) -> tuple[Floats, Floats]:
    """Numerators and denominators of the ratios of sums, each float64 [R, 3]."""
    rows = frames.rows
    numerator, denominator = (np.empty((len(rows), len(MEASURES))) for _ in range(2))
    for block, start, (pixels, target, tp, fp) in _counts_in_blocks(frames, protocol):
        f_numerator, f_denominator = ratios.f_terms(tp, tp + fp, target, protocol.beta2)
        for column, values in enumerate((tp, f_numerator, tp + fp)):
            numerator[block, column] = sums_from(values, start)
        for column, values in enumerate((target + fp, f_denominator, pixels)):
            denominator[block, column] = sums_from(values, start)
    return numerator, denominator
