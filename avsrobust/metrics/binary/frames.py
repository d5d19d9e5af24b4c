"""Scored frames: the counts of each frame with its clip, condition, polarity and level.

Conventions
    N frames in any order. `clip` numbers the clips (any integers, one per clip); `condition`, `level` and `negative` describe
    the audio that the model was given. `rows` groups the frames (`avsrobust.metrics.rows`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from avsrobust.errors import MetricInputError
from avsrobust.metrics.binary.counts import FrameStatistics, take
from avsrobust.metrics.rows import Flags, Ints, Rows, Strings


@dataclass(frozen=True)
class ScoredFrames:
    """Statistics of N frames and, for each, its clip, condition, polarity, level and draw.

    Attributes:
        statistics: Statistics of the frames.
        clip: Clip of each frame, int [N].
        condition: Condition of each frame, str [N] (numpy strings, not objects).
        negative: Whether none of the picture's objects makes the sound, bool [N].
        level: Level in dB, float [N]; NaN (or the whole array None) where there is none.
        draw: Number of the draw, int [N]; None: every condition draws once.
        frame: Number of each frame in its clip, int [N], for scores that pair frames of different rows; None: not known.

    Raises:
        MetricInputError: An array has another shape or type.
    """

    statistics: FrameStatistics
    clip: npt.NDArray[np.integer]
    condition: Strings
    negative: Flags
    level: npt.NDArray[np.floating] | None = None
    draw: npt.NDArray[np.integer] | None = None
    frame: npt.NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        expected = {"clip": "iu", "condition": "U", "negative": "b", "level": "f", "draw": "iu", "frame": "iu"}
        for name, kinds in expected.items():
            array = getattr(self, name)
            if array is None and name in ("level", "draw", "frame"):
                continue
            if array.shape != (len(self.statistics),):
                raise MetricInputError(
                    f"{name}: found shape {array.shape}; expected ({len(self.statistics)},), one entry per frame"
                )
            if array.dtype.kind not in kinds:
                raise MetricInputError(
                    f"{name}: found dtype {array.dtype}; expected one of kind '{kinds}' (see ScoredFrames)"
                )

    def __len__(self) -> int:
        return len(self.statistics)

    def select(self, index: npt.NDArray[np.integer] | Flags) -> ScoredFrames:
        """Return some of the frames, by integers or bool [N], for example those of one category."""
        return ScoredFrames(
            take(self.statistics, index),
            self.clip[index],
            self.condition[index],
            self.negative[index],
            None if self.level is None else self.level[index],
            None if self.draw is None else self.draw[index],
            None if self.frame is None else self.frame[index],
        )

    @property
    def numbers(self) -> Ints:
        """The number of each frame in its clip, int64 [N]; where they are not known, its position in its row."""
        if self.frame is not None:
            return self.frame.astype(np.int64)
        numbers = np.empty(len(self), dtype=np.int64)
        numbers[self.rows.order] = np.arange(len(self)) - np.repeat(self.rows.start, self.rows.frames)
        return numbers

    @cached_property
    def rows(self) -> Rows:
        """The frames grouped by condition, level, draw and clip.

        Raises:
            MetricInputError: Frames of one row disagree about their polarity.
        """
        level = np.full(len(self), np.nan) if self.level is None else self.level.astype(np.float64)
        _, condition_code = np.unique(self.condition, return_inverse=True)
        # No level sorts first, as in the manifest.
        level_key = np.where(np.isnan(level), -np.inf, level)
        draw = np.zeros(len(self), dtype=np.int64) if self.draw is None else self.draw.astype(np.int64)
        keys = (condition_code, level_key, draw, self.clip)
        order = np.lexsort(keys[::-1])
        is_first = np.ones(len(order), dtype=np.bool_)
        is_first[1:] = False
        for key in keys:
            ordered = key[order]
            is_first[1:] |= ordered[1:] != ordered[:-1]
        start = np.flatnonzero(is_first)
        head = order[start]
        rows = Rows(
            order,
            start,
            self.clip[head].astype(np.int64),
            self.condition[head],
            level[head],
            self.negative[head],
            draw[head],
        )
        if (np.repeat(rows.negative, rows.frames) != self.negative[order]).any():
            raise MetricInputError("negative: frames of one clip and condition disagree; expected one polarity per row")
        return rows
