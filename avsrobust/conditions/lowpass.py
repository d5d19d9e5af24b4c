"""Condition `lowpass`: the clip's own sound without its high frequencies. Positive: the mask stays.

Conventions
    A level is the cut-off frequency in Hz, where the gain is -6 dB (`avsrobust.audio.signals.lowpass`). Where it is half the
    sound's rate or more there is nothing to remove. Source of the levels: AVRobustBench's grid, 8 to 1 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from avsrobust.audio.definitions import Lowpass as LowpassDefinition
from avsrobust.conditions.base import Choice, Chooser, Condition, PlannedDataset, PositiveLevels, Request
from avsrobust.conditions.sounds import own_sound
from avsrobust.vocabulary import POSITIVE


@dataclass(frozen=True)
class Lowpass(Condition):
    """Own sound, low-pass filtered."""

    name: ClassVar[str] = "lowpass"
    polarity: ClassVar[str] = POSITIVE
    level_unit: ClassVar[str | None] = "Hz"

    levels: PositiveLevels = (8000.0, 6000.0, 4000.0, 2000.0, 1000.0)

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""

        def choose(request: Request) -> Choice:
            level = request.level or 0.0
            definition = LowpassDefinition(base=own_sound(request.clip), cutoff_hz=level)
            return Choice(request.sound(definition))

        return choose
