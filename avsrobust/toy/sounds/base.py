"""Building blocks of the synthesised sounds.

Conventions
    Sounds are float64 [S] at `SAMPLE_RATE`, about -1 to 1 before mixing. Frequencies in Hz, times in seconds. `Voice` is
    what every object has: a function of a generator and a length that returns its sound. Every voice can be heard in every
    second, because every second in which an object sounds has a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 44100
Wave = NDArray[np.float64]
Voice = Callable[[np.random.Generator, int], Wave]


def seconds(duration_s: float) -> Wave:
    """Return the sample times of a sound of this length."""
    return np.arange(max(round(duration_s * SAMPLE_RATE), 1)) / SAMPLE_RATE


def tone(frequency: Wave | float, strengths: Sequence[float] | Wave, duration_s: float) -> Wave:
    """Return a harmonic tone: partial k at k times `frequency` (constant or one value per sample), sine phase."""
    times = seconds(duration_s)
    phase = times * frequency if isinstance(frequency, float | int) else np.cumsum(frequency) / SAMPLE_RATE
    turn = np.exp(2j * np.pi * phase)
    power = turn.copy()
    total = np.zeros(len(times))
    for strength in strengths:
        total += strength * power.imag
        power *= turn
    return total


def ringing(pitch: float, strengths: Sequence[float] | Wave, half_life_s: float, duration_s: float) -> Wave:
    """Return a struck or plucked tone: partial k halves every ``half_life_s / k``, so high partials die first."""
    turn = np.exp((2j * np.pi * pitch - np.log(2) / half_life_s) * seconds(duration_s))
    power = turn.copy()
    total = np.zeros(len(turn))
    for strength in strengths:
        total += strength * power.imag
        power *= turn
    total *= swell(duration_s, 0.003, 0.03)
    return total


def falling(count: int, slope: float) -> Wave:
    """Return the strengths of `count` partials that fall as ``1 / k**slope``."""
    return 1 / np.arange(1, count + 1) ** slope


def decay(duration_s: float, half_life_s: float, attack_s: float = 0.004) -> Wave:
    """Return an envelope that rises fast and halves every `half_life_s`; it ends at 0."""
    times = seconds(duration_s)
    closing = np.clip((duration_s - times) / 0.02, 0, 1)
    return np.minimum(times / attack_s, 1) * 0.5 ** (times / half_life_s) * closing


def swell(duration_s: float, attack_s: float, release_s: float) -> Wave:
    """Return an envelope that rises, holds and falls, with smooth corners."""
    times = seconds(duration_s)
    level = np.minimum(np.clip(times / attack_s, 0, 1), np.clip((duration_s - times) / release_s, 0, 1))
    return 0.5 - 0.5 * np.cos(np.pi * level)


def glide(points: Sequence[tuple[float, float]], duration_s: float) -> Wave:
    """Return a curve through (share of the duration, value), linear between the points."""
    share = seconds(duration_s) / duration_s
    return np.interp(share, [at for at, _ in points], [value for _, value in points])


def noise(rng: np.random.Generator, duration_s: float, low: float, high: float) -> Wave:
    """Return noise between two frequencies with soft edges, of standard deviation 1."""
    count = len(seconds(duration_s))
    size = 1 << max(count - 1, 1).bit_length()
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    with_edges = 1 / (1 + (np.maximum(frequency, 1) / high) ** 8) / (1 + (low / np.maximum(frequency, 1)) ** 8)
    spectrum = rng.standard_normal(len(frequency)) + 1j * rng.standard_normal(len(frequency))
    shaped = np.fft.irfft(spectrum * with_edges, size)[:count]
    return np.asarray(shaped / max(float(shaped.std()), 1e-12))


def wander(rng: np.random.Generator, duration_s: float, rate: float) -> Wave:
    """Return a smooth random curve, about -1 to 1, that turns `rate` times per second."""
    knots = rng.uniform(-1, 1, size=max(int(duration_s * rate), 1) + 2)
    places = np.linspace(0, len(knots) - 1, len(seconds(duration_s)))
    low = np.minimum(places.astype(int), len(knots) - 2)
    ease = 0.5 - 0.5 * np.cos(np.pi * (places - low))
    curve: Wave = knots[low] * (1 - ease) + knots[low + 1] * ease
    return curve


def place(duration_s: float, events: Iterable[tuple[float, Wave]]) -> Wave:
    """Return the sum of sounds that start at given times; what reaches over the end is cut."""
    total = np.zeros(len(seconds(duration_s)))
    for start_s, sound in events:
        first = max(round(start_s * SAMPLE_RATE), 0)
        room = total[first : first + len(sound)]
        room += sound[: len(room)]
    return total


def beats(rng: np.random.Generator, duration_s: float, period_s: float, jitter: float = 0.1) -> list[float]:
    """Return the times of a rhythm, each beat off by up to `jitter` periods; the first falls into the first period."""
    offset = rng.uniform(0, 0.3) * period_s
    count = int((duration_s - offset) / period_s) + 1
    return [offset + period_s * (beat + jitter * rng.uniform(0, 1)) for beat in range(count)]


def hertz(semitone: float) -> float:
    """Return the frequency of a MIDI note number: 69 is 440 Hz."""
    return float(440 * 2 ** ((semitone - 69) / 12))
