"""Noises have their spectrum, their power and their seed; the low-pass filter has its slope and no delay."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from scipy.signal import welch
from scipy.stats import kstest

from avsrobust.audio.signals import gaussian_noise, lowpass, pink_noise
from avsrobust.errors import AudioError

RATE = 16000


def test_gaussian_noise_is_normal_and_white() -> None:
    noise = gaussian_noise(160_000, np.random.default_rng(0))
    assert kstest(noise, "norm").pvalue > 0.01
    assert (noise**2).mean() == pytest.approx(1, abs=0.02)
    _, density = welch(noise, RATE, nperseg=1024)
    in_db = 10 * np.log10(density[2:-2] * RATE / 2)
    assert np.abs(in_db).max() < 2
    assert abs(in_db.mean()) < 0.1


def test_gaussian_noise_is_made_of_promised_bits() -> None:
    """PCG64's raw stream is what numpy promises to keep; so are these numbers, to the last digits of the quantile function."""
    found = gaussian_noise(1000, np.random.Generator(np.random.PCG64(42)))
    bits = np.random.PCG64(42).random_raw(1000)
    expected = [NormalDist().inv_cdf(((int(value) >> 11) + 0.5) / 2**53) for value in bits]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("num_samples", [80_000, 80_001])
def test_pink_noise_loses_3_db_per_octave_above_20_hz(num_samples: int) -> None:
    noise = np.stack([pink_noise(num_samples, RATE, np.random.default_rng(seed)) for seed in range(20)])
    assert (noise**2).mean() == pytest.approx(1, abs=0.02)
    power = (np.abs(np.fft.rfft(noise)) ** 2).mean(axis=0)
    frequencies = np.fft.rfftfreq(num_samples, 1 / RATE)
    octaves = [
        float(power[(frequencies >= low) & (frequencies < 2 * low)].sum()) for low in 31.25 * 2.0 ** np.arange(8)
    ]
    in_db = 10 * np.log10(octaves)
    # Equal power in every octave is 1/f.
    assert np.abs(in_db - in_db.mean()).max() < 0.5
    assert power[frequencies < 20].max() < 1e-20


def test_noises_follow_from_their_generator() -> None:
    for make in (gaussian_noise, lambda count, generator: pink_noise(count, RATE, generator)):
        one, same, other = (make(4000, np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


def test_lengths_without_pink_noise_are_refused() -> None:
    assert gaussian_noise(0, np.random.default_rng(0)).shape == (0,)
    for count, rate in ((0, RATE), (1, RATE), (100, 30)):
        with pytest.raises(
            AudioError, match=rf"found {count} samples at {rate} Hz; expected enough for one period of 20 Hz"
        ):
            pink_noise(count, rate, np.random.default_rng(0))


@pytest.mark.parametrize("cutoff_hz", [500, 1000, 2000, 4000, 7000])
def test_lowpass_has_minus_6_db_at_its_frequency(cutoff_hz: float) -> None:
    impulse = np.zeros(RATE)
    impulse[RATE // 2] = 1
    gains = 20 * np.log10(np.abs(np.fft.rfft(lowpass(impulse, RATE, cutoff_hz))) + 1e-30)
    assert gains[round(cutoff_hz)] == pytest.approx(-6.02, abs=0.01)
    assert np.abs(gains[: round(cutoff_hz / 2)]).max() < 0.001
    if 2 * cutoff_hz < RATE / 2:
        assert gains[round(2 * cutoff_hz)] < -90


def test_lowpass_does_not_move_the_sound() -> None:
    time = np.arange(RATE) / RATE
    sound = np.sin(2 * np.pi * 200 * time) * np.hanning(RATE)
    np.testing.assert_allclose(lowpass(sound, RATE, 2000), sound, atol=1e-6)
    reversed_twice = lowpass(sound[::-1], RATE, 150)[::-1]
    np.testing.assert_allclose(reversed_twice, lowpass(sound, RATE, 150), atol=1e-6)


def test_lowpass_of_channels_and_of_short_sounds() -> None:
    sound = np.random.default_rng(0).standard_normal((300, 2))
    filtered = lowpass(sound, RATE, 1000)
    for channel in (0, 1):
        np.testing.assert_allclose(filtered[:, channel], lowpass(sound[:, channel], RATE, 1000), atol=1e-12)
    for length in (0, 1, 2, 5):
        assert lowpass(np.ones(length), RATE, 1000).shape == (length,)
    np.testing.assert_allclose(lowpass(np.full(2000, 0.5), RATE, 1000), 0.5, atol=1e-9)


def test_nothing_above_half_the_rate_can_be_removed() -> None:
    sound = np.random.default_rng(0).standard_normal(100)
    for cutoff_hz in (RATE / 2, RATE):
        same = lowpass(sound, RATE, cutoff_hz)
        np.testing.assert_array_equal(same, sound)
        assert not np.shares_memory(same, sound)
    for cutoff_hz in (0, -1, np.nan, np.inf):
        with pytest.raises(AudioError, match=r"found a cut-off frequency of .* Hz; expected one above 0 Hz"):
            lowpass(sound, RATE, cutoff_hz)
