"""Definitions of sounds: how a sound is made from recordings and seeds, as a value that fits into one cell of a manifest.

Conventions
    A definition is a tree of operations; `to_text` writes it as JSON and `parse_definition` reads it back, checked: it may come
    from a file that nobody vouches for. `render` makes the sound: mono, int16 [num_samples] at `sample_rate` Hz. The same
    definition and the same recordings give the same samples.
    Inside, samples are float64 [S], 1 is full scale. What would clip is scaled down as a whole (`avsrobust.audio.mixing`),
    except by `Gain`, which clips as a recorder does, and by `Match`, whose loudness would be another one if it were scaled;
    `Rendered` says by how much and how often. What fits into 16 bits stays as it is, to the sample.
    Silence has neither a level nor a loudness to set: a silent part of a mixture adds nothing, and silence stays silence.
    A definition is a tree of operations on sounds of one rate and length, whose samples together are within
    `limits.SOUND_BYTES`: checked before memory is taken.
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
from avsrobust.audio.resample import resample, to_mono
from avsrobust.errors import AudioError
from avsrobust.limits import SOUND_BYTES

# Returns the samples of a file, float64 [S, channels], and its rate in Hz. Arguments: its name (see the module's conventions),
# and how many seconds are needed at least, from its beginning.
ReadFile = Callable[[str, float], tuple[NDArray[np.float64], int]]
Samples = NDArray[np.float64]

_MOST_SAMPLES = 100_000_000
_LONGEST_S = 86_400.0
_HIGHEST_RATE = 1_000_000
_MOST_DB = 200.0
_MOST_SAID = 200
_WHITE, _GAUSSIAN, _PINK = "white", "gaussian", "pink"
_PER_DRAW = 4  # 16-bit samples in 64 bits
_BYTES_PER_SAMPLE = 2
# Clipping takes loudness away, which another gain gives back, until no more than this is missing.
_MOST_CORRECTIONS = 40
_LOUDNESS_TOLERANCE_DB = 0.01
_FIRST_CORRECTION_DB, _MOST_CORRECTION_DB = 1.0, 100.0

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
    """`base` at the loudness of `reference` (ITU-R BS.1770); its peaks are clipped where that is beyond full scale."""

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
        gain_db: Gain of the whole sound that keeps it within full scale: 0 or negative.
        num_clipped: Samples that were cut off at full scale.
        has_silent_part: A part is silent that a ratio, a level or a loudness was to be set for.
    """

    samples: NDArray[np.int16]
    gain_db: float
    num_clipped: int
    has_silent_part: bool = False


def to_text(definition: Definition) -> str:
    """Return a definition as JSON, one line; equal definitions give equal texts."""
    return definition.model_dump_json()


def parse_definition(text: str) -> Definition:
    """Return the definition that `to_text` wrote.

    Raises:
        AudioError: The text is no definition.
    """
    try:
        definition = _ADAPTER.validate_json(text, strict=True)
        leaves = list(_leaves(definition))
    except (ValidationError, RecursionError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "nested too deeply"}
        where = ".".join(str(part) for part in problem["loc"])[:_MOST_SAID]
        raise AudioError(
            f"found a definition of a sound that is none ({where}: {problem['msg']}); "
            "expected one that 'avsrobust build' wrote; build again"
        ) from error
    forms = {(leaf.sample_rate, leaf.num_samples) for leaf in leaves}
    if len(forms) > 1:
        found = ", ".join(f"{num_samples} at {rate} Hz" for rate, num_samples in sorted(forms))
        raise AudioError(f"found a definition that joins sounds of {found} samples; expected one rate and length")
    num_bytes = _BYTES_PER_SAMPLE * sum(leaf.num_samples for leaf in leaves)
    SOUND_BYTES.check(num_bytes, "a definition of a sound", AudioError)
    return definition


def _leaves(definition: Definition) -> Iterator[Recording | Zeros | Noise]:
    """Yield the sounds that a definition starts from."""
    match definition:
        case Recording() | Zeros() | Noise():
            yield definition
        case Mix():
            yield from _leaves(definition.base)
            yield from _leaves(definition.added)
        case Match():
            yield from _leaves(definition.base)
            yield from _leaves(definition.reference)
        case Level() | Gain() | Lowpass() | Shift() | Keep():
            yield from _leaves(definition.base)


def files_of(definition: Definition) -> Iterator[str]:
    """Yield the recordings that a definition needs, in its order."""
    yield from (leaf.file for leaf in _leaves(definition) if isinstance(leaf, Recording))


def rate_and_length(definition: Definition) -> tuple[int, int]:
    """Return sample rate in Hz and number of samples of a sound before it is made."""
    while not isinstance(definition, Recording | Zeros | Noise):
        definition = definition.base
    return definition.sample_rate, definition.num_samples


