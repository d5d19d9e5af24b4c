"""Condition `noise`: white noise. Negative.

Conventions
    `standard`: samples uniform in [-1, 1) on the 16-bit grid, as long as the clip and at its rate, from the row's seed. They
    are the raw bits of PCG64, whose stream numpy promises to keep, where it does not promise that of its distributions.
    `released`: as the released generator makes it (`avsrobust.conditions.reference.noise`): 20 s at 44.1 kHz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.definitions import Noise as NoiseDefinition
from avsrobust.audio.definitions import ReadFile, white_noise
from avsrobust.clips import Clip
from avsrobust.conditions import reference
from avsrobust.conditions.base import (
    RELEASED,
    STANDARD,
    Choice,
    Chooser,
    Condition,
    Generator,
    PlannedDataset,
    Request,
    SoundOfClip,
    Unavailable,
)
from avsrobust.conditions.sounds import MadeSound
from avsrobust.vocabulary import NEGATIVE


@dataclass(frozen=True, slots=True)
class NoiseSound(MadeSound):
    """White noise from a seed."""

    seed: int

    @property
    def definition(self) -> NoiseDefinition:
        """Definition of the sound."""
        return NoiseDefinition(
            color="white", seed=self.seed, sample_rate=self.sample_rate, num_samples=self.num_samples
        )

    def samples(self, read: ReadFile) -> NDArray[np.int16]:
        """Return int16 [num_samples], uniform over -32768 .. 32767."""
        return white_noise(self.seed, self.num_samples)


@dataclass(frozen=True, slots=True)
class ReleasedNoiseSound(MadeSound):
    """The released generator's noise number `order`; `state` is filled in shortly before it is made."""

    seed: int
    order: int
    state: reference.NoiseState | None = None

    def samples(self, read: ReadFile) -> NDArray[np.int16]:
        """Return int16 [882000]."""
        if self.state is None:
            return with_states([self])[0].samples(read)
        return reference.noise(self.state)


@dataclass(frozen=True)
class Noise(Condition):
    """White noise instead of the clip's sound."""

    name: ClassVar[str] = "noise"
    polarity: ClassVar[str] = NEGATIVE

    generator: Generator = STANDARD

    @property
    def highest_seed(self) -> int | None:
        """Highest seed of the released generator."""
        return reference.HIGHEST_SEED if self.generator == RELEASED else None

    @property
    def needs_listing(self) -> bool:
        """The released draws depend on every sound on disk."""
        return self.generator == RELEASED

    @property
    def notes(self) -> tuple[str, ...]:
        """A remark on the released noise."""
        if self.generator == STANDARD:
            return ()
        return (
            "noise: as the released AVSBench-Robust generator makes it, the bytes of float64 values read as 16-bit samples: "
            "20 s at 44100 Hz for every clip, one sample in four nearly constant",
        )

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""
        if self.generator == RELEASED:
            return _released(planned)
        return SoundOfClip(_white)


def with_states(sounds: Sequence[ReleasedNoiseSound]) -> list[ReleasedNoiseSound]:
    """Give sounds of one seed the generator's states to start from, found in one pass over its sequence."""
    if not sounds:
        return []
    states = reference.noise_states(sounds[0].seed, [sound.order for sound in sounds])
    return [replace(sound, state=states[sound.order]) for sound in sounds]


def _white(clip: Clip, seed: int) -> NoiseSound:
    return NoiseSound(_path(clip), clip.split, clip.sound.sample_rate, clip.sound.num_samples, seed)


def _path(clip: Clip) -> str:
    return f"audio/noise/{clip.split}/{clip.clip_id}.wav"


def _released(planned: PlannedDataset) -> Chooser:
    listing = planned.listing or reference.listing_of(planned.clips)
    orders = reference.noise_order(listing)

    def choose(request: Request) -> Choice | Unavailable:
        clip = request.clip
        order = orders.get((clip.split, reference.sound_key(clip)))
        if order is None:
            return Unavailable("the released generator does not find this clip's sound where it looks for it")
        return Choice(
            ReleasedNoiseSound(
                _path(clip), clip.split, reference.NOISE_RATE, reference.NOISE_SAMPLES, planned.seed, order
            )
        )

    return choose
