"""Paired bootstrap over clips: does a difference between two models exceed sampling error?

Conventions
    A and B are scores of two models under the same protocol, whose clip numbers mean the same clips. Only rows that both
    have count. A resample draws as many clips as there are common ones, with replacement, with all their conditions.
    Differences are A minus B, in fractions.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from avsrobust.errors import MetricInputError, OptionError, did_you_mean
from avsrobust.metrics.binary.protocols import Protocol
from avsrobust.metrics.dataset_score import MEASURES
from avsrobust.metrics.g_score import g_scores
from avsrobust.metrics.rows import Floats, Ints
from avsrobust.metrics.semantic.protocols import SemanticProtocol
from avsrobust.vocabulary import CLEAN, NEGATIVES

# The order of the conditions in every array of scores here.
CONDITIONS = (CLEAN, *NEGATIVES)
_INTERVAL = (2.5, 97.5)
_BLOCK_DRAWS = 1 << 20
# Of few clips a block would otherwise hold so many resamples that their scores do not fit into memory.
_BLOCK_RESAMPLES = 1024


def _under(condition: str, measure: str) -> Callable[[Floats], Floats]:
    place, column = CONDITIONS.index(condition), MEASURES.index(measure)
    return lambda scores: scores[..., place, column]


def _negative(measure: str) -> Callable[[Floats], Floats]:
    column = MEASURES.index(measure)
    return lambda scores: scores[..., 1:, column].mean(axis=-1)


def _g(measure: str) -> Callable[[Floats], Floats]:
    return lambda scores: g_scores(_under(CLEAN, measure)(scores), _negative(measure)(scores))


# Each maps scores [..., 4 conditions, 3 measures] to [...]; NaN where a condition is missing.
STATISTICS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        "mIoU": _under(CLEAN, "miou"),
        "F": _under(CLEAN, "f"),
        "mIoU-": _negative("miou"),
        "F-": _negative("f"),
        "G_mIoU": _g("miou"),
        "G_F": _g("f"),
        "G_FPR": _negative("fpr"),
    }
)
# The same under one negative condition; named as the columns of the report.
CONDITION_STATISTICS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        f"{condition}_{title}": _under(condition, measure)
        for condition in NEGATIVES
        for title, measure in (("mIoU", "miou"), ("F", "f"), ("FPR", "fpr"))
    }
)
_KNOWN = {**STATISTICS, **CONDITION_STATISTICS}


class OfClips(typing.Protocol):
    """One model's numbers of clips."""

    @property
    def protocol(self) -> Protocol | SemanticProtocol:
        """What the numbers are taken by."""

    @property
    def clip(self) -> Ints:
        """The clip of each number."""


@dataclass(frozen=True)
class PairedDifference:
    """Difference A - B of one statistic, with its 95 % percentile interval and two-sided p.

    `a`, `b`: the statistic on the common clips. `p`: twice the smaller share of resamples whose difference is not above, or
    not below, 0 (with one added to both counts, so that it is never 0). `clips` common clips. `samples` resamples in which
    the statistic is defined for both. All None but the counts where it is undefined for the clips themselves.
    """

    statistic: str
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    clips: int
    samples: int


def common_clips(a: OfClips, b: OfClips) -> Ints:
    """Return the clips that both have, sorted. Raises `MetricInputError` where the two are not of one protocol."""
    if a.protocol != b.protocol:
        raise MetricInputError(
            f"a, b: found protocols {a.protocol.name} and {b.protocol.name}; expected one protocol for both models"
        )
    return np.intersect1d(a.clip, b.clip)


def resampled_differences(
    scores_of: Callable[[Floats], Floats],
    clips: int,
    statistics: Sequence[str],
    samples: int,
    generator: np.random.Generator,
) -> tuple[PairedDifference, ...]:
    """Return the differences of several statistics from the same resamples of `clips` common clips.

    `scores_of` maps how often each clip was drawn, float64 [R, clips], to the scores of these R resamples, float64
    [R, 2 models, 4 conditions, 3 measures], NaN where undefined. Raises `OptionError` for an unknown statistic, or no samples.
    """
    for name in statistics:
        if name not in _KNOWN:
            raise OptionError(
                f"statistic: found '{name}'; expected one of {', '.join(_KNOWN)}{did_you_mean(name, _KNOWN)}"
            )
    if samples < 1:
        raise OptionError(f"samples: found {samples}; expected at least 1; 10000 is usual")
    (scores,) = scores_of(np.ones((1, clips)))
    # Without a common clip there is nothing to draw from, and every score is undefined.
    resampled = [scores_of(draws) for draws in _resamples(clips, samples, generator)] if clips else []
    return tuple(_difference(name, scores, resampled, clips) for name in statistics)


def _difference(name: str, scores: Floats, resampled: Sequence[Floats], clips: int) -> PairedDifference:
    of = _KNOWN[name]
    score_a, score_b = (float(value) for value in of(scores))
    if np.isnan(score_a) or np.isnan(score_b):
        return PairedDifference(name, None, None, None, None, None, None, clips, 0)
    pairs = np.concatenate([of(block) for block in resampled])
    differences = pairs[:, 0] - pairs[:, 1]
    differences = differences[~np.isnan(differences)]
    low, high = _interval(differences)
    return PairedDifference(
        name, score_a, score_b, score_a - score_b, low, high, _p(differences), clips, len(differences)
    )


def _resamples(clips: int, samples: int, generator: np.random.Generator) -> Iterator[Floats]:
    """Yield how often each clip was drawn, float64 [some, clips], for `samples` resamples in all."""
    block = min(max(_BLOCK_DRAWS // clips, 1), _BLOCK_RESAMPLES)
    for first in range(0, samples, block):
        size = min(block, samples - first)
        draws = generator.integers(clips, size=(size, clips))
        draws += np.arange(size)[:, None] * clips
        yield np.bincount(draws.ravel(), minlength=size * clips).reshape(size, clips).astype(np.float64)


def _interval(differences: Floats) -> tuple[float | None, float | None]:
    if len(differences) == 0:
        return None, None
    low, high = np.percentile(differences, _INTERVAL)
    return float(low), float(high)


def _p(differences: Floats) -> float | None:
    if len(differences) == 0:
        return None
    rarer = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return min(2 * (int(rarer) + 1) / (len(differences) + 1), 1.0)
