"""Sets of row keys in eight bytes a row: results of 100,000 clips have 400,000 rows, whose tuples would take 200 bytes each.

Conventions
    A row's number is that of its clip times the number of variants plus that of its variant (condition, level, draw). Clips and
    variants are sorted, and so are a set's numbers: they have the order of the keys (`avsrobust.row_keys`). Sets whose clips or
    variants differ are brought to common ones where they are compared (`aligned`). Keys are made when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from avsrobust.manifest import Row
from avsrobust.manifest_rows import column_of
from avsrobust.row_keys import KEY_COLUMNS, NO_LEVEL, ClipKey, RowKey, key_starts

Ints = npt.NDArray[np.int64]
Variant = tuple[str, float, int]
_AT_ONCE = 1 << 14
# Sets that wait for being put together.
_MOST_APART = 64


@dataclass(frozen=True, eq=False)
class RowNames:
    """The clips and variants that numbers of rows stand for.

    Attributes:
        splits: Splits.
        split: Split of each clip, as a position in `splits`.
        clip_id: Id of each clip, an arrow array of texts. Clips are sorted by split and id.
        variants: Condition, level (minus infinity: none) and draw of each variant, sorted.
    """

    splits: tuple[str, ...]
    split: npt.NDArray[np.int32]
    clip_id: pa.StringArray
    variants: tuple[Variant, ...]

    def equals(self, other: RowNames) -> bool:
        """Return whether numbers stand for the same rows."""
        if self is other:
            return True
        mine, its = (self.splits, self.variants), (other.splits, other.variants)
        return mine == its and np.array_equal(self.split, other.split) and bool(self.clip_id.equals(other.clip_id))

    @cached_property
    def clip_numbers(self) -> dict[ClipKey, int]:
        """The number of each clip."""
        splits = (self.splits[code] for code in self.split.tolist())
        return {clip: number for number, clip in enumerate(zip(splits, self.clip_id.to_pylist(), strict=True))}

    @cached_property
    def variant_numbers(self) -> dict[Variant, int]:
        """The number of each variant."""
        return {variant: number for number, variant in enumerate(self.variants)}

    def clips(self, numbers: Ints) -> list[ClipKey]:
        """Return some clips."""
        ids = self.clip_id.take(pa.array(numbers)).to_pylist()
        return [(self.splits[code], clip_id) for code, clip_id in zip(self.split[numbers].tolist(), ids, strict=True)]

    def variants_where(self, condition: str) -> npt.NDArray[np.bool_]:
        """Return which variants are of a condition."""
        return np.array([variant[0] == condition for variant in self.variants], dtype=np.bool_)


_NOTHING = RowNames((), np.zeros(0, np.int32), pa.array([], pa.string()), ())


class RowSet(Set[RowKey]):
    """A set of row keys, which does not change.

    Attributes:
        names: The clips and variants that its numbers stand for.
        numbers: Numbers of its rows, int64 [N], sorted, each once.
    """

    def __init__(self, names: RowNames = _NOTHING, numbers: Ints | None = None) -> None:
        self.names = names
        self.numbers = np.zeros(0, np.int64) if numbers is None else numbers

    @classmethod
    def of(cls, keys: Iterable[RowKey]) -> RowSet:
        """Return the set of some keys."""
        if isinstance(keys, RowSet):
            return keys
        keys = list(keys)
        split, clip_id, condition, level, draw = zip(*keys, strict=True) if keys else ((),) * len(KEY_COLUMNS)
        numbers = np.array(level, np.float64), np.array(draw, np.int64)
        return cls.of_columns(coded(split), coded(clip_id), coded(condition), *numbers)

    @classmethod
    def of_columns(
        cls,
        split: pa.DictionaryArray,
        clip_id: pa.DictionaryArray,
        condition: pa.DictionaryArray,
        level: npt.NDArray[np.floating[Any]],
        draw: npt.NDArray[np.integer[Any]],
    ) -> RowSet:
        """Return the set of the keys of some entries, of which many may have one key.

        Args:
            split: Split of each entry.
            clip_id: Id of each entry's clip.
            condition: Condition.
            level: Level; NaN or minus infinity: none.
            draw: Draw.
        """
        names, numbers = numbered(split, clip_id, condition, level, draw)
        return cls(names, np.unique(numbers))

    @classmethod
    def of_tables(cls, tables: Iterable[pa.Table]) -> RowSet:
        """Return the set of the keys in tables with the columns of a key, of which `draw` may be missing."""
        found: list[RowSet] = []
        for table in tables:
            names, numbers = numbered_table(table, key_starts(table))
            found.append(cls(names, np.unique(numbers)))
            if len(found) >= _MOST_APART:
                found = [cls.union(found)]
        return cls.union(found)

    @classmethod
    def union(cls, sets: Iterable[RowSet]) -> RowSet:
        """Return the rows that are in any of some sets."""
        filled = [rows for rows in sets if len(rows)]
        if len(filled) < 2:
            return filled[0] if filled else cls()
        names, numbers = aligned(*filled)
        return cls(names, np.unique(np.concatenate(numbers)))

    @classmethod
    def _from_iterable(cls, keys: Iterable[Any]) -> RowSet:  # type: ignore[override]
        return cls.of(keys)

    def __repr__(self) -> str:
        return f"RowSet of {len(self):,}"

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[RowKey]:
        variants = self.names.variants
        for first in range(0, len(self.numbers), _AT_ONCE):
            clip, variant = np.divmod(self.numbers[first : first + _AT_ONCE], len(variants))
            for of_clip, number in zip(self.names.clips(clip), variant.tolist(), strict=True):
                yield (*of_clip, *variants[number])

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, tuple) or len(key) != len(KEY_COLUMNS):
            return False
        clip = self.names.clip_numbers.get(key[:2])
        variant = self.names.variant_numbers.get(key[2:])
        if clip is None or variant is None:
            return False
        return bool(are_in(np.array([clip * len(self.names.variants) + variant]), self.numbers)[0])

    def __le__(self, other: Set[Any]) -> bool:
        return not len(self - other) if isinstance(other, RowSet) else super().__le__(other)

    def __and__(self, other: Iterable[Any]) -> RowSet:
        names, mine, its = self._with(other)
        return RowSet(names, mine[are_in(mine, its)])

    def __sub__(self, other: Iterable[Any]) -> RowSet:
        names, mine, its = self._with(other)
        return RowSet(names, mine[~are_in(mine, its)])

    def __or__(self, other: Iterable[Any]) -> RowSet:
        return RowSet.union([self, RowSet.of(other)])

    __ror__ = __or__
    __rand__ = __and__

    def __rsub__(self, other: Iterable[Any]) -> RowSet:
        return RowSet.of(other) - self

    def _with(self, other: Iterable[Any]) -> tuple[RowNames, Ints, Ints]:
        names, (mine, its) = aligned(self, RowSet.of(other))
        return names, mine, its

    def positions(self, names: RowNames, numbers: Ints) -> Ints:
        """Return where rows, in any order and by other names, are in `numbers`, int64 [K]; -1: the set lacks the row."""
        mine = self.names
        if not len(self) or not len(numbers):
            return np.full(len(numbers), -1)
        clip_to = np.array([mine.clip_numbers.get(clip, -1) for clip in names.clips(np.arange(len(names.split)))])
        variant_to = np.array([mine.variant_numbers.get(variant, -1) for variant in names.variants])
        clip, variant = np.divmod(numbers, len(names.variants))
        clip, variant = clip_to[clip], variant_to[variant]
        sought = clip * len(mine.variants) + variant
        at = np.minimum(np.searchsorted(self.numbers, sought), len(self) - 1)
        return np.where((clip >= 0) & (variant >= 0) & (self.numbers[at] == sought), at, -1)

    def clips(self) -> list[ClipKey]:
        """Return the clips that rows are of, sorted."""
        return self.names.clips(np.unique(self.numbers // max(1, len(self.names.variants))))

    def of_clips(self, other: RowSet) -> RowSet:
        """Return the rows of clips that `other` has rows of."""
        names, (mine, its) = aligned(self, other)
        variants = max(1, len(names.variants))
        return RowSet(names, mine[are_in(mine // variants, np.unique(its // variants))])


def aligned(*sets: RowSet) -> tuple[RowNames, list[Ints]]:
    """Return names that serve all sets, and the numbers of each set's rows by these names, sorted."""
    filled = [rows for rows in sets if len(rows)]
    if not filled:
        return _NOTHING, [rows.numbers for rows in sets]
    names = filled[0].names
    if all(names.equals(rows.names) for rows in filled):
        return names, [rows.numbers for rows in sets]
    parts = [rows.names for rows in filled]
    splits = pa.array([split for part in parts for split in part.splits], pa.string()).dictionary_encode()
    begin, codes = 0, list[npt.NDArray[np.int64]]()
    for part in parts:
        codes.append(splits.indices.to_numpy()[begin : begin + len(part.splits)].astype(np.int64)[part.split])
        begin += len(part.splits)
    names, clip = _clips(
        splits.dictionary, np.concatenate(codes), pa.concat_arrays([part.clip_id for part in parts]).dictionary_encode()
    )
    variants = tuple(sorted({variant for part in parts for variant in part.variants}))
    names = RowNames(names.splits, names.split, names.clip_id, variants)
    numbers, begin = dict[int, Ints](), 0
    for rows, part in zip(filled, parts, strict=True):
        of_clips, of_variants = np.divmod(rows.numbers, len(part.variants))
        to = np.array([names.variant_numbers[variant] for variant in part.variants], np.int64)
        # Both are sorted in either numbering, and so the numbers stay sorted.
        numbers[id(rows)] = clip[begin : begin + len(part.split)][of_clips] * len(variants) + to[of_variants]
        begin += len(part.split)
    return names, [numbers.get(id(rows), rows.numbers) for rows in sets]


