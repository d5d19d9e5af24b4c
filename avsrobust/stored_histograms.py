"""The histograms of ``scores.parquet``, read and written a thousand frames at a time: in memory a frame has 4 kB of them.

Conventions
    `StoredHistograms` reads the file again whenever it is asked: forwards, so that whoever goes through the frames in the file's
    order decodes each once. Recently read parts of all files are kept, `_KEPT_BYTES` of them together.
    A file that changes between two readings is refused: the content that was checked is gone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from avsrobust.errors import ResultsError
from avsrobust.heap import release_unused
from avsrobust.metrics.binary.histograms import Histograms, Positions
from avsrobust.metrics.binary.thresholds import NUM_THRESHOLDS, Counts
from avsrobust.parquet import Kind

HISTOGRAM_TYPE = pa.list_(pa.int32(), NUM_THRESHOLDS)
# A part has 1 MB: sixteen files can be read side by side, shards that are merged among them.
_ROWS_AT_ONCE = 1024
_KEPT_BYTES = 16 << 20
# Frames of a file from which on reading it leaves memory behind that is worth giving back.
_LARGE = 1 << 16
Ints32 = npt.NDArray[np.int32]


class _Kept:
    """The parts read last, over all files."""

    def __init__(self) -> None:
        self._parts: OrderedDict[tuple[int, int], Ints32] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> Ints32 | None:
        with self._lock:
            if key in self._parts:
                self._parts.move_to_end(key)
            return self._parts.get(key)

    def put(self, key: tuple[int, int], part: Ints32) -> None:
        with self._lock:
            self._bytes += part.nbytes - (self._parts.pop(key).nbytes if key in self._parts else 0)
            self._parts[key] = part
            while self._bytes > _KEPT_BYTES and len(self._parts) > 1:
                self._bytes -= self._parts.popitem(last=False)[1].nbytes

    def forget(self, owner: int) -> None:
        with self._lock:
            for key in [key for key in self._parts if key[0] == owner]:
                self._bytes -= self._parts.pop(key).nbytes


_kept = _Kept()


class StoredHistograms(Histograms):
    """A column of histograms in a file of scores.

    Args:
        path: The file.
        column: "inside" or "outside".
        rows: Number of frames in it.
        kind: Kind of the file, for messages.
    """

    def __init__(self, path: Path, column: str, rows: int, kind: Kind) -> None:
        super().__init__(rows)
        # The process may go to another folder.
        self._path, self._shown = path.absolute(), path
        self._column, self._kind = column, kind
        self._state = _state(self._path)
        self._reader: Iterator[tuple[int, Ints32]] | None = None
        self._next = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None, "_next": 0}

    def __del__(self) -> None:
        _kept.forget(id(self))

    def read(self, positions: Positions) -> Counts:
        """Return the histograms at `positions`. Raises `ResultsError` where the file is damaged or has changed."""
        found = np.empty((len(positions), NUM_THRESHOLDS), dtype=np.int64)
        part = positions // _ROWS_AT_ONCE
        for number in np.unique(part):
            here = np.flatnonzero(part == number)
            found[here] = self._part(int(number))[positions[here] - number * _ROWS_AT_ONCE]
        return found

    def _part(self, number: int) -> Ints32:
        known = _kept.get((id(self), number))
        if known is not None:
            return known
        if self._reader is None or number < self._next:
            if _state(self._path) != self._state:
                raise ResultsError(f"{self._shown}: has changed while it was read; run the same command again")
            self._reader = self._parts(self._first_group(number))
        for here, part in self._reader:
            _kept.put((id(self), here), part)
            self._next = here + 1
            if self._next * _ROWS_AT_ONCE >= len(self):
                # At its end a file need not stay open; of a small one there is nothing to give back.
                self._reader = None
                if len(self) >= _LARGE:
                    release_unused()
            if here == number:
                return part
        self._reader = None
        raise ResultsError(f"{self._shown}: ends before frame {number * _ROWS_AT_ONCE}; evaluate again")

    def _first_group(self, number: int) -> int:
        """Return the last row group that begins at a part's first row, not behind the part `number`."""
        if not number:
            return 0
        opened, first, chosen = self._kind.open(self._path), 0, 0
        for group in range(opened.num_row_groups):
            if first % _ROWS_AT_ONCE == 0 and first <= number * _ROWS_AT_ONCE:
                chosen = group
            first += opened.metadata.row_group(group).num_rows
        return chosen

    def _parts(self, group: int) -> Iterator[tuple[int, Ints32]]:
        """Yield the parts from a row group on, with their numbers."""
        opened = self._kind.open(self._path)
        first = sum(opened.metadata.row_group(before).num_rows for before in range(group))
        number, waiting, rows = first // _ROWS_AT_ONCE, list[Ints32](), 0
        for values in read_histograms(
            self._shown, opened, self._column, self._kind, range(group, opened.num_row_groups)
        ):
            waiting.append(values)
            rows += len(values)
            while rows >= _ROWS_AT_ONCE:
                whole = np.concatenate(waiting) if len(waiting) > 1 else waiting[0]
                yield number, whole[:_ROWS_AT_ONCE]
                number, rest = number + 1, whole[_ROWS_AT_ONCE:]
                waiting, rows = [rest] if len(rest) else [], len(rest)
        if waiting:
            yield number, np.concatenate(waiting)


def read_histograms(
    path: Path, opened: pq.ParquetFile, column: str, kind: Kind, groups: range | None = None
) -> Iterator[Ints32]:
    """Yield a column of histograms, int32 [K, 255], in the order of the file.

    Raises `ResultsError` where the file is damaged, or lacks a value.
    """
    for array in kind.read_batches(path, opened, column, _ROWS_AT_ONCE, groups):
        lists = array.cast(HISTOGRAM_TYPE)
        # Items without a list, those of another length, and null ones.
        if lists.null_count or lists.flatten().null_count:
            raise ResultsError(f"{path}: column {column} has empty cells; expected none; evaluate again")
        yield lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), NUM_THRESHOLDS)


def _state(path: Path) -> tuple[int, int, int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
