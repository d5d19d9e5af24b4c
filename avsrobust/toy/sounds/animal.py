"""Voices of the animals: barks, howls, growls, chirps, bleats, hoofs."""

from __future__ import annotations

import numpy as np

from avsrobust.toy.sounds.base import (
    Voice,
    Wave,
    beats,
    decay,
    falling,
    glide,
    noise,
    place,
    seconds,
    swell,
    tone,
    wander,
)


def barking(rng: np.random.Generator, length_s: int) -> Wave:
    """Return pairs of hoarse barks that rise and drop."""
    pitch = rng.uniform(380, 470)
    events = []
    for start_s in beats(rng, length_s, rng.uniform(0.5, 0.62), 0.1):
        for second in (0.0, 0.2):
            bark_s = 0.15
            curve = pitch * rng.uniform(0.95, 1.05) * glide(((0, 0.7), (0.25, 1.2), (1, 0.6)), bark_s)
            voiced = tone(curve, (0.8, 1.0, 0.9, 0.5, 0.25, 0.1), bark_s)
            hoarse = 0.7 * noise(rng, bark_s, 500, 2200)
            events.append((start_s + second, (voiced + hoarse) * decay(bark_s, 0.05, 0.012)))
    return place(length_s, events)


def meowing(rng: np.random.Generator, length_s: int) -> Wave:
    """Return meows: an arch of pitch while the mouth opens and closes."""
    pitch = rng.uniform(560, 660)
    events = []
    for start_s in beats(rng, length_s, rng.uniform(0.82, 0.95), 0.05):
        meow_s = rng.uniform(0.6, 0.75)
        curve = pitch * rng.uniform(0.95, 1.08) * glide(((0, 0.75), (0.3, 1.25), (0.6, 1.15), (1, 0.7)), meow_s)
        open_mouth = glide(((0, 0.0), (0.4, 1.0), (1, 0.1)), meow_s)
        closed = tone(curve, (1.0, 0.3, 0.08), meow_s)
        opened = tone(curve, (0.5, 1.0, 0.9, 0.6, 0.35, 0.15), meow_s)
        events.append((start_s, (closed * (1 - open_mouth) + opened * open_mouth) * swell(meow_s, 0.1, 0.2)))
    return place(length_s, events)


def roaring(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a lion's roars: a rattling low tone in deep noise."""
    pitch = rng.uniform(62, 78)
    events = []
    for start_s in beats(rng, length_s, rng.uniform(0.95, 1.1), 0.05):
        roar_s = 0.95
        rattle = 1 + 0.8 * np.sign(np.sin(2 * np.pi * rng.uniform(22, 28) * seconds(roar_s)))
        curve = pitch * glide(((0, 0.9), (0.3, 1.3), (1, 0.7)), roar_s)
        body = tone(curve, falling(14, 0.6), roar_s) + 1.2 * noise(rng, roar_s, 80, 480)
        events.append((start_s, body * rattle * swell(roar_s, 0.15, 0.4)))
    return place(length_s, events)


def hoofs(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a trot: hollow knocks, two heights in turn."""
    pitch = rng.uniform(620, 760)
    events = []
    for step, start_s in enumerate(beats(rng, length_s, rng.uniform(0.17, 0.21), 0.08)):
        height = pitch * (1.0, 1.35)[step % 2]
        knock_s = 0.09
        hollow = tone(height, (1.0, 0.0, 0.3), knock_s) * decay(knock_s, 0.014, 0.001)
        scrape = 0.25 * noise(rng, knock_s, 1200, 3000) * decay(knock_s, 0.006, 0.001)
        events.append((start_s, (hollow + scrape) * rng.uniform(0.7, 1)))
    return place(length_s, events)


def howling(rng: np.random.Generator, length_s: int) -> Wave:
    """Return howls: nearly pure, rising at once and falling slowly."""
    pitch = rng.uniform(400, 480)
    events = []
    for start_s in beats(rng, length_s, rng.uniform(1.45, 1.6), 0.02):
        howl_s = 1.5
        curve = pitch * glide(((0, 0.65), (0.2, 1.25), (0.6, 1.15), (1, 0.75)), howl_s)
        quiver = 1 + 0.012 * np.sin(2 * np.pi * 7 * seconds(howl_s))
        events.append((start_s, tone(curve * quiver, (1.0, 0.18, 0.06), howl_s) * swell(howl_s, 0.15, 0.3)))
    return place(length_s, events)


def chirping(rng: np.random.Generator, length_s: int) -> Wave:
    """Return phrases of quick sweeps and trills, high up."""
    pitch = rng.uniform(2900, 3500)
    events = []
    for start_s in beats(rng, length_s, rng.uniform(0.42, 0.52), 0.1):
        up, count = rng.uniform(0.7, 1.5), int(rng.integers(2, 6))
        chirp_s = rng.uniform(0.05, 0.09)
        for note in range(count):
            curve = pitch * glide(((0, up), (0.5, 1.15), (1, 1.9 - up)), chirp_s)
            events.append(
                (start_s + 1.2 * chirp_s * note, tone(curve, (1.0, 0.08), chirp_s) * swell(chirp_s, 0.01, 0.02))
            )
    return place(length_s, events)


def bleating(rng: np.random.Generator, length_s: int) -> Wave:
    """Return bleats: a nasal tone that trembles nine times a second."""
    pitch = rng.uniform(290, 340)
    events = []
    for start_s in beats(rng, length_s, rng.uniform(0.85, 1.0), 0.05):
        bleat_s = 0.7
        tremble = np.sin(2 * np.pi * rng.uniform(8.5, 10) * seconds(bleat_s))
        curve = pitch * (1 + 0.06 * tremble)
        nasal = tone(curve, (0.4, 0.6, 1.0, 0.9, 0.4, 0.3, 0.5, 0.6, 0.4, 0.2), bleat_s)
        events.append((start_s, nasal * (0.6 + 0.4 * tremble) * swell(bleat_s, 0.06, 0.12)))
    return place(length_s, events)


def trumpeting(rng: np.random.Generator, length_s: int) -> Wave:
    """Return an elephant's calls: rough, bright, bending upwards, over a rumble."""
    pitch = rng.uniform(480, 580)
    events = []
    for start_s in beats(rng, length_s, rng.uniform(0.95, 1.1), 0.05):
        call_s = 0.85
        rough = 1 + 0.05 * wander(rng, call_s, 90)
        curve = pitch * rough * glide(((0, 0.6), (0.25, 1.2), (0.7, 1.3), (1, 0.8)), call_s)
        call = tone(curve, falling(12, 0.35), call_s) + 0.9 * noise(rng, call_s, 1500, 5000)
        events.append((start_s, call * swell(call_s, 0.08, 0.25)))
    return place(length_s, events) + 0.4 * noise(rng, length_s, 60, 140)


VOICES: dict[str, Voice] = {
    "bird": chirping,
    "cat": meowing,
    "dog": barking,
    "elephant": trumpeting,
    "horse": hoofs,
    "lion": roaring,
    "sheep": bleating,
    "wolf": howling,
}
