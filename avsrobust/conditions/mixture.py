"""Condition `mixture`: the clip's own sound and an off-screen one together. Positive: the mask stays.

Conventions
    A level is the power of the clip's own sound over that of the other, in dB, over the whole clip: at 6 the own sound is
    stronger, at -6 weaker. The other sound is that of a source clip by the rule of `offscreen`, the same at every level of a
    clip; where it is shorter it is repeated. Source: CONTRACT.md section 8 (-6, -3, 0, 3, 6 dB).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from avsrobust.audio.definitions import Mix
from avsrobust.conditions.base import (
    SILENT,
    SPLIT,
    Choice,
    Chooser,
    Decibels,
    PlannedDataset,
    Pool,
    Request,
    Unavailable,
)
from avsrobust.conditions.offscreen import Lender, LendingCondition
from avsrobust.conditions.sounds import lent_sound, own_sound
from avsrobust.vocabulary import POSITIVE


@dataclass(frozen=True)
class Mixture(LendingCondition):
    """Own sound plus an off-screen one."""

    name: ClassVar[str] = "mixture"
    polarity: ClassVar[str] = POSITIVE
    level_unit: ClassVar[str | None] = "dB"

    levels: Decibels = (-6.0, -3.0, 0.0, 3.0, 6.0)
    pool: Pool = SPLIT

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""
        lender = Lender(planned, self.pool)

        def choose(request: Request) -> Choice | Unavailable:
            clip, level = request.clip, request.level or 0.0
            if clip.is_muted:
                return SILENT
            found = lender.lend(request, [request.clip_seed])
            if isinstance(found, Unavailable):
                return found
            source, is_fallback = found
            definition = Mix(base=own_sound(clip), added=lent_sound(clip, source), ratio_db=level)
            return Choice(request.sound(definition), source, is_fallback)

        return choose
