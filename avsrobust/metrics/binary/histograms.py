"""Histograms of many frames that are not held in memory: N rows of 255 counts, read where they are needed.

Conventions
    `Histograms` stands for an int64 array [N, 255] and takes its place in `FrameStatistics`. Indexing returns an array;
    `take` returns other histograms, and reads nothing. Whoever goes through all frames uses `blocks`, in the order they lie in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from avsrobust.metrics.binary.thresholds import NUM_THRESHOLDS, Counts

Positions = npt.NDArray[np.int64]
# 8 MB of histograms, each 2 kB.
_BLOCK = 4096


class Histograms(ABC):
    """Histograms of N frames; `num` is N."""

    dtype = np.dtype(np.int64)
    ndim = 2

    def __init__(self, num: int) -> None:
        self._num = num

    @abstractmethod
    def read(self, positions: Positions) -> Counts:
        """Return the histograms at `positions`, int64 [K] in 0 .. N - 1, in any order: [K, 255]."""

    def __len__(self) -> int:
        return self._num

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the array that it stands for."""
        return (self._num, NUM_THRESHOLDS)

    def __getitem__(self, key: Any) -> Any:
        """Return what numpy does for the array: `key` may be all that indexes one."""
        if isinstance(key, tuple):
            rows, *columns = key
            if rows is None or rows is Ellipsis:
                return np.asarray(self)[key]
            found = self[rows]
            return found[(slice(None), *columns) if found.ndim > 1 else tuple(columns)]
        positions = self._found_by(key)
        if positions.ndim == 1:
            return self.read(positions)
        return self.read(positions.reshape(-1)).reshape(*positions.shape, NUM_THRESHOLDS)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Counts:
        if copy is False:
            raise ValueError("histograms that are not in memory cannot be had without a copy")
        found = self.read(np.arange(self._num))
        return found if dtype is None else found.astype(dtype, copy=False)

    def take(self, index: Any) -> Histograms:
        """Return the histograms of some frames; `index` as numpy takes it."""
        return _Taken(self, self._found_by(index))

    def _found_by(self, key: Any) -> Positions:
        """Return the positions that numpy finds by `key`, without an array of all of them for a few."""
        if isinstance(key, slice):
            return np.arange(*key.indices(self._num))
        is_list = isinstance(key, np.ndarray) and key.dtype == np.int64 and key.ndim == 1 and len(key) > 0
        if is_list and -self._num <= key.min() and key.max() < self._num:
            positions: Positions = np.where(key < 0, key + self._num, key)
        else:
            positions = np.arange(self._num)[key]
        return positions

    def sum(self, axis: int) -> Counts:
        """Return the sum of each histogram (`axis` 1) or of each bin (0)."""
        parts = [block.sum(axis=axis) for block in blocks(self)]
        if axis == 0:
            return np.sum(parts, axis=0) if parts else np.zeros(NUM_THRESHOLDS, dtype=np.int64)
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


class EndHistograms(Histograms):
    """Histograms of maps that are 0 or 1 everywhere: `zeros` [N] pixels in the first bin, `ones` [N] in the last."""

    def __init__(self, zeros: Counts, ones: Counts) -> None:
        super().__init__(len(zeros))
        self._zeros, self._ones = zeros, ones

    def read(self, positions: Positions) -> Counts:
        """Return the histograms at `positions`."""
        found = np.zeros((len(positions), NUM_THRESHOLDS), dtype=np.int64)
        found[:, 0] = self._zeros[positions]
        found[:, -1] = self._ones[positions]
        return found

    def read_ends(self, positions: Positions) -> Counts:
        """Return the pixels at or above the first threshold and those at or above any other, int64 [K, 2]."""
        ones = self._ones[positions]
        return np.stack([self._zeros[positions] + ones, ones], axis=1)

    def take(self, index: Any) -> Histograms:
        """Return the histograms of some frames."""
        return EndHistograms(self._zeros[index], self._ones[index])


class _Taken(Histograms):
    """Some frames of other histograms."""

    def __init__(self, base: Histograms, positions: Positions) -> None:
        super().__init__(len(positions))
        self._base, self._positions = base, positions

    def read(self, positions: Positions) -> Counts:
        return self._base.read(self._positions[positions])

    def take(self, index: Any) -> Histograms:
        return _Taken(self._base, self._positions[index])


class JoinedHistograms(Histograms):
    """The histograms of all `parts`, in order."""

    def __init__(self, parts: Sequence[Histograms | Counts]) -> None:
        self._parts = tuple(part for part in parts if len(part))
        self._start = np.concatenate([[0], np.cumsum([len(part) for part in self._parts], dtype=np.int64)])
        super().__init__(int(self._start[-1]))

    def read(self, positions: Positions) -> Counts:
        """Return the histograms at `positions`."""
        found = np.empty((len(positions), NUM_THRESHOLDS), dtype=np.int64)
        part = np.searchsorted(self._start, positions, side="right") - 1
        for number in np.unique(part):
            here = np.flatnonzero(part == number)
            found[here] = self._parts[number][positions[here] - self._start[number]]
        return found


def blocks(histograms: Histograms | Counts, size: int = _BLOCK) -> Iterator[Counts]:
    """Yield the histograms of all frames in order, at most `size` at a time."""
    for first in range(0, len(histograms), size):
        yield histograms[first : first + size]


def joined(parts: Sequence[Histograms | Counts]) -> Histograms | Counts:
    """Return the histograms of all parts, in memory where all of them are."""
    in_memory = [part for part in parts if isinstance(part, np.ndarray)]
    return np.concatenate(in_memory) if len(in_memory) == len(parts) else JoinedHistograms(parts)
