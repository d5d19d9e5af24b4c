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

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NUM_THRESHOLDS = 255
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FrameStatistics:
    """Counts for N frames; every field is int64, of shape [N], and [N, 255] for `inside` and `outside`."""

    pixels: Counts
    target_pixels: Counts
    tp_050: Counts
    fp_050: Counts
    tp_040: Counts
    fp_040: Counts
    inside: Counts
    outside: Counts
