"""Condition `offscreen`: the sound of something that is not in the picture. Negative.

Conventions
    `standard`: the partner is a clip of the same split that shares no broad kind with this one and has none that is the
    least suitable contrast to one of its kinds. On s4 the row's seed draws a category, then one of its clips, each
    uniformly; on ms3 and avss it draws a clip. Where no clip is eligible: one that shares no category. Draws are by
    rendezvous hashing, so a clip's partner changes only if it goes or a new clip wins. A clip in which nothing on screen
    sounds (`Clip.has_no_label`) draws from all clips with labels, each alike. Clips without labels and muted ones
    (`Clip.is_muted`) are never source clips.
    `released`: the partner the released AVSBench-Robust generator draws (`avsrobust.conditions.reference.partners`).
    Source of kinds and contrasts: AVSBench-Robust, dataset_generation/audio_processing.py, `get_semantic_category` and
    `least_suitable_contrast`, in the form for MS3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from avsrobust.conditions import reference
from avsrobust.conditions.base import (
    RELEASED,
    STANDARD,
    Choice,
    Chooser,
    Condition,
    Scene,
    Unavailable,
    one_of,
    option,
)
from avsrobust.conditions.seeds import candidate_hashes, rendezvous
from avsrobust.conditions.sounds import sound_of
from avsrobust.datasets.clips import Clip
from avsrobust.datasets.taxonomy import LEAST_SUITABLE
from avsrobust.vocabulary import NEGATIVE

Key = TypeVar("Key")

_UNKNOWN = "its categories are not known, so no sound can be told to be off-screen"


@dataclass(frozen=True)
class Offscreen(Condition):
    """The sound of another clip, of another kind."""

    name: ClassVar[str] = "offscreen"
    polarity: ClassVar[str] = NEGATIVE

    generator: str = option(one_of(STANDARD, RELEASED), STANDARD)

    @property
    def needs_listing(self) -> bool:
        """The released draws depend on every sound on disk."""
        return self.generator == RELEASED

    @property
    def notes(self) -> tuple[str, ...]:
        """Say whose draws these are."""
        if self.generator == STANDARD:
            return ()
        return (
            "offscreen: partners as the released AVSBench-Robust generator draws them with this seed; some share a broad kind",
        )

    def obstacle(self, scene: Scene) -> str | None:
        """Return what the data set lacks for off-screen sounds, or None."""
        return scene.off_screen_obstacle

    def prepare(self, scene: Scene) -> Chooser:
        """Return the function that chooses."""
        return _released(scene) if self.generator == RELEASED else _standard(scene)


def is_eligible(clip: Clip, donor: Clip) -> bool:
    """Tell whether the sound of `donor` may be off-screen for `clip` by kind: none shared, none the least suitable.

    The definition; `_Donors` applies it to sets of kinds.
    """
    known = clip.has_no_label or bool(clip.labels and clip.broad)
    return known and is_source(donor) and _kinds_fit(frozenset(clip.broad), frozenset(donor.broad))


def is_source(clip: Clip) -> bool:
    """Tell whether a clip may lend its sound at all: its categories are known, and it is not muted."""
    return bool(clip.labels and clip.broad) and not clip.is_muted


def _kinds_fit(kinds: frozenset[str], donor_kinds: frozenset[str]) -> bool:
    unsuitable = {LEAST_SUITABLE[kind] for kind in kinds if kind in LEAST_SUITABLE}
    return not donor_kinds & (kinds | unsuitable)


Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class _Pool:
    """Donors that some clips may draw from, by position: one group, or a group per category."""

    category_hashes: NDArray[np.uint64]
    groups: tuple[tuple[NDArray[np.intp], NDArray[np.uint64]], ...]

    def draw(self, seed: int) -> int | None:
        if not self.groups:
            return None
        members, hashes = self.groups[rendezvous(seed, self.category_hashes)]
        return int(members[rendezvous(seed, hashes)])


class _Donors:
    """The clips of one split that can lend their sound; pools are made once per set of kinds or categories."""

    def __init__(self, clips: Sequence[Clip], by_category: bool) -> None:
        self._clips = clips
        self._hashes = candidate_hashes("clip", (clip.clip_id for clip in clips))
        self._group = np.array([clip.labels[0] if by_category else "" for clip in clips])
        self._with_label = _flags([clip.labels for clip in clips])
        self._with_kinds = _flags([(frozenset(clip.broad),) for clip in clips])
        self._by_kinds: dict[frozenset[str], _Pool] = {}
        self._by_labels: dict[frozenset[str], _Pool] = {}
        self._all = _Pool(candidate_hashes("category", [""]), ((np.arange(len(clips)), self._hashes),))

    def of_other_kind(self, clip: Clip, seed: int) -> Clip | None:
        kinds = frozenset(clip.broad)
        if kinds not in self._by_kinds:
            fitting = [flags for others, flags in self._with_kinds.items() if _kinds_fit(kinds, others)]
            self._by_kinds[kinds] = self._pool(self._any(fitting))
        return self._draw(self._by_kinds[kinds], seed)

    def of_other_category(self, clip: Clip, seed: int) -> Clip | None:
        labels = frozenset(clip.labels)
        if labels not in self._by_labels:
            self._by_labels[labels] = self._pool(
                ~self._any([self._with_label[label] for label in labels if label in self._with_label])
            )
        return self._draw(self._by_labels[labels], seed)

    def of_any(self, seed: int) -> Clip | None:
        return self._draw(self._all, seed)

    def _any(self, flags: Sequence[Flags]) -> Flags:
        held = np.zeros(len(self._clips), dtype=bool)
        for entry in flags:
            held |= entry
        return held

    def _pool(self, members: Flags) -> _Pool:
        names = sorted(set(self._group[members].tolist()))
        groups = (np.flatnonzero(members & (self._group == name)) for name in names)
        return _Pool(candidate_hashes("category", names), tuple((group, self._hashes[group]) for group in groups))

    def _draw(self, pool: _Pool, seed: int) -> Clip | None:
        position = pool.draw(seed)
        return None if position is None else self._clips[position]


def _flags(values: Sequence[Iterable[Key]]) -> dict[Key, Flags]:
    """Return, for every value, which of the sequence's entries hold it."""
    positions: dict[Key, list[int]] = {}
    for position, held in enumerate(values):
        for value in held:
            positions.setdefault(value, []).append(position)
    flags = {value: np.zeros(len(values), dtype=bool) for value in positions}
    for value, members in positions.items():
        flags[value][members] = True
    return flags


