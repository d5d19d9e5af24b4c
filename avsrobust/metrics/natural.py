"""Natural negatives: frames of the data set itself in which nothing that sounds is in the picture.

Conventions
    Frames under clean audio alone, in two groups that share no frame: frames with an empty target in clips that have an
    on-screen label, and all frames of clips without any such label. The false positive rate of a group is the mean over its
    clips of the mean activated share of their frames, in [0, 1]; 0 is best, and a model that predicts nothing has it.
    These frames enter no G score, which is about audio that was exchanged; they do count in the clean scores of protocols that
    score empty targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avsrobust.metrics.binary.counts import activated_at
from avsrobust.metrics.binary.frames import ScoredFrames
from avsrobust.metrics.rows import Flags
from avsrobust.vocabulary import CLEAN

EMPTY_FRAMES = "empty_frames"
UNLABELLED_CLIPS = "unlabelled_clips"


@dataclass(frozen=True)
class NaturalNegatives:
    """False positives on one group of frames.

    Attributes:
        group: `EMPTY_FRAMES` or `UNLABELLED_CLIPS`.
        fpr: Mean over clips of the mean activated share of their frames; None where the group has no frame.
        marked_rate: Mean over clips of the share of frames in which anything is marked, or None.
        clips: Clips with a frame of the group.
        frames: Frames of the group.
    """

    group: str
    fpr: float | None
    marked_rate: float | None
    clips: int
    frames: int


def natural_negatives(
    frames: ScoredFrames, is_unlabelled: Flags, threshold: float = 0.5
) -> tuple[NaturalNegatives, NaturalNegatives]:
    """Return the false positives under clean audio on frames with an empty target and on clips without an on-screen label.

    Args:
        frames: All scored frames.
        is_unlabelled: Whether the clip of each frame has no on-screen label, bool [N].
        threshold: 0.5, 0.4 or k / 254 (`metrics.binary.counts.activated_at`).
    """
    is_clean = frames.condition == CLEAN
    is_empty = frames.statistics.target_pixels == 0
    return (
        _false_positives(EMPTY_FRAMES, frames, is_clean & is_empty & ~is_unlabelled, threshold),
        _false_positives(UNLABELLED_CLIPS, frames, is_clean & is_unlabelled, threshold),
    )


def _false_positives(group: str, frames: ScoredFrames, chosen: Flags, threshold: float) -> NaturalNegatives:
    """False positives on the frames `chosen`, bool [N]."""
    if not chosen.any():
        return NaturalNegatives(group, None, None, 0, 0)
    tp, fp = activated_at(frames.statistics, threshold)
    activated = (tp + fp)[chosen]
    clips, index = np.unique(frames.clip[chosen], return_inverse=True)
    shares = (activated / frames.statistics.pixels[chosen], activated > 0)
    fpr, marked = (float((np.bincount(index, weights=share) / np.bincount(index)).mean()) for share in shares)
    return NaturalNegatives(group, fpr, marked, len(clips), int(np.count_nonzero(chosen)))
