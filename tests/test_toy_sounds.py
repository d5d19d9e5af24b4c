"""The toy's voices: each can be told from the others, is heard in every second, and is where the scene says."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from avsrobust.toy.rendering import mix_scene
from avsrobust.toy.scenes import OPEN_OBJECTS, plan_scene
from avsrobust.toy.sounds import VOICES
from avsrobust.toy.sounds.base import SAMPLE_RATE, beats, glide, hertz, noise, place, ringing, seconds, tone

EDGES = np.geomspace(60, 8000, 33)


def loudness_db(samples: NDArray[np.float64]) -> float:
    return float(10 * np.log10(np.square(samples).mean() + 1e-12))


def bands(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mean and spread over time of the log power in 32 bands, float64 [64]."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, 2048)[::1024] * np.hanning(2048)
    power = np.abs(np.fft.rfft(windows)) ** 2
    frequency = np.fft.rfftfreq(2048, 1 / SAMPLE_RATE)
    sums = [
        power[:, (frequency >= low) & (frequency < max(high, low + 22))].sum(axis=1) for low, high in pairwise(EDGES)
    ]
    log = np.log(np.stack(sums, axis=1) + 1e-3)
    return np.concatenate([log.mean(axis=0), log.std(axis=0)])


def levelled(name: str, seed: int, length_s: int = 2) -> NDArray[np.float64]:
    voice = VOICES[name](np.random.default_rng(seed), length_s)
    return voice * (0.1 / voice.std())


def test_every_object_has_a_voice() -> None:
    assert set(VOICES) == set(OPEN_OBJECTS)


@pytest.mark.parametrize("name", sorted(VOICES))
def test_a_voice_is_heard_in_every_second(name: str) -> None:
    for seed in (0, 1):
        voice = VOICES[name](np.random.default_rng(seed), 5)
        assert voice.shape == (5 * SAMPLE_RATE,)
        assert np.isfinite(voice).all()
        quietest = min(loudness_db(second) for second in voice.reshape(5, -1))
        assert quietest > loudness_db(voice) - 8


def test_voices_follow_their_generator() -> None:
    same, again, other = (VOICES["dog"](np.random.default_rng(seed), 1) for seed in (1, 1, 2))
    assert np.array_equal(same, again)
    assert not np.array_equal(same, other)


def test_sounds_tell_the_objects_apart() -> None:
    """A nearest centroid over three instances finds the object of a fourth and fifth, which it has not heard."""
    names = sorted(VOICES)
    known = {name: np.stack([bands(levelled(name, seed)) for seed in range(3)]) for name in names}
    spread = np.concatenate(list(known.values())).std(axis=0)
    centroids = np.stack([known[name].mean(axis=0) for name in names]) / spread
    hits = []
    for number, name in enumerate(names):
        for seed in (3, 4):
            distance = np.square(bands(levelled(name, seed)) / spread - centroids).sum(axis=1)
            hits.append(int(distance.argmin()) == number)
    assert np.mean(hits) > 0.85


def test_a_mix_holds_what_sounds_and_nothing_else() -> None:
    checked = 0
    for index in range(12):
        scene = plan_scene("multi", 0, index)
        mix = mix_scene(scene)
        assert mix.dtype == np.int16
        assert mix.shape == (5 * SAMPLE_RATE,)
        for second, samples in enumerate(mix.reshape(5, -1) / 32768):
            heard = any(actor.sounding[second] for actor in scene.actors)
            checked += not heard
            assert (loudness_db(samples) > -45) if heard else (loudness_db(samples) < -60)
    assert checked > 3


def test_a_short_clip_has_a_short_sound() -> None:
    scene = plan_scene("single", 0, 17)
    assert scene.sound_s in (3, 4)
    assert mix_scene(scene).shape == (scene.sound_s * SAMPLE_RATE,)


def test_mixes_do_not_clip() -> None:
    for index in range(8):
        assert np.abs(mix_scene(plan_scene("open", 1, index)).astype(int)).max() <= 29491


def test_mixes_are_reproduced() -> None:
    digests = {hashlib.sha256(mix_scene(plan_scene("multi", 7, 2)).tobytes()).hexdigest() for _ in range(2)}
    assert len(digests) == 1


def test_a_tone_is_the_sum_of_its_partials() -> None:
    times = seconds(0.1)
    expected = np.sin(2 * np.pi * 100 * times) + 0.5 * np.sin(2 * np.pi * 200 * times)
    assert np.allclose(tone(100.0, (1.0, 0.5), 0.1), expected)


def test_partials_of_a_ringing_tone_die_in_order() -> None:
    times = seconds(1.0)
    expected = np.sin(2 * np.pi * 100 * times) * 0.5 ** (times / 0.2)
    middle = slice(4410, 35280)
    assert np.allclose(ringing(100.0, (1.0,), 0.2, 1.0)[middle], expected[middle])
    second = np.sin(2 * np.pi * 200 * times) * 0.5 ** (times / 0.1)
    assert np.allclose(ringing(100.0, (0.0, 1.0), 0.2, 1.0)[middle], second[middle])


def test_noise_stays_in_its_band() -> None:
    sound = noise(np.random.default_rng(0), 1.0, 1000, 2000)
    power = np.abs(np.fft.rfft(sound)) ** 2
    frequency = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    assert sound.std() == pytest.approx(1)
    assert power[(frequency > 800) & (frequency < 2500)].sum() > 0.97 * power.sum()


def test_small_helpers() -> None:
    assert hertz(69) == pytest.approx(440)
    assert hertz(81) == pytest.approx(880)
    assert np.allclose(glide(((0, 1), (1, 3)), 0.5)[[0, 11025]], (1, 2))
    placed = place(0.01, [(0.005, np.ones(1000)), (0.0, np.ones(10))])
    assert placed[:10].tolist() == [1.0] * 10
    assert placed[10:220].sum() == 0
    assert len(placed) == 441
    times = beats(np.random.default_rng(0), 5, 0.5)
    assert times[0] < 0.5
    assert np.diff(times).max() < 0.56
    assert times[-1] > 4.3
