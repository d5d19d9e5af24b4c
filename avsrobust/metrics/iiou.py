"""Interactive IoU: one picture, two sounds, and the mask must follow the sound.

Conventions
    A picture is a frame that was scored under two conditions, which differ in the sound and in the target: `PAIR`. Its value
    is the smaller of its two IoUs, each in [0, 1] at one threshold of the probability. A picture counts where neither target is
    empty. The data set's IIoU is the mean over clips (all their draws together) of the share of pictures whose value reaches a
    bar. A model that predicts nothing has IIoU 0, and so has one whose mask ignores the sound.
    Source: IS3 (interactive synthetic sound source), IIoU at 0.5 and its area over bars 0, 0.05 .. 1. At bar 0 every picture
    passes, so that the area of a model that is always wrong is 0.025, not 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avsrobust.metrics import ratios
from avsrobust.metrics.binary.counts import activated_at
from avsrobust.metrics.binary.frames import ScoredFrames
from avsrobust.metrics.rows import Flags, Floats, Ints

# The two sounds of one composite picture: that of its first tile, and that of another.
PAIR = ("distractor", "distractor_swapped")
BARS: Floats = np.arange(21) / 20
BAR = 0.5


@dataclass(frozen=True)
class InteractiveIou:
    """IIoU at one level of the pair of conditions.

    Attributes:
        level: The level, or None.
        at_half: Share of pictures both of whose IoUs are at least 0.5; None where no picture counts.
        area: Area under the share over the bars 0, 0.05 .. 1, by the trapezoid rule, or None.
        clips: Clips with a picture that counts.
        pictures: Pictures that count.
        empty: Pictures of which a target is empty.
    """

    level: float | None
    at_half: float | None
    area: float | None
    clips: int
    pictures: int
    empty: int


def interactive_iou(
    frames: ScoredFrames, threshold: float = 0.5, pair: tuple[str, str] = PAIR
) -> tuple[InteractiveIou, ...]:
    """Return IIoU at each level at which both conditions of `pair` were scored, none first.

    Args:
        frames: All scored frames; their numbers (`ScoredFrames.frame`) say which are one picture.
        threshold: 0.5, 0.4 or k / 254 (`metrics.binary.counts.activated_at`).
        pair: The two conditions.
    """
    keys = [_keys(frames, name) for name in pair]
    if not all(len(key) for key, _ in keys):
        return ()
    common, first, second = np.intersect1d(keys[0][0], keys[1][0], return_indices=True)
    chosen = np.stack([keys[0][1][first], keys[1][1][second]])
    statistics = frames.statistics
    tp, fp = activated_at(statistics, threshold)
    iou = ratios.iou(tp[chosen], fp[chosen], statistics.target_pixels[chosen], statistics.pixels[chosen]).min(axis=0)
    has_target = np.asarray((statistics.target_pixels[chosen] > 0).all(axis=0))
    clip = frames.clip[chosen[0]].astype(np.int64)
    levels: Floats = common["level"]
    return tuple(_score(float(level), iou, clip, levels, has_target) for level in np.unique(levels))


def _score(level: float, iou: Floats, clip: Ints, levels: Floats, has_target: Flags) -> InteractiveIou:
    """IIoU of the pictures whose `levels` are `level`."""
    at_level: Flags = levels == level
    counted = at_level & has_target
    empty = int(np.count_nonzero(at_level & ~has_target))
    level_or_none = None if np.isneginf(level) else level
    if not counted.any():
        return InteractiveIou(level_or_none, None, None, 0, 0, empty)
    clips, index = np.unique(clip[counted], return_inverse=True)
    passed = iou[counted, None] >= BARS
    per_clip = np.zeros((len(clips), len(BARS)))
    np.add.at(per_clip, index, passed)
    share = (per_clip / np.bincount(index)[:, None]).mean(axis=0)
    at_half = float(share[np.flatnonzero(BARS == BAR)[0]])
    return InteractiveIou(
        level_or_none, at_half, float(ratios.area_under(BARS, share)), len(clips), len(iou[counted]), empty
    )


def _keys(frames: ScoredFrames, condition: str) -> tuple[npt.NDArray[np.void], Ints]:
    """Level, clip, draw and frame of each frame under a condition, as one array of records, and the frames themselves."""
    index = np.flatnonzero(frames.condition == condition)
    level = np.full(len(frames), -np.inf)
    if frames.level is not None:
        level = np.where(np.isnan(frames.level), -np.inf, frames.level)
    draw = np.zeros(len(frames), dtype=np.int64) if frames.draw is None else frames.draw
    records = np.empty(len(index), dtype=[("level", "f8"), ("clip", "i8"), ("draw", "i8"), ("frame", "i8")])
    for name, values in (("level", level), ("clip", frames.clip), ("draw", draw), ("frame", frames.numbers)):
        records[name] = values[index]
    return records, index
