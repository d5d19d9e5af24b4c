"""Noise and silence: range, whiteness, length, one seed one sound."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.audio.definitions import white_noise
from avsrobust.clips import Clip, SoundHeader
from avsrobust.conditions.base import Choice, PlannedDataset, Request
from avsrobust.conditions.noise import Noise
from avsrobust.conditions.silence import Silence


def clip_with(rate: int, num_samples: int, clip_id: str = "dog_barking/x", split: str = "test") -> Clip:
    header = SoundHeader(rate, num_samples, 2, "PCM_16")
    return Clip("s4", split, clip_id, ("dog_barking",), ("animal",), ("f",) * 5, (None,) * 5, "a.wav", header)


def sound_of(condition, clip: Clip, seed: int = 7):
    choice = condition.prepare(PlannedDataset("s4", (clip,), 42))(
        Request(condition.name, clip, None, 0, seed, lambda level, draw: seed)
    )
    assert isinstance(choice, Choice)
    assert choice.source is None
    return choice.sound


@given(st.integers(0, 2**64 - 1), st.integers(1, 1000))
def test_noise_follows_from_seed_and_has_the_length_asked_for(seed, num_samples):
    noise = white_noise(seed, num_samples)
    assert noise.dtype == np.int16
    assert noise.shape == (num_samples,)
    # A longer noise of the same seed begins alike: nothing but the seed decides a sample.
    assert np.array_equal(noise, white_noise(seed, num_samples + 5)[:num_samples])


def test_noise_stays_what_it_is():
    digest = hashlib.sha256(white_noise(42, 220500).astype("<i2").tobytes()).hexdigest()
    assert digest == "00e4e18093ff64e3253461c8353b5114aa7b48a3ef26388a35d0988fd2991a84"


def test_noise_is_white_and_uniform():
    samples = white_noise(3, 2**18) / 32768
    assert -1 <= samples.min() < -0.999
    assert 0.999 < samples.max() < 1
    counts, _ = np.histogram(samples, bins=64, range=(-1, 1))
    # chi-square with 63 degrees of freedom: its 0.999 quantile is 103.4
    assert ((counts - 4096) ** 2 / 4096).sum() < 103.4
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    bands = spectrum[1:131073].reshape(64, -1).mean(axis=1)
    assert bands.max() / bands.min() < 1.2


def test_noise_is_as_long_as_the_clip_and_lies_under_its_name():
    sound = sound_of(Noise(), clip_with(16000, 77777))
    assert (sound.sample_rate, sound.num_samples) == (16000, 77777)
    assert sound.audio == "audio/noise/test/dog_barking/x.wav"
    assert np.array_equal(sound.samples(None), white_noise(7, 77777))


def test_silence_is_zeros_and_shared_by_clips_of_one_rate_and_length():
    first = sound_of(Silence(), clip_with(44100, 220500))
    assert first == sound_of(Silence(), clip_with(44100, 220500, "other/y", "train"), seed=8)
    assert first.audio != sound_of(Silence(), clip_with(44100, 220499)).audio
    assert first.audio != sound_of(Silence(), clip_with(48000, 220500)).audio
    assert first.samples(None).shape == (220500,)
    assert not first.samples(None).any()


@pytest.mark.parametrize("condition", [Noise(), Silence()])
def test_they_are_negative(condition):
    assert condition.polarity == "negative"
