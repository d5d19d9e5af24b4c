"""Sufficient statistics of one frame: everything any protocol needs, so that no score needs the model again.

Conventions
    `pred` is float32 [N, H, W], probabilities in [0, 1]; `target` is bool [N, H, W]; N frames, all counts are pixels.
    True positives: activated pixels of the target. False positives: activated pixels outside it.
    ``_050``: ``pred > 0.5``; ``_040``: ``pred > 0.4``, both compared in float32 as the papers' code does.
    `inside[n, i]` counts the pixels of frame n inside the target whose probability lies in [t_i, t_{i+1}), where t are the
    255 thresholds linspace(0, 1 - 1e-10, 255) in float32; the last bin holds t_254 = 1.0. `outside` alike. Counting from
    the last bin down gives the pixels with ``pred >= t_i``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from avsrobust.errors import MetricInputError, OptionError
from avsrobust.metrics.binary.histograms import EndHistograms, Histograms, blocks, joined
from avsrobust.metrics.binary.scores import activated_pixels
from avsrobust.metrics.binary.thresholds import NUM_THRESHOLDS, Counts, at_least, histograms, thresholds
from avsrobust.metrics.inputs import Mask, Probabilities, checked_pair

__all__ = [
    "NUM_THRESHOLDS",
    "Counts",
    "FrameStatistics",
    "activated_at",
    "activated_from",
    "check_threshold",
    "concatenate",
    "empty_prediction",
    "frame_statistics",
    "perfect_prediction",
    "take",
]
# Thresholds at which activated pixels are counted apart, since the papers' code compares with ``>`` there.
STORED_THRESHOLDS = (0.5, 0.4)


@dataclass(frozen=True)
class FrameStatistics:
    """Counts of N frames, int64; of a file that was read int32, where its counts fit.

    Attributes:
        pixels: Pixels of each frame [N].
        target_pixels: Pixels of the target [N].
        tp_050: True positives of ``pred > 0.5`` [N].
        fp_050: False positives of ``pred > 0.5`` [N].
        tp_040: True positives of ``pred > 0.4`` [N].
        fp_040: False positives of ``pred > 0.4`` [N].
        inside: Histogram of the probabilities inside the target [N, 255]; an array, or histograms that are read when they are
            asked for (`histograms`).
        outside: Histogram of the probabilities outside the target [N, 255]; likewise.

    Raises:
        MetricInputError: The shapes do not fit together.
    """

    pixels: Counts
    target_pixels: Counts
    tp_050: Counts
    fp_050: Counts
    tp_040: Counts
    fp_040: Counts
    inside: Counts | Histograms
    outside: Counts | Histograms

    def __post_init__(self) -> None:
        for name in FIELDS:
            found = getattr(self, name).shape
            expected = (len(self.pixels), NUM_THRESHOLDS) if name in ("inside", "outside") else (len(self.pixels),)
            if found != expected:
                raise MetricInputError(f"{name}: found shape {found}; expected {expected}, one entry per frame")

    def __len__(self) -> int:
        return len(self.pixels)


FIELDS = tuple(entry.name for entry in fields(FrameStatistics))
HISTOGRAMS = ("inside", "outside")


def frame_statistics(pred: npt.NDArray[np.floating], target: Mask) -> FrameStatistics:
    """Return the statistics of N frames.

    Args:
        pred: Probabilities in [0, 1], float32 [N, H, W].
        target: bool [N, H, W].

    Raises:
        MetricInputError: One of the two is anything else (see `inputs`).

    >>> import numpy as np
    >>> pred = np.array([[[0.9, 0.45], [0.6, 0.2]]], dtype=np.float32)
    >>> statistics = frame_statistics(pred, np.array([[[True, True], [False, False]]]))
    >>> statistics.tp_050, statistics.fp_050, statistics.tp_040
    (array([1]), array([1]), array([2]))
    """
    return count_frames(*checked_pair(pred, target))


def count_frames(prediction: Probabilities, mask: Mask) -> FrameStatistics:
    """Return the `frame_statistics` of arrays that were checked before."""
    if (found := _binary_statistics(prediction, mask)) is not None:
        return found
    inside, outside = histograms(prediction, mask, thresholds(NUM_THRESHOLDS))
    tp_050, fp_050 = activated_pixels(prediction, mask, np.float32(0.5))
    tp_040, fp_040 = activated_pixels(prediction, mask, np.float32(0.4))
    return FrameStatistics(
        pixels=np.full(len(mask), mask[0].size, dtype=np.int64),
        target_pixels=inside.sum(axis=1),
        tp_050=tp_050,
        fp_050=fp_050,
        tp_040=tp_040,
        fp_040=fp_040,
        inside=inside,
        outside=outside,
    )


def _binary_statistics(pred: Probabilities, target: Mask) -> FrameStatistics | None:
    """Return the statistics of predictions that are 0 or 1 everywhere, None for others: most of the time one look is enough."""
    size = target[0].size
    tp, positive, target_pixels = (np.empty(len(pred), dtype=np.int64) for _ in range(3))
    for frame in range(len(pred)):
        middle = pred[frame, pred.shape[1] // 2]
        if ((middle > 0) & (middle < 1)).any():
            return None
        marked = pred[frame] == 1
        positive[frame] = np.count_nonzero(marked)
        if np.count_nonzero(pred[frame] == 0) + positive[frame] != size:
            return None
        target_pixels[frame] = np.count_nonzero(target[frame])
        marked &= target[frame]
        tp[frame] = np.count_nonzero(marked)
    fp = positive - tp
    inside, outside = (np.zeros((len(pred), NUM_THRESHOLDS), dtype=np.int64) for _ in range(2))
    inside[:, 0], inside[:, -1] = target_pixels - tp, tp
    outside[:, 0], outside[:, -1] = size - target_pixels - fp, fp
    return FrameStatistics(np.full(len(pred), size, dtype=np.int64), target_pixels, tp, fp, tp, fp, inside, outside)


def activated_at(statistics: FrameStatistics, threshold: float) -> tuple[Counts, Counts]:
    """Return the true and the false positives of N frames at a threshold, each int64 [N].

    Args:
        statistics: Statistics of the frames.
        threshold: 0.5 or 0.4, for ``pred > threshold``, or one of the 255 thresholds t, for ``pred >= t``.

    Raises:
        OptionError: The stored counts do not answer this threshold (`check_threshold`).
    """
    check_threshold(threshold)
    if threshold == 0.5:
        return statistics.tp_050, statistics.fp_050
    if threshold == 0.4:
        return statistics.tp_040, statistics.fp_040
    index = int(np.searchsorted(thresholds(), np.float32(threshold)))
    return _counted_from(statistics.inside, index), _counted_from(statistics.outside, index)


def activated_from(statistics: FrameStatistics, index: npt.NDArray[np.int64]) -> tuple[Counts, Counts]:
    """Return the true and the false positives of some frames over the thresholds, each int64 [K, n].

    n is 255, or 2 where all thresholds but the first activate the same pixels: then the columns are those of these two.
    """
    inside, outside = statistics.inside, statistics.outside
    if isinstance(inside, EndHistograms) and isinstance(outside, EndHistograms):
        return inside.read_ends(index), outside.read_ends(index)
    return at_least(inside[index]), at_least(outside[index])


def _counted_from(histograms: Counts | Histograms, index: int) -> Counts:
    """Return the pixels of each frame in the bins from `index` on."""
    parts = [block[:, index:].sum(axis=1) for block in blocks(histograms)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def check_threshold(threshold: float) -> None:
    """Raise `OptionError` unless the stored counts answer `threshold`: 0.5, 0.4, or one of the 255 thresholds.

    >>> check_threshold(76 / 254)
    >>> check_threshold(0.3)
    Traceback (most recent call last):
    ...
    avsrobust.errors.OptionError: threshold: found 0.3, which the stored counts do not answer; expected 0.5, 0.4, or k / 254 \