def _standard(scene: Scene) -> Chooser:
    splits = _by_split(clip for clip in scene.clips if is_source(clip))
    donors = {split: _Donors(clips, scene.dataset == "s4") for split, clips in splits.items()}
    muted = {clip.split for clip in scene.clips if clip.is_muted}

    def choose(clip: Clip, seed: int, level: float | None) -> Choice | Unavailable:
        if not clip.has_no_label and not (clip.labels and clip.broad):
            return Unavailable(_UNKNOWN)
        candidates = donors.get(clip.split)
        if candidates is not None:
            # A clip shares kinds and categories with itself, and one without labels lends none: no clip draws itself.
            donor = candidates.of_any(seed) if clip.has_no_label else candidates.of_other_kind(clip, seed)
            if donor is not None:
                return Choice(sound_of(donor), donor)
            donor = candidates.of_other_category(clip, seed)
            if donor is not None:
                return Choice(sound_of(donor), donor, fallback=True)
        others = f"no clip of split '{clip.split}'" + (" that is not muted" if clip.split in muted else "")
        if clip.has_no_label:
            return Unavailable(f"{others} has an on-screen label, so none can lend it a sound")
        return Unavailable(f"{others} is free of its categories ({', '.join(clip.labels)})")

    return choose


def _released(scene: Scene) -> Chooser:
    listing = scene.listing or reference.listing_of(scene.clips)
    pairs = reference.partners(listing, scene.seed)
    by_key: Mapping[tuple[str, str], Clip] = {(clip.split, reference.sound_key(clip)): clip for clip in scene.clips}

    def choose(clip: Clip, seed: int, level: float | None) -> Choice | Unavailable:
        key = pairs.get(clip.split, {}).get(reference.sound_key(clip))
        if key is None:
            return Unavailable("the released generator gives this clip no partner")
        donor = by_key.get((clip.split, key))
        if donor is None:
            return Unavailable(f"the released generator's partner, {key}, is not among the clips that can be used")
        return Choice(sound_of(donor), donor)

    return choose


def _by_split(clips: Iterable[Clip]) -> dict[str, tuple[Clip, ...]]:
    splits: dict[str, list[Clip]] = {}
    for clip in sorted(clips, key=lambda clip: (clip.split, clip.clip_id)):
        splits.setdefault(clip.split, []).append(clip)
    return {split: tuple(members) for split, members in splits.items()}
