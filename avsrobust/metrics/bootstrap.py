"""Paired bootstrap over clips: does a difference between two models exceed sampling error?

Conventions
    A and B are scores of two models under the same protocol, whose clip numbers mean the same clips. Only rows that both
    have count. A resample draws as many clips as there are common ones, with replacement, with all their conditions.
    Differences are A minus B, in fractions.
    Score arrays are [..., C conditions, 3 measures]; conditions are in the order of a `Conditions`, measures in that of
    `MEASURES`.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from avsrobust.errors import MetricInputError, OptionError, did_you_mean
from avsrobust.metrics.dataset_score import MEASURES, ConditionKey, ScoringProtocol
from avsrobust.metrics.g_score import g_scores
from avsrobust.metrics.rows import Floats, Ints
from avsrobust.vocabulary import CLEAN, NEGATIVES

# Conditions by the prefix of their statistics.
Conditions = Mapping[str, ConditionKey]
# Maps scores [..., C conditions, 3 measures] to [...]; NaN where a condition is missing.
Statistic = Callable[[Floats], Floats]
G_CONDITIONS: Conditions = MappingProxyType({name: (name, None) for name in (CLEAN, *NEGATIVES)})
TITLES = {"mIoU": "miou", "F": "f", "FPR": "fpr"}
_INTERVAL = (2.5, 97.5)
_BLOCK_DRAWS = 1 << 20
# Of few clips a block would otherwise hold so many resamples that their scores do not fit into memory.
_BLOCK_RESAMPLES = 1024


def _under(position: int, measure: str) -> Statistic:
    """A measure under the condition at `position`."""
    column = MEASURES.index(measure)
    return lambda scores: scores[..., position, column]


def _negative(measure: str) -> Statistic:
    """The mean of a measure over the negatives of `G_CONDITIONS`."""
    column = MEASURES.index(measure)
    return lambda scores: scores[..., 1:, column].mean(axis=-1)


def _g(measure: str) -> Statistic:
    """The G score of a measure."""
    return lambda scores: g_scores(_under(0, measure)(scores), _negative(measure)(scores))


def _per_condition(conditions: Conditions) -> dict[str, Statistic]:
    """Each measure under each condition, named as the columns of the report: ``<prefix>_mIoU``, ``_F`` and ``_FPR``."""
    return {
        f"{prefix}_{title}": _under(position, measure)
        for position, prefix in enumerate(conditions)
        for title, measure in TITLES.items()
    }


STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {
        "mIoU": _under(0, "miou"),
        "F": _under(0, "f"),
        "mIoU-": _negative("miou"),
        "F-": _negative("f"),
        "G_mIoU": _g("miou"),
        "G_F": _g("f"),
        "G_FPR": _negative("fpr"),
    }
)
CONDITION_STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {name: of for name, of in _per_condition(G_CONDITIONS).items() if not name.startswith(f"{CLEAN}_")}
)


def statistics_of(conditions: Conditions) -> dict[str, Statistic]:
    """Return the statistics of scores under these conditions, by name.

    For `G_CONDITIONS` these are `STATISTICS` and `CONDITION_STATISTICS`; for others ``<prefix>_mIoU``, ``_F`` and ``_FPR``.

    >>> list(statistics_of({"mixture@-3": ("mixture", -3.0)}))
    ['mixture@-3_mIoU', 'mixture@-3_F', 'mixture@-3_FPR']
    """
    if conditions == G_CONDITIONS:
        return {**STATISTICS, **CONDITION_STATISTICS}
    return _per_condition(conditions)


class ClipNumbers(typing.Protocol):
    """Numbers of rows (clip, condition, level) of one model under one protocol."""

    @property
    def protocol(self) -> ScoringProtocol:
        """The protocol."""

    @property
    def clip(self) -> Ints:
        """Clip of each row, int64 [R]."""


@dataclass(frozen=True)
class PairedDifference:
    """Difference A - B of one statistic, with its 95 % percentile interval and two-sided p.

    All but the counts are None where the statistic is undefined for the clips themselves.

    Attributes:
        statistic: Name of the statistic.
        a: Its value for A on the common clips.
        b: Its value for B on the common clips.
        difference: A - B.
        low: Lower end of the interval.
        high: Upper end of the interval.
        p: Twice the smaller share of resamples whose difference is not above, or not below, 0, with one added to both counts
            (so that p is never 0); at most 1.
        clips: Common clips.
        samples: Resamples in which the statistic is defined for both.
        p_holm: p after Holm's correction for several comparisons (`metrics.comparison.holm`); None where that was not made.
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
    p_holm: float | None = None


def common_clips(a: ClipNumbers, b: ClipNumbers) -> Ints:
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
    conditions: Conditions = G_CONDITIONS,
) -> tuple[PairedDifference, ...]:
    """Return the differences of several statistics from the same resamples of clips.

    Args:
        scores_of: Maps the number of times that each clip was drawn, float64 [R, clips], to the scores of these R resamples,
            float64 [R, 2 models, C conditions, 3 measures], NaN where undefined.
        clips: Number of common clips.
        statistics: Names of `statistics_of(conditions)`.
        samples: Number of resamples.
        generator: Source of the draws.
        conditions: The C conditions of the scores.

    Raises:
        OptionError: A statistic is unknown, or there are no samples.
    """
    known = statistics_of(conditions)
    for name in statistics:
        if name not in known:
            raise OptionError(
                f"statistic: found '{name}'; expected one of {', '.join(known)}{did_you_mean(name, known)}"
            )
    if samples < 1:
        raise OptionError(f"samples: found {samples}; expected at least 1; 10000 is usual")
    (scores,) = scores_of(np.ones((1, clips)))
    # Without a common clip there is nothing to draw from, and every score is undefined.
    resampled = [scores_of(draws) for draws in _resamples(clips, samples, generator)] if clips else []
    return tuple(_difference(name, known[name], scores, resampled, clips) for name in statistics)


def _difference(
    name: str, statistic: Statistic, scores: Floats, resampled: Sequence[Floats], clips: int
) -> PairedDifference:
    """The difference of one statistic, from scores [2, C, 3] of the clips and those of all resamples."""
    score_a, score_b = (float(value) for value in statistic(scores))
    if np.isnan(score_a) or np.isnan(score_b):
        return PairedDifference(name, None, None, None, None, None, None, clips, 0)
    pairs = np.concatenate([statistic(block) for block in resampled])
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
    """The 95 % percentile interval; None where there is no difference."""
    if len(differences) == 0:
        return None, None
    low, high = np.percentile(differences, _INTERVAL)
    return float(low), float(high)


def _p(differences: Floats) -> float | None:
    """The two-sided p (see `PairedDifference`)."""
    if len(differences) == 0:
        return None
    rarer = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return min(2 * (int(rarer) + 1) / (len(differences) + 1), 1.0)
