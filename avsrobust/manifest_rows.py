"""The rows of a manifest's file, made from its columns only when they are asked for.

Conventions
    A row object takes ten times the memory of its values in columns, which are packed (`avsrobust.packed_arrays`). Of a large
    file rows are therefore made in blocks while one goes through them, and not kept; those of a file of at most `_BLOCK` rows are
    made once. Equal texts of a block, and equal lists of them (all rows of a clip name the same pictures), are one object.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from avsrobust.manifest_checks import Columns
from avsrobust.packed_arrays import PackedArrays
from avsrobust.vocabulary import counted

RowType = TypeVar("RowType")
_BLOCK = 1 << 14
# Rows between two that are wanted, which are read along with them.
_CLOSE = 64


@dataclass(frozen=True)
class _Leaves:
    """Chunks of values of a column, `start[i]` being the first position of chunk i; one more: the number of all values."""

    chunks: PackedArrays
    start: NDArray[np.int64]

    @classmethod
    def of(cls, chunks: PackedArrays) -> _Leaves:
        return cls(chunks, np.concatenate([[0], np.cumsum(chunks.sizes, dtype=np.int64)]))

    def parts(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Yield the chunks that hold the values from `first` up to `last`: number, and the first and last position in it."""
        number = int(np.searchsorted(self.start, first, side="right")) - 1
        while first < last:
            begin = int(self.start[number])
            end = min(last, int(self.start[number + 1]))
            if first < end:
                yield number, first - begin, end - begin
            first, number = max(first, end), number + 1

    def values(self, first: int, last: int) -> list[Any]:
        """Return the values from `first` up to `last`."""
        found: list[Any] = []
        for number, begin, end in self.parts(first, last):
            found += _plain(self.chunks[number].slice(begin, end - begin))
        return found


