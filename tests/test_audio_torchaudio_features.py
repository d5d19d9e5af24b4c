"""The front end "torchaudio", against the same steps one by one; where torchaudio cannot be imported, only what is said then."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from avsrobust.audio.features import vggish_log_mel
from avsrobust.audio.front_ends import log_mel_of
from avsrobust.errors import AvsRobustError

RATE = 16000
# A plug-in by its module: what it makes is stored in builds, so that reading them needs no torchaudio.
SPEC = "avsrobust.audio.torchaudio_features:torchaudio_log_mel"


def has_torchaudio() -> bool:
    try:
        import torchaudio.transforms  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


needs_torchaudio = pytest.mark.skipif(not has_torchaudio(), reason="needs torchaudio")


def noise(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.5, 0.5, round(seconds * rate))


def slow_log_mel(wave: np.ndarray, examples: int) -> np.ndarray:
    """Return log-mels [examples, 1, 96, 64] window by window, with bands that are triangles in Hz."""
    hertz = np.linspace(0, RATE / 2, 257)
    edges = np.linspace(*(2595 * np.log10(1 + np.array([125.0, 7500.0]) / 700)), 66)
    edges = 700 * (10 ** (edges / 2595) - 1)
    rising = (hertz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz[:, None]) / (edges[2:] - edges[1:-1])
    bands = np.maximum(0, np.minimum(rising, falling))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    steps = [np.abs(np.fft.rfft(wave[at : at + 400] * hann, 512)) @ bands for at in range(0, examples * 96 * 160, 160)]
    return np.log(np.array(steps) + 0.01).reshape(examples, 1, 96, 64)


@needs_torchaudio
def test_it_is_the_slow_log_mel() -> None:
    wave = noise(3)
    found = log_mel_of(SPEC, wave, RATE, 3, of="noise")
    np.testing.assert_allclose(found, slow_log_mel(wave, 3), atol=1e-4)


@needs_torchaudio
def test_it_is_near_vggishs_and_fills_up_as_vggishs_does() -> None:
    wave = noise(3.2, 44100)
    found, vggish = log_mel_of(SPEC, wave, 44100, 5, of="noise"), vggish_log_mel(wave, 44100, 5)
    assert np.array_equal(found[3], found[2])
    assert np.array_equal(found[4], found[2])
    assert np.corrcoef(found.ravel(), vggish.ravel())[0, 1] > 0.98


@needs_torchaudio
def test_a_sound_shorter_than_an_example_gets_zeros() -> None:
    found = log_mel_of(SPEC, noise(0.3), RATE, 2, of="noise")
    np.testing.assert_allclose(found[0, 0, -1], np.log(0.01), atol=1e-6)


def test_a_missing_torchaudio_is_one_line() -> None:
    missing = {"torchaudio": None, "torchaudio.transforms": None, "torchaudio.functional": None}
    with (
        mock.patch.dict("sys.modules", missing),
        pytest.raises(
            AvsRobustError, match=r"front end torchaudio: cannot be imported .*pip install avsrobust\[torchaudio\]"
        ),
    ):
        log_mel_of(SPEC, np.zeros(RATE), RATE, 1, of="zeros")
