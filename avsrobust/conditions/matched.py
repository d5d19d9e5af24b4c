"""Conditions `matched_noise` and `matched_offscreen`: negatives at the clip's own loudness, so that level gives nothing away.

Conventions
    The noise, or the sound of a source clip by the rule of `offscreen`, has the integrated loudness of the clip's own sound
    (ITU-R BS.1770, `avsrobust.audio.loudness`), both as mono and as long as the clip's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from avsrobust.audio.definitions import Match, Noise
from avsrobust.conditions.base import (
    SILENT,
    SPLIT,
    Choice,
    Chooser,
    Color,
    Condition,
    PlannedDataset,
    Pool,
    Request,
    Unavailable,
)
from avsrobust.conditions.offscreen import Draws, Lender, LendingCondition
from avsrobust.conditions.sounds import lent_sound, own_sound
from avsrobust.vocabulary import NEGATIVE


@dataclass(frozen=True)
class MatchedNoise(Condition):
    """Noise at the clip's own loudness."""

    name: ClassVar[str] = "matched_noise"
    polarity: ClassVar[str] = NEGATIVE

    color: Color = "white"

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""

        def choose(request: Request) -> Choice | Unavailable:
            clip = request.clip
            if clip.is_muted:
                return SILENT
            own = own_sound(clip)
            noise = Noise(color=self.color, seed=request.seed, sample_rate=own.sample_rate, num_samples=own.num_samples)
            return Choice(request.sound(Match(base=noise, reference=own)))

        return choose


@dataclass(frozen=True)
class MatchedOffscreen(LendingCondition):
    """An off-screen sound at the clip's own loudness."""

    name: ClassVar[str] = "matched_offscreen"
    polarity: ClassVar[str] = NEGATIVE

    draws: Draws = 1
    pool: Pool = SPLIT

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""
        lender = Lender(planned, self.pool)

        def choose(request: Request) -> Choice | Unavailable:
            clip = request.clip
            if clip.is_muted:
                return SILENT
            found = lender.lend(request)
            if isinstance(found, Unavailable):
                return found
            source, is_fallback = found
            definition = Match(base=lent_sound(clip, source), reference=own_sound(clip))
            return Choice(request.sound(definition), source, is_fallback)

        return choose
