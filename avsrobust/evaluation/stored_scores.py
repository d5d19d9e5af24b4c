"""Scores that an evaluation puts together: those of a folder, or of its parts, in few bytes a frame (`score_frames`).

Conventions
    Sources count in the order in which they are taken; which of several rows counts, `avsrobust.score_frames` says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avsrobust.errors import ResultsError
from avsrobust.results import ScoreInfo, Scores, write_table
from avsrobust.row_sets import RowSet
from avsrobust.score_frames import FrameTable


@dataclass(frozen=True)
class Content:
    """The content of a file of scores, in numbers.

    Attributes:
        splits: Splits, sorted.
        conditions: Conditions, sorted.
        has_classes: Whether there are counts of classes.
        clips: Number of clips.
        frames: Number of frames, each counted once for all rows of its clip.
        frames_with_empty_target: Those of them whose target is empty.
    """

    splits: list[str]
    conditions: list[str]
    has_classes: bool
    clips: int
    frames: int
    frames_with_empty_target: int


@dataclass(frozen=True)
class StoredScores:
    """Frames of one or several files of scores, and what the file says of itself that they are, or will be, in.

    Attributes:
        info: Metadata.
        frames: All frames, those of a row that several files hold included.
    """

    info: ScoreInfo
    frames: FrameTable

    @classmethod
    def of(cls, scores: Scores) -> StoredScores:
        """Return the frames of one file."""
        return cls(scores.info, frames_of([scores], scores.info))

    @cached_property
    def _chosen(self) -> npt.NDArray[np.bool_]:
        return self.frames.first_of_each_row()

    @property
    def rows(self) -> RowSet:
        """Keys of the rows."""
        return RowSet.of_columns(*self.frames.row_columns())

    @property
    def rows_with_overlap(self) -> RowSet:
        """Keys of the rows that are compared with the clean mask."""
        return RowSet.of_columns(*self.frames.row_columns(self.frames.is_compared))

    @property
    def has_classes(self) -> bool:
        """Whether there are counts of classes."""
        return self.frames.has_classes is True

    @property
    def content(self) -> Content:
        """What the file holds, of a row that several sources hold the frames of the first."""
        frames, empty = self.frames.count_frames(self._chosen)
        return Content(
            splits=self.frames.distinct("split", self._chosen),
            conditions=self.frames.distinct("condition", self._chosen),
            has_classes=self.has_classes,
            clips=self.frames.count_clips(self._chosen),
            frames=frames,
            frames_with_empty_target=empty,
        )

    def write(self, path: Path, *, use_up: bool = False) -> None:
        """Write the file; `use_up`: nobody asks for the frames any more, and each column is given up once it is written."""
        write_table(path, self.frames.sorted(self._chosen, use_up=use_up), self.info)


def frames_of(
    sources: Iterable[Scores | FrameTable], info: ScoreInfo, into: FrameTable | None = None, *, use_up: bool = False
) -> FrameTable:
    """Return the frames of several sources, in their order; of no more than one the whole is in memory at once.

    Args:
        sources: The sources.
        info: Metadata, for messages.
        into: A table that takes the frames behind those that it has; None: a new one.
        use_up: Nobody asks the sources that are tables for their frames any more, and each column is given up once it is taken.

    Raises:
        ResultsError: Some have classes and some have not.
    """
    table = FrameTable() if into is None else into
    for source in sources:
        of_classes, count = _kind(source)
        if count and table.has_classes not in (None, of_classes):
            raise ResultsError(
                f"{info.model} on {info.dataset}: some clips were scored by class and some were not; expected one of the two; "
                "evaluate with --replace"
            )
        if isinstance(source, FrameTable):
            table.extend(source, use_up=use_up)
        else:
            table.add(source.index, source.statistics, source.classes, source.overlaps)
    return table


def _kind(source: Scores | FrameTable) -> tuple[bool | None, int]:
    """Return whether a source has classes, and its number of frames."""
    if isinstance(source, FrameTable):
        return source.has_classes, len(source)
    return source.classes is not None, len(source.index)
