"""Conditions `distractor` and `distractor_swapped`: the clip side by side with clips that do not sound. Positive.

Conventions
    A level is the number of other clips: 1 (2x1) or 3 (2x2). Their sounds are off-screen for the clip by kind, or, where none
    is, of no category of it, and they have as many frames, with masks on the same ones. The row's picture is drawn once per clip
    and level: the order of the tiles too. Under `distractor` the clip itself sounds and the mask stays in its tile alone; under
    `distractor_swapped` the picture is the same and the first of the other clips sounds: IIoU asks both.
    `annotated` holds the masks of all tiles. Pictures: `avsrobust.conditions.pictures`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from avsrobust.clips import Clip
from avsrobust.conditions.base import Choice, Chooser, PlannedDataset, Request, Unavailable
from avsrobust.conditions.offscreen import Lender, LendingCondition
from avsrobust.conditions.pictures import ComposedFrame, ComposedMask, Grid, MadePicture, Picture, mask_tile
from avsrobust.conditions.seeds import row_seed
from avsrobust.conditions.sounds import sound_of
from avsrobust.vocabulary import POSITIVE

NAME, SWAPPED = "distractor", "distractor_swapped"
_Number = Annotated[
    float, Field(strict=True, json_schema_extra={"enum": [1, 3], "expected": "1 or 3, the number of other clips"})
]
Numbers = Annotated[tuple[_Number, ...], Field(min_length=1, max_length=2)]


@dataclass(frozen=True)
class Distractor(LendingCondition):
    """The clip sounds, others beside it do not."""

    name: ClassVar[str] = NAME
    polarity: ClassVar[str] = POSITIVE
    level_unit: ClassVar[str | None] = "clips"

    levels: Numbers = (1.0, 3.0)

    @property
    def conflict(self) -> str | None:
        """Return why these options cannot be, or None."""
        if set(self.levels) - {1.0, 3.0}:
            return f"levels: found {list(self.levels)}; expected 1 (2x1) or 3 (2x2), the number of other clips"
        return super().conflict

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""
        lender = Lender(planned, needs_masks=True)

        def choose(request: Request) -> Choice | Unavailable:
            clip, number = request.clip, int(request.level or 1)
            if clip.picture_size is None:
                return Unavailable("the size of its pictures is not known")
            if clip.is_muted:
                return Unavailable("its own recording is silent, so nothing in the picture would sound")
            # Both conditions draw the same picture, whatever they are called in the recipe.
            seeds = [row_seed(planned.seed, clip.dataset, clip.clip_id, NAME, float(number), n) for n in range(number)]
            others: list[Clip] = []
            is_fallback = False
            for count in range(1, number + 1):
                found = lender.lend(request, seeds[:count])
                if isinstance(found, Unavailable):
                    return Unavailable(f"{found.reason}: too few clips to put next to it")
                others.append(found[0])
                is_fallback |= found[1]
            sounding = others[0] if self.name == SWAPPED else clip
            picture = _picture(clip, clip.picture_size, others, sounding, seeds[0])
            source = sounding if sounding is not clip else None
            return Choice(sound_of(sounding), source, is_fallback, picture)

        return choose


@dataclass(frozen=True)
class DistractorSwapped(Distractor):
    """One of the others sounds, the clip does not."""

    name: ClassVar[str] = SWAPPED


def _picture(clip: Clip, size: tuple[int, int], others: list[Clip], sounding: Clip, seed: int) -> Picture:
    tiles = sorted((clip, *others), key=lambda tile: _rank(seed, tile.clip_id))
    grid = Grid.of(size, len(tiles))
    frames: list[str] = []
    masks: list[str | None] = []
    annotated: list[str | None] = []
    made: list[MadePicture] = []
    for frame in range(clip.num_frames):
        composed = ComposedFrame(grid, tuple(tile.frames[frame] for tile in tiles))
        frames.append(composed.named)
        made.append(composed)
        if clip.masks[frame] is None:
            masks.append(None)
            annotated.append(None)
            continue
        shown = ComposedMask(grid, tuple(mask_tile(tile, frame) if tile is sounding else None for tile in tiles))
        everything = ComposedMask(grid, tuple(mask_tile(tile, frame) for tile in tiles))
        masks.append(shown.named)
        annotated.append(everything.named)
        made += [shown, everything]
    names = tuple(tile.clip_id for tile in tiles)
    return Picture(tuple(frames), tuple(masks), tuple(made), tuple(annotated), names)


def _rank(seed: int, clip_id: str) -> bytes:
    return hashlib.sha256(f"{seed} {clip_id}".encode("utf-8", "backslashreplace")).digest()
