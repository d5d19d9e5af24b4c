"""Noises from a random generator, and a low-pass filter without delay.

Conventions
    Noises are float64 [S] of expected power 1 (mean square; rms 1, 0 dB relative to full scale), so above full scale: set
    their level with `avsrobust.audio.mixing.mix_at_snr` or `avsrobust.audio.loudness.gain_to_loudness`.
    The generator is a numpy Generator over a bit generator of 64 bits, such as `numpy.random.default_rng(seed)`. Its raw bits
    are used, whose stream numpy promises to keep, and not its distributions, whose stream numpy may change.
    The same arguments give the same samples.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from avsrobust.errors import AudioError

# Pink noise has as much power in each octave: without a lower end most of it would be too low to be heard.
PINK_LOWEST_HZ = 20.0
# Of each of the two passes; together the slope is 96 dB per octave.
LOWPASS_ORDER = 8


def gaussian_noise(num_samples: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return white noise of independent normal samples, mean 0 and variance 1.

    Args:
        num_samples: S >= 0.
        generator: Source of 64 bits per sample.

    Returns:
        Float64 [S]: the normal quantile function of uniform numbers (k + 1/2) / 2^53, within -8.3 .. 8.3.
    """
    from scipy.special import ndtri

    bits = np.asarray(generator.bit_generator.random_raw(num_samples), dtype=np.uint64)
    noise: NDArray[np.float64] = ndtri(((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)
    return noise


def pink_noise(num_samples: int, sample_rate: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return pink noise: power proportional to 1/f from 20 Hz to half the sample rate, none below.

    Gaussian noise is shaped in its spectrum by 1/sqrt(f).

    Args:
        num_samples: S >= 0.
        sample_rate: In Hz, above 40.
        generator: Source of 64 bits per sample.

    Returns:
        Float64 [S] of mean 0 and expected power 1.

    Raises:
        AudioError: The noise is too short to have a frequency of at least 20 Hz, or its rate too low.
    """
    white = gaussian_noise(num_samples, generator)
    frequencies = np.fft.rfftfreq(num_samples, 1 / sample_rate) if num_samples else np.zeros(0)
    weights = np.zeros(frequencies.size)
    audible = frequencies >= PINK_LOWEST_HZ
    if not audible.any():
        raise AudioError(
            f"found {num_samples} samples at {sample_rate} Hz; expected enough for one period of {PINK_LOWEST_HZ:g} Hz"
        )
    weights[audible] = 1 / np.sqrt(frequencies[audible])
    # All bins of a real signal count twice, except the first (0 Hz) and, for an even length, the last.
    times = np.full(frequencies.size, 2.0)
    times[0] = 1.0
    if num_samples % 2 == 0:
        times[-1] = 1.0
    weights /= math.sqrt(float((times * weights**2).sum()) / num_samples)
    noise: NDArray[np.float64] = np.fft.irfft(np.fft.rfft(white) * weights, num_samples)
    return noise


def lowpass(samples: NDArray[np.float64], sample_rate: int, cutoff_hz: float) -> NDArray[np.float64]:
    """Remove what lies above a frequency: a Butterworth filter of order 8, forwards and backwards.

    The two passes cancel each other's delay, so the sound does not move. At `cutoff_hz` the gain is -6.02 dB (each pass has
    -3.01 dB), an octave above about -96 dB, an octave below less than 0.001 dB.

    Args:
        samples: Float64 [S] or [S, channels].
        sample_rate: In Hz.
        cutoff_hz: The frequency of -6 dB, above 0. At half the sample rate or above the sound has nothing to remove and comes
            back as a copy.

    Returns:
        Float64 of the same shape.

    Raises:
        AudioError: The frequency is not above 0 or not finite, or so low that the filter cannot be computed.
    """
    if not 0 < cutoff_hz < math.inf:
        raise AudioError(f"found a cut-off frequency of {cutoff_hz} Hz; expected one above 0 Hz")
    samples = np.asarray(samples, dtype=np.float64)
    if cutoff_hz >= sample_rate / 2 or len(samples) == 0:
        return samples.copy()
    from scipy.signal import butter, sosfiltfilt

    # Both ends are continued by their mirror image for ten periods, so that the filter has settled where the sound begins.
    around = int(min(len(samples) - 1, np.ceil(10 * sample_rate / cutoff_hz)))
    try:
        sections = butter(LOWPASS_ORDER, cutoff_hz, fs=sample_rate, output="sos")
        filtered: NDArray[np.float64] = sosfiltfilt(sections, samples, axis=0, padlen=around)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise AudioError(
            f"found a cut-off frequency of {cutoff_hz:g} Hz at a rate of {sample_rate} Hz; expected a higher one, for which "
            "the filter can be computed"
        ) from error
    return filtered
