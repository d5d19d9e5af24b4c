"""The clips of many rows, each made of a manifest's columns when it is asked for: a row object takes ten times their memory.

Conventions
    Clips are sorted by (split, clip_id); the rows of each are clean first, then by condition, level and draw, as in
    `clip_data.clips_of`. Rows are known by their position among those of the manifest.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
import numpy.typing as npt

from avsrobust.evaluation.clip_data import ClipRows, order_in_clip
from avsrobust.manifest import Row
from avsrobust.manifest_rows import column_of, rows_at
from avsrobust.row_keys import ClipKey
from avsrobust.row_sets import RowSet, aligned, coded, numbered_rows
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

    def __init__(self, rows: Sequence[Row], positions: Iterable[int] | Positions | None = None) -> None:
        chosen = np.arange(len(rows))
        if positions is not None:
            given = positions if isinstance(positions, np.ndarray) else np.fromiter(positions, dtype=np.int64)
            chosen = np.unique(given)
        splits, ids = (column_of(rows, name) for name in ("split", "clip_id"))
        is_first = np.zeros(len(chosen), dtype=np.bool_)
        is_first[:1] = True
        for column in (splits, ids):
            codes = coded(column).indices.to_numpy()[chosen]
            is_first[1:] |= codes[1:] != codes[:-1]
        start = np.flatnonzero(is_first)
        keys = [(splits[position], ids[position]) for position in chosen[start].tolist()]
        if any(now <= before for before, now in pairwise(keys)):
            # Not sorted, or clips in pieces: in memory manifests may have them in any order.
            names = [(splits[position], ids[position]) for position in chosen.tolist()]
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
        values = column_of(self._rows, name)
        return {values[position] for position in self._chosen.tolist()}

    def among(self, clips: Container[ClipKey]) -> ClipTable:
        """Return those of the clips (split, clip_id) that are among others."""
        splits, ids = (column_of(self._rows, name) for name in ("split", "clip_id"))
        return ClipTable(
            self._rows, [position for position in self._chosen.tolist() if (splits[position], ids[position]) in clips]
        )

    def keys(self, known: KnownRows) -> RowSet:
        """Return the keys of all rows, where `known` are those of `source`."""
        return known.keys_at(self._chosen)

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
        keys: Their keys.
        is_negative: Whether each of these rows is under a negative condition, bool [N].
        is_composed: Whether it has a picture of several clips, bool [N].
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        names, self._number = numbered_rows(rows)
        self.keys = RowSet(names, np.unique(self._number))
        # Where a key is there twice, the last row counts.
        self._position = np.zeros(len(self.keys), dtype=np.int64)
        self._position[np.searchsorted(self.keys.numbers, self._number)] = np.arange(len(rows))
        negative = np.array([value == NEGATIVE for value in column_of(rows, "polarity")], dtype=np.bool_)
        composed = np.array([value is not None for value in column_of(rows, "tiles")], dtype=np.bool_)
        self.is_negative, self.is_composed = negative[self._position], composed[self._position]

    def keys_at(self, positions: Positions) -> RowSet:
        """Return the keys of the rows at some positions."""
        return RowSet(self.keys.names, np.unique(self._number[positions]))

    def clips(self, keys: RowSet) -> ClipTable:
        """Return the clips of some rows."""
        _, (mine, its) = aligned(self.keys, keys)
        return ClipTable(self.rows, self._position[np.searchsorted(mine, its)])
