"""Intervals of single models' scores: a bootstrap over the clips of a split, by source video and by source of the sound.

Conventions
    A resample draws clusters of clips, with all their frames and conditions (`metrics.resampling`): scores under a condition with
    borrowed sounds, and the G scores over it, by the sounds' sources too; all others by source video alone.
    Intervals are percentiles of the resamples in which the score is defined, expanded for few clusters: instead of 2.5 and 97.5
    the levels that Student's t has with one degree less than there are clusters (Hesterberg 2015, The American Statistician
    69(4), 371-386, "expanded percentile"). With a dozen clusters of unlike size they are still too narrow.
    Scores are keyed by (condition key, measure), measures as in `dataset_score.MEASURES`; `G_KEY` stands for the G scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avsrobust.metrics.dataset_score import MEASURES, ConditionKey, negative_key
from avsrobust.metrics.g_score import g_scores
from avsrobust.metrics.resampling import DEFAULT_RESAMPLES, Clusters, Resampling, cluster_numbers
from avsrobust.metrics.rows import Flags, Floats, Ints
from avsrobust.vocabulary import CLEAN

__all__ = ["DEFAULT_RESAMPLES", "G_KEY", "Interval", "ScoreIntervals", "cluster_numbers", "score_intervals"]

G_KEY: ConditionKey = ("G", None)
_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


ScoreIntervals = Mapping[tuple[ConditionKey, str], Interval]


def score_intervals(
    terms: Floats,
    clusters: Ints | Clusters | Resampling,
    scores_of: Callable[[Floats], Floats],
    keys: Sequence[ConditionKey],
    negatives: Sequence[str],
    samples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> dict[tuple[ConditionKey, str], Interval]:
    """Return the interval of every score under every condition, and of the G scores.

    Args:
        terms: Terms that each clip adds to the scores, float64 [clips, ...].
        clusters: Cluster of each clip by its video, int64 [clips] (`cluster_numbers`); or the clips' clusters; or resamples of
            them, which have a number and a seed of their own.
        scores_of: Maps sums of terms [R, ...] to scores [R, C conditions, 3 measures], NaN where undefined.
        keys: The C conditions.
        negatives: The negative conditions that the G scores average over.
        samples: Number of resamples.
        seed: Seed of the draws.

    Raises:
        OptionError: There are no samples.
    """
    resampling = clusters if isinstance(clusters, Resampling) else Resampling(clusters, samples, seed)
    everywhere = np.ones((len(terms), 1), dtype=np.bool_)
    return part_intervals(terms, resampling, lambda sums: scores_of(sums)[:, None], keys, negatives, everywhere)[0]


def part_intervals(
    terms: Floats,
    resampling: Resampling,
    scores_of: Callable[[Floats], Floats],
    keys: Sequence[ConditionKey],
    negatives: Sequence[str],
    counted: Flags,
) -> list[dict[tuple[ConditionKey, str], Interval]]:
    """Return the intervals of the scores of several parts, all from the same resamples.

    Args:
        terms: Terms that each of N clips adds to the scores, float64 [N, ...].
        resampling: Resamples of the clips.
        scores_of: Maps sums of terms [R, ...] to scores [R, P parts, C conditions, 3 measures], NaN where undefined.
        keys: The C conditions.
        negatives: The negative conditions that the G scores average over.
        counted: Clips whose clusters an interval of IoU and F of a part is widened for, bool [N, P]; those of FPR for all.
    """
    parts = range(counted.shape[1])
    found: list[dict[tuple[ConditionKey, str], Interval | None]] = [{} for _ in parts]
    if not len(terms):
        return [{} for _ in parts]
    resampled: dict[int, Floats] = {}

    def scores(of: Sequence[ConditionKey]) -> tuple[Floats, list[int], int]:
        """The scores of all resamples [R, P, C, 3], clips drawn as these conditions need it, and the numbers of clusters."""
        grouping = resampling.grouping(of)
        if id(grouping) not in resampled:
            resampled[id(grouping)] = np.concatenate([scores_of(sums) for sums in resampling.blocks(terms, grouping)])
        return resampled[id(grouping)], [grouping.clusters_of(counted[:, part]) for part in parts], grouping.clusters

    def says_enough(part: int, clusters: int) -> bool:
        """Whether a part of the clips is of more than one cluster: resamples of one say nothing."""
        return clusters > 1 or bool(counted[:, part].all())

    for position, key in enumerate(keys):
        values, counts, count = scores([key])
        for part in parts:
            for column, measure in enumerate(MEASURES):
                of = count if measure == "fpr" else counts[part]
                if measure == "fpr" or says_enough(part, of):
                    found[part][key, measure] = _interval(values[:, part, position, column], of)
    wanted = [negative_key(name) for name in negatives]
    if wanted and all(key in keys for key in wanted):
        values, counts, count = scores(wanted)
        means = values[:, :, [keys.index(key) for key in wanted]].mean(axis=2)
        for part in parts:
            found[part][G_KEY, "fpr"] = _interval(means[:, part, MEASURES.index("fpr")], count)
            for measure in ("miou", "f") if (CLEAN, None) in keys and says_enough(part, counts[part]) else ():
                column = MEASURES.index(measure)
                clean = values[:, part, keys.index((CLEAN, None)), column]
                found[part][G_KEY, measure] = _interval(g_scores(clean, means[:, part, column]), counts[part])
    return [{key: interval for key, interval in of.items() if interval is not None} for of in found]


def expanded_percentiles(clusters: int) -> tuple[float, float]:
    """Return the percentiles that end a 95 % interval over so many clusters (see the module's conventions).

    >>> [round(level, 2) for level in (*expanded_percentiles(15), *expanded_percentiles(100_000))]
    [1.32, 98.68, 2.5, 97.5]
    """
    from scipy.special import ndtr, stdtrit

    if clusters < 2:
        return 0.0, 100.0
    t = float(stdtrit(clusters - 1, (1 + _LEVEL) / 2)) * math.sqrt(clusters / (clusters - 1))
    low = 100 * float(ndtr(-t))
    return low, 100 - low


def _interval(values: Floats, clusters: int) -> Interval | None:
    """The expanded percentile interval; None where the score is nowhere defined."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, expanded_percentiles(clusters))
    return Interval(float(low), float(high))
