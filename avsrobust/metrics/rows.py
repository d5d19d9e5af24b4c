"""Rows: scored frames grouped by the audio that the model was given with a clip.

Conventions
    N frames in any order. Frames that agree in clip, condition, level and draw form a row; R rows, sorted by condition, level
    (none first), draw and clip. A condition may draw its audio several times for each clip: the C clip rows, one per condition,
    level and clip, sorted likewise, average the draws of a clip before anything else. Without such draws the two are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from avsrobust.metrics.coded_texts import CodedTexts

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.str_]

# Frames whose sums over thresholds are added up as one: another number changes last digits.
_BLOCK_FRAMES = 1024
# Frames whose histograms, 2 kB each and as much again for each step of the work, stay in the cache together.
CACHED_FRAMES = 128
# glibc returns freed arrays to the system unless they are smaller than the largest that was freed before.
_REUSED_BYTES = 1 << 24


@dataclass(frozen=True)
class ClipRows:
    """C clips under a condition and level each, whatever the number of draws.

    Attributes:
        clip: Clip of each, int64 [C].
        condition: Condition of each, str [C].
        level: Level of each, float64 [C]; NaN where it has none.
        negative: Whether none of the picture's objects makes the sound, bool [C].
    """

    clip: Ints
    condition: Strings
    level: Floats
    negative: Flags

    def __len__(self) -> int:
        return len(self.clip)

    def under(self, key: tuple[str, float | None]) -> Flags:
        """Return bool [C]: those under one condition at one level (None: without a level)."""
        return rows_under(self.condition, self.level, key)


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
        draw: Number of each row's draw, int64 [R]; 0 where a condition draws once.
    """

    order: Ints
    start: Ints
    clip: Ints
    condition: Strings
    level: Floats
    negative: Flags
    draw: Ints

    def __len__(self) -> int:
        return len(self.start)

    def under(self, key: tuple[str, float | None]) -> Flags:
        """Return bool [R]: the rows under one condition at one level (None: without a level)."""
        return rows_under(self.condition, self.level, key)

    @cached_property
    def clip_row(self) -> Ints:
        """The clip row of each row, int64 [R]."""
        if not self.draw.any():
            return np.arange(len(self))
        level = np.where(np.isnan(self.level), -np.inf, self.level)
        keys = np.rec.fromarrays([self.condition, level, self.clip])
        return np.unique(keys, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def clips(self) -> ClipRows:
        """The clip rows."""
        if not self.draw.any():
            return ClipRows(self.clip, self.condition, self.level, self.negative)
        first = np.unique(self.clip_row, return_index=True)[1]
        return ClipRows(self.clip[first], self.condition[first], self.level[first], self.negative[first])

    @cached_property
    def weight(self) -> Floats:
        """One over the number of draws of each row's clip row, float64 [R]."""
        weight: Floats = 1.0 / np.bincount(self.clip_row)[self.clip_row]
        return weight

    def over_draws(self, values: Floats) -> Floats:
        """Return the mean of `values` [R, ...] over the draws of each clip row: float64 [C, ...]."""
        if not self.draw.any():
            return values
        means = np.zeros((len(self.clips), *values.shape[1:]))
        np.add.at(means, self.clip_row, values * self.weight.reshape(-1, *[1] * (values.ndim - 1)))
        return means

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
        return blocks_of(self.order, self.start, size)


def rows_under(condition: Strings | CodedTexts, level: Floats, key: tuple[str, float | None]) -> Flags:
    """Return bool [R]: the rows of one condition and level, of `condition` [R] and `level` [R] (NaN: none)."""
    name, value = key
    under: Flags = (condition == name) & (np.isnan(level) if value is None else level == value)
    return under


def distinct_conditions(condition: Strings, level: Floats) -> set[tuple[str, float]]:
    """Return the conditions and levels of rows, `condition` [R] and `level` [R], which mostly follow those of the same ones."""
    differs = np.ones(len(condition), dtype=np.bool_)
    differs[1:] = (condition[1:] != condition[:-1]) | (level[1:] != level[:-1])
    return {(str(name), float(value)) for name, value in zip(condition[differs], level[differs], strict=True)}


def blocks_of(order: Ints, start: Ints, size: int = _BLOCK_FRAMES) -> Iterator[tuple[slice, Ints, Ints]]:
    """Yield groups of whole runs of `order` that begin at `start`, as `Rows.blocks` does."""
    stop = np.append(start[1:], len(order))
    first = 0
    # Freed at once, never written to: from here on the arrays of one block serve the next. Fresh pages take as long as the work.
    np.empty(_REUSED_BYTES, dtype=np.uint8)
    while first < len(start):
        last = max(int(np.searchsorted(stop, start[first] + size, side="right")), first + 1)
        begin = start[first]
        yield slice(first, last), order[begin : stop[last - 1]], start[first:last] - begin
        first = last


def in_place(order: Ints, start: Ints) -> tuple[Ints, Ints, Ints]:
    """Sort the runs of `order` that begin at `start` by their first frame.

    Returns:
        The number of each run, int64 [R], the frames of the runs one after the other, and where each begins in these, int64 [R].
    """
    lengths = np.diff(np.append(start, len(order)))
    runs = np.argsort(order[start], kind="stable")
    starts = np.cumsum(lengths[runs]) - lengths[runs]
    frames = order[np.repeat(start[runs] - starts, lengths[runs]) + np.arange(len(order))]
    return runs, frames, starts


def sums_from(values: npt.NDArray[np.generic], start: Ints) -> Floats:
    """Sum the runs of `values` [N, ...] that begin at `start` [R] (strictly increasing): float64 [R, ...]."""
    if len(start) == 0:
        return np.zeros((0, *values.shape[1:]))
    return np.add.reduceat(values, start, axis=0, dtype=np.float64)
