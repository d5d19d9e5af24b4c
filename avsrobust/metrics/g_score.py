"""The G scores: one number for masks that are right under clean audio and absent under negative audio.

Conventions
    Scores are fractions in [0, 1]. `positive` is a score under clean audio (higher is better), `negative` the mean of the
    same score over `vocabulary.NEGATIVES` (lower is better).
    Source: AVSBench-Robust, G-mIoU and G-F (harmonic mean of the positive score and one minus the negative one).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from avsrobust.errors import MetricInputError


def g_score(positive: float, negative: float) -> float:
    """Return the harmonic mean of `positive` and ``1 - negative``; 0 where both are 0.

    Source: AVSBench-Robust (arXiv 2502.00358).

    Args:
        positive: Score under clean audio, in [0, 1].
        negative: Mean of the same score over the negatives, in [0, 1].

    Raises:
        MetricInputError: A value is NaN or outside [0, 1].

    >>> g_score(1.0, 0.0), g_score(0.0, 0.0), g_score(0.8, 1.0)
    (1.0, 0.0, 0.0)
    >>> round(g_score(0.8, 0.4), 4)
    0.6857
    """
    for name, value in (("positive", positive), ("negative", negative)):
        if not 0 <= value <= 1:
            raise MetricInputError(
                f"{name}: found {value}; expected a score in [0, 1]; are these percent? divide by 100"
            )
    return float(g_scores(np.float64(positive), np.float64(negative)))


def g_scores(
    positive: npt.NDArray[np.float64] | np.float64, negative: npt.NDArray[np.float64] | np.float64
) -> npt.NDArray[np.float64]:
    """Return `g_score` element by element, without checks; NaN stays NaN."""
    rejected = 1 - negative
    total = positive + rejected
    return np.asarray(2 * positive * rejected / np.where(total == 0, 1.0, total), dtype=np.float64)
