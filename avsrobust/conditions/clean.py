"""Condition `clean`: the clip's own sound. Positive: the picture's objects do sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from avsrobust.conditions.base import Chooser, Condition, PlannedDataset, SoundOfClip
from avsrobust.conditions.sounds import sound_of
from avsrobust.vocabulary import POSITIVE


@dataclass(frozen=True)
class Clean(Condition):
    """The clip's own sound."""

    name: ClassVar[str] = "clean"
    polarity: ClassVar[str] = POSITIVE

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""
        return SoundOfClip(lambda clip, seed: sound_of(clip))
