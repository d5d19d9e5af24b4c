"""Voices of the musical instruments: melodies with each one's own partials, envelope, register, scale and pace."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from avsrobust.toy.sounds.base import (
    Voice,
    Wave,
    beats,
    decay,
    falling,
    glide,
    hertz,
    noise,
    place,
    ringing,
    seconds,
    swell,
    tone,
)

PENTATONIC = (0, 3, 5, 7, 10)
MAJOR = (0, 2, 4, 5, 7, 9, 11)
WHOLE_TONES = (0, 2, 4, 6, 8, 10)

Note = Callable[[np.random.Generator, float], Wave]


def _melody(note: Note, low: int, octaves: int, scale: Sequence[int], pace_s: float, chord: int = 1) -> Voice:
    """Return a voice that walks up and down a scale, `chord` notes at a time."""
    ladder = [low + 12 * octave + step for octave in range(octaves) for step in scale]

    def play(rng: np.random.Generator, length_s: int) -> Wave:
        shift = rng.uniform(-1.5, 1.5)
        position = int(rng.integers(len(ladder)))
        events = []
        for start_s in beats(rng, length_s, pace_s * rng.uniform(0.85, 1.15), 0.05):
            position = _reflected(position + int(rng.choice((-3, -2, -1, 1, 2, 3))), len(ladder) - 1)
            for voice in range(chord):
                pitch = ladder[(position + 2 * voice) % len(ladder)]
                events.append((start_s + 0.018 * voice, note(rng, hertz(pitch + shift)) * rng.uniform(0.6, 1.0)))
        return place(length_s, events)

    return play


def _reflected(position: int, top: int) -> int:
    """Return `position`, turned back where it leaves 0..`top`."""
    return top - abs(top - abs(position))


def _plucked(partials: int, slope: float, half_life_s: float, length_s: float) -> Note:
    """Return a string note with so many partials."""

    def note(_: np.random.Generator, pitch: float) -> Wave:
        return ringing(pitch, falling(partials, slope), half_life_s, length_s)

    return note


def _bowed(rng: np.random.Generator, pitch: float) -> Wave:
    length_s = 0.75
    times = seconds(length_s)
    vibrato = 1 + 0.012 * np.sin(2 * np.pi * rng.uniform(5.5, 6.5) * times)
    sawtooth = tone(pitch * vibrato, falling(18, 0.9), length_s)
    return (sawtooth + 0.05 * noise(rng, length_s, 2000, 6000)) * swell(length_s, 0.12, 0.15)


def _hammered(rng: np.random.Generator, pitch: float) -> Wave:
    knock = 0.3 * noise(rng, 0.03, 100, 1500) * decay(0.03, 0.01)
    string = ringing(pitch, (1.0, 0.8, 0.4, 0.35, 0.2, 0.12), 0.7, 1.0)
    string[: len(knock)] += knock
    return string


def _bar(rng: np.random.Generator, pitch: float) -> Wave:
    # A free bar's modes lie at 1, 2.76 and 5.40 times the lowest (Fletcher and Rossing, The Physics of Musical Instruments).
    length_s = 0.6
    times = seconds(length_s)
    modes = ((1.0, 1.0, 0.2), (2.76, 0.45, 0.08), (5.4, 0.2, 0.03))
    return np.asarray(
        sum(gain * np.sin(2 * np.pi * pitch * ratio * times) * decay(length_s, half) for ratio, gain, half in modes)
    )


def _blown(rng: np.random.Generator, pitch: float) -> Wave:
    length_s = 0.62
    tremble = 1 + 0.006 * np.sin(2 * np.pi * 5 * seconds(length_s))
    breath = 0.1 * noise(rng, length_s, 0.9 * pitch, 4 * pitch)
    return (tone(pitch * tremble, (1.0, 0.22, 0.05), length_s) + breath) * swell(length_s, 0.07, 0.1)


def _brassy(rng: np.random.Generator, pitch: float) -> Wave:
    length_s = 0.34
    rise = glide(((0, 0.97), (0.12, 1.0), (1, 1.0)), length_s)
    return tone(pitch * rise, (0.5, 0.8, 1.0, 0.95, 0.8, 0.7, 0.55, 0.4, 0.3, 0.2, 0.12), length_s) * swell(
        length_s, 0.03, 0.06
    )


def tabla(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a rhythm of low gliding strokes and high ringing ones."""
    low, high = rng.uniform(75, 95), rng.uniform(290, 340)
    pattern = rng.permutation([0, 1, 1, 0, 1, 1, 0, 1])
    events = []
    for beat, start_s in enumerate(beats(rng, length_s, rng.uniform(0.17, 0.22), 0.04)):
        slap = 0.5 * noise(rng, 0.03, 800, 4000) * decay(0.03, 0.008)
        if pattern[beat % len(pattern)]:
            body = tone(high, (1.0, 0.5, 0.3), 0.3) * decay(0.3, 0.06)
        else:
            body = (
                1.5
                * tone(glide(((0, 1.7 * low), (0.3, low), (1, 0.9 * low)), 0.35), (1.0, 0.3), 0.35)
                * decay(0.35, 0.09)
            )
        events += [(start_s, body * rng.uniform(0.7, 1)), (start_s, slap)]
    return place(length_s, events)


VOICES: dict[str, Voice] = {
    "flute": _melody(_blown, 79, 1, MAJOR, 0.55),
    "guitar": _melody(_plucked(14, 0.9, 0.8, 0.9), 40, 2, PENTATONIC, 0.24),
    "marimba": _melody(_bar, 86, 2, MAJOR, 0.2),
    "piano": _melody(_hammered, 48, 3, MAJOR, 0.42, chord=3),
    "tabla": tabla,
    "trumpet": _melody(_brassy, 58, 1, PENTATONIC, 0.36),
    "ukulele": _melody(_plucked(7, 0.5, 0.2, 0.35), 67, 1, MAJOR, 0.3, chord=4),
    "violin": _melody(_bowed, 62, 2, WHOLE_TONES, 0.62),
}
