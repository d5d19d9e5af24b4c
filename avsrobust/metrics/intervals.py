"""Intervals of single models' scores: a bootstrap over the clips of a split, by source video.

Conventions
    A resample draws as many clusters as there are, with replacement; a cluster is all clips cut from one video, with all their
    frames and conditions, since such clips are no independent samples. Intervals are the 2.5 and 97.5 percentiles of the
    resamples in which the score is defined. With few clusters (a dozen) they are too narrow.
    Scores are keyed by (condition key, measure), measures as in `dataset_score.MEASURES`; `G_KEY` stands for the G scores.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avsrobust.errors import OptionError
from avsrobust.metrics.dataset_score import MEASURES, ConditionKey, negative_key
from avsrobust.metrics.g_score import g_scores
from avsrobust.metrics.rows import Floats, Ints
from avsrobust.vocabulary import CLEAN

DEFAULT_RESAMPLES = 10_000
G_KEY: ConditionKey = ("G", None)
_PERCENTILES = (2.5, 97.5)
_BLOCK = 1 << 20
_MOST_RESAMPLES = 1024


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


ScoreIntervals = Mapping[tuple[ConditionKey, str], Interval]


def cluster_numbers(clusters: Sequence[Hashable]) -> Ints:
    """Return a number from 0 on for the cluster of each clip.

    >>> cluster_numbers(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(cluster, len(number)) for cluster in clusters], dtype=np.int64)


def score_intervals(
    terms: Floats,
    clusters: Ints,
    scores_of: Callable[[Floats], Floats],
    keys: Sequence[ConditionKey],
    negatives: Sequence[str],
    samples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> dict[tuple[ConditionKey, str], Interval]:
    """Return the interval of every score under every condition, and of the G scores.

    Args:
        terms: Terms that each clip adds to the scores, float64 [clips, ...].
        clusters: Cluster of each clip, int64 [clips] (`cluster_numbers`).
        scores_of: Maps sums of terms [R, ...] to scores [R, C conditions, 3 measures], NaN where undefined.
        keys: The C conditions.
        negatives: The negative conditions that the G scores average over.
        samples: Number of resamples.
        seed: Seed of the draws.

    Raises:
        OptionError: There are no samples.
    """
    if samples < 1:
        raise OptionError(f"samples: found {samples}; expected at least 1; 10000 is usual")
    if not len(terms):
        return {}
    count = int(clusters.max()) + 1
    sums = np.zeros((count, *terms.shape[1:]))
    np.add.at(sums, clusters, terms)
    flat = sums.reshape(count, -1)
    generator = np.random.default_rng(seed)
    scores = np.concatenate(
        [scores_of((draws @ flat).reshape(-1, *terms.shape[1:])) for draws in _draws(count, samples, generator)]
    )
    found = {
        (key, measure): scores[:, position, column]
        for position, key in enumerate(keys)
        for column, measure in enumerate(MEASURES)
    }
    wanted = [negative_key(name) for name in negatives]
    if wanted and all(key in keys for key in wanted):
        means = np.mean([[found[key, measure] for measure in MEASURES] for key in wanted], axis=0)
        found[G_KEY, "fpr"] = means[MEASURES.index("fpr")]
        for measure in ("miou", "f"):
            if (CLEAN, None) in keys:
                clean = found[(CLEAN, None), measure]
                found[G_KEY, measure] = g_scores(clean, means[MEASURES.index(measure)])
    return {key: interval for key, values in found.items() if (interval := _interval(values)) is not None}


def _draws(clusters: int, samples: int, generator: np.random.Generator) -> Iterator[Floats]:
    """Yield how often each cluster was drawn, float64 [some, clusters], for `samples` resamples in all."""
    block = min(max(_BLOCK // clusters, 1), _MOST_RESAMPLES)
    for first in range(0, samples, block):
        size = min(block, samples - first)
        draws = generator.integers(clusters, size=(size, clusters))
        draws += np.arange(size)[:, None] * clusters
        yield np.bincount(draws.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)


def _interval(values: Floats) -> Interval | None:
    """The percentile interval; None where the score is nowhere defined."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, _PERCENTILES)
    return Interval(float(low), float(high))
