"""Condition `silence`: zeros. Negative.

Conventions
    `standard`: as many zeros as the clip has samples, at the clip's rate; one file per (rate, length) for the whole build.
    `released`: one file of 5 s at 11025 Hz for all, as the released generator makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.definitions import ReadFile, Zeros
from avsrobust.conditions import reference
from avsrobust.conditions.base import RELEASED, STANDARD, Chooser, Condition, Generator, PlannedDataset, SoundOfClip
from avsrobust.conditions.sounds import SHARED, MadeSound
from avsrobust.vocabulary import NEGATIVE


@dataclass(frozen=True, slots=True)
class SilentSound(MadeSound):
    """Zeros."""

    @property
    def definition(self) -> Zeros:
        """Definition of the sound."""
        return Zeros(sample_rate=self.sample_rate, num_samples=self.num_samples)

    def samples(self, read: ReadFile) -> NDArray[np.int16]:
        """Return int16 [num_samples] of zeros."""
        return np.zeros(self.num_samples, dtype=np.int16)


@dataclass(frozen=True)
class Silence(Condition):
    """Zeros instead of the clip's sound."""

    name: ClassVar[str] = "silence"
    polarity: ClassVar[str] = NEGATIVE

    generator: Generator = STANDARD

    @property
    def notes(self) -> tuple[str, ...]:
        """A remark on the released silence."""
        if self.generator == STANDARD:
            return ()
        return ("silence: as the released AVSBench-Robust generator makes it, 5 s at 11025 Hz for every clip",)

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""
        if self.generator == RELEASED:
            samples, rate = reference.silence()
            return SoundOfClip(lambda clip, seed: _silent(rate, len(samples)))
        return SoundOfClip(lambda clip, seed: _silent(clip.sound.sample_rate, clip.sound.num_samples))


@lru_cache
def _silent(sample_rate: int, num_samples: int) -> SilentSound:
    return SilentSound(f"audio/silence/{sample_rate}Hz-{num_samples}.wav", SHARED, sample_rate, num_samples)
