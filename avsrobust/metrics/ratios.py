"""The formulas, on counts of pixels: every function and protocol computes its ratios here, and curves their areas.

Conventions
    Arguments are counts, arrays of any common shape. `tp`: activated pixels of the target, `fp`: activated pixels outside
    it, `target`: pixels of the target, `pixels`: pixels of the frame. Results are float64 in [0, 1].
    The papers add 1e-7 (IoU) or 1e-20 (F) to denominators to avoid 0 / 0. Where the denominator is not 0 that moves a ratio
    by at most 1.2e-7 and is not done here; where it is 0, each function states the value that they get.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Ratios = npt.NDArray[np.float64]


def iou(tp: Counts, fp: Counts, target: Counts, pixels: Counts) -> Ratios:
    """Return intersection over union; for an empty target the share of pixels that is rightly background.

    Source: AVSBench-Robust, training_evaluation/code/AVSegFormer/scripts/s4/utility.py, `mask_iou`.
    """
    empty = target == 0
    if not empty.any():
        return np.asarray(tp / (target + fp), dtype=np.float64)
    intersection = np.where(empty, pixels - fp, tp)
    union = np.where(empty, pixels, target + fp)
    return intersection / union


def f_terms(
    tp: Counts | Ratios, activated: Counts | Ratios, target: Counts | Ratios, beta2: float
) -> tuple[Ratios, Ratios]:
    """Return numerator and denominator of the F-measure; a protocol that pools sums both before it divides.

    F = (1 + beta2) P R / (beta2 P + R) with P = tp / activated and R = tp / target is
    (tp + beta2 tp) / (beta2 target + activated).
    """
    # In place: of whole sweeps over thresholds, temporary arrays take longer than the sums.
    numerator: Ratios = np.asarray(beta2 * tp, dtype=np.float64)
    numerator += tp
    denominator: Ratios = np.asarray(beta2 * target + activated, dtype=np.float64)
    return numerator, denominator


def f_measure(tp: Counts, activated: Counts, target: Counts, beta2: float) -> Ratios:
    """Return the F-measure; 0 where nothing of the target is activated, as the papers set NaN to 0.

    Source: AVSBench-Robust, training_evaluation/code/AVSegFormer/scripts/s4/utility.py, `Eval_Fmeasure`.
    """
    numerator, denominator = f_terms(tp, activated, target, beta2)
    # A denominator below 1 means that nothing is activated: then the numerator is 0, whatever it is divided by.
    ratio: Ratios = np.divide(numerator, np.maximum(denominator, 1.0))
    return ratio


def area_under(x: Ratios, y: Ratios | npt.NDArray[np.bool_]) -> Ratios:
    """Return the area under `y` [..., n] over `x` [n], rising, by the trapezoid rule, divided by the range of `x`.

    >>> float(area_under(np.array([0.0, 10.0, 20.0]), np.array([0.0, 1.0, 1.0])))
    0.75
    """
    middle = (y[..., 1:].astype(np.float64) + y[..., :-1]) / 2
    return np.asarray((np.diff(x) * middle).sum(axis=-1) / (x[-1] - x[0]), dtype=np.float64)
