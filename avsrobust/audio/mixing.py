"""Mixtures of two sounds at a given ratio, peaks that stay within full scale, and 16-bit samples.

Conventions
    Sounds are float64 [S] or [S, channels], 1 is full scale. Power is the mean of the squared samples over the whole sound
    and all channels, pauses included.
    The signal-to-noise ratio is 10 * log10(power of the signal / power of the noise) in dB, of the two as they are mixed.
    Peaks: a mixture above full scale is scaled down as a whole, never clipped: its ratio stays, and the gain is reported.
    Full scale is 32767/32768 on either side, so that rounding to 16 bits cannot clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.io import FULL_SCALE
from avsrobust.errors import AudioError

HIGHEST = (FULL_SCALE - 1) / FULL_SCALE


@dataclass(frozen=True, eq=False)
class Fitted:
    """A sound whose peak is within full scale.

    Attributes:
        samples: Float64, of the shape that was given, within -32767/32768 .. 32767/32768.
        gain_db: Gain in dB: 0 where the sound fitted already, else negative.
        num_over: Number of samples beyond [-1, 1] before.
    """

    samples: NDArray[np.float64]
    gain_db: float
    num_over: int


@dataclass(frozen=True, eq=False)
class Mixture(Fitted):
    """A signal and a noise, added up; `noise_gain_db` is the gain of the noise against the signal."""

    noise_gain_db: float


def power_db(samples: NDArray[np.float64]) -> float:
    """Return the power of a sound in dB relative to full scale: 10 * log10(mean of squares); -inf for silence.

    >>> round(power_db(np.array([0.5, -0.5])), 2)
    -6.02
    """
    power = float(np.mean(np.square(samples))) if samples.size else 0.0
    return 10 * math.log10(power) if power > 0 else -math.inf


def mix_at_snr(signal: NDArray[np.float64], noise: NDArray[np.float64], snr_db: float) -> Mixture:
    """Add a noise to a signal at a given ratio of their powers.

    The signal stays as it is and the noise is scaled; then both are scaled down together where the sum would be above full
    scale (`fit_peak`).

    Args:
        signal: Float64 [S] or [S, channels].
        noise: The same shape; any scale.
        snr_db: Power of the signal over that of the noise, in dB, finite. 0 makes both equally strong.

    Returns:
        The mixture, the gains that were used, and how many samples would have been clipped.

    Raises:
        AudioError: The shapes differ, a sound is silent or not finite (so that there is no ratio), or the ratio is not finite.
    """
    if signal.shape != noise.shape:
        raise AudioError(f"found a noise of shape {noise.shape}; expected that of the signal, {signal.shape}")
    if not math.isfinite(snr_db):
        raise AudioError(f"found a signal-to-noise ratio of {snr_db} dB; expected a finite one")
    levels = {"signal": power_db(signal), "noise": power_db(noise)}
    for name, level in levels.items():
        if not math.isfinite(level):
            raise AudioError(
                f"found a {name} that is silent or not finite; expected one with a power to set the other by"
            )
    noise_gain_db = levels["signal"] - levels["noise"] - snr_db
    fitted = fit_peak(signal + noise * 10 ** (noise_gain_db / 20))
    return Mixture(fitted.samples, fitted.gain_db, fitted.num_over, noise_gain_db)


def fit_peak(samples: NDArray[np.float64]) -> Fitted:
    """Scale a sound down as a whole where it would clip as 16-bit samples; leave it as it is elsewhere.

    Args:
        samples: Float64 of any shape, finite.

    Returns:
        The sound, the gain in dB, and the number of samples beyond [-1, 1] before.

    Raises:
        AudioError: A sample is not finite.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if not math.isfinite(peak):
        raise AudioError("found NaN or infinite samples; expected finite values")
    if peak <= HIGHEST:
        return Fitted(samples.copy(), 0.0, 0)
    # Clipped for the last bit of the division alone.
    scaled = np.clip(samples * (HIGHEST / peak), -HIGHEST, HIGHEST)
    return Fitted(scaled, 20 * math.log10(HIGHEST / peak), int((np.abs(samples) > 1).sum()))


def to_pcm16(samples: NDArray[np.float64]) -> NDArray[np.int16]:
    """Round samples to 16 bits: round(x * 32768), ties to even, as `avsrobust.audio.io.read_samples` does with floats.

    Raises:
        AudioError: A sample would be clipped (beyond -1 .. 32767/32768 by more than half a step) or is not finite; `fit_peak`
            first.

    >>> to_pcm16(np.array([-1.0, 0.5, 32767 / 32768]))
    array([-32768,  16384,  32767], dtype=int16)
    """
    rounded = np.round(samples * FULL_SCALE)
    if rounded.size and not (rounded.min() >= -FULL_SCALE and rounded.max() <= FULL_SCALE - 1):
        raise AudioError(
            f"found samples from {samples.min():g} to {samples.max():g}; expected -1 to 32767/32768; scale them down first"
        )
    return rounded.astype(np.int16)
