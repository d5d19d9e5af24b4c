"""Conditions `quiet` and `loud`: the clip's own sound at another level. Positive: the mask stays.

Conventions
    A level is the gain in dB. What gets beyond full scale is clipped, as a recorder does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from avsrobust.audio.definitions import Gain
from avsrobust.conditions.base import Choice, Chooser, Condition, Decibels, PlannedDataset, Request
from avsrobust.conditions.sounds import own_sound
from avsrobust.vocabulary import POSITIVE


@dataclass(frozen=True)
class Quiet(Condition):
    """Own sound, quieter."""

    name: ClassVar[str] = "quiet"
    polarity: ClassVar[str] = POSITIVE
    level_unit: ClassVar[str | None] = "dB"

    levels: Decibels = (-20.0, -10.0)

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""

        def choose(request: Request) -> Choice:
            level = request.level or 0.0
            definition = Gain(base=own_sound(request.clip), gain_db=level)
            return Choice(request.sound(definition))

        return choose


@dataclass(frozen=True)
class Loud(Quiet):
    """Own sound, louder."""

    name: ClassVar[str] = "loud"

    levels: Decibels = (10.0,)
