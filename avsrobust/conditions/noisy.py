"""Condition `noisy`: the clip's own sound in noise. Positive: the mask stays.

Conventions
    A level is the signal-to-noise ratio in dB: the power of the clip's own sound over that of the noise, over the whole clip.
    The noise is the same at every level of a clip, but for its strength; `color` is white (uniform samples), gaussian or pink.
    Source of the levels: AVRobustBench's grid, 40 to 0 dB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from avsrobust.audio.definitions import Mix, Noise
from avsrobust.conditions.base import (
    SILENT,
    Choice,
    Chooser,
    Color,
    Condition,
    Decibels,
    PlannedDataset,
    Request,
    Unavailable,
)
from avsrobust.conditions.sounds import own_sound
from avsrobust.vocabulary import POSITIVE


@dataclass(frozen=True)
class Noisy(Condition):
    """Own sound plus noise."""

    name: ClassVar[str] = "noisy"
    polarity: ClassVar[str] = POSITIVE
    level_unit: ClassVar[str | None] = "dB"

    color: Color = "white"
    levels: Decibels = (40.0, 30.0, 20.0, 15.0, 10.0, 5.0, 0.0)

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""

        def choose(request: Request) -> Choice | Unavailable:
            clip, level = request.clip, request.level or 0.0
            if clip.is_muted:
                return SILENT
            own = own_sound(clip)
            noise = Noise(
                color=self.color, seed=request.clip_seed, sample_rate=own.sample_rate, num_samples=own.num_samples
            )
            definition = Mix(base=own, added=noise, ratio_db=level)
            return Choice(request.sound(definition))

        return choose
