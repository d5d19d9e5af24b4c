"""Differences between two of any number of models, all from the same resamples of clips, and the correction of their p.

Conventions
    Clips are drawn as `metrics.resampling` says: by source video, and scores of a condition with borrowed sounds, and means over
    such, by the sounds' sources too. Interval and p are those of `bootstrap.PairedDifference`, both expanded for few clusters:
    the interval as `metrics.intervals` does it, and p alike, so that the interval ends at 0 where p is 0.05.
    Scores are [..., C conditions, 3 measures]: clean sound first, then the negatives, measures as in `dataset_score.MEASURES`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from avsrobust.metrics.bootstrap import STATISTICS, TITLES, Conditions, PairedDifference
from avsrobust.metrics.dataset_score import MEASURES, ConditionKey, negative_key
from avsrobust.metrics.g_score import g_scores
from avsrobust.metrics.intervals import expanded_percentiles
from avsrobust.metrics.resampling import ClipTerms, Grouping, Resampling
from avsrobust.metrics.rows import Floats
from avsrobust.vocabulary import CLEAN, NEGATIVES


@dataclass(frozen=True)
class Statistic:
    """A score that two models are compared by.

    Attributes:
        name: Its name, that of the report's column.
        measure: One of `MEASURES`.
        of: Positions of the conditions whose mean it is, or whose mean enters the G score.
        is_g: Whether it is the G score of clean sound (position 0) and these conditions.
    """

    name: str
    measure: str
    of: tuple[int, ...]
    is_g: bool = False

    def value(self, scores: Floats) -> Floats:
        """Return the statistic of scores [..., C, 3]."""
        column = MEASURES.index(self.measure)
        mean: Floats = scores[..., list(self.of), column].mean(axis=-1)
        return g_scores(scores[..., 0, column], mean) if self.is_g else mean


def g_statistics(negatives: Sequence[str]) -> tuple[Conditions, tuple[Statistic, ...]]:
    """Return clean sound, the default negatives and those given, and the statistics of all of them.

    For the default negatives these are named as `bootstrap.STATISTICS` and `CONDITION_STATISTICS`, in this order.
    """
    names = list(dict.fromkeys((*NEGATIVES, *negatives)))
    conditions: dict[str, ConditionKey] = {CLEAN: (CLEAN, None), **{name: negative_key(name) for name in names}}
    of_g = tuple(1 + names.index(name) for name in negatives)
    measures = {"mIoU": "miou", "F": "f", "mIoU-": "miou", "F-": "f", "G_mIoU": "miou", "G_F": "f", "G_FPR": "fpr"}
    found = [
        Statistic(name, measures[name], (0,) if name in ("mIoU", "F") else of_g, name in ("G_mIoU", "G_F"))
        for name in STATISTICS
    ]
    return conditions, (*found, *(entry for at, name in enumerate(names, 1) for entry in _of_condition(name, at)))


def condition_statistics(prefix: str, key: ConditionKey) -> tuple[Conditions, tuple[Statistic, ...]]:
    """Return one condition and its statistics, whose columns begin with `prefix`."""
    return {prefix: key}, _of_condition(prefix, 0)


def _of_condition(prefix: str, position: int) -> tuple[Statistic, ...]:
    """The measures under one condition."""
    return tuple(Statistic(f"{prefix}_{title}", measure, (position,)) for title, measure in TITLES.items())


class ResampledScores:
    """A model's scores on some clips, and on resamples of them.

    Args:
        terms: Terms that the N clips add to the scores.
        resampling: Resamples of these clips.
        conditions: The C conditions.
    """

    def __init__(self, terms: ClipTerms, resampling: Resampling, conditions: Conditions) -> None:
        self._terms = terms
        self._resampling = resampling
        self._keys = list(conditions.values())
        self._resampled: dict[int, Floats] = {}
        total = terms.terms.sum(axis=0, keepdims=True)
        self.scores: Floats = terms.scores_of(total)[0]

    def __len__(self) -> int:
        return len(self._resampling)

    def resampled(self, statistic: Statistic) -> tuple[Floats, int]:
        """Return the statistic of every resample, float64 [samples], and the number of clusters drawn from."""
        grouping = self._resampling.grouping([self._keys[at] for at in statistic.of])
        if id(grouping) not in self._resampled:
            self._resample([self], grouping)
        return statistic.value(self._resampled[id(grouping)]), grouping.clusters

    def resample_with(self, other: ResampledScores, statistic: Statistic) -> None:
        """Compute the resampled scores of both models in one pass through the draws, where neither has it."""
        grouping = self._resampling.grouping([self._keys[at] for at in statistic.of])
        lacking = [side for side in (self, other) if id(grouping) not in side._resampled]
        if self is not other and self._resampling is other._resampling and len(lacking) > 1:
            self._resample(lacking, grouping)

    def _resample(self, sides: Sequence[ResampledScores], grouping: Grouping) -> None:
        found: list[list[Floats]] = [[] for _ in sides]
        for blocks in self._resampling.blocks_of_all([side._terms.terms for side in sides], grouping):
            for side, sums, scores in zip(sides, blocks, found, strict=True):
                scores.append(side._terms.scores_of(sums))
        for side, scores in zip(sides, found, strict=True):
            side._resampled[id(grouping)] = np.concatenate(scores)


def difference(statistic: Statistic, a: ResampledScores, b: ResampledScores) -> PairedDifference:
    """Return the difference of a statistic between two models on the same resamples."""
    name, clips = statistic.name, len(a)
    undefined = PairedDifference(name, None, None, None, None, None, None, clips, 0)
    if not clips:
        return undefined
    score_a, score_b = (float(statistic.value(side.scores)) for side in (a, b))
    if math.isnan(score_a) or math.isnan(score_b):
        return undefined
    a.resample_with(b, statistic)
    (resampled_a, clusters), (resampled_b, _) = a.resampled(statistic), b.resampled(statistic)
    differences = resampled_a - resampled_b
    differences = differences[~np.isnan(differences)]
    low = high = p = None
    if len(differences):
        low, high = (float(value) for value in np.percentile(differences, expanded_percentiles(clusters)))
        p = _p(differences, clusters)
    return PairedDifference(name, score_a, score_b, score_a - score_b, low, high, p, clips, len(differences))


def _p(differences: Floats, clusters: int) -> float:
    """Twice the smaller share of resamples not above, or not below, 0, expanded as the interval is."""
    from scipy.special import ndtri, stdtr

    rarer = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    p = min(2 * (int(rarer) + 1) / (len(differences) + 1), 1.0)
    if clusters < 2 or p == 1:
        return 1.0
    return float(2 * stdtr(clusters - 1, ndtri(p / 2) * math.sqrt((clusters - 1) / clusters)))


def holm(differences: Sequence[PairedDifference]) -> list[PairedDifference]:
    """Return one family of differences, each with its p corrected by Holm's step-down method.

    The smallest of m values of p is multiplied by m, the next one by m - 1, and so on; none is below one before it (Holm 1979,
    Scandinavian Journal of Statistics 6(2), 65-70).

    >>> found = [PairedDifference("F", 0, 0, 0, 0, 0, p, 1, 1) for p in (0.01, 0.04, 0.03)]
    >>> [round(entry.p_holm or 0, 3) for entry in holm(found)]
    [0.03, 0.06, 0.06]
    """
    values = {number: entry.p for number, entry in enumerate(differences) if entry.p is not None}
    corrected: dict[int, float] = {}
    largest = 0.0
    for rank, number in enumerate(sorted(values, key=lambda number: (values[number], number))):
        largest = max(largest, min((len(values) - rank) * values[number], 1.0))
        corrected[number] = largest
    return [replace(entry, p_holm=corrected.get(number)) for number, entry in enumerate(differences)]


def holm_by_statistic(groups: Sequence[Sequence[PairedDifference]]) -> list[tuple[PairedDifference, ...]]:
    """Return groups of differences with p corrected: all differences of one statistic in all groups are a family."""
    families: dict[str, list[tuple[int, int]]] = {}
    for number, group in enumerate(groups):
        for place, entry in enumerate(group):
            families.setdefault(entry.statistic, []).append((number, place))
    found: list[dict[int, PairedDifference]] = [{} for _ in groups]
    for places in families.values():
        corrected = holm([groups[number][place] for number, place in places])
        for (number, place), entry in zip(places, corrected, strict=True):
            found[number][place] = entry
    return [tuple(of_group[place] for place in sorted(of_group)) for of_group in found]