class RowTable(Sequence[RowType], Generic[RowType]):
    """The rows of checked columns, a sequence of objects that compares equal to a tuple of them.

    Args:
        columns: The columns.
        make: Makes a row of the values of the columns, by name.
        chosen: Positions of the rows that are part of it, increasing; None: all.
    """

    def __init__(
        self,
        columns: Columns,
        make: Callable[[Sequence[str], Sequence[Sequence[Any]]], list[RowType]],
        chosen: NDArray[np.int64] | None = None,
    ) -> None:
        self._columns = columns
        self._make = make
        self._leaves = {name: _Leaves.of(chunks) for name, chunks in columns.leaves.items()}
        self._lengths = {name: _Leaves.of(chunks) for name, chunks in columns.lengths.items()}
        first = next(iter(columns.schema))
        self._all = int((self._lengths.get(first) or self._leaves[first]).start[-1])
        self._chosen = chosen
        self._kept: tuple[RowType, ...] | None = None

    def __len__(self) -> int:
        return self._all if self._chosen is None else len(self._chosen)

    def __iter__(self) -> Iterator[RowType]:
        if len(self) <= _BLOCK:
            yield from self._few()
            return
        for first in range(0, self._all, _BLOCK):
            yield from self._block(first, min(first + _BLOCK, self._all))

    @overload
    def __getitem__(self, index: int) -> RowType: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RowType, ...]: ...
    def __getitem__(self, index: int | slice) -> RowType | tuple[RowType, ...]:
        """Return a row, or those of a slice as a tuple."""
        if len(self) <= _BLOCK:
            return self._few()[index]
        if isinstance(index, slice):
            return tuple(self[position] for position in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        position = index if self._chosen is None else int(self._chosen[index])
        return self._rows(position, position + 1, None)[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RowTable | tuple):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'row')} of {self._columns.path}>"

    def __getstate__(self) -> dict[str, Any]:
        # Rows are made again in the process that asks for them.
        return {**self.__dict__, "_kept": None}

    @property
    def columns(self) -> Collection[str]:
        """Names of the columns that the file has."""
        return self._columns.schema.keys()

    def distinct(self, name: str) -> set[str]:
        """Return the different values of a column of texts."""
        found: set[str] = set()
        for chunk, here in self._chunks(name):
            used = np.unique(chunk.indices.to_numpy(zero_copy_only=False)[here])
            found.update(chunk.dictionary.take(pa.array(used)).to_pylist())
        return found

    def where(self, wanted: Mapping[str, Collection[str]]) -> RowTable[RowType]:
        """Return the rows whose values in columns of texts are among those wanted."""
        chosen = np.ones(self._all, dtype=np.bool_)
        if self._chosen is not None:
            chosen[:] = False
            chosen[self._chosen] = True
        for name, values in wanted.items():
            flags = [
                np.array([word in values for word in chunk.dictionary.to_pylist()], dtype=np.bool_)[
                    chunk.indices.to_numpy(zero_copy_only=False)
                ]
                for chunk in self._leaves[name].chunks
                if len(chunk)
            ]
            chosen &= np.concatenate(flags) if flags else chosen
        return RowTable(self._columns, self._make, np.flatnonzero(chosen))

    def take(self, positions: NDArray[np.int64]) -> list[RowType]:
        """Return the rows at some positions, in their order; those that lie close together are made at once."""
        if len(self) <= _BLOCK:
            few = self._few()
            return [few[position] for position in positions.tolist()]
        at = positions if self._chosen is None else self._chosen[positions]
        step = np.diff(at)
        bounds = [0, *(np.flatnonzero((step < 1) | (step > _CLOSE)) + 1).tolist(), len(at)]
        found: list[RowType] = []
        for begin, end in pairwise(bounds):
            if begin < end:
                first, last = int(at[begin]), int(at[end - 1]) + 1
                found += self._rows(first, last, at[begin:end] - first)
        return found

    def values(self, name: str) -> list[Any]:
        """Return a column of these rows as a list of Python values, lists as tuples."""
        found = self._columns.values(name)
        return found if self._chosen is None else [found[position] for position in self._chosen]

    def _chunks(self, name: str) -> Iterator[tuple[pa.Array, NDArray[np.int64] | slice]]:
        """Yield the chunks of a column without lists, and the positions in each that belong to these rows."""
        leaves = self._leaves[name]
        for number, chunk in enumerate(leaves.chunks):
            first, last = int(leaves.start[number]), int(leaves.start[number + 1])
            if self._chosen is None:
                yield chunk, slice(None)
            else:
                begin, end = np.searchsorted(self._chosen, (first, last))
                yield chunk, self._chosen[begin:end] - first

    def _few(self) -> tuple[RowType, ...]:
        if self._kept is None:
            blocks = (self._block(first, min(first + _BLOCK, self._all)) for first in range(0, self._all, _BLOCK))
            self._kept = tuple(row for block in blocks for row in block)
        return self._kept

    def _block(self, first: int, last: int) -> list[RowType]:
        if self._chosen is None:
            return self._rows(first, last, None)
        begin, end = np.searchsorted(self._chosen, (first, last))
        return self._rows(first, last, self._chosen[begin:end] - first) if begin < end else []

    def _rows(self, first: int, last: int, here: NDArray[np.int64] | None) -> list[RowType]:
        """Return the rows from `first` up to `last`, of these only those at the positions `here`."""
        names = list(self._columns.schema)
        columns = [self._values(name, first, last) for name in names]
        if here is not None and len(here) < last - first:
            wanted = here.tolist()
            columns = [[values[position] for position in wanted] for values in columns]
        return self._make(names, columns)

    def _values(self, name: str, first: int, last: int) -> list[Any]:
        if name not in self._lengths:
            return self._leaves[name].values(first, last)
        known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        lists: list[tuple[Any, ...] | None] = []
        for number, begin, end in self._lengths[name].parts(first, last):
            chunk = self._lengths[name].chunks[number]
            ends = np.cumsum(chunk.slice(0, end).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
            at = int(ends[begin - 1]) if begin else 0
            leaves = _plain(self._leaves[name].chunks[number].slice(at, int(ends[-1]) - at))
            for length, stop in zip(
                chunk.slice(begin, end - begin).to_pylist(), (ends[begin:] - at).tolist(), strict=True
            ):
                if length is None:
                    lists.append(None)
                else:
                    found = tuple(leaves[stop - length : stop])
                    lists.append(known.setdefault(found, found))
        return lists


def rows_at(rows: Sequence[RowType], positions: NDArray[np.int64]) -> list[RowType]:
    """Return the rows of a manifest at some positions, in their order."""
    if isinstance(rows, RowTable):
        found: list[RowType] = rows.take(positions)
        return found
    return [rows[position] for position in positions.tolist()]


def column_of(rows: Sequence[Any], name: str, default: Any = None) -> Sequence[Any]:
    """Return the values of a manifest's rows in a column; `default`: those of a file that lacks it."""
    if not isinstance(rows, RowTable):
        return [getattr(row, name) for row in rows]
    return rows.values(name) if name in rows.columns else [default] * len(rows)


def _plain(chunk: pa.Array) -> list[Any]:
    if not pa.types.is_dictionary(chunk.type):
        values: list[Any] = chunk.to_pylist()
        return values
    # Of a large dictionary only the texts that are used here; an empty place is one more.
    codes = np.asarray(chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)
    used, position = np.unique(codes, return_inverse=True)
    words = [None if code < 0 else word for code, word in zip(used.tolist(), _words(chunk, used), strict=True)]
    return [words[index] for index in position.tolist()]


def _words(chunk: pa.Array, used: NDArray[np.int64]) -> list[str | None]:
    if not len(chunk.dictionary):
        return [None] * len(used)
    found: list[str | None] = chunk.dictionary.take(pa.array(np.maximum(used, 0))).to_pylist()
    return found
