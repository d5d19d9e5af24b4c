"""Scores of a model that predicts nothing and of a perfect one, computed once for all models of the same targets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avsrobust.metrics import (
    DatasetScore,
    Protocol,
    ScoredFrames,
    clip_scores,
    perfect_frames,
    summarise,
    trivial_frames,
)
from avsrobust.reporting.breakdowns import ClipNumbers, scores_of_clips

# Frames whose targets are hashed at once.
_BLOCK_FRAMES = 1 << 16


@dataclass(frozen=True)
class BoundScores:
    """Scores of an empty prediction and of a perfect one, in this order, under one protocol.

    Attributes:
        overall: Over all clips.
        parts: Over the clips of each part of a breakdown, by the part's title.
    """

    overall: list[DatasetScore]
    parts: Mapping[str, list[DatasetScore]]


class Bounds:
    """The binary scores of empty and of perfect predictions, by their targets; those of one table.

    Args:
        negatives: The negative conditions that G averages over.
    """

    def __init__(self, negatives: Sequence[str]) -> None:
        self._negatives = tuple(negatives)
        self._found: dict[tuple[bytes, Protocol], BoundScores] = {}

    def of(
        self, frames: ScoredFrames, protocols: Sequence[Protocol], parts: Mapping[str, ClipNumbers]
    ) -> list[BoundScores]:
        """Return the scores of an empty prediction and of a perfect one on the targets of `frames`, under each protocol.

        Args:
            frames: A model's scored frames.
            protocols: The protocols.
            parts: Clips of each part of a breakdown, by its title; empty: no breakdown.
        """
        targets = _targets(frames, parts)
        keys = [(targets, protocol) for protocol in protocols]
        missing = [key for key in keys if key not in self._found]
        for key in missing:
            self._found[key] = BoundScores([], {title: [] for title in parts})
        for make in (trivial_frames, perfect_frames) if missing else ():
            # One after the other, and their clips' scores one protocol after the other: those of many frames are large.
            bound = make(frames)
            for key in missing:
                scores = clip_scores(bound, key[1])
                found = self._found[key]
                found.overall.append(summarise(scores, self._negatives))
                for title, clips in parts.items():
                    found.parts[title].append(summarise(scores_of_clips(scores, clips), self._negatives))
                del scores
            del bound
        return [self._found[key] for key in keys]


def _targets(frames: ScoredFrames, parts: Mapping[str, ClipNumbers]) -> bytes:
    """A checksum of all that the scores of such predictions depend on."""
    found = hashlib.sha256()
    for title, clips in parts.items():
        found.update(repr((title, len(clips))).encode())
        found.update(np.ascontiguousarray(clips).tobytes())
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