for k = 0..254; nearest are 76 / 254 and 77 / 254
    """
    table = thresholds()
    if threshold in STORED_THRESHOLDS or (0 <= threshold <= 1 and np.float32(threshold) in table):
        return
    last = NUM_THRESHOLDS - 1
    below = min(max(int(threshold * last) if threshold == threshold else 0, 0), last - 1)
    raise OptionError(
        f"threshold: found {threshold}, which the stored counts do not answer; expected 0.5, 0.4, or k / {last} for "
        f"k = 0..{last}; nearest are {below} / {last} and {below + 1} / {last}"
    )


def concatenate(parts: Sequence[FrameStatistics]) -> FrameStatistics:
    """Return the statistics of all parts' frames, in order; of no frame where there is no part."""
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        histogram = np.zeros((0, NUM_THRESHOLDS), dtype=np.int64)
        return FrameStatistics(none, none, none, none, none, none, histogram, histogram)
    values = {name: [getattr(part, name) for part in parts] for name in FIELDS}
    whole: dict[str, Any] = {
        name: joined(found) if name in HISTOGRAMS else np.concatenate(found) for name, found in values.items()
    }
    return FrameStatistics(**whole)


def take(statistics: FrameStatistics, index: npt.NDArray[np.integer] | Mask | slice) -> FrameStatistics:
    """Return the statistics of some frames: `index` is a slice, integers (in the order of the result) or bool [N]."""
    values = {name: getattr(statistics, name) for name in FIELDS}
    taken: dict[str, Any] = {
        name: found.take(index) if isinstance(found, Histograms) else found[index] for name, found in values.items()
    }
    return FrameStatistics(**taken)


def empty_prediction(statistics: FrameStatistics) -> FrameStatistics:
    """Return the statistics of a model that gives every pixel probability 0, on the same targets."""
    # One number that stands for all frames.
    none = np.broadcast_to(np.int64(0), statistics.pixels.shape)
    inside = EndHistograms(statistics.target_pixels, none)
    outside = EndHistograms(statistics.pixels - statistics.target_pixels, none)
    return FrameStatistics(statistics.pixels, statistics.target_pixels, none, none, none, none, inside, outside)


def perfect_prediction(statistics: FrameStatistics, shown: Mask) -> FrameStatistics:
    """Return the statistics of a model that gives probability 1 to the target of the frames `shown`, bool [N], 0 to all else."""
    found = np.where(shown, statistics.target_pixels, 0)
    none = np.broadcast_to(np.int64(0), found.shape)
    inside = EndHistograms(statistics.target_pixels - found, found)
    outside = EndHistograms(statistics.pixels - statistics.target_pixels, none)
    return FrameStatistics(statistics.pixels, statistics.target_pixels, found, none, found, none, inside, outside)
