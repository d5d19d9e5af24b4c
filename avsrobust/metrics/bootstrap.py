"""Is one model better than another, or were the clips kind? A paired bootstrap over clips.

Conventions
    A and B are `ClipScores` of two models under the same protocol, whose clip numbers mean the same clips. Only rows that
    both have count. A resample draws as many clips as there are common ones, with replacement, with all their conditions.
    Differences are A minus B, in fractions.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from avsrobust.errors import MetricInputError, OptionError, did_you_mean
from avsrobust.metrics.clips import MEASURES, ClipScores
from avsrobust.metrics.gscores import CLEAN, NEGATIVES, g_scores
from avsrobust.metrics.protocols import Protocol
from avsrobust.metrics.scored import Flags, Floats, Ints
from avsrobust.metrics.semantic_protocols import SemanticProtocol

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


def paired_bootstrap(
    a: ClipScores, b: ClipScores, statistic: str, samples: int, generator: np.random.Generator
) -> PairedDifference:
    """Return the difference of a statistic between two models over their common clips.

    `statistic` is a key of `STATISTICS` or `CONDITION_STATISTICS`.
    Raises `OptionError` for an unknown statistic, `MetricInputError` where the two do not fit together.
    """
    return paired_bootstraps(a, b, [statistic], samples, generator)[0]


def paired_bootstraps(
    a: ClipScores, b: ClipScores, statistics: Sequence[str], samples: int, generator: np.random.Generator
) -> tuple[PairedDifference, ...]:
    """Return `paired_bootstrap` of several statistics, all from the same resamples."""
    sums = _common_sums(a, b)
    return resampled_differences(lambda draws: _scores(sums, draws), len(sums), statistics, samples, generator)


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


def _common_sums(a: ClipScores, b: ClipScores) -> Floats:
    """Numerators and denominators of the common rows, [clips, 2 terms, 2 models, 4 conditions, 3 measures]."""
    clips = common_clips(a, b)
    (terms_a, has_a), (terms_b, has_b) = _table(a, clips), _table(b, clips)
    common = has_a & has_b
    terms: Floats = np.stack([terms_a, terms_b], axis=2) * common[:, None, None, :, None]
    return terms[common.any(axis=1)]


def _table(scores: ClipScores, clips: Ints) -> tuple[Floats, Flags]:
    """The rows of `clips` as [clips, 2 terms, 4 conditions, 3 measures], and which of them count, [clips, 4]."""
    terms = np.zeros((len(clips), 2, len(CONDITIONS), len(MEASURES)))
    has_row = np.zeros((len(clips), len(CONDITIONS)), dtype=np.bool_)
    usable = np.isnan(scores.level) & np.isin(scores.clip, clips) & ~scores.left_out
    for position, name in enumerate(CONDITIONS):
        chosen = (scores.condition == name) & usable
        index = np.searchsorted(clips, scores.clip[chosen])
        terms[index, 0, position] = scores.numerator[chosen]
        terms[index, 1, position] = scores.denominator[chosen]
        has_row[index, position] = True
    return terms, has_row


def _ratio(sums: Floats) -> Floats:
    """Numerators [2, ...] over denominators: NaN where the denominator is 0."""
    ratio: Floats = np.divide(sums[0], sums[1], out=np.full_like(sums[0], np.nan), where=sums[1] > 0)
    return ratio


def _resamples(clips: int, samples: int, generator: np.random.Generator) -> Iterator[Floats]:
    """Yield how often each clip was drawn, float64 [some, clips], for `samples` resamples in all."""
    block = min(max(_BLOCK_DRAWS // clips, 1), _BLOCK_RESAMPLES)
    for first in range(0, samples, block):
        size = min(block, samples - first)
        draws = generator.integers(clips, size=(size, clips))
        draws += np.arange(size)[:, None] * clips
        yield np.bincount(draws.ravel(), minlength=size * clips).reshape(size, clips).astype(np.float64)


def _scores(sums: Floats, draws: Floats) -> Floats:
    """Scores of every resample, [resamples, 2 models, 4 conditions, 3 measures]."""
    shape = sums.shape[1:]
    totals = (draws @ sums.reshape(len(sums), math.prod(shape))).reshape(len(draws), *shape)
    return _ratio(np.moveaxis(totals, 1, 0))


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
