"""Mixtures have the ratio that was asked for, and nothing is clipped in silence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.audio.mixing import HIGHEST, fit_peak, mix_at_snr, power_db, to_pcm16
from avsrobust.errors import AudioError


def sound(seed: int, shape: tuple[int, ...], level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape) * level


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    snr_db=st.floats(-60, 60),
    channels=st.sampled_from([None, 1, 2]),
    levels=st.tuples(st.floats(1e-4, 10), st.floats(1e-4, 10)),
)
def test_the_ratio_is_as_asked(seed: int, snr_db: float, channels: int | None, levels: tuple[float, float]) -> None:
    shape = (500,) if channels is None else (500, channels)
    signal, noise = sound(seed, shape, levels[0]), sound(seed + 1, shape, levels[1])
    mixture = mix_at_snr(signal, noise, snr_db)
    gain = 10 ** (mixture.gain_db / 20)
    inside = mixture.samples - gain * signal
    measured = 10 * math.log10((gain * signal**2 * gain).mean() / (inside**2).mean())
    assert measured == pytest.approx(snr_db, abs=0.01)
    assert np.abs(mixture.samples).max() <= HIGHEST


def test_zero_db_of_equal_sounds_is_their_sum() -> None:
    signal, noise = sound(0, (1000,)), sound(1, (1000,))
    noise *= np.sqrt((signal**2).mean() / (noise**2).mean())
    mixture = mix_at_snr(signal, noise, 0)
    np.testing.assert_allclose(mixture.samples, signal + noise, atol=1e-12)
    assert (mixture.gain_db, mixture.num_over) == (0, 0)
    assert mixture.noise_gain_db == pytest.approx(0, abs=1e-9)


def test_the_ratio_survives_rounding_to_16_bits() -> None:
    signal, noise = sound(2, (80000,)), sound(3, (80000,))
    mixture = mix_at_snr(signal, noise, 20)
    rounded = to_pcm16(mixture.samples) / 32768
    assert power_db(signal) - power_db(rounded - signal) == pytest.approx(20, abs=0.01)


def test_clipping_is_avoided_and_reported() -> None:
    square = np.tile([0.9, -0.9], 100)
    mixture = mix_at_snr(square, square, 0)
    assert mixture.num_over == 200
    assert mixture.gain_db == pytest.approx(20 * math.log10(HIGHEST / 1.8))
    assert HIGHEST - 1e-12 < np.abs(mixture.samples).max() <= HIGHEST
    assert to_pcm16(mixture.samples).tolist() == [32767, -32767] * 100


@pytest.mark.parametrize(
    ("signal", "noise", "snr_db", "message"),
    [
        (np.ones(4), np.ones(5), 0, r"noise of shape \(5,\); expected that of the signal, \(4,\)"),
        (np.ones(4), np.ones((4, 1)), 0, r"noise of shape \(4, 1\)"),
        (np.zeros(4), np.ones(4), 0, "found a signal that is silent"),
        (np.ones(4), np.zeros(4), 0, "found a noise that is silent"),
        (np.zeros(0), np.zeros(0), 0, "found a signal that is silent"),
        (np.ones(4), np.array([1, np.nan, 0, 0]), 0, "found a noise that is silent or not finite"),
        (np.array([np.inf, 0, 0, 0]), np.ones(4), 0, "found a signal that is silent or not finite"),
        (np.ones(4), np.ones(4), np.inf, "ratio of inf dB; expected a finite one"),
        (np.ones(4), np.ones(4), np.nan, "ratio of nan dB"),
    ],
)
def test_what_has_no_ratio_is_refused(signal: np.ndarray, noise: np.ndarray, snr_db: float, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        mix_at_snr(signal, noise, snr_db)


def test_sounds_that_fit_are_copied() -> None:
    samples = np.array([0.5, -HIGHEST])
    fitted = fit_peak(samples)
    np.testing.assert_array_equal(fitted.samples, samples)
    assert not np.shares_memory(fitted.samples, samples)
    assert (fitted.gain_db, fitted.num_over) == (0, 0)
    assert fit_peak(np.zeros(0)).samples.size == 0
    with pytest.raises(AudioError, match="NaN or infinite samples"):
        fit_peak(np.array([np.nan]))


def test_16_bits_are_exact_and_never_clipped() -> None:
    grid = np.arange(-32768, 32768)
    np.testing.assert_array_equal(to_pcm16(grid / 32768), grid)
    for samples in (np.array([1.0]), np.array([-1.1]), np.array([np.nan]), np.array([np.inf])):
        with pytest.raises(AudioError, match=r"expected -1 to 32767/32768; scale them down first"):
            to_pcm16(samples)
