"""Activation: how much of the picture a model marks under each condition, whatever the target.

Conventions
    The activated share of a frame is its pixels above the threshold over all its pixels. A data set's value is the mean over
    clips (draws averaged first) of the mean over the clip's frames; S is taken of the clip as a whole. All are in [0, 1].
    Under a negative condition nothing should be marked: AOC and the true-negative rates are best at 1, S at 0, and a model that
    predicts nothing reaches all of these. Under a positive condition they only describe the masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avsrobust.metrics.binary.counts import activated_at
from avsrobust.metrics.binary.frames import ScoredFrames
from avsrobust.metrics.dataset_score import conditions_of
from avsrobust.metrics.ratios import area_under
from avsrobust.metrics.rows import Floats, Ints

# VSSL-Eval: thresholds of the activated share, 0, 0.05 .. 1.
SHARES: Floats = np.arange(21) / 20
# A frame counts as empty for the lenient true-negative rate where at most this share of it is marked.
LENIENT_SHARE = 0.01


@dataclass(frozen=True)
class ActivationScores:
    """Activation under one condition (at one level, where it has levels).

    Attributes:
        condition: Name of the condition.
        level: Its level, or None.
        negative: Whether none of the picture's objects makes the sound.
        aoc: Area under "share of frames with activated share <= t", t = 0, 0.05 .. 1, by the trapezoid rule.
        s: Mean over clips of the root of the clip's activated share.
        empty_rate: Share of frames in which nothing is marked: under a negative condition the true-negative rate.
        lenient_rate: Share of frames of which at most 1 % is marked.
        clips: Clips scored.
    """

    condition: str
    level: float | None
    negative: bool
    aoc: float
    s: float
    empty_rate: float
    lenient_rate: float
    clips: int


def activation_scores(frames: ScoredFrames, threshold: float = 0.5) -> tuple[ActivationScores, ...]:
    """Return the activation under each condition: clean, the negatives of G, then the others by name and level.

    Sources: AOC, VSSL-Eval (arXiv 2410.01020), area over activated shares; S, Ref-AVS, the metric of its null split; the
    true-negative rate, AVATAR (ICCV 2025), off-screen frames.

    Args:
        frames: All scored frames.
        threshold: 0.5, 0.4 or k / 254 (`metrics.binary.counts.activated_at`).

    >>> from avsrobust.metrics import frame_statistics
    >>> target = np.array([[[True, False], [False, False]]])
    >>> statistics = frame_statistics(np.where(target, 0.9, 0.1), target)
    >>> found = activation_scores(ScoredFrames(statistics, np.array([0]), np.array(["clean"]), np.array([False])))
    >>> round(found[0].aoc, 3), found[0].s, found[0].empty_rate
    (0.775, 0.5, 0.0)
    """
    tp, fp = activated_at(frames.statistics, threshold)
    activated, pixels, rows = tp + fp, frames.statistics.pixels, frames.rows
    per_frame = np.stack(
        [area_over_shares(activated, pixels), activated == 0, activated <= LENIENT_SHARE * pixels], axis=1
    )
    means = rows.sum(per_frame[rows.order]) / rows.frames[:, None]
    s = np.sqrt(rows.sum(activated[rows.order]) / rows.sum(pixels[rows.order]))
    values = rows.over_draws(np.concatenate([means, s[:, None]], axis=1))
    clips = rows.clips
    scores = []
    for name, level, chosen in conditions_of(clips):
        aoc, empty, lenient, root = (float(value) for value in values[chosen].mean(axis=0))
        scores.append(
            ActivationScores(
                condition=name,
                level=level,
                negative=bool(clips.negative[chosen].any()),
                aoc=min(aoc, 1.0),
                s=min(root, 1.0),
                empty_rate=empty,
                lenient_rate=lenient,
                clips=int(np.count_nonzero(chosen)),
            )
        )
    return tuple(scores)


def area_over_shares(activated: Ints, pixels: Ints) -> Floats:
    """Return each frame's part of AOC: the area under the step from 0 to 1 at its activated share, float64 [N].

    >>> area_over_shares(np.array([0, 100]), np.array([100, 100]))
    array([1.   , 0.025])
    """
    below = (activated / pixels)[:, None] <= SHARES
    return area_under(SHARES, below)
