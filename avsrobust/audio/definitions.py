"""Definitions of sounds: how a sound is made from recordings and seeds, as a value that fits into one cell of a manifest.

Conventions
    A definition is a tree of operations; `to_text` writes it as JSON and `parse_definition` reads it back, checked: it may come
    from a file that nobody vouches for. `render` makes the sound: mono, int16 [num_samples] at `sample_rate` Hz. The same
    definition and the same recordings give the same samples.
    Inside, samples are float64 [S], 1 is full scale. What would clip is scaled down as a whole (`avsrobust.audio.mixing`),
    except by `Gain`, which clips as a recorder does; `Rendered` says by how much and how often.
    Files are named as in a manifest: ``data:REL`` below the data root, otherwise below the build's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from avsrobust.audio import loudness, mixing, signals
from avsrobust.audio.io import FULL_SCALE
from avsrobust.audio.resample import resample
from avsrobust.errors import AudioError

# Returns the samples of a file, float64 [S, channels], and its rate in Hz. Arguments: its name (see the module's conventions),
# and how many seconds are needed at least, from its beginning.
ReadFile = Callable[[str, float], tuple[NDArray[np.float64], int]]
Samples = NDArray[np.float64]

_MOST_SAMPLES = 100_000_000
_LONGEST_S = 86_400.0
_HIGHEST_RATE = 1_000_000
_MOST_DB = 200.0
_WHITE, _GAUSSIAN, _PINK = "white", "gaussian", "pink"
_PER_DRAW = 4  # 16-bit samples in 64 bits

Rate = Annotated[int, Field(ge=1, le=_HIGHEST_RATE)]
Length = Annotated[int, Field(ge=1, le=_MOST_SAMPLES)]
Decibel = Annotated[float, Field(ge=-_MOST_DB, le=_MOST_DB, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=-_LONGEST_S, le=_LONGEST_S, allow_inf_nan=False)]


class _Operation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Recording(_Operation):
    """A recording from `start_s` on: the channels' mean, resampled, repeated from its beginning where it is too short."""

    op: Literal["recording"] = "recording"
    file: Annotated[str, Field(min_length=1, max_length=1024)]
    sample_rate: Rate
    num_samples: Length
    start_s: Annotated[float, Field(ge=0, le=_LONGEST_S, allow_inf_nan=False)] = 0.0


class Zeros(_Operation):
    """Silence."""

    op: Literal["zeros"] = "zeros"
    sample_rate: Rate
    num_samples: Length


class Noise(_Operation):
    """Noise from a seed.

    "white": uniform over full scale on the 16-bit grid, rms -4.8 dB (`white_noise`). "gaussian" and "pink": rms 1, that is 0 dB,
    to be scaled by what they are part of (`avsrobust.audio.signals`).
    """

    op: Literal["noise"] = "noise"
    color: Literal["white", "gaussian", "pink"]
    seed: Annotated[int, Field(ge=0, lt=2**64)]
    sample_rate: Rate
    num_samples: Length


class Mix(_Operation):
    """`base` plus `added`, whose power is `ratio_db` below that of `base`."""

    op: Literal["mix"] = "mix"
    base: Definition
    added: Definition
    ratio_db: Decibel


class Level(_Operation):
    """`base` at an rms of `rms_db` relative to full scale."""

    op: Literal["level"] = "level"
    base: Definition
    rms_db: Decibel


class Match(_Operation):
    """`base` at the loudness of `reference` (ITU-R BS.1770)."""

    op: Literal["match"] = "match"
    base: Definition
    reference: Definition


class Gain(_Operation):
    """`base`, `gain_db` louder; beyond full scale it is clipped."""

    op: Literal["gain"] = "gain"
    base: Definition
    gain_db: Decibel


class Lowpass(_Operation):
    """`base` without what lies above `cutoff_hz`."""

    op: Literal["lowpass"] = "lowpass"
    base: Definition
    cutoff_hz: Annotated[float, Field(gt=0, le=_HIGHEST_RATE, allow_inf_nan=False)]


class Shift(_Operation):
    """`base`, `by_s` later, its end moved to its beginning; earlier where `by_s` is negative."""

    op: Literal["shift"] = "shift"
    base: Definition
    by_s: Seconds


class Keep(_Operation):
    """`base` from `from_s` to `to_s`, silence elsewhere."""

    op: Literal["keep"] = "keep"
    base: Definition
    from_s: Seconds
    to_s: Seconds


Definition = Annotated[
    Recording | Zeros | Noise | Mix | Level | Match | Gain | Lowpass | Shift | Keep, Field(discriminator="op")
]
for _operation in (Mix, Level, Match, Gain, Lowpass, Shift, Keep):
    _operation.model_rebuild()
_ADAPTER: TypeAdapter[Definition] = TypeAdapter(Definition)


@dataclass(frozen=True, eq=False)
class Rendered:
    """A sound that was made.

    Attributes:
        samples: int16 [S], mono.
        gain_db: What it was scaled by as a whole to stay within full scale: 0 or negative.
        num_clipped: Samples that were cut off at full scale.
    """

    samples: NDArray[np.int16]
    gain_db: float
    num_clipped: int


def to_text(definition: Definition) -> str:
    """Return a definition as JSON, one line; equal definitions give equal texts."""
    return definition.model_dump_json()


