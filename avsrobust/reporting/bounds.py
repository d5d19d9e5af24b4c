"""Scores of a model that predicts nothing and of a perfect one, computed once for all models of the same targets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from avsrobust.metrics import (
    ClipScores,
    DatasetScore,
    Protocol,
    ScoredFrames,
    clip_scores,
    perfect_frames,
    summarise,
    trivial_frames,
)

# Frames whose targets are hashed at once.
_BLOCK_FRAMES = 1 << 16


class Bounds:
    """The binary scores of empty and of perfect predictions, by their targets; those of one table.

    Args:
        negatives: The negative conditions that G averages over.
    """

    def __init__(self, negatives: Sequence[str]) -> None:
        self._negatives = tuple(negatives)
        self._found: dict[tuple[bytes, Protocol], tuple[list[DatasetScore], list[ClipScores]]] = {}

    def of(
        self, frames: ScoredFrames, protocols: Sequence[Protocol], *, clips: bool = False
    ) -> list[tuple[list[DatasetScore], list[ClipScores]]]:
        """Return the scores of an empty prediction and of a perfect one on the targets of `frames`, under each protocol.

        Args:
            frames: A model's scored frames.
            protocols: The protocols.
            clips: Return the scores of all clips too, which take far more memory; else the second lists are empty.
        """
        targets = _targets(frames)
        keys = [(targets, protocol) for protocol in protocols]
        missing = [key for key in keys if len(self._found.get(key, ((), ()))[int(clips)]) == 0]
        for make in (trivial_frames, perfect_frames) if missing else ():
            # One after the other: those of many frames are large.
            bound = make(frames)
            for key in missing:
                if make is trivial_frames:
                    self._found[key] = ([], [])
                summaries, kept = self._found[key]
                scores = clip_scores(bound, key[1])
                summaries.append(summarise(scores, self._negatives))
                if clips:
                    kept.append(scores)
                del scores
            del bound
        return [self._found[key] for key in keys]


def _targets(frames: ScoredFrames) -> bytes:
    """A checksum of all that the scores of such predictions depend on."""
    found = hashlib.sha256()
    statistics = frames.statistics
    columns = (
        statistics.pixels,
        statistics.target_pixels,
        frames.clip,
        frames.negative,
        frames.level,
        frames.draw,
        frames.frame,
    )
    for column in (*columns, frames.condition):
        if column is None:
            found.update(b"none")
            continue
        found.update(str(column.dtype).encode())
        # A part at a time, since a level may be one number that stands for all.
        for first in range(0, len(frames), _BLOCK_FRAMES):
            found.update(np.ascontiguousarray(column[first : first + _BLOCK_FRAMES]).tobytes())
    return found.digest()
