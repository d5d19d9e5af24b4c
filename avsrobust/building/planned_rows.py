"""The rows of a plan, held by column: a plan of a million clips has four million of them.

Conventions
    A row is numbers: of its clip, of its kind (condition, level, draw), its seed, of its source clip (-1: none), and of the
    object that holds it (-1: none is needed). Conditions that give a clip a sound by its seed (`conditions.base.SoundOfClip`) or
    the sound of another clip (`conditions.base.LendingChooser`) need no object; other rows are kept as they were made.
    Rows are sorted by split, clip_id, condition, level, draw, and made when they are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from avsrobust.bulk import make_many
from avsrobust.clips import Clip
from avsrobust.conditions.base import SoundOfClip
from avsrobust.conditions.pictures import Picture
from avsrobust.conditions.sounds import Sound, is_unstored, sound_of, unstored

NONE = -1
_BLOCK = 1 << 12
Numbers = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One clip under one condition, before anything is made.

    Attributes:
        clip: The clip.
        condition: Name of the condition in the recipe.
        polarity: "positive" or "negative".
        level: In the condition's unit; None where it has none.
        draw: Number of the draw, from 0.
        seed: The row's own seed.
        sound: The audio, without a file where the recipe stores none.
        source: The clip whose sound it is, where that is another one.
        front_end: Front end of its log-mel.
        picture: Frames and masks where they are not the clip's own.
    """

    clip: Clip
    condition: str
    polarity: str
    level: float | None
    draw: int
    seed: int
    sound: Sound
    source: Clip | None
    front_end: str
    picture: Picture | None = None

    @property
    def key(self) -> tuple[str, str, str, float, int]:
        """Sort key, that of `avsrobust.manifest_values.Row`."""
        level = float("-inf") if self.level is None else self.level
        return (self.clip.split, self.clip.clip_id, self.condition, level, self.draw)


@dataclass(frozen=True)
class RowKind:
    """Fields that the rows of one condition, level and draw share.

    Attributes:
        condition: Name of the condition in the recipe.
        polarity: "positive" or "negative".
        level: In the condition's unit; None where it has none.
        draw: Number of the draw, from 0.
        front_end: Front end of their log-mels.
        own: Gives a row its sound, where no source clip does.
        keep_none: Sounds that a definition makes have no file.
    """

    condition: str
    polarity: str
    level: float | None
    draw: int
    front_end: str
    own: SoundOfClip | None = None
    keep_none: bool = False

    @property
    def key(self) -> tuple[str, float, int]:
        """Sort key among the rows of a clip."""
        return (self.condition, float("-inf") if self.level is None else self.level, self.draw)

    def sound(self, clip: Clip, seed: int, source: Clip | None) -> Sound:
        """Return the sound of a row that no object holds."""
        made = sound_of(source) if self.own is None and source is not None else self._own(clip, seed)
        return unstored(made) if self.keep_none else made

    def _own(self, clip: Clip, seed: int) -> Sound:
        if self.own is None:
            raise ValueError(f"a row of {self.condition} has neither a source clip nor a rule")
        return self.own.sound(clip, seed)


@dataclass(frozen=True)
class _Columns:
    """The numbers of N rows (see the module's conventions)."""

    clip: Numbers
    kind: NDArray[np.int16]
    seed: NDArray[np.uint64]
    source: Numbers
    held: Numbers

    def take(self, positions: NDArray[np.intp] | slice) -> _Columns:
        return _Columns(
            self.clip[positions],
            self.kind[positions],
            self.seed[positions],
            self.source[positions],
            self.held[positions],
        )


