"""Condition `same_kind`: an off-screen sound of the same supercategory, but another category: a hard negative.

Conventions
    The source clip is one of the same data set (and of the same split unless `pool` says otherwise) that shares a
    supercategory with the clip and no category: another instrument for an instrument, another animal for an animal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from avsrobust.conditions.base import (
    SPLIT,
    Choice,
    Chooser,
    PlannedDataset,
    Pool,
    Request,
    Unavailable,
)
from avsrobust.conditions.offscreen import Draws, Lender, LendingCondition
from avsrobust.conditions.sounds import sound_of
from avsrobust.vocabulary import NEGATIVE


@dataclass(frozen=True)
class SameKind(LendingCondition):
    """The sound of another clip of the same supercategory."""

    name: ClassVar[str] = "same_kind"
    polarity: ClassVar[str] = NEGATIVE

    draws: Draws = 1
    pool: Pool = SPLIT

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""
        lender = Lender(planned, self.pool)

        def choose(request: Request) -> Choice | Unavailable:
            source = lender.lend_same_kind(request)
            return source if isinstance(source, Unavailable) else Choice(sound_of(source), source)

        return choose
