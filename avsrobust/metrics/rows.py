"""Rows: scored frames grouped by the audio that the model was given with a clip.

Conventions
    N frames in any order. Frames that agree in clip, condition and level form a row; R rows, sorted by condition, level (none
    first) and clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.str_]

# Enough frames for numpy to be quick, few enough for their histograms (2 kB each) to stay in the cache.
_BLOCK_FRAMES = 1024


@dataclass(frozen=True)
class Rows:
    """Index of R rows over N frames: frames ``order[start[r]:start[r + 1]]`` are those of row r; the last row ends at N.

    Attributes:
        order: Frames in the order of the rows, int64 [N].
        start: First frame of each row in `order`, int64 [R].
        clip: Clip of each row, int64 [R].
        condition: Condition of each row, str [R].
        level: Level of each row in dB, float64 [R]; NaN where it has none.
        negative: Whether none of the picture's objects makes the sound, bool [R].
    """

    order: Ints
    start: Ints
    clip: Ints
    condition: Strings
    level: Floats
    negative: Flags

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def stop(self) -> Ints:
        """End of each row in `order`, int64 [R]."""
        return np.append(self.start[1:], len(self.order)).astype(np.int64)

    @cached_property
    def frames(self) -> Ints:
        """Number of frames of each row, int64 [R]."""
        return self.stop - self.start

    @cached_property
    def of_frame(self) -> Ints:
        """The row of each frame, int64 [N]."""
        row = np.empty(len(self.order), dtype=np.int64)
        row[self.order] = np.repeat(np.arange(len(self)), self.frames)
        return row

    def sum(self, values: npt.NDArray[np.generic]) -> Floats:
        """Sum `values` [N, ...], given in the order of the rows' frames, over each row: float64 [R, ...]."""
        return sums_from(values, self.start)

    def blocks(self, size: int = _BLOCK_FRAMES) -> Iterator[tuple[slice, Ints, Ints]]:
        """Yield groups of whole rows, about `size` frames each: their slice, their frames, and where each row starts in these."""
        stop = self.stop
        first = 0
        while first < len(self):
            last = max(int(np.searchsorted(stop, self.start[first] + size, side="right")), first + 1)
            begin = self.start[first]
            yield slice(first, last), self.order[begin : stop[last - 1]], self.start[first:last] - begin
            first = last


def sums_from(values: npt.NDArray[np.generic], start: Ints) -> Floats:
    """Sum the runs of `values` [N, ...] that begin at `start` [R] (strictly increasing): float64 [R, ...]."""
    if len(start) == 0:
        return np.zeros((0, *values.shape[1:]))
    return np.add.reduceat(values, start, axis=0, dtype=np.float64)
