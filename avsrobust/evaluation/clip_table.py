"""The clips of many rows, each made of a manifest's columns when it is asked for: a row object takes ten times their memory.

Conventions
    Clips are sorted by (split, clip_id); the rows of each are clean first, then by condition, level and draw, as in
    `clip_data.clips_of`. Rows are known by their position among those of the manifest.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from avsrobust.evaluation.clip_data import ClipRows, order_in_clip
from avsrobust.manifest import COLUMNS, Row
from avsrobust.manifest_rows import RowTable
from avsrobust.row_keys import ClipKey, RowKey, row_key
from avsrobust.vocabulary import NEGATIVE

Positions = npt.NDArray[np.int64]
# Rows that are made at once, about: clips are mostly asked for one after the other.
_ROWS_AT_ONCE = 1024


class ClipTable(Sequence[ClipRows]):
    """Clips of some rows.

    Args:
        rows: Rows of a manifest, sorted.
        positions: Those that belong to the clips, in any order; None: all.
    """

    def __init__(self, rows: Sequence[Row], positions: Iterable[int] | None = None) -> None:
        chosen = np.arange(len(rows)) if positions is None else np.unique(np.fromiter(positions, dtype=np.int64))
        splits, ids = (_column(rows, name) for name in ("split", "clip_id"))
        names = [(splits[position], ids[position]) for position in chosen.tolist()]
        is_first = np.array([now != before for now, before in zip(names, [None, *names], strict=False)], dtype=np.bool_)
        start = np.flatnonzero(is_first)
        keys = [names[first] for first in start.tolist()]
        if any(now <= before for before, now in pairwise(keys)):
            # Not sorted, or clips in pieces: in memory manifests may have them in any order.
            order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
            chosen, names = chosen[order], [names[position] for position in order]
            start = np.flatnonzero([now != before for now, before in zip(names, [None, *names], strict=False)])
        self._set(rows, chosen, np.append(start, len(chosen)))

    def _set(self, rows: Sequence[Row], chosen: Positions, bounds: Positions) -> None:
        # Clip i has the rows chosen[bounds[i]] to chosen[bounds[i + 1] - 1].
        self._rows, self._chosen, self._bounds = rows, chosen, bounds
        self._made_from, self._made = 0, list[ClipRows]()

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, index: int) -> ClipRows: ...
    @overload
    def __getitem__(self, index: slice) -> ClipTable: ...
    def __getitem__(self, index: int | slice) -> ClipRows | ClipTable:
        """Return the rows of a clip, or the clips of a slice without steps."""
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step != 1:
                raise IndexError("clips are sliced without steps")
            last = max(first, last)
            found = ClipTable.__new__(ClipTable)
            begin, end = self._bounds[first], self._bounds[last]
            found._set(self._rows, self._chosen[begin:end], self._bounds[first : last + 1] - begin)
            return found
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        index %= len(self)
        if not 0 <= index - self._made_from < len(self._made):
            self._made_from, self._made = index, self._make(index)
        return self._made[index - self._made_from]

    def __iter__(self) -> Iterator[ClipRows]:
        first = 0
        while first < len(self):
            made = self._make(first)
            yield from made
            first += len(made)

    @property
    def source(self) -> Sequence[Row]:
        """The manifest's rows, of which some are those of the clips."""
        return self._rows

    def distinct(self, name: str) -> set[str]:
        """Return the different values of a column of texts."""
        values = _column(self._rows, name)
        return {values[position] for position in self._chosen.tolist()}

    def among(self, clips: Container[ClipKey]) -> ClipTable:
        """Return those of the clips (split, clip_id) that are among others."""
        splits, ids = (_column(self._rows, name) for name in ("split", "clip_id"))
        return ClipTable(
            self._rows, [position for position in self._chosen.tolist() if (splits[position], ids[position]) in clips]
        )

    def keys(self, known: KnownRows) -> set[RowKey]:
        """Return the keys of all rows, where `known` are those of `source`."""
        if len(self._chosen) == len(known.position):
            return set(known.position)
        chosen = set(self._chosen.tolist())
        return {key for key, position in known.position.items() if position in chosen}

    def _make(self, first: int) -> list[ClipRows]:
        """Return the clips from `first` on, at least one."""
        last = int(np.searchsorted(self._bounds, self._bounds[first] + _ROWS_AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), len(self))
        begin, end = self._bounds[first], self._bounds[last]
        rows = rows_at(self._rows, self._chosen[begin:end])
        bounds = (self._bounds[first : last + 1] - begin).tolist()
        return [tuple(sorted(rows[start:stop], key=order_in_clip)) for start, stop in pairwise(bounds)]


class KnownRows:
    """Rows of a manifest by their keys, with what planning needs of them.

    Attributes:
        rows: The rows.
        position: Position of each row among them, by its key.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.position: dict[RowKey, int] = {key: position for position, key in enumerate(_keys(rows))}
        negative = [value == NEGATIVE for value in _column(rows, "polarity")]
        composed = [value is not None for value in _column(rows, "tiles")]
        self._negative, self._composed = np.array(negative, dtype=np.bool_), np.array(composed, dtype=np.bool_)

    def __contains__(self, key: object) -> bool:
        return key in self.position

    def is_negative(self, key: RowKey) -> bool:
        """Return whether a row is under a negative condition."""
        return bool(self._negative[self.position[key]])

    def is_composed(self, key: RowKey) -> bool:
        """Return whether a row has a picture of several clips."""
        return bool(self._composed[self.position[key]])

    def clips(self, keys: Iterable[RowKey]) -> ClipTable:
        """Return the clips of some rows."""
        return ClipTable(self.rows, [self.position[key] for key in keys])


def rows_at(rows: Sequence[Row], positions: Positions) -> list[Row]:
    """Return the rows at some positions, in their order."""
    if isinstance(rows, RowTable):
        found: list[Row] = rows.take(positions)
        return found
    return [rows[position] for position in positions.tolist()]


def _column(rows: Sequence[Row], name: str) -> Sequence[Any]:
    if not isinstance(rows, RowTable):
        return [getattr(row, name) for row in rows]
    return rows.values(name) if name in rows.columns else [COLUMNS[name].default] * len(rows)


def _keys(rows: Sequence[Row]) -> Iterator[RowKey]:
    columns = [_column(rows, name) for name in ("split", "clip_id", "condition", "level", "draw")]
    return (row_key(*entry) for entry in zip(*columns, strict=True))