class RowCollector:
    """Takes the rows of one condition after the other.

    Args:
        clips: The clips, sorted.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._clips = clips
        self._kinds: list[RowKind] = []
        self._sources: list[Clip] = []
        self._source_numbers: dict[int, int] = {}
        self._held: list[PlannedRow] = []
        self._blocks: list[_Columns] = []

    def add_kind(self, kind: RowKind) -> int:
        """Return the number of a new kind."""
        self._kinds.append(kind)
        return len(self._kinds) - 1

    def number_of(self, source: Clip | None) -> int:
        """Return the number of a source clip."""
        if source is None:
            return NONE
        found = self._source_numbers.setdefault(id(source), len(self._sources))
        if found == len(self._sources):
            self._sources.append(source)
        return found

    def add(self, kind: int, clips: Numbers, seeds: NDArray[np.uint64], sources: Numbers | None = None) -> None:
        """Take rows of a kind that no objects hold: the numbers of their clips, their seeds, the numbers of their sources."""
        none = np.full(len(clips), NONE, dtype=np.int32)
        self._blocks.append(
            _Columns(
                clips, np.full(len(clips), kind, dtype=np.int16), seeds, none if sources is None else sources, none
            )
        )

    def add_held(self, kind: Sequence[int], clips: Sequence[int], rows: Sequence[PlannedRow]) -> None:
        """Take rows as objects: the numbers of their kinds and clips."""
        first = len(self._held)
        self._held += rows
        self._blocks.append(
            _Columns(
                np.array(clips, dtype=np.int32),
                np.array(kind, dtype=np.int16),
                np.array([row.seed for row in rows], dtype=np.uint64),
                np.array([self.number_of(row.source) for row in rows], dtype=np.int32),
                np.arange(first, first + len(rows), dtype=np.int32),
            )
        )

    def rows(self) -> PlannedRows:
        """Return all rows, sorted."""
        columns = _joined(self._blocks)
        self._blocks.clear()
        place = np.zeros(len(self._kinds), dtype=np.int64)
        place[sorted(range(len(self._kinds)), key=lambda kind: self._kinds[kind].key)] = np.arange(len(self._kinds))
        rank = _ranks(self._clips)
        order = np.argsort(rank[columns.clip] * len(self._kinds) + place[columns.kind], kind="stable")
        return PlannedRows(self._clips, self._kinds, columns.take(order), self._sources, self._held)


def _joined(blocks: Sequence[_Columns]) -> _Columns:
    empty = np.zeros(0, dtype=np.int32)
    return _Columns(
        np.concatenate([empty, *(block.clip for block in blocks)]),
        np.concatenate([empty.astype(np.int16), *(block.kind for block in blocks)]),
        np.concatenate([empty.astype(np.uint64), *(block.seed for block in blocks)]),
        np.concatenate([empty, *(block.source for block in blocks)]),
        np.concatenate([empty, *(block.held for block in blocks)]),
    )


def _ranks(clips: Sequence[Clip]) -> NDArray[np.int64]:
    """Return a number for each of the sorted clips, equal for those of one name."""
    ranks = np.zeros(len(clips), dtype=np.int64)
    before, rank = None, -1
    for number, clip in enumerate(clips):
        name = (clip.split, clip.clip_id)
        rank += name != before
        ranks[number], before = rank, name
    return ranks


@dataclass(frozen=True)
class LentRows:
    """The rows of a condition, N of them, that have the sound of a source clip.

    Attributes:
        condition: Its name in the recipe.
        clips: The clips that have such rows.
        clip: Which of `clips` a row is of, int64 [N].
        sources: The source clips.
        source: Which of `sources` lends a row its sound, int64 [N].
    """

    condition: str
    clips: list[Clip]
    clip: NDArray[np.int64]
    sources: list[Clip]
    source: NDArray[np.int64]

    def count(self, holds: Callable[[Clip], bool]) -> int:
        """Return the number of rows for whose source clip something holds."""
        return int(np.array([holds(source) for source in self.sources], dtype=np.bool_)[self.source].sum())

    def pairs_of(self, split: str) -> NDArray[np.int64]:
        """Return a number per row of a split: of its source clip, by name, in the upper 32 bits, and of its clip, by id."""
        sources = _name_numbers((source.dataset, source.clip_id) for source in self.sources)
        clips = _name_numbers(clip.clip_id for clip in self.clips)
        here = np.array([clip.split == split for clip in self.clips], dtype=np.bool_)[self.clip]
        return sources[self.source[here]] << 32 | clips[self.clip[here]]


def _used(clips: Sequence[Clip], numbers: Numbers) -> tuple[list[Clip], NDArray[np.int64]]:
    used, positions = np.unique(numbers, return_inverse=True)
    return [clips[number] for number in used.tolist()], positions.astype(np.int64)


def _name_numbers(names: Iterable[Hashable]) -> NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


class PlannedRows(Sequence[PlannedRow]):
    """The rows of a plan, a sequence of objects that compares equal to a tuple of them; a `RowCollector` makes it."""

    def __init__(
        self,
        clips: Sequence[Clip],
        kinds: Sequence[RowKind],
        columns: _Columns,
        sources: Sequence[Clip],
        held: Sequence[PlannedRow],
    ) -> None:
        self._clips = clips
        self._kinds = kinds
        self._columns = columns
        self._sources = sources
        self._held = held

    def __len__(self) -> int:
        return len(self._columns.clip)

    def __iter__(self) -> Iterator[PlannedRow]:
        for first in range(0, len(self), _BLOCK):
            yield from self._made(self._columns.take(slice(first, first + _BLOCK)))

    @overload
    def __getitem__(self, index: int) -> PlannedRow: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[PlannedRow, ...]: ...
    def __getitem__(self, index: int | slice) -> PlannedRow | tuple[PlannedRow, ...]:
        """Return a row, or those of a slice as a tuple."""
        if isinstance(index, slice):
            return tuple(self._made(self._columns.take(index)))
        position = range(len(self))[index]
        return self._made(self._columns.take(slice(position, position + 1)))[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlannedRows | tuple):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"<{len(self)} planned rows>"

    def of_condition(self, name: str) -> Iterator[PlannedRow]:
        """Yield the rows of one condition."""
        positions = np.flatnonzero(np.isin(self._columns.kind, self._kinds_of(name)))
        for first in range(0, len(positions), _BLOCK):
            yield from self._made(self._columns.take(positions[first : first + _BLOCK]))

    def held(self) -> Iterator[PlannedRow]:
        """Yield the rows that are held as objects, all that have another picture than their clip's among them."""
        yield from self._held

    def clips(self) -> list[Clip]:
        """Return the clips that have rows."""
        return [self._clips[number] for number in np.unique(self._columns.clip).tolist()]

    def conditions(self) -> Counter[str]:
        """Return the number of rows of each condition that has any."""
        found: Counter[str] = Counter()
        for kind, count in zip(*np.unique(self._columns.kind, return_counts=True), strict=True):
            found[self._kinds[kind].condition] += int(count)
        return found

    def lent(self) -> Iterator[LentRows]:
        """Yield the rows that have the sound of a source clip, for each condition that has any, sorted by its name."""
        has_source = self._columns.source >= 0
        for name in sorted(self.conditions()):
            here = has_source & np.isin(self._columns.kind, self._kinds_of(name))
            if here.any():
                yield LentRows(
                    name,
                    *_used(self._clips, self._columns.clip[here]),
                    *_used(self._sources, self._columns.source[here]),
                )

    def stored_sounds(self) -> Iterator[tuple[Sound, int, str]]:
        """Yield the sounds that have a file, with the frames of the clips they go with and their front end; some repeatedly."""
        frames = np.array([clip.num_frames for clip in self._clips], dtype=np.int64)
        for number, kind in enumerate(self._kinds):
            rows = self._columns.take(np.flatnonzero((self._columns.kind == number) & (self._columns.held < 0)))
            if kind.own is None:
                most = int(frames.max(initial=0)) + 1
                pairs = np.unique(rows.source.astype(np.int64) * most + frames[rows.clip])
                for pair in pairs.tolist():
                    source, num_frames = divmod(pair, most)
                    yield sound_of(self._sources[source]), num_frames, kind.front_end
                continue
            for clip_number, seed in zip(rows.clip.tolist(), rows.seed.tolist(), strict=True):
                clip = self._clips[clip_number]
                sound = kind.sound(clip, seed, None)
                if is_unstored(sound):
                    # So are all of the kind.
                    break
                yield sound, clip.num_frames, kind.front_end
        for row in self._held:
            if not is_unstored(row.sound):
                yield row.sound, row.clip.num_frames, row.front_end

    def _kinds_of(self, condition: str) -> list[int]:
        return [number for number, kind in enumerate(self._kinds) if kind.condition == condition]

    def _made(self, columns: _Columns) -> list[PlannedRow]:
        clips = [self._clips[number] for number in columns.clip.tolist()]
        kinds = [self._kinds[number] for number in columns.kind.tolist()]
        seeds = columns.seed.tolist()
        held = columns.held.tolist()
        sources = [None if number < 0 else self._sources[number] for number in columns.source.tolist()]
        return make_many(
            PlannedRow,
            len(clips),
            clip=clips,
            condition=(kind.condition for kind in kinds),
            polarity=(kind.polarity for kind in kinds),
            level=(kind.level for kind in kinds),
            draw=(kind.draw for kind in kinds),
            seed=seeds,
            sound=(
                kind.sound(clip, seed, source) if number < 0 else self._held[number].sound
                for kind, clip, seed, source, number in zip(kinds, clips, seeds, sources, held, strict=True)
            ),
            source=sources,
            front_end=(kind.front_end for kind in kinds),
            picture=(None if number < 0 else self._held[number].picture for number in held),
        )
