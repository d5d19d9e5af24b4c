"""Scored frames: the counts of each frame with its clip, condition, polarity and level.

Conventions
    N frames in any order. `clip` numbers the clips (any integers, one per clip); `condition`, `level` and `negative` describe
    the audio that the model was given. `rows` groups the frames (`avsrobust.metrics.rows`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from avsrobust.errors import MetricInputError
from avsrobust.metrics.binary.counts import FrameStatistics, take
from avsrobust.metrics.coded_texts import CodedTexts
from avsrobust.metrics.rows import Flags, Ints, Rows, Strings


@dataclass(frozen=True)
class ScoredFrames:
    """Statistics of N frames and, for each, its clip, condition, polarity, level and draw.

    Attributes:
        statistics: Statistics of the frames.
        clip: Clip of each frame, int [N].
        condition: Condition of each frame, str [N] (numpy strings, not objects), or `CodedTexts` that stand for them.
        negative: Whether none of the picture's objects makes the sound, bool [N].
        level: Level in dB, float [N]; NaN (or the whole array None) where there is none.
        draw: Number of the draw, int [N]; None: every condition draws once.
        frame: Number of each frame in its clip, int [N], for scores that pair frames of different rows; None: not known.

    Raises:
        MetricInputError: An array has another shape or type.
    """

    statistics: FrameStatistics
    clip: npt.NDArray[np.integer]
    condition: Strings | CodedTexts
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

    def with_statistics(self, statistics: FrameStatistics) -> ScoredFrames:
        """Return the same frames with other statistics; their rows are found once for both."""
        found = replace(self, statistics=statistics)
        found.__dict__["rows"] = self.rows
        return found

    def forget_rows(self) -> None:
        """Keep the rows no longer: of many frames they take as much memory as the counts, and are found again when asked for."""
        self.__dict__.pop("rows", None)

    @cached_property
    def rows(self) -> Rows:
        """The frames grouped by condition, level, draw and clip.

        Raises:
            MetricInputError: Frames of one row disagree about their polarity.
        """
        level = np.broadcast_to(np.nan, len(self)) if self.level is None else self.level
        draw = np.broadcast_to(np.int64(0), len(self)) if self.draw is None else self.draw
        # Frames of a row mostly follow one another: texts are compared with their neighbours, and few are sorted.
        keys = [_codes(self.condition), draw, self.clip]
        if not np.isnan(level).all():
            # No level sorts first, as in the manifest.
            keys.insert(1, np.where(np.isnan(level), -np.inf, level))
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
            level[head].astype(np.float64),
            self.negative[head],
            draw[head].astype(np.int64),
        )
        if (np.repeat(rows.negative, rows.frames) != self.negative[order]).any():
            raise MetricInputError("negative: frames of one clip and condition disagree; expected one polarity per row")
        return rows


def _codes(texts: Strings | CodedTexts) -> npt.NDArray[np.int32]:
    """Return a number for each text, int32 [N], in the order of the texts."""
    if isinstance(texts, CodedTexts):
        return texts.ranks
    is_first = np.ones(len(texts), dtype=np.bool_)
    is_first[1:] = texts[1:] != texts[:-1]
    first = np.flatnonzero(is_first)
    codes = np.unique(texts[first], return_inverse=True)[1].astype(np.int32)
    return np.repeat(codes, np.diff(np.append(first, len(texts))))
