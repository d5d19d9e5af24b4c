"""Binary scores of a data set: from its clips' scores to one line of a report.

Conventions
    As in `avsrobust.metrics.dataset_score`. A score of a condition is the sum of its rows' numerators over the sum of their
    denominators (`avsrobust.metrics.binary.clip_scores`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avsrobust.metrics.binary.clip_scores import ClipScores, clip_scores
from avsrobust.metrics.binary.counts import empty_prediction, perfect_prediction
from avsrobust.metrics.binary.frames import ScoredFrames
from avsrobust.metrics.binary.protocols import Protocol
from avsrobust.metrics.dataset_score import ConditionScore, DatasetScore, assemble, conditions_of
from avsrobust.metrics.rows import Flags
from avsrobust.vocabulary import NEGATIVES


def dataset_score(frames: ScoredFrames, protocol: Protocol, negatives: Sequence[str] = NEGATIVES) -> DatasetScore:
    """Return the scores of a data set.

    Args:
        frames: All scored frames.
        protocol: The protocol.
        negatives: The negative conditions that G averages over.
    """
    return summarise(clip_scores(frames, protocol), negatives)


def trivial_score(frames: ScoredFrames, protocol: Protocol, negatives: Sequence[str] = NEGATIVES) -> DatasetScore:
    """Return the `dataset_score` of a model that never activates a pixel, on the same targets."""
    return dataset_score(trivial_frames(frames), protocol, negatives)


def trivial_frames(frames: ScoredFrames) -> ScoredFrames:
    """Return the scored frames of a model that never activates a pixel, on the same targets."""
    return frames.with_statistics(empty_prediction(frames.statistics))


def ceiling_score(frames: ScoredFrames, protocol: Protocol, negatives: Sequence[str] = NEGATIVES) -> DatasetScore:
    """Return the `dataset_score` of a perfect model on the same targets: the best that the protocol lets any model reach."""
    return dataset_score(perfect_frames(frames), protocol, negatives)


def perfect_frames(frames: ScoredFrames) -> ScoredFrames:
    """Return the scored frames of a perfect model: the target under positive conditions, nothing under negative ones."""
    return frames.with_statistics(perfect_prediction(frames.statistics, ~frames.negative))


def summarise(scores: ClipScores, negatives: Sequence[str] = NEGATIVES) -> DatasetScore:
    """Return the data set's scores from those of its rows.

    Args:
        scores: Scores of all rows.
        negatives: The negative conditions that G averages over.
    """
    return assemble(
        scores.protocol,
        tuple(
            _condition_score(scores, name, level, chosen) for name, level, chosen in conditions_of(scores, negatives)
        ),
        clips=len(np.unique(scores.clip[~scores.skipped])),
        clips_skipped=len(np.unique(scores.clip[scores.skipped])),
        empty_frames=_empty_frames(scores),
        negatives=negatives,
    )


def _condition_score(scores: ClipScores, name: str, level: float | None, chosen: Flags) -> ConditionScore:
    """Scores over the rows `chosen` [R] of one condition and level."""
    numerator, denominator = scores.numerator[chosen].sum(axis=0), scores.denominator[chosen].sum(axis=0)
    miou, f, fpr = (
        float(above / below) if below > 0 else None for above, below in zip(numerator, denominator, strict=True)
    )
    counted = chosen & ~scores.skipped
    return ConditionScore(
        condition=name,
        level=level,
        negative=bool(scores.negative[chosen][0]),
        miou=miou,
        f=f,
        fpr=fpr,
        clips=int(np.count_nonzero(counted)),
        frames=int(scores.frames[counted].sum()),
        empty_frames=int(scores.empty_frames[counted].sum()),
        skipped=int(np.count_nonzero(chosen & scores.skipped)),
    )


def _empty_frames(scores: ClipScores) -> int:
    """Count the frames with an empty target; rows of a clip share their targets, so the fullest row has all of them."""
    clips, clip_index = np.unique(scores.clip, return_inverse=True)
    empty = np.zeros(len(clips), dtype=np.int64)
    np.maximum.at(empty, clip_index, scores.empty_frames)
    return int(empty.sum())