def parse_definition(text: str) -> Definition:
    """Return the definition that `to_text` wrote.

    Raises:
        AudioError: The text is no definition.
    """
    try:
        return _ADAPTER.validate_json(text, strict=True)
    except (ValidationError, RecursionError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "nested too deeply"}
        where = ".".join(str(part) for part in problem["loc"])
        raise AudioError(
            f"found a definition of a sound that is none ({where}: {problem['msg']}); "
            "expected one that 'avsrobust build' wrote; build again"
        ) from error


def files_of(definition: Definition) -> Iterator[str]:
    """Yield the recordings that a definition needs, in its order."""
    match definition:
        case Recording():
            yield definition.file
        case Mix():
            yield from files_of(definition.base)
            yield from files_of(definition.added)
        case Match():
            yield from files_of(definition.base)
            yield from files_of(definition.reference)
        case Level() | Gain() | Lowpass() | Shift() | Keep():
            yield from files_of(definition.base)


def rate_and_length(definition: Definition) -> tuple[int, int]:
    """Return sample rate in Hz and number of samples of a sound before it is made."""
    while not isinstance(definition, Recording | Zeros | Noise):
        definition = definition.base
    return definition.sample_rate, definition.num_samples


def render(definition: Definition, read: ReadFile) -> Rendered:
    """Make the sound.

    Args:
        definition: What to make.
        read: Reads the recordings it needs.

    Returns:
        Samples, and whether they had to be scaled down or clipped.

    Raises:
        AudioError: A recording cannot be read, or is silent where a ratio or a loudness is asked for.
    """
    samples = _samples(definition, read)
    num_clipped = 0
    if isinstance(definition, Gain):
        num_clipped = int((np.abs(samples) > mixing.HIGHEST).sum())
        samples = np.clip(samples, -mixing.HIGHEST, mixing.HIGHEST)
    if isinstance(definition, Noise) and definition.color == _WHITE:
        # On the grid already, the lowest value included.
        return Rendered(mixing.to_pcm16(samples), 0.0, 0)
    fitted = mixing.fit_peak(samples)
    return Rendered(mixing.to_pcm16(fitted.samples), fitted.gain_db, num_clipped)


def render_samples(definition: Definition, read: ReadFile) -> Samples:
    """Return the samples before they are fitted into full scale and rounded, float64 [S]; arguments and errors as `render`."""
    return _samples(definition, read)


def white_noise(seed: int, num_samples: int) -> NDArray[np.int16]:
    """Return white noise, int16 [num_samples], uniform over the full range: in [-1, 1) once divided by 32768.

    The samples are the raw bits of PCG64, whose stream numpy promises to keep, where it does not promise that of its
    distributions.
    """
    draws = np.random.PCG64(seed).random_raw(-(-num_samples // _PER_DRAW))
    return np.asarray(draws, dtype="<u8").view("<i2")[:num_samples].astype(np.int16)


def _samples(definition: Definition, read: ReadFile) -> Samples:
    match definition:
        case Recording():
            return _recording(definition, read)
        case Zeros():
            return np.zeros(definition.num_samples)
        case Noise():
            return _noise(definition)
        case Mix():
            base, added = _samples(definition.base, read), _samples(definition.added, read)
            gain_db = mixing.power_db(base) - mixing.power_db(added) - definition.ratio_db
            if not np.isfinite(gain_db):
                raise AudioError("found a sound that is silent; expected two sounds to mix at a ratio")
            return base + added * 10 ** (gain_db / 20)
        case Level():
            samples = _samples(definition.base, read)
            return samples * 10 ** ((definition.rms_db - mixing.power_db(samples)) / 20)
        case Match():
            return _matched(_samples(definition.base, read), _samples(definition.reference, read), definition)
        case Gain():
            samples = _samples(definition.base, read)
            return samples * 10 ** (definition.gain_db / 20)
        case Lowpass():
            rate, _ = rate_and_length(definition)
            return signals.lowpass(_samples(definition.base, read), rate, definition.cutoff_hz)
        case Shift():
            rate, _ = rate_and_length(definition)
            return np.roll(_samples(definition.base, read), round(definition.by_s * rate))
        case Keep():
            rate, _ = rate_and_length(definition)
            samples = _samples(definition.base, read).copy()
            samples[: max(0, round(definition.from_s * rate))] = 0
            samples[max(0, round(definition.to_s * rate)) :] = 0
            return samples


def _recording(definition: Recording, read: ReadFile) -> Samples:
    seconds = definition.start_s + definition.num_samples / definition.sample_rate
    samples, rate = read(definition.file, seconds)
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    mono = mono[round(definition.start_s * rate) :]
    if rate != definition.sample_rate:
        mono = resample(mono, rate, definition.sample_rate)
    if mono.size == 0:
        raise AudioError(f"{definition.file}: found no samples from {definition.start_s:g} s on; expected a recording")
    return (
        mono[: definition.num_samples]
        if mono.size >= definition.num_samples
        else np.resize(mono, definition.num_samples)
    )


def _noise(definition: Noise) -> Samples:
    if definition.color == _WHITE:
        return white_noise(definition.seed, definition.num_samples) / FULL_SCALE
    generator = np.random.Generator(np.random.PCG64(definition.seed))
    if definition.color == _GAUSSIAN:
        return signals.gaussian_noise(definition.num_samples, generator)
    return signals.pink_noise(definition.num_samples, definition.sample_rate, generator)


def _matched(samples: Samples, reference: Samples, definition: Match) -> Samples:
    rate, _ = rate_and_length(definition)
    target = loudness.integrated_loudness(reference, rate_and_length(definition.reference)[0])
    gain_db = loudness.gain_to_loudness(samples, rate, target)
    return samples * (10 ** (gain_db / 20) if np.isfinite(gain_db) else 0.0)
