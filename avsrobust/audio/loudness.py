"""Loudness of sounds, and the gain that brings one to a given loudness.

Conventions
    Sounds are float64 [S] or [S, channels] in [-1, 1] (1 is full scale), rates whole numbers of Hz. Nothing is rounded to 16
    bits here: what is measured are the samples as they are given.
    Loudness is the integrated loudness of ITU-R BS.1770-4 in LUFS: the mean square after K-weighting, over blocks of 400 ms
    every 100 ms, without those below -70 LUFS and those more than 10 LU below the others' mean. A sine of 997 Hz at full
    scale in one channel has -3.01 LUFS. pyloudnorm computes it, with the recommendation's own filter ("DeMan").
    Silence, and any sound of which every block is below -70 LUFS, has a loudness of -inf.
    Gains are in dB: samples times 10 ** (gain / 20).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from avsrobust.errors import AudioError

BLOCK_S, STEP_S = 0.4, 0.1

_MOST_CHANNELS = 5
# Gating at -70 LUFS makes loudness of faint sounds grow by other steps than the gain; a few corrections settle that.
_CORRECTIONS = 8
_SETTLED_DB = 1e-6


def integrated_loudness(samples: NDArray[np.float64], sample_rate: int) -> float:
    """Return the integrated loudness of a sound (ITU-R BS.1770-4).

    A sound shorter than one block of 400 ms is measured as if it were repeated up to that length. An incomplete block at the
    end of a longer one does not count.

    Args:
        samples: Float64 [S] or [S, channels] with 1..5 channels, ordered left, right, centre, left and right surround.
        sample_rate: In Hz.

    Returns:
        Loudness in LUFS; -inf for silence, for no samples, and where every block is below -70 LUFS.

    Raises:
        AudioError: The samples are not finite, or have another shape.

    >>> time = np.arange(48000) / 48000
    >>> round(integrated_loudness(np.sin(2 * np.pi * 997 * time), 48000), 2)
    -3.01
    >>> integrated_loudness(np.zeros(48000), 48000)
    -inf
    """
    import pyloudnorm

    samples = _checked(samples)
    if not samples.any():
        return -math.inf
    block, step = math.ceil(BLOCK_S * sample_rate), STEP_S * sample_rate
    if len(samples) < block:
        samples = np.resize(samples, (block, *samples.shape[1:]))
    # pyloudnorm counts a last block that is more than half there.
    steps = int((len(samples) - block) / step + 1e-9)
    samples = samples[: block + math.ceil(steps * step - 1e-9)]
    meter = pyloudnorm.Meter(sample_rate, filter_class="DeMan", block_size=BLOCK_S)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(meter.integrated_loudness(samples))


def gain_to_loudness(samples: NDArray[np.float64], sample_rate: int, target_lufs: float) -> float:
    """Return the gain in dB after which a sound has the loudness `target_lufs`.

    Args:
        samples: As for `integrated_loudness`.
        sample_rate: In Hz.
        target_lufs: Loudness in LUFS, at least -70; or -inf, for silence.

    Returns:
        Gain in dB; -inf where the target is -inf.

    Raises:
        AudioError: The sound is silent, so that no gain helps; or the target is below -70 LUFS, NaN or inf.
    """
    if target_lufs == -math.inf:
        return -math.inf
    if not -70 <= target_lufs < math.inf:
        raise AudioError(
            f"found a target loudness of {target_lufs} LUFS; expected at least -70 LUFS, or -inf for silence"
        )
    samples = _checked(samples)
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0.0:
        raise AudioError("found silence; expected a sound, since no gain gives silence a loudness")
    # From full scale on, so that a faint sound is not gated away as a whole before it is raised.
    gain_db = -20 * math.log10(peak)
    for _ in range(_CORRECTIONS):
        difference = target_lufs - integrated_loudness(samples * 10 ** (gain_db / 20), sample_rate)
        if not math.isfinite(difference):
            raise AudioError(
                f"found a sound with peaks too short to have a loudness of {target_lufs} LUFS; expected a longer sound"
            )
        gain_db += difference
        if abs(difference) < _SETTLED_DB:
            break
    return gain_db


def _checked(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    samples = np.asarray(samples, dtype=np.float64)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= _MOST_CHANNELS):
        raise AudioError(f"found samples of shape {samples.shape}; expected [S] or [S, channels] with 1..5 channels")
    if not np.isfinite(samples).all():
        raise AudioError("found NaN or infinite samples; expected finite values in [-1, 1]")
    return samples
