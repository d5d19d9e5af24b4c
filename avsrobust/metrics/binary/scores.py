"""Scores of binary segmentation, straight from probabilities: the definitions for one clip.

Conventions
    `pred` is float32 [N, H, W], probabilities in [0, 1] (other float types are converted, see `inputs`); `target` is bool
    [N, H, W]. The defaults are those of AVSBench and AVSBench-Robust; bias_in_AVS uses threshold 0.4 and beta2 0.1.
    Thresholds of masks are exclusive (``pred > threshold``), those of the F-measure inclusive (``pred >= t``), both in
    float32, as in the papers' code.
    To score a whole data set, use `counts.frame_statistics` and the protocols: they give the same numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from avsrobust.errors import MetricInputError
from avsrobust.metrics import ratios
from avsrobust.metrics.binary.thresholds import NUM_THRESHOLDS, Counts, at_least, histograms, thresholds
from avsrobust.metrics.inputs import Mask, Probabilities, checked_pair, checked_prediction

# AVSBench-Robust, training_evaluation/code/AVSegFormer/scripts/s4/utility.py: mask_iou, Eval_Fmeasure.
DEFAULT_THRESHOLD = 0.5
DEFAULT_BETA2 = 0.3


def mask_iou(
    pred: npt.NDArray[np.floating], target: Mask, threshold: float = DEFAULT_THRESHOLD
) -> npt.NDArray[np.float64]:
    """Return the IoU of ``pred > threshold`` with `target` of each frame.

    Source: AVSBench-Robust, training_evaluation/code/AVSegFormer/scripts/s4/utility.py, `mask_iou`.

    Args:
        pred: Probabilities in [0, 1], float32 [N, H, W].
        target: bool [N, H, W].
        threshold: A probability.

    Returns:
        float64 [N] in [0, 1]; for an empty target the share of pixels that is rightly background.

    Raises:
        MetricInputError: An argument is anything else.

    >>> import numpy as np
    >>> pred = np.array([[[0.9, 0.1], [0.8, 0.2]]], dtype=np.float32)
    >>> mask_iou(pred, pred > 0.85), mask_iou(pred, pred > 1)
    (array([0.5]), array([0.5]))
    """
    prediction, mask = checked_pair(pred, target)
    tp, fp = activated_pixels(prediction, mask, checked_threshold(threshold))
    sizes = np.count_nonzero(mask.reshape(len(mask), -1), axis=1)
    return ratios.iou(tp, fp, np.asarray(sizes, dtype=np.int64), np.full(len(mask), mask[0].size))


def f_measure(
    pred: npt.NDArray[np.floating],
    target: Mask,
    beta2: float = DEFAULT_BETA2,
    num_thresholds: int = NUM_THRESHOLDS,
) -> float:
    """Return the F-measure of one clip, in [0, 1].

    F of ``pred >= t`` per frame and threshold t, averaged over the frames whose target is not empty, then the largest over
    t; 0.0 where every target is empty. Over several clips the largest would come after the mean, which is another (lower)
    number.
    Source: AVSBench-Robust, training_evaluation/code/AVSegFormer/scripts/s4/utility.py, `Eval_Fmeasure`, one clip per call.

    Args:
        pred: Probabilities in [0, 1] of one clip, float32 [N, H, W].
        target: bool [N, H, W].
        beta2: Weight of recall; above 0.
        num_thresholds: Number of thresholds, 2 to 65535.

    Raises:
        MetricInputError: An argument is anything else.

    >>> import numpy as np
    >>> pred = np.array([[[0.9, 0.6], [0.3, 0.2]]], dtype=np.float32)
    >>> f_measure(pred, pred > 0.5), f_measure(pred, pred > 1)
    (1.0, 0.0)
    """
    prediction, mask = checked_pair(pred, target)
    if not 0 < beta2 < np.inf:
        raise MetricInputError(f"beta2: found {beta2}; expected a positive number; the papers use 0.3 or 0.1")
    has_target = mask.any(axis=(1, 2))
    if not has_target.any():
        return 0.0
    inside, outside = histograms(prediction[has_target], mask[has_target], thresholds(num_thresholds))
    tp = at_least(inside)
    scores = ratios.f_measure(tp, tp + at_least(outside), tp[:, :1], beta2)
    return float(scores.mean(axis=0).max())


def false_positive_rate(
    pred: npt.NDArray[np.floating], threshold: float = DEFAULT_THRESHOLD
) -> npt.NDArray[np.float64]:
    """Return the share of each frame's pixels with ``pred > threshold``.

    Meant for negative conditions, under which every activated pixel is wrong.
    Source: AVSBench-Robust, training_evaluation/code/AVSegFormer/scripts/s4/test.py, `calculate_FPR`.

    Args:
        pred: Probabilities in [0, 1], float32 [N, H, W].
        threshold: A probability.

    Returns:
        float64 [N] in [0, 1].

    Raises:
        MetricInputError: An argument is anything else.

    >>> import numpy as np
    >>> false_positive_rate(np.array([[[0.9, 0.5], [0.3, 0.2]]], dtype=np.float32))
    array([0.25])
    """
    prediction = checked_prediction(pred)
    activated = prediction > checked_threshold(threshold)
    share: npt.NDArray[np.float64] = np.count_nonzero(activated, axis=(1, 2)) / activated[0].size
    return share


def checked_threshold(threshold: float) -> np.float32:
    """Return `threshold` as float32, or raise `MetricInputError` unless it lies in [0, 1]."""
    if not 0 <= threshold <= 1:
        raise MetricInputError(
            f"threshold: found {threshold}; expected a probability in [0, 1]; the papers use 0.5 or 0.4"
        )
    return np.float32(threshold)


def activated_pixels(pred: Probabilities, target: Mask, threshold: np.float32) -> tuple[Counts, Counts]:
    """Return the true and the false positives of ``pred > threshold``, each int64 [N]; no checks."""
    tp = np.empty(len(pred), dtype=np.int64)
    fp = np.empty(len(pred), dtype=np.int64)
    for frame in range(len(pred)):
        activated = pred[frame] > threshold
        total = np.count_nonzero(activated)
        activated &= target[frame]
        tp[frame] = np.count_nonzero(activated)
        fp[frame] = total - tp[frame]
    return tp, fp
