"""Voices of vehicles, tools and machines: engines, sirens, clicks, shots, hisses."""

from __future__ import annotations

import numpy as np

from avsrobust.toy.sounds.base import Voice, Wave, beats, decay, falling, noise, place, seconds, swell, tone, wander


def bus(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a diesel engine: slow heavy strokes, muffled."""
    pace = rng.uniform(27, 33) * (1 + 0.08 * wander(rng, length_s, 0.6))
    return tone(pace, falling(26, 0.3), length_s) + 0.7 * noise(rng, length_s, 80, 600)


def race_car(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a racing engine that is driven up and drops with each gear."""
    times = seconds(length_s)
    gear_s = rng.uniform(1.3, 1.8)
    climb = ((times / gear_s + rng.uniform(0, 1)) % 1.0) ** 0.7
    engine = tone(rng.uniform(150, 180) * (1 + 1.5 * climb), falling(16, 0.55), length_s)
    return engine + 0.5 * noise(rng, length_s, 900, 3200)


def siren(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a siren that wails up and down."""
    period_s = rng.uniform(1.1, 1.9)
    wail = 0.5 - 0.5 * np.cos(2 * np.pi * (seconds(length_s) / period_s + rng.uniform(0, 1)))
    return tone(rng.uniform(620, 720) + 750 * wail, (1.0, 0.25, 0.5, 0.1, 0.2), length_s)


def frying(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a high hiss with many small pops."""
    hiss = noise(rng, length_s, 5000, 12000) * (1 + 0.3 * wander(rng, length_s, 8))
    starts = rng.uniform(0, length_s, size=30 * length_s)
    return hiss + place(
        length_s, ((start, 6 * noise(rng, 0.012, 2500, 9000) * decay(0.012, 0.002, 0.0005)) for start in starts)
    )


def shots(rng: np.random.Generator, length_s: int) -> Wave:
    """Return shots: a crack and a long dull tail."""
    events = []
    for start_s in beats(rng, length_s, rng.uniform(0.48, 0.62), 0.2):
        crack = 2.5 * noise(rng, 0.06, 300, 9000) * decay(0.06, 0.006, 0.0005)
        tail = noise(rng, 0.5, 60, 1100) * decay(0.5, 0.07, 0.001)
        events += [(start_s, crack * rng.uniform(0.8, 1)), (start_s, tail)]
    return place(length_s, events)


def hair_dryer(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a stream of air with a thin whine on top."""
    whine = rng.uniform(2400, 2700) * (1 + 0.004 * wander(rng, length_s, 2))
    return noise(rng, length_s, 1300, 4200) + 0.7 * tone(whine, (1.0, 0.3), length_s)


def helicopter(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a rotor: deep air cut into a dozen beats a second, and a faint turbine."""
    beat = (seconds(length_s) * rng.uniform(11, 14) + rng.uniform(0, 1)) % 1.0
    chop = np.exp(-5 * beat)
    thump = tone(rng.uniform(48, 60), (1.0, 0.6, 0.3), length_s)
    return (2.0 * noise(rng, length_s, 90, 700) + 1.5 * thump) * chop + 0.06 * noise(rng, length_s, 4000, 5000)


def typing(rng: np.random.Generator, length_s: int) -> Wave:
    """Return key strokes: a click down, a softer one up."""
    events = []
    for start_s in beats(rng, length_s, rng.uniform(0.12, 0.16), 0.5):
        for delay_s, strength in ((0.0, 1.0), (0.06, 0.4)):
            click = noise(rng, 0.025, 2200, 7500) * decay(0.025, 0.004, 0.0005) + 0.5 * tone(
                rng.uniform(1700, 2100), (1.0,), 0.025
            ) * decay(0.025, 0.004, 0.0005)
            events.append((start_s + delay_s, strength * rng.uniform(0.5, 1) * click))
    return place(length_s, events)


def rocket(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a roar of burning fuel, crackling, with a whistle that sinks."""
    crackle = 1 + 0.7 * np.abs(wander(rng, length_s, 60))
    fall = (seconds(length_s) / rng.uniform(1.8, 2.4) + rng.uniform(0, 1)) % 1.0
    whistle = tone(3400 - 1500 * fall, (1.0, 0.2), length_s) * np.sin(np.pi * fall)
    return noise(rng, length_s, 120, 1500) * crackle + 0.5 * whistle


def mower(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a small engine under load and the whirr of its blade."""
    pace = rng.uniform(92, 108) * (1 + 0.03 * wander(rng, length_s, 2))
    blade = noise(rng, length_s, 700, 2400) * (1 + 0.6 * np.sin(2 * np.pi * 50 * seconds(length_s)))
    return tone(pace, (1.0, 0.9, 0.5, 0.6, 0.3, 0.3, 0.2, 0.2), length_s) + 0.5 * blade


def chainsaw(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a harsh two-stroke engine that is pressed into the wood again and again."""
    press = 0.5 + 0.5 * np.sin(2 * np.pi * (seconds(length_s) * rng.uniform(0.8, 1.2) + rng.uniform(0, 1)))
    pace = rng.uniform(210, 240) * (1.15 - 0.3 * press)
    teeth = noise(rng, length_s, 2500, 8000) * (0.3 + 0.9 * press)
    return tone(pace, falling(30, 0.3), length_s) + teeth


def vacuum(rng: np.random.Generator, length_s: int) -> Wave:
    """Return a motor's steady whine in a rush of air."""
    pitch = rng.uniform(330, 370) * (1 + 0.004 * wander(rng, length_s, 1))
    swing = swell(length_s, 0.4, 0.05) * 0.2 + 0.8
    return (tone(pitch, (0.4, 1.0, 0.3, 0.8, 0.2, 0.4), length_s) + 0.7 * noise(rng, length_s, 350, 1300)) * swing


VOICES: dict[str, Voice] = {
    "bus": bus,
    "car": race_car,
    "emergency-car": siren,
    "frying-food": frying,
    "gun": shots,
    "hair-dryer": hair_dryer,
    "helicopter": helicopter,
    "keyboard": typing,
    "missile-rocket": rocket,
    "mower": mower,
    "saw": chainsaw,
    "vacuum-cleaner": vacuum,
}
