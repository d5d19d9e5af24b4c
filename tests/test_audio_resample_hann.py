"""torchaudio's default resampler, against its own formula written out slowly, and against torchaudio where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from avsrobust.audio.resample_hann import resample_hann
from avsrobust.errors import OptionError


def slow(samples: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Sum the windowed sinc over all samples, output by output (torchaudio, `_get_sinc_resample_kernel`)."""
    divisor = math.gcd(source_rate, target_rate)
    source, target = source_rate // divisor, target_rate // divisor
    cutoff = min(source, target) * 0.99
    result = []
    for number in range(math.ceil(len(samples) * target / source)):
        total = 0.0
        for position, value in enumerate(samples):
            t = min(6.0, max(-6.0, (position / source - number / target) * cutoff))
            window = math.cos(t * math.pi / 12) ** 2
            total += value * window * (math.sin(t * math.pi) / (t * math.pi) if t else 1.0) * cutoff / source
        result.append(total)
    return np.array(result)


@pytest.mark.parametrize(
    ("source", "target"), [(44100, 16000), (16000, 44100), (48000, 16000), (8000, 16000), (101, 103)]
)
def test_it_is_the_windowed_sinc(source: int, target: int) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 300)
    assert np.abs(resample_hann(samples, source, target) - slow(samples, source, target)).max() < 1e-9


def test_it_is_torchaudio() -> None:
    try:
        import torch
        from torchaudio.transforms import Resample
    # PyPI's torchaudio beside a torch for CPUs alone fails with an OSError.
    except (ImportError, OSError):
        pytest.skip("needs torchaudio")
    samples = np.random.default_rng(1).uniform(-1, 1, 44100).astype(np.float32)
    theirs = Resample(44100, 16000)(torch.from_numpy(samples)).numpy()
    assert np.abs(resample_hann(samples.astype(np.float64), 44100, 16000) - theirs).max() < 2e-5


def test_odd_rates_and_lengths() -> None:
    assert resample_hann(np.ones(3), 8000, 8000).tolist() == [1, 1, 1]
    assert resample_hann(np.zeros(0), 8000, 16000).size == 0
    # More phases than are tabulated.
    samples = np.random.default_rng(2).uniform(-1, 1, 50)
    assert np.abs(resample_hann(samples, 44100, 44101) - slow(samples, 44100, 44101)).max() < 1e-9
    with pytest.raises(OptionError, match="found 0 Hz"):
        resample_hann(np.ones(3), 0, 8000)
