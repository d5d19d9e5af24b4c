"""Condition `shifted`: the clip's own sound, moved in time. Positive: the mask stays.

Conventions
    A level is the shift in seconds; the row's seed decides whether the sound comes later or earlier. What leaves the clip at one
    end comes in at the other, so that no silence is added. A clip whose sound is no longer than the shift has no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from avsrobust.audio.definitions import Shift
from avsrobust.conditions.base import (
    Choice,
    Chooser,
    Condition,
    PlannedDataset,
    PositiveLevels,
    Request,
    Unavailable,
)
from avsrobust.conditions.sounds import own_sound
from avsrobust.vocabulary import POSITIVE


@dataclass(frozen=True)
class Shifted(Condition):
    """Own sound, later or earlier."""

    name: ClassVar[str] = "shifted"
    polarity: ClassVar[str] = POSITIVE
    level_unit: ClassVar[str | None] = "s"

    levels: PositiveLevels = (1.0, 2.0)

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""

        def choose(request: Request) -> Choice | Unavailable:
            level = request.level or 0.0
            if level >= request.clip.sound.duration_s:
                return Unavailable(f"its sound is no longer than the shift of {level:g} s")
            by_s = level if request.seed % 2 else -level
            definition = Shift(base=own_sound(request.clip), by_s=by_s)
            return Choice(request.sound(definition))

        return choose
