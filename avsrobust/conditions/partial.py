"""Condition `partial`: own sound in one half of the seconds, silence in the other. Positive, with empty targets in the silence.

Conventions
    Of T seconds, T // 2 are silent, at the beginning or at the end, as the row's seed decides. Frame t stands for second t; the
    masks of silent seconds are empty, those of the others stay (a frame without a mask has none here either).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from avsrobust.audio.definitions import Keep
from avsrobust.clips import Clip
from avsrobust.conditions.base import Choice, Chooser, Condition, PlannedDataset, Request, Unavailable
from avsrobust.conditions.pictures import EmptyMask, Picture
from avsrobust.conditions.sounds import own_sound
from avsrobust.vocabulary import POSITIVE


@dataclass(frozen=True)
class Partial(Condition):
    """Own sound in one half of the seconds."""

    name: ClassVar[str] = "partial"
    polarity: ClassVar[str] = POSITIVE

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""

        def choose(request: Request) -> Choice | Unavailable:
            clip = request.clip
            if clip.num_frames < 2:
                return Unavailable("it has one frame, so no half of it can be silent")
            if clip.picture_size is None:
                return Unavailable("the size of its pictures is not known")
            num_silent = clip.num_frames // 2
            starts_silent = request.seed % 2 == 0
            silent = range(num_silent) if starts_silent else range(clip.num_frames - num_silent, clip.num_frames)
            from_s, to_s = (num_silent, clip.num_frames) if starts_silent else (0, clip.num_frames - num_silent)
            definition = Keep(base=own_sound(clip), from_s=float(from_s), to_s=float(to_s))
            return Choice(request.sound(definition), picture=_picture(clip, clip.picture_size, silent))

        return choose


def _picture(clip: Clip, size: tuple[int, int], silent: range) -> Picture:
    empty = EmptyMask(*size)
    masks = tuple(
        empty.named if mask is not None and frame in silent else mask for frame, mask in enumerate(clip.masks)
    )
    return Picture(clip.frames, masks, (empty,), annotated=clip.masks)
