"""What a model can know of a sound's features without listening: a dozen plain statistics of one log-mel array.

Conventions
    A log-mel array is float [T, 1, 96, 64]: T examples of 96 time frames and 64 bands, natural logarithm of mel magnitudes
    (VGGish, vggish_input.py of AVSBench: log(mel + 0.01)). Other units (decibels, standardised values) are welcome: telling
    them apart is the purpose.
    The examples are laid end to end: one matrix [T * 96, 64] of time by band.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STATISTICS = (
    "mean",
    "std",
    "minimum",
    "maximum",
    "level",
    "dynamics",
    "flatness",
    "tilt",
    "change",
    "identical_frames",
    "floor_share",
)


def describe(log_mel: npt.NDArray[np.floating]) -> Floats:
    """Return the `STATISTICS` of one finite array [T, 1, 96, 64], float64 [11].

    level: mean over time of log(mean over bands of exp(x)); dynamics: its standard deviation over time; flatness: mean over
    time of (mean of x) - log(mean of exp(x)), the log of geometric by arithmetic mean, at most 0; tilt: upper half of the
    bands minus lower half; change: mean absolute difference of neighbouring time frames; identical_frames: share of
    neighbouring time frames that are equal; floor_share: share of values equal to the array's minimum.
    """
    values = np.asarray(log_mel, dtype=np.float64).reshape(-1, log_mel.shape[-1])
    level = _log_mean_exp(values)
    steps = np.diff(values, axis=0)
    half = values.shape[1] // 2
    lowest = values.min()
    return np.array(
        [
            values.mean(),
            values.std(),
            lowest,
            values.max(),
            level.mean(),
            level.std(),
            (values.mean(axis=1) - level).mean(),
            values[:, half:].mean() - values[:, :half].mean(),
            np.abs(steps).mean(),
            (steps == 0).all(axis=1).mean(),
            (values == lowest).mean(),
        ]
    )


def _log_mean_exp(values: Floats) -> Floats:
    # Shifted by the largest value: decibels would overflow exp.
    largest = values.max(axis=1)
    return np.asarray(np.log(np.exp(values - largest[:, None]).mean(axis=1)) + largest, dtype=np.float64)
