"""One threshold for all conditions: fixed, chosen on val, or the best on the split itself.

Conventions
    The universal threshold of a model is the one with the largest G-mIoU on its val split, over clean audio and the negatives
    of G together; of equal ones the smallest. It is applied to the other splits as it is. The best threshold of a split itself
    is chosen on the data that it is scored on: an upper bound, no result. All three are counted as protocol `strict` does, with
    ``p >= threshold`` (`metrics.threshold_curve`).
    Source: VSSL-Eval (arXiv 2410.01020), one threshold per model for all conditions, fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avsrobust.metrics import ThresholdCurve
from avsrobust.reporting.diagnostics import Diagnostics
from avsrobust.reporting.split_results import SplitResult

VAL = "val"
FIXED = "fixed"
UNIVERSAL = "universal"
BEST = "best_on_split"
_FIXED_THRESHOLD = 0.5


@dataclass(frozen=True)
class OperatingPoint:
    """Scores of a model on a split at one threshold for all conditions; None where it is undefined.

    Attributes:
        choice: `FIXED`, `UNIVERSAL` or `BEST`.
        title: How the threshold was chosen, for people.
        threshold: The threshold, k / 254.
        miou: mIoU under clean audio.
        miou_negative: Mean of mIoU over the negatives of G.
        g_miou: G-mIoU.
        g_f: G-F.
        fpr_negative: Mean of FPR over the negatives of G.
    """

    choice: str
    title: str
    threshold: float | None
    miou: float | None
    miou_negative: float | None
    g_miou: float | None
    g_f: float | None
    fpr_negative: float | None


def operating_points(
    position: int, results: Sequence[SplitResult], diagnostics: Sequence[Diagnostics]
) -> tuple[OperatingPoint, ...]:
    """Return the three operating points of the result at `position`; none where it has no threshold curve.

    Args:
        position: Index of the result.
        results: All results of the report.
        diagnostics: Their diagnostics.
    """
    curve, split = diagnostics[position].curve, results[position].split
    if curve is None:
        return ()
    fixed = int(np.searchsorted(curve.threshold, _FIXED_THRESHOLD))
    points = [_at(FIXED, f"fixed at {_FIXED_THRESHOLD}", curve, fixed)]
    if split != VAL:
        val = _curve_of_val(position, results, diagnostics)
        index = None if val is None else val.best_index
        chosen = "universal, chosen on val" if val is not None else "universal: no results on val to choose it on"
        points.append(_at(UNIVERSAL, chosen, curve, index))
    title = f"best on {split} itself: an upper bound" if split != VAL else "best on val: the universal threshold"
    return (*points, _at(BEST, title, curve, curve.best_index))


def _curve_of_val(
    position: int, results: Sequence[SplitResult], diagnostics: Sequence[Diagnostics]
) -> ThresholdCurve | None:
    """The curve of the same model on val: of the same file, else of the only other one of its model and build."""
    result = results[position]
    same = [
        (other, found.curve)
        for other, found in zip(results, diagnostics, strict=True)
        if other.split == VAL and found.curve is not None and other.key == result.key
    ]
    own = [curve for other, curve in same if other.source is not None and other.source == result.source]
    curves = own or [curve for _, curve in same]
    return curves[0] if len(curves) == 1 else None


def _at(choice: str, title: str, curve: ThresholdCurve, index: int | None) -> OperatingPoint:
    """The scores at one threshold of the curve."""
    if index is None:
        return OperatingPoint(choice, title, None, None, None, None, None, None)
    values = (
        curve.threshold,
        curve.miou,
        curve.miou_negative,
        curve.g_miou,
        curve.g_f,
        curve.fpr_negative,
    )
    return OperatingPoint(choice, title, *(float(value[index]) for value in values))
