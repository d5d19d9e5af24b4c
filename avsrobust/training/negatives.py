"""Negatives in training: audio that belongs to nothing in the picture, with the empty mask as the target.

Conventions
    A clip's negatives are silence and noise from its own rows of the build, and off-screen audio: the clean audio of any other
    clip (its source clip) of the split and data set that shares no supercategory with it; where there is none, of one that
    shares no category. A clip without labels whose build gave it off-screen audio has no sounding object on screen, so any clip
    with labels will do. Clips without labels and muted ones are no source clips, as in `avsrobust.conditions.offscreen`.
    A source clip is drawn anew in each epoch, where an evaluation has one per clip. Source: AVSBench-Robust, which mixes
    misaligned and silent pairs into training (training_evaluation/.../dataloader/s4_dataset.py `S4Dataset_ood_silence`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from avsrobust.errors import OptionError
from avsrobust.evaluation.clip_data import ClipRows
from avsrobust.manifest import Row
from avsrobust.training.recipe import NegativesPart
from avsrobust.vocabulary import CLEAN, NEGATIVE

_OFFSCREEN = "offscreen"
# Clips by their number, with their clean rows.
_NumberedRows = Sequence[tuple[int, Row]]


@dataclass(frozen=True)
class Negatives:
    """The negative audio of each clip; clips are named by their number.

    Attributes:
        part: The recipe's choices.
        clean: Each clip's clean row.
        own: Each clip's negative rows by condition.
        source_clips: Each clip's source clips: those whose clean audio is off-screen audio for it.
    """

    part: NegativesPart
    clean: tuple[Row, ...]
    own: tuple[dict[str, Row], ...]
    source_clips: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls, clips: Sequence[ClipRows], part: NegativesPart, muted: Collection[tuple[str, str]] = frozenset()
    ) -> Negatives:
        """Return the negatives of the clips of one or more builds.

        Args:
            clips: The clips, each with its rows under all conditions, clean first.
            part: The recipe's choices.
            muted: (data set, clip_id) of the muted clips.

        Raises:
            OptionError: A clip has no clean row, or no clip has negatives of a kind that `part` names.
        """
        clean = tuple(_clean_row(clip) for clip in clips)
        own = tuple({row.condition: row for row in clip if row.polarity == NEGATIVE} for clip in clips)
        source_clips: tuple[tuple[int, ...], ...] = tuple(() for _ in clips)
        if part.any and _OFFSCREEN in part.kinds:
            candidates = [
                (number, row)
                for number, row in enumerate(clean)
                if row.labels and (row.dataset, row.clip_id) not in muted
            ]
            source_clips = _source_clips(clean, [_OFFSCREEN in rows for rows in own], candidates)
        for kind in part.kinds if part.any else ():
            if not any(source_clips if kind == _OFFSCREEN else [kind in rows for rows in own]):
                raise OptionError(
                    f"negatives: found no {kind} sound in the builds; expected builds with that condition; "
                    "build with the recipe 'standard', or leave it out of negatives.kinds"
                )
        return cls(part, clean, own, source_clips)

    def draw(self, clip: int, generator: np.random.Generator) -> Row:
        """Return the row whose audio a clip has in this epoch: its own clean row, or a negative one."""
        if self.part.share == 0 or generator.random() >= self.part.share:
            return self.clean[clip]
        return self.draw_negative(clip, generator)

    def draw_negative(self, clip: int, generator: np.random.Generator) -> Row:
        """Return the row of negative audio for a clip; its clean row where it has no negative."""
        available = [kind for kind in self.part.kinds if self._has(clip, kind)]
        if not available:
            return self.clean[clip]
        kind = available[int(generator.integers(len(available)))]
        if kind != _OFFSCREEN:
            return self.own[clip][kind]
        return self.clean[self.source_clips[clip][int(generator.integers(len(self.source_clips[clip])))]]

    def _has(self, clip: int, kind: str) -> bool:
        return bool(self.source_clips[clip]) if kind == _OFFSCREEN else kind in self.own[clip]


def _clean_row(clip: ClipRows) -> Row:
    row = clip[0]
    if row.condition != CLEAN:
        raise OptionError(
            f"{row.dataset}/{row.split}/{row.clip_id}: has no clean sound in the build; expected the condition 'clean'; "
            "build with a recipe that has it"
        )
    return row


def _source_clips(
    clean: Sequence[Row], off_screen: Sequence[bool], candidates: _NumberedRows
) -> tuple[tuple[int, ...], ...]:
    """Return each clip's source clips; `off_screen`: whether its build gave it off-screen audio."""
    found: dict[tuple[object, ...], tuple[int, ...]] = {}
    source_clips = []
    for row, given in zip(clean, off_screen, strict=True):
        key = (row.dataset, row.num_frames, row.broad, row.labels, given)
        if key not in found:
            found[key] = _fitting(row, given, candidates)
        source_clips.append(found[key])
    return tuple(source_clips)


def _fitting(row: Row, off_screen: bool, candidates: _NumberedRows) -> tuple[int, ...]:
    """Return the source clips of `row`: as long as it, so that each of its seconds has audio."""
    others = [
        (number, other)
        for number, other in candidates
        if other.dataset == row.dataset and other.num_frames == row.num_frames
    ]
    supercategories, labels = set(row.broad), set(row.labels)
    if not supercategories or not labels:
        return tuple(number for number, _ in others) if off_screen else ()
    strict = tuple(number for number, other in others if other.broad and supercategories.isdisjoint(other.broad))
    return strict or tuple(number for number, other in others if labels.isdisjoint(other.labels))