def render(definition: Definition, read: ReadFile) -> Rendered:
    """Make the sound.

    Args:
        definition: Definition of the sound.
        read: Reads the recordings it needs.

    Returns:
        Samples, and whether they had to be scaled down or clipped.

    Raises:
        AudioError: A recording cannot be read, or the samples become no numbers.
    """
    maker = _Maker(read)
    with np.errstate(over="ignore", invalid="ignore"):
        samples = maker.samples(definition)
    if not np.isfinite(samples).all():
        raise AudioError("found a definition of a sound whose samples become no numbers; expected finite ones")
    num_clipped = 0
    if isinstance(definition, Gain):
        samples, num_clipped = _clipped(samples)
    elif isinstance(definition, Match):
        samples, num_clipped = _clipped_to_loudness(samples, rate_and_length(definition)[0])
    if samples.min() >= -1 and samples.max() <= mixing.HIGHEST:
        # On the 16-bit grid's range already, the lowest value included: own samples stay what they are.
        return Rendered(mixing.to_pcm16(samples), 0.0, num_clipped, maker.has_silent_part)
    fitted = mixing.fit_peak(samples)
    return Rendered(mixing.to_pcm16(fitted.samples), fitted.gain_db, num_clipped, maker.has_silent_part)


def render_samples(definition: Definition, read: ReadFile) -> Samples:
    """Return the samples before they are fitted into full scale and rounded, float64 [S]; arguments and errors as `render`."""
    return _Maker(read).samples(definition)


def white_noise(seed: int, num_samples: int) -> NDArray[np.int16]:
    """Return white noise, int16 [num_samples], uniform over the full range: in [-1, 1) once divided by 32768.

    The samples are the raw bits of PCG64, whose stream numpy promises to keep, where it does not promise that of its
    distributions.
    """
    draws = np.random.PCG64(seed).random_raw(-(-num_samples // _PER_DRAW))
    return np.asarray(draws, dtype="<u8").view("<i2")[:num_samples].astype(np.int16)


class _Maker:
    """Makes the samples of definitions; remembers whether a part was silent whose level was to be set."""

    def __init__(self, read: ReadFile) -> None:
        self._read = read
        self.has_silent_part = False

    def samples(self, definition: Definition) -> Samples:
        """Return the samples, float64 [S]."""
        match definition:
            case Recording():
                return _recording(definition, self._read)
            case Zeros():
                return np.zeros(definition.num_samples)
            case Noise():
                return _noise(definition)
            case Mix():
                base, added = self.samples(definition.base), self.samples(definition.added)
                if self._is_silent(base) | self._is_silent(added):
                    return base + added
                return base + _raised(added, mixing.power_db(base) - mixing.power_db(added) - definition.ratio_db)
            case Level():
                samples = self.samples(definition.base)
                if self._is_silent(samples):
                    return samples
                return _raised(samples, definition.rms_db - mixing.power_db(samples))
            case Match():
                return self._matched(definition)
            case Gain():
                return _raised(self.samples(definition.base), definition.gain_db)
            case Lowpass():
                rate, _ = rate_and_length(definition)
                return signals.lowpass(self.samples(definition.base), rate, definition.cutoff_hz)
            case Shift():
                rate, _ = rate_and_length(definition)
                return np.roll(self.samples(definition.base), round(definition.by_s * rate))
            case Keep():
                rate, _ = rate_and_length(definition)
                samples = self.samples(definition.base).copy()
                samples[: max(0, round(definition.from_s * rate))] = 0
                samples[max(0, round(definition.to_s * rate)) :] = 0
                return samples

    def _is_silent(self, samples: Samples) -> bool:
        silent = not np.isfinite(mixing.power_db(samples))
        self.has_silent_part |= silent
        return silent

    def _matched(self, definition: Match) -> Samples:
        rate, _ = rate_and_length(definition)
        samples, reference = self.samples(definition.base), self.samples(definition.reference)
        target = loudness.integrated_loudness(reference, rate)
        if self._is_silent(samples) or not np.isfinite(target):
            self.has_silent_part = True
            return np.zeros_like(samples)
        return _raised(samples, loudness.gain_to_loudness(samples, rate, target))


def _raised(samples: Samples, gain_db: float) -> Samples:
    return np.asarray(samples * 10 ** (gain_db / 20), dtype=np.float64)


def _clipped(samples: Samples) -> tuple[Samples, int]:
    """Return samples cut off at full scale, and how many were."""
    return np.clip(samples, -mixing.HIGHEST, mixing.HIGHEST), int((np.abs(samples) > mixing.HIGHEST).sum())


def _clipped_to_loudness(samples: Samples, sample_rate: int) -> tuple[Samples, int]:
    """Return samples cut off at full scale that are as loud as before, and how many were cut off."""
    clipped, num_clipped = _clipped(samples)
    if num_clipped == 0:
        return samples, 0
    target = loudness.integrated_loudness(samples, sample_rate)
    low_db, high_db = 0.0, _FIRST_CORRECTION_DB
    for _ in range(_MOST_CORRECTIONS):
        gain_db = (low_db + high_db) / 2
        clipped, num_clipped = _clipped(_raised(samples, gain_db))
        missing_db = target - loudness.integrated_loudness(clipped, sample_rate)
        if abs(missing_db) <= _LOUDNESS_TOLERANCE_DB:
            break
        if missing_db < 0:
            high_db = gain_db
        else:
            # The upper end is a guess until something was too loud.
            is_bracketed = high_db - gain_db > 2 * missing_db
            low_db, high_db = gain_db, high_db if is_bracketed else min(gain_db + 4 * missing_db, _MOST_CORRECTION_DB)
    return clipped, num_clipped


def _recording(definition: Recording, read: ReadFile) -> Samples:
    seconds = definition.start_s + definition.num_samples / definition.sample_rate
    samples, rate = read(definition.file, seconds)
    mono = to_mono(samples)[round(definition.start_s * rate) :]
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
