"""Scores of a model that predicts nothing and of a perfect one, computed once for all models of the same targets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from avsrobust.metrics import ClipScores, Protocol, ScoredFrames, clip_scores, perfect_frames, trivial_frames


class Bounds:
    """The binary scores of empty and of perfect predictions, by their targets; those of one table."""

    def __init__(self) -> None:
        self._found: dict[tuple[bytes, tuple[Protocol, ...]], list[list[ClipScores]]] = {}

    def of(self, frames: ScoredFrames, protocols: Sequence[Protocol]) -> list[list[ClipScores]]:
        """Return the scores of an empty prediction, and those of a perfect one, on the targets of `frames`.

        Args:
            frames: A model's scored frames.
            protocols: The protocols; each list has the scores under each of them.
        """
        key = (_targets(frames), tuple(protocols))
        if key not in self._found:
            # One after the other: the histograms of many frames are large.
            self._found[key] = [
                [clip_scores(bound, protocol) for protocol in protocols]
                for bound in (make(frames) for make in (trivial_frames, perfect_frames))
            ]
        return self._found[key]


def _targets(frames: ScoredFrames) -> bytes:
    """A checksum of all that the scores of such predictions depend on."""
    found = hashlib.sha256()
    statistics = frames.statistics
    columns = (statistics.pixels, statistics.target_pixels, frames.clip, frames.negative, frames.level, frames.draw, frames.frame)
    for column in columns:
        found.update(b"none" if column is None else np.ascontiguousarray(column).tobytes())
    found.update("\0".join(frames.condition).encode())
    return found.digest()
