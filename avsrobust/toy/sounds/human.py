"""Voices of the people: a glottal tone through formants, cut into syllables."""

from __future__ import annotations

import numpy as np

from avsrobust.toy.sounds.base import Voice, Wave, beats, glide, noise, place, seconds, swell, tone

# First three formants in Hz of a, e, i, o, u of a man (after Peterson and Barney 1952); shorter vocal tracts scale them up.
VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))
_WIDTHS = (110.0, 150.0, 220.0)
_HIGHEST = 7000.0


def sung_vowel(rng: np.random.Generator, pitch: Wave, vowel: int, tract: float, breath: float) -> Wave:
    """Return one vowel on a pitch curve (Hz per sample); `tract` scales the formants, `breath` mixes in air."""
    duration_s = len(pitch) / 44100
    middle = float(pitch.mean())
    partials = np.arange(1, max(int(_HIGHEST / pitch.max()), 2) + 1)
    gains = np.full(len(partials), 0.03)
    for formant, width, weight in zip(VOWELS[vowel], _WIDTHS, (1.0, 0.6, 0.3), strict=True):
        gains += weight / (1 + ((partials * middle - formant * tract) / (width * tract)) ** 2)
    voiced = tone(pitch, gains / partials**0.5, duration_s)
    low, high = 700 * tract, 3500 * tract
    return np.asarray(voiced + breath * noise(rng, duration_s, low, high) * float(voiced.std()))


def _speech(pitch: float, tract: float, pace_s: float, breath: float) -> Voice:
    """Return a voice that speaks: syllables with falling pitch, hisses between them, short rests."""

    def speak(rng: np.random.Generator, length_s: int) -> Wave:
        base = pitch * rng.uniform(0.9, 1.1)
        events = []
        for count, start_s in enumerate(beats(rng, length_s, pace_s * rng.uniform(0.9, 1.1), 0.15)):
            if count % 6 == 5:
                continue
            voiced_s = pace_s * rng.uniform(0.6, 0.9)
            top = base * rng.uniform(0.95, 1.3)
            curve = glide(((0, top), (0.3, 1.06 * top), (1, 0.82 * top)), voiced_s)
            vowel = sung_vowel(rng, curve, int(rng.integers(len(VOWELS))), tract, breath)
            events.append((start_s, vowel * swell(voiced_s, 0.03, 0.06) * rng.uniform(0.6, 1)))
            if rng.random() < 0.4:
                hiss_s = 0.07
                events.append((start_s - hiss_s, 0.25 * noise(rng, hiss_s, 3500, 8000) * swell(hiss_s, 0.02, 0.02)))
        return place(length_s, events)

    return speak


def singing(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a woman's song: long notes with vibrato, one vowel each."""
    key = rng.uniform(300, 360)
    events = []
    for start_s in beats(rng, length_s, rng.uniform(0.7, 0.85), 0.05):
        note_s = rng.uniform(0.62, 0.8)
        pitch = key * 2 ** (rng.choice((0, 2, 4, 5, 7, 9)) / 12)
        vibrato = 1 + 0.02 * np.sin(2 * np.pi * rng.uniform(5, 6) * seconds(note_s))
        vowel = sung_vowel(rng, pitch * vibrato, int(rng.choice((0, 3, 3, 0, 1))), 1.17, 0.03)
        events.append((start_s, vowel * swell(note_s, 0.08, 0.12)))
    return place(length_s, events)


def laughter(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a baby's laughter: runs of short breathy bursts, each run falling in pitch."""
    top = rng.uniform(480, 580)
    events = []
    for count, start_s in enumerate(beats(rng, length_s, rng.uniform(0.17, 0.2), 0.05)):
        step = count % 5
        if step == 4:
            continue
        pitch = top * (1.15 - 0.08 * step) * rng.uniform(0.96, 1.04)
        burst_s = 0.11
        curve = glide(((0, 0.85 * pitch), (0.35, 1.1 * pitch), (1, 0.8 * pitch)), burst_s)
        events.append((start_s, sung_vowel(rng, curve, 0, 1.6, 0.35) * swell(burst_s, 0.02, 0.04)))
    return place(length_s, events)


VOICES: dict[str, Voice] = {
    "baby": laughter,
    "girl": _speech(265.0, 1.35, 0.19, 0.08),
    "man": _speech(112.0, 1.0, 0.24, 0.04),
    "woman": singing,
}
