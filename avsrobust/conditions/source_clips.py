"""Source clips: clips that lend their sound to another one, and the draw among them.

Conventions
    A clip can lend its sound where its categories are known and it is not muted (`is_source`).
    Off-screen by kind: it shares no supercategory with the clip and has none that is the least suitable contrast to one of
    its own. Source: AVSBench-Robust, dataset_generation/audio_processing.py, `get_semantic_category` and
    `least_suitable_contrast`, in the form for MS3.
    Draws are by rendezvous hashing (`avsrobust.conditions.seeds`): a clip's source changes only if that one goes or a new clip
    wins. On s4 a category is drawn first, then one of its clips, each uniformly; on ms3 and avss a clip. So it is on s4 where
    clips of another data set may lend, too: those have several categories, and few clips in many of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from avsrobust.clips import Clip
from avsrobust.conditions.seeds import candidate_hashes, rendezvous, rendezvous_many, rendezvous_order
from avsrobust.datasets.taxonomy import LEAST_SUITABLE

Key = TypeVar("Key")
Flags = NDArray[np.bool_]


def is_source(clip: Clip) -> bool:
    """Return whether a clip may lend its sound at all: its categories are known, and it is not muted."""
    return bool(clip.labels and clip.broad) and not clip.is_muted


def is_eligible(clip: Clip, source: Clip) -> bool:
    """Return whether the sound of `source` may be off-screen for `clip` by kind: none shared, none the least suitable.

    The definition; `SourceClips` applies it to sets of supercategories.
    """
    known = clip.has_no_label or bool(clip.labels and clip.broad)
    return known and is_source(source) and _kinds_fit(frozenset(clip.broad), frozenset(source.broad))


def _kinds_fit(kinds: frozenset[str], source_kinds: frozenset[str]) -> bool:
    unsuitable = {LEAST_SUITABLE[kind] for kind in kinds if kind in LEAST_SUITABLE}
    return not source_kinds & (kinds | unsuitable)


@dataclass(frozen=True)
class Candidates:
    """Source clips that some clips may draw from, by position: one group, or a group per category."""

    category_hashes: NDArray[np.uint64]
    groups: tuple[tuple[NDArray[np.intp], NDArray[np.uint64]], ...]

    def draw(self, seed: int, excluded: Collection[int] = ()) -> int | None:
        """Return the position that `seed` draws, of those that are not excluded; None where there is none."""
        if not self.groups:
            return None
        if not excluded:
            members, hashes = self.groups[rendezvous(seed, self.category_hashes)]
            return int(members[rendezvous(seed, hashes)])
        for category in rendezvous_order(seed, self.category_hashes):
            members, hashes = self.groups[category]
            left = ~np.isin(members, np.fromiter(excluded, dtype=np.intp))
            if left.any():
                return int(members[left][rendezvous(seed, hashes[left])])
        return None

    def draw_many(self, seeds: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Return the position that `draw` returns for each of `seeds`, none excluded, [M]; -1 everywhere where there is none."""
        drawn = np.full(len(seeds), -1, dtype=np.intp)
        if not self.groups:
            return drawn
        category = rendezvous_many(seeds, self.category_hashes)
        times = np.bincount(category, minlength=len(self.groups)).tolist()
        work = sum(count * len(members) for count, (members, _) in zip(times, self.groups, strict=True))
        for number in np.unique(category):
            members, hashes = self.groups[number]
            here = np.flatnonzero(category == number)
            drawn[here] = members[rendezvous_many(seeds[here], hashes, work)]
        return drawn


class SourceClips:
    """The clips that can lend their sound; candidates are found once per set of supercategories or categories.

    Args:
        clips: Clips of which `is_source` holds, sorted.
        dataset: The data set that rows are made for: its own clips go by their ids, others by data set and id.
    """

    def __init__(self, clips: Sequence[Clip], dataset: str) -> None:
        self.clips = clips
        names = (clip.clip_id if clip.dataset == dataset else f"{clip.dataset}:{clip.clip_id}" for clip in clips)
        self._hashes = candidate_hashes("clip", names)
        by_category = dataset == "s4" and all(clip.dataset == dataset for clip in clips)
        self._group = np.array([clip.labels[0] if by_category else "" for clip in clips])
        self._is_own = np.array([clip.dataset == dataset for clip in clips], dtype=bool)
        self._with_label = _flags([clip.labels for clip in clips])
        self._with_kinds = _flags([(frozenset(clip.broad),) for clip in clips])
        self._found: dict[tuple[str, frozenset[str], frozenset[str]], Candidates] = {}
        self._all = Candidates(candidate_hashes("category", [""]), ((np.arange(len(clips)), self._hashes),))

    def of_any(self) -> Candidates:
        """Return all of them, each alike."""
        return self._all

    def of_other_kind(self, clip: Clip) -> Candidates:
        """Return those that are off-screen for `clip` by kind."""
        kinds = frozenset(clip.broad)

        def find() -> Flags:
            return self._any([flags for others, flags in self._with_kinds.items() if _kinds_fit(kinds, others)])

        return self._remembered("other kind", kinds, frozenset(), find)

    def of_other_category(self, clip: Clip) -> Candidates:
        """Return those of the same data set that share no category with `clip`."""
        labels = frozenset(clip.labels)
        return self._remembered(
            "other category", frozenset(), labels, lambda: self._is_own & ~self._sharing_category(labels)
        )

    def of_same_kind(self, clip: Clip) -> Candidates:
        """Return those of the same data set that share a supercategory with `clip`, but no category."""
        kinds, labels = frozenset(clip.broad), frozenset(clip.labels)

        def find() -> Flags:
            sharing = self._any([flags for others, flags in self._with_kinds.items() if others & kinds])
            found: Flags = sharing & self._is_own & ~self._sharing_category(labels)
            return found

        return self._remembered("same kind", kinds, labels, find)

    def _remembered(
        self, rule: str, kinds: frozenset[str], labels: frozenset[str], find: Callable[[], Flags]
    ) -> Candidates:
        key = (rule, kinds, labels)
        if key not in self._found:
            self._found[key] = self._candidates(find())
        return self._found[key]

    def _sharing_category(self, labels: frozenset[str]) -> Flags:
        return self._any([self._with_label[label] for label in sorted(labels) if label in self._with_label])

    def _any(self, flags: Sequence[Flags]) -> Flags:
        held = np.zeros(len(self.clips), dtype=bool)
        for entry in flags:
            held |= entry
        return held

    def _candidates(self, members: Flags) -> Candidates:
        names = sorted(set(self._group[members].tolist()))
        groups = (np.flatnonzero(members & (self._group == name)) for name in names)
        return Candidates(candidate_hashes("category", names), tuple((group, self._hashes[group]) for group in groups))


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
