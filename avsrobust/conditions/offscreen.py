"""Condition `offscreen`: the sound of something that is not in the picture. Negative.

Conventions
    `standard`: the source clip is off-screen by kind (`avsrobust.conditions.source_clips`), drawn by the row's seed. Where no
    clip is: one that shares no category. A clip in which nothing on screen sounds (`Clip.has_no_label`) draws from all clips with
    labels, each alike. `pool`: source clips come from the clip's split, from all splits of the data set, or from all data
    sets of the release. `draws`: so many rows per clip, each with another source clip.
    `released`: the source clip that the released AVSBench-Robust generator draws (`avsrobust.conditions.reference.partners`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from avsrobust.clips import Clip
from avsrobust.conditions import reference
from avsrobust.conditions.base import (
    DATASET,
    RELEASED,
    SPLIT,
    STANDARD,
    Choice,
    Chooser,
    Condition,
    Generator,
    PlannedDataset,
    Pool,
    Request,
    Unavailable,
    later,
)
from avsrobust.conditions.sounds import sound_of
from avsrobust.conditions.source_clips import Candidates, SourceClips, is_source
from avsrobust.vocabulary import NEGATIVE

Draws = Annotated[int, Field(strict=True, ge=1, le=100)]
_UNKNOWN = "its categories are not known, so no sound can be told to be off-screen"


@dataclass(frozen=True)
class LendingCondition(Condition):
    """Base class of conditions that need a source clip."""

    def obstacle(self, planned: PlannedDataset) -> str | None:
        """Return the reason why the data set has no off-screen sounds, or None."""
        return planned.off_screen_obstacle


@dataclass(frozen=True)
class Offscreen(LendingCondition):
    """The sound of a clip of another supercategory."""

    name: ClassVar[str] = "offscreen"
    polarity: ClassVar[str] = NEGATIVE

    generator: Generator = STANDARD
    draws: Draws = later(1)  # noqa: RUF009
    pool: Pool = later(SPLIT)  # noqa: RUF009

    @property
    def needs_listing(self) -> bool:
        """The released draws depend on every sound on disk."""
        return self.generator == RELEASED

    @property
    def notes(self) -> tuple[str, ...]:
        """A remark on the released draws."""
        if self.generator == STANDARD:
            return ()
        return (
            "offscreen: partners as the released AVSBench-Robust generator draws them with this seed; some share a broad kind",
        )

    @property
    def conflict(self) -> str | None:
        """Return why these options do not go together, or None."""
        if self.generator == RELEASED and (self.draws, self.pool) != (1, SPLIT):
            return "generator: released makes one draw from the clip's split; expected neither draws nor pool with it"
        return None

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""
        return _released(planned) if self.generator == RELEASED else _standard(planned, self.pool)


class Lender:
    """Finds a source clip for every clip by the rule of `offscreen`, for all conditions that need one.

    Args:
        planned: The clips.
        pool: Origin of the source clips: `SPLIT`, `DATASET` or `RELEASE`.
        needs_masks: A source clip has as many frames as the clip, and masks on the same ones.
    """

    def __init__(self, planned: PlannedDataset, pool: str = SPLIT, *, needs_masks: bool = False) -> None:
        self._planned = planned
        self._pool = pool
        self._needs_masks = needs_masks
        self._sources: dict[tuple[str, tuple[bool, ...]], SourceClips | None] = {}

    def lend(self, request: Request, seeds: Sequence[int] | None = None) -> tuple[Clip, bool] | Unavailable:
        """Return the source clip, and whether the weaker rule found it.

        Args:
            request: The row.
            seeds: Seeds of all draws up to the row's own (default: those of its condition and level); every draw has another
                source clip.
        """
        clip = request.clip
        if not clip.has_no_label and not (clip.labels and clip.broad):
            return Unavailable(_UNKNOWN)
        sources = self._sources_for(clip)
        if sources is not None:
            if seeds is None:
                seeds = request.draw_seeds
            # A clip shares kinds and categories with itself, and one without labels lends none: no clip draws itself.
            first = sources.of_any() if clip.has_no_label else sources.of_other_kind(clip)
            found = self._draw(sources, [(first, False), (sources.of_other_category(clip), True)], seeds)
            if found is not None:
                return found
            if len(seeds) > 1:
                return Unavailable(f"fewer than {len(seeds)} clips can lend it a sound")
        return Unavailable(self._reason(clip))

    def first_draws(self, clips: Sequence[Clip], seeds: NDArray[np.uint64]) -> list[Clip | None]:
        """Return the source clip that `lend` returns for a first draw of each clip, where its first rule finds it.

        None for the others, clips that no first rule serves: `lend` has the answer.

        Args:
            clips: The clips, N of them.
            seeds: Seeds of their rows, uint64 [N].
        """
        groups: dict[int, tuple[SourceClips, Candidates, list[int]]] = {}
        rules: dict[tuple[str, tuple[str, ...], bool, tuple[bool, ...]], list[int]] = {}
        for position, clip in enumerate(clips):
            if not (clip.has_no_label or (clip.labels and clip.broad)):
                continue
            annotated = _annotated(clip) if self._needs_masks else ()
            rule = (clip.split, clip.broad, clip.has_no_label, annotated)
            served = rules.get(rule)
            if served is None:
                served = rules[rule] = self._served(clip, groups)
            served.append(position)
        found: list[Clip | None] = [None] * len(clips)
        for sources, candidates, positions in groups.values():
            for position, source in zip(positions, candidates.draw_many(seeds[positions]).tolist(), strict=True):
                found[position] = sources.clips[source] if source >= 0 else None
        return found

    def _served(self, clip: Clip, groups: dict[int, tuple[SourceClips, Candidates, list[int]]]) -> list[int]:
        """Return the positions of clips that draw by the first rule among the same candidates as `clip`."""
        sources = self._sources_for(clip)
        if sources is None:
            return []
        candidates = sources.of_any() if clip.has_no_label else sources.of_other_kind(clip)
        return groups.setdefault(id(candidates), (sources, candidates, []))[2]

    def lend_same_kind(self, request: Request) -> Clip | Unavailable:
        """Return the source clip of `same_kind`: of the same supercategory, and of another category."""
        clip = request.clip
        if not (clip.labels and clip.broad):
            return Unavailable("it has no on-screen label" if clip.has_no_label else _UNKNOWN)
        sources = self._sources_for(clip)
        rules = [] if sources is None else [(sources.of_same_kind(clip), False)]
        found = None if sources is None else self._draw(sources, rules, request.draw_seeds)
        if found is None:
            kinds = ", ".join(sorted(set(clip.broad)))
            return Unavailable(f"too few clips of the same supercategory ({kinds}) have none of its categories")
        return found[0]

    def _draw(
        self, sources: SourceClips, rules: Sequence[tuple[Candidates, bool]], seeds: Sequence[int]
    ) -> tuple[Clip, bool] | None:
        taken: list[int] = []
        found: tuple[Clip, bool] | None = None
        for seed in seeds:
            for candidates, is_fallback in rules:
                position = candidates.draw(seed, taken)
                if position is not None:
                    taken.append(position)
                    found = (sources.clips[position], is_fallback)
                    break
            else:
                return None
        return found

    def _sources_for(self, clip: Clip) -> SourceClips | None:
        split = clip.split if self._pool == SPLIT else ""
        key = (split, _annotated(clip) if self._needs_masks else ())
        if key not in self._sources:
            everyone = (*self._planned.clips, *(() if self._pool == SPLIT else self._others()))
            members = [other for other in everyone if is_source(other) and split in ("", other.split)]
            if self._needs_masks:
                members = [other for other in members if _annotated(other) == key[1]]
            members.sort(key=lambda other: (other.dataset != clip.dataset, other.dataset, other.split, other.clip_id))
            self._sources[key] = SourceClips(tuple(members), clip.dataset) if members else None
        return self._sources[key]

    def _others(self) -> tuple[Clip, ...]:
        dataset = self._planned.dataset
        return tuple(other for other in self._planned.pool if self._pool != DATASET or other.dataset == dataset)

    def _reason(self, clip: Clip) -> str:
        muted = any(other.is_muted and other.split == clip.split for other in self._planned.clips)
        place = f"split '{clip.split}'" if self._pool == SPLIT else f"the {self._pool}"
        others = f"no clip of {place}" + (" that is not muted" if muted else "")
        if clip.has_no_label:
            return f"{others} has an on-screen label, so none can lend it a sound"
        return f"{others} is free of its categories ({', '.join(clip.labels)})"


def _annotated(clip: Clip) -> tuple[bool, ...]:
    return tuple(mask is not None for mask in clip.masks)


@dataclass(frozen=True)
class _Standard:
    """Chooses by the rule `standard`, many first draws at a time."""

    lender: Lender

    def __call__(self, request: Request) -> Choice | Unavailable:
        found = self.lender.lend(request)
        if isinstance(found, Unavailable):
            return found
        return Choice(sound_of(found[0]), found[0], fallback=found[1])

    def first_draws(self, clips: Sequence[Clip], seeds: NDArray[np.uint64]) -> list[Clip | None]:
        """Return the source clips of first draws, None where calling it has the answer."""
        return self.lender.first_draws(clips, seeds)


def _standard(planned: PlannedDataset, pool: str) -> Chooser:
    return _Standard(Lender(planned, pool))


def _released(planned: PlannedDataset) -> Chooser:
    listing = planned.listing or reference.listing_of(planned.clips)
    pairs = reference.partners(listing, planned.seed)
    by_key: Mapping[tuple[str, str], Clip] = {(clip.split, reference.sound_key(clip)): clip for clip in planned.clips}

    def choose(request: Request) -> Choice | Unavailable:
        clip = request.clip
        key = pairs.get(clip.split, {}).get(reference.sound_key(clip))
        if key is None:
            return Unavailable("the released generator gives this clip no partner")
        source = by_key.get((clip.split, key))
        if source is None:
            return Unavailable(f"the released generator's partner, {key}, is not among the clips that can be used")
        return Choice(sound_of(source), source)

    return choose
