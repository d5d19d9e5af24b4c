"""Change of sampling rate as most models' own loaders do it: torchaudio's `Resample` with its default parameters.

Conventions
    torchaudio/functional/functional.py, `_get_sinc_resample_kernel` and `_apply_sinc_resample_kernel`, method
    `sinc_interp_hann`, lowpass_filter_width 6, rolloff 0.99: a sinc under a Hann window, zeros beyond both ends.
    Computed here in float64, without torchaudio; it agrees with torchaudio's float32 to a few 1e-6.
    `audio.resample`'s resampler "torchaudio" is another one: torchaudio with the parameters of resampy's `kaiser_best`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from avsrobust.errors import OptionError

_LOWPASS_WIDTH = 6
_ROLLOFF = 0.99
# Outputs at a time, which bounds the memory of their taps.
_CHUNK = 1 << 15
# Weights of so many phases are computed once and looked up: all usual pairs of rates have fewer.
_MOST_PHASES = 1 << 12


def resample_hann(samples: NDArray[np.float64], source_rate: int, target_rate: int) -> NDArray[np.float64]:
    """Resample a waveform as ``torchaudio.transforms.Resample(source_rate, target_rate)`` does.

    Args:
        samples: Float64 [S].
        source_rate: Rate of `samples` in Hz.
        target_rate: Rate of the result in Hz.

    Returns:
        Float64 [ceil(S * target_rate / source_rate)]; a copy where the rates are equal.

    Raises:
        OptionError: A rate is below 1 Hz.

    >>> resample_hann(np.zeros(44101), 44100, 16000).shape
    (16001,)
    """
    if min(source_rate, target_rate) < 1:
        raise OptionError(
            f"sample rate: found {min(source_rate, target_rate)} Hz; expected at least 1 Hz; correct the rate"
        )
    samples = np.asarray(samples, dtype=np.float64)
    if source_rate == target_rate:
        return samples.copy()
    divisor = math.gcd(source_rate, target_rate)
    source, target = source_rate // divisor, target_rate // divisor
    cutoff = min(source, target) * _ROLLOFF
    width = math.ceil(_LOWPASS_WIDTH * source / cutoff)
    count = -(-samples.size * target // source)
    # Taps from `width` samples before each output's time to as many behind it; weights further out are zero.
    padded = np.concatenate([np.zeros(width), samples, np.zeros(width + 2)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 2)
    table = _weights(np.arange(target), source, target) if target <= _MOST_PHASES else None
    result = np.empty(count)
    for start in range(0, count, _CHUNK):
        whole, phase = np.divmod(np.arange(start, min(start + _CHUNK, count)) * source, target)
        weights = _weights(phase, source, target) if table is None else table[phase]
        result[start : start + len(phase)] = np.einsum("kt,kt->k", windows[whole], weights)
    return result


def _weights(phase: NDArray[np.int64], source: int, target: int) -> NDArray[np.float64]:
    """Return the weights [K, taps] of outputs at `phase` / `target` of a sample behind the whole sample before them."""
    cutoff = min(source, target) * _ROLLOFF
    width = math.ceil(_LOWPASS_WIDTH * source / cutoff)
    times = (np.arange(-width, width + 2)[None] - (phase / target)[:, None]) / source * cutoff
    times = np.clip(times, -_LOWPASS_WIDTH, _LOWPASS_WIDTH)
    window = np.cos(times * (np.pi / _LOWPASS_WIDTH / 2)) ** 2
    return np.asarray(np.sinc(times) * window * (cutoff / source))
