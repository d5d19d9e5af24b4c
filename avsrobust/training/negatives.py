"""Negatives in training: sounds that belong to nothing in the picture, with the empty mask as the answer.

Conventions
    A clip's negative sounds are silence and noise from its own rows of the build, and off-screen ones from any other clip
    of the split and data set that shares no broad kind with it; where there is none, that shares no category. A clip without
    labels whose build gave it an off-screen sound has nothing on screen that sounds, so any clip with labels will do. Clips
    without labels and muted ones are no source clips, as in `avsrobust.conditions.offscreen`.
    An off-screen partner is drawn anew each time, where an evaluation has one per clip. Source: AVSBench-Robust, which mixes
    misaligned and silent pairs into training (training_evaluation/.../dataloader/s4_dataset.py `S4Dataset_ood_silence`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from avsrobust.errors import OptionError
from avsrobust.evaluation.samples import ClipRows
from avsrobust.manifest import Row
from avsrobust.training.recipe import NegativesPart
from avsrobust.vocabulary import CLEAN, NEGATIVE

OFFSCREEN = "offscreen"


@dataclass(frozen=True)
class Negatives:
    """Where the negative sounds of each clip come from; `partners[i]` are the clips whose sound is off-screen for clip i.

    `own[i]` holds clip i's silence and noise.
    """

    part: NegativesPart
    clean: tuple[Row, ...]
    own: tuple[dict[str, Row], ...]
    partners: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls, clips: Sequence[ClipRows], part: NegativesPart, muted: Collection[tuple[str, str]] = frozenset()
    ) -> Negatives:
        """Return the negatives of `clips` of one or more builds; `muted` are (data set, clip_id) of muted clips.

        Raises `OptionError` where a build lacks a kind.
        """
        clean = tuple(_clean_row(clip) for clip in clips)
        own = tuple({row.condition: row for row in clip if row.polarity == NEGATIVE} for clip in clips)
        partners: tuple[tuple[int, ...], ...] = tuple(() for _ in clips)
        if part.any and OFFSCREEN in part.kinds:
            sources = [
                (index, row)
                for index, row in enumerate(clean)
                if row.labels and (row.dataset, row.clip_id) not in muted
            ]
            partners = _partners(clean, [OFFSCREEN in rows for rows in own], sources)
        for kind in part.kinds if part.any else ():
            if not any(partners if kind == OFFSCREEN else [kind in rows for rows in own]):
                raise OptionError(
                    f"negatives: found no {kind} sound in the builds; expected builds with that condition; "
                    "build with the recipe 'standard', or leave it out of negatives.kinds"
                )
        return cls(part, clean, own, partners)

    def draw(self, clip: int, generator: np.random.Generator) -> Row:
        """Return the row whose sound the clip has this time: its own clean one, or a negative."""
        if self.part.share == 0 or generator.random() >= self.part.share:
            return self.clean[clip]
        return self.draw_negative(clip, generator)

    def draw_negative(self, clip: int, generator: np.random.Generator) -> Row:
        """Return the row of a negative sound for the clip; its clean one where there is none."""
        there = [kind for kind in self.part.kinds if self._has(clip, kind)]
        if not there:
            return self.clean[clip]
        kind = there[int(generator.integers(len(there)))]
        if kind != OFFSCREEN:
            return self.own[clip][kind]
        return self.clean[self.partners[clip][int(generator.integers(len(self.partners[clip])))]]

    def _has(self, clip: int, kind: str) -> bool:
        return bool(self.partners[clip]) if kind == OFFSCREEN else kind in self.own[clip]


def _clean_row(clip: ClipRows) -> Row:
    row = clip[0]
    if row.condition != CLEAN:
        raise OptionError(
            f"{row.dataset}/{row.split}/{row.clip_id}: has no clean sound in the build; expected the condition 'clean'; "
            "build with a recipe that has it"
        )
    return row


Sources = Sequence[tuple[int, Row]]


def _partners(clean: Sequence[Row], off_screen: Sequence[bool], sources: Sources) -> tuple[tuple[int, ...], ...]:
    """Return the partners of each clip among `sources`; `off_screen`: whether its build gave it an off-screen sound."""
    found: dict[tuple[object, ...], tuple[int, ...]] = {}
    partners = []
    for row, given in zip(clean, off_screen, strict=True):
        key = (row.dataset, row.num_frames, row.broad, row.labels, given)
        if key not in found:
            found[key] = _fitting(row, given, sources)
        partners.append(found[key])
    return tuple(partners)


def _fitting(row: Row, off_screen: bool, sources: Sources) -> tuple[int, ...]:
    """Return the clips whose sound is off-screen for `row`; as long, so that each second has its sound."""
    others = [
        (index, other)
        for index, other in sources
        if other.dataset == row.dataset and other.num_frames == row.num_frames
    ]
    kinds, labels = set(row.broad), set(row.labels)
    if not kinds or not labels:
        return tuple(index for index, _ in others) if off_screen else ()
    strict = tuple(index for index, other in others if other.broad and kinds.isdisjoint(other.broad))
    return strict or tuple(index for index, other in others if labels.isdisjoint(other.labels))
