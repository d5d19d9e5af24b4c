"""Loudness against the recommendation's own numbers and a slow reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from avsrobust.audio.loudness import gain_to_loudness, integrated_loudness
from avsrobust.errors import AudioError

RATE = 48000
# ITU-R BS.1770-4, annex 1, tables 1 and 2: the two stages of K-weighting at 48 kHz.
SHELF = ([1.53512485958697, -2.69169618940638, 1.19839281085285], [1.0, -1.69065929318241, 0.73248077421585])
HIGH_PASS = ([1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621])


def sine(hertz: float, seconds: float, rate: int = RATE, dbfs: float = 0.0) -> np.ndarray:
    return 10 ** (dbfs / 20) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def slow_loudness(samples: np.ndarray) -> float:
    """The formulas of the recommendation at 48 kHz, one block after the other."""
    weighted = lfilter(*HIGH_PASS, lfilter(*SHELF, samples, axis=0), axis=0)
    weighted = weighted.reshape(len(samples), -1)
    powers = []
    begin = 0
    while begin + 19200 <= len(weighted):
        powers.append(float((weighted[begin : begin + 19200] ** 2).mean(axis=0).sum()))
        begin += 4800

    def loudness(power: float) -> float:
        return -0.691 + 10 * math.log10(power) if power > 0 else -math.inf

    above = [power for power in powers if loudness(power) >= -70]
    if not above:
        return -math.inf
    gate = loudness(sum(above) / len(above)) - 10
    kept = [power for power in above if loudness(power) > gate]
    return loudness(sum(kept) / len(kept))


def test_a_full_scale_sine_in_one_channel_has_the_loudness_of_the_recommendation() -> None:
    assert integrated_loudness(sine(997, 5), RATE) == pytest.approx(-3.01, abs=0.001)
    stereo = np.stack([sine(997, 5)] * 2, axis=1)
    assert integrated_loudness(stereo, RATE) == pytest.approx(0.0, abs=0.001)


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000, 96000])
def test_the_rate_hardly_matters(rate: int) -> None:
    assert integrated_loudness(sine(997, 5, rate, -20), rate) == pytest.approx(-23.01, abs=0.05)


def test_gating_leaves_out_silence() -> None:
    """EBU Tech 3341, case 3: -36, -23, -36 LUFS count as -23 (here with silence, too)."""
    parts = [sine(1000, seconds, dbfs=level) for seconds, level in ((10, -36), (60, -23), (10, -36))]
    stereo = np.stack([np.concatenate([np.zeros(RATE * 5), *parts])] * 2, axis=1)
    assert integrated_loudness(stereo, RATE) == pytest.approx(-23.0, abs=0.1)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    length=st.integers(19200, 90000),
    channels=st.integers(1, 2),
    level_db=st.floats(-75, 0),
)
def test_equals_the_formulas(seed: int, length: int, channels: int, level_db: float) -> None:
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal((length, channels)) * 10 ** (level_db / 20)
    samples *= np.repeat(generator.uniform(0, 1, length // 4800 + 1) ** 4, 4800)[:length, None]
    found, expected = integrated_loudness(samples, RATE), slow_loudness(samples)
    assert found == pytest.approx(expected, abs=1e-3)


def test_an_incomplete_last_block_does_not_count() -> None:
    whole = sine(997, 0.8)
    assert integrated_loudness(np.concatenate([whole, np.zeros(4799)]), RATE) == integrated_loudness(whole, RATE)


@pytest.mark.parametrize("length", [1, 100, 4410, 17639])
def test_short_sounds_are_measured_as_if_they_were_repeated(length: int) -> None:
    sound = np.random.default_rng(0).standard_normal(length) * 0.1
    assert integrated_loudness(sound, 44100) == integrated_loudness(np.resize(sound, 17640), 44100)


def test_silence_has_no_loudness() -> None:
    for samples in (np.zeros(RATE), np.zeros(0), np.zeros((100, 2)), sine(997, 1, dbfs=-90)):
        assert integrated_loudness(samples, RATE) == -math.inf


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    seconds=st.floats(0.01, 3),
    level_db=st.floats(-120, 0),
    target=st.floats(-69, 0),
)
def test_the_gain_gives_the_loudness(seed: int, seconds: float, level_db: float, target: float) -> None:
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal(max(2, round(seconds * 16000))) * 10 ** (level_db / 20)
    gain_db = gain_to_loudness(samples, 16000, target)
    assert integrated_loudness(samples * 10 ** (gain_db / 20), 16000) == pytest.approx(target, abs=0.01)


def test_the_gain_of_a_sound_of_which_most_is_faint() -> None:
    """As recorded only the loud second is above -70 LUFS; what counts is what is heard after the gain."""
    samples = np.concatenate([sine(997, 1, dbfs=-62), sine(997, 9, dbfs=-69)])
    gain_db = gain_to_loudness(samples, RATE, -23)
    assert integrated_loudness(samples * 10 ** (gain_db / 20), RATE) == pytest.approx(-23, abs=0.01)


def test_silence_for_silence_is_a_gain_of_nothing() -> None:
    assert gain_to_loudness(sine(997, 1), RATE, -math.inf) == -math.inf
    with pytest.raises(AudioError, match=r"found silence; expected a sound"):
        gain_to_loudness(np.zeros(RATE), RATE, -23)


@pytest.mark.parametrize("target", [math.nan, math.inf, -71])
def test_targets_out_of_range_are_refused(target: float) -> None:
    with pytest.raises(AudioError, match=r"target loudness of .*; expected at least -70 LUFS"):
        gain_to_loudness(sine(997, 1), RATE, target)


@pytest.mark.parametrize(
    "samples", [np.zeros((10, 6)), np.zeros((2, 2, 2)), np.array([np.nan] * 10), np.array([np.inf])]
)
def test_what_is_no_sound_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(AudioError, match=r"found (samples of shape|NaN or infinite)"):
        integrated_loudness(samples, RATE)


def test_the_sound_is_left_as_it_is() -> None:
    samples = sine(997, 1)
    before = samples.copy()
    integrated_loudness(samples, RATE)
    gain_to_loudness(samples, RATE, -23)
    np.testing.assert_array_equal(samples, before)