def numbered(
    split: pa.DictionaryArray,
    clip_id: pa.DictionaryArray,
    condition: pa.DictionaryArray,
    level: npt.NDArray[np.floating[Any]],
    draw: npt.NDArray[np.integer[Any]],
) -> tuple[RowNames, Ints]:
    """Return names for the keys of some entries, and each entry's number; arguments as `RowSet.of_columns`."""
    if not len(split):
        return _NOTHING, np.zeros(0, np.int64)
    names, clip = _clips(split.dictionary, split.indices.to_numpy().astype(np.int64), clip_id)
    levels = level.astype(np.float32).astype(np.float64)
    levels[np.isnan(levels)] = NO_LEVEL
    level_words, level_code = np.unique(levels, return_inverse=True)
    draw_words, draw_code = np.unique(draw, return_inverse=True)
    conditions = condition.dictionary.to_pylist()
    code = condition.indices.to_numpy().astype(np.int64)
    code = (code * len(level_words) + level_code) * len(draw_words) + draw_code
    used, variant = np.unique(code, return_inverse=True)
    found = [
        (
            conditions[number // (len(draw_words) * len(level_words))],
            float(level_words[number // len(draw_words) % len(level_words)]),
            int(draw_words[number % len(draw_words)]),
        )
        for number in used.tolist()
    ]
    variants = tuple(sorted(set(found)))
    names = RowNames(names.splits, names.split, names.clip_id, variants)
    rank = np.array([names.variant_numbers[entry] for entry in found], np.int64)
    return names, clip * len(variants) + rank[variant]


def numbered_table(table: pa.Table, positions: Ints) -> tuple[RowNames, Ints]:
    """Return names for the keys of a table's entries at some positions, and the number of each; `draw` may be missing."""
    there = [name for name in KEY_COLUMNS if name in table.column_names]
    entries = table.select(there).take(pa.array(positions))
    split, clip_id, condition = (_coded(entries.column(name)) for name in KEY_COLUMNS[:3])
    level = entries.column("level").cast(pa.float64()).to_numpy()
    draw = entries.column("draw").to_numpy() if "draw" in there else np.zeros(len(entries), np.int64)
    return numbered(split, clip_id, condition, level, draw)


def numbered_rows(rows: Sequence[Row]) -> tuple[RowNames, Ints]:
    """Return names for the keys of a manifest's rows, and the number of each."""
    split, clip_id, condition = (coded(column_of(rows, name)) for name in ("split", "clip_id", "condition"))
    level = np.array(column_of(rows, "level"), dtype=np.float64)
    return numbered(split, clip_id, condition, level, np.array(column_of(rows, "draw", 0), dtype=np.int64))


def coded(texts: Sequence[str]) -> pa.DictionaryArray:
    """Return texts as numbers of the different ones."""
    return pa.array(texts, pa.string()).dictionary_encode()


def _clips(splits: pa.StringArray, split: Ints, clip_id: pa.DictionaryArray) -> tuple[RowNames, Ints]:
    """Return names without variants for some clips, and the number of each."""
    words, id_rank = _ranked(clip_id.dictionary)
    split_words, split_rank = _ranked(splits)
    number = split_rank[split] * len(words) + id_rank[clip_id.indices.to_numpy()]
    used, clip = np.unique(number, return_inverse=True)
    of_split, of_id = np.divmod(used, max(1, len(words)))
    names = RowNames(tuple(split_words.to_pylist()), of_split.astype(np.int32), _text(words.take(pa.array(of_id))), ())
    return names, clip


def _ranked(words: pa.Array) -> tuple[pa.Array, Ints]:
    """Return the different texts, sorted, and the position among them of each of the texts that are given."""
    words = _text(words)
    # UTF-8 has the order of Python's strings.
    order = pc.sort_indices(words).to_numpy()
    ordered = words.take(pa.array(order))
    rank = np.empty(len(words), np.int64)
    if len(words):
        same = pc.equal(ordered.slice(1), ordered.slice(0, len(words) - 1)).to_numpy(zero_copy_only=False)
        rank[order] = np.concatenate([[0], np.cumsum(~same)])
        if same.any():
            ordered = ordered.filter(pa.array(np.concatenate([[True], ~same])))
    return ordered, rank


def _text(words: pa.Array) -> pa.StringArray:
    return words if words.type == pa.string() else words.cast(pa.string())


def _coded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Return a column of texts without gaps as a dictionary in one piece."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], column.type)
    return whole


def are_in(numbers: Ints, among: Ints) -> npt.NDArray[np.bool_]:
    """Return which numbers are among others, which are sorted."""
    if not len(among):
        return np.zeros(len(numbers), np.bool_)
    at = np.minimum(np.searchsorted(among, numbers), len(among) - 1)
    return np.asarray(among[at] == numbers)
