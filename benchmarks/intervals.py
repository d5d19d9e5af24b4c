"""How much faster intervals are by products of matrices than by a plain loop over resamples: ratios of one run.

    python benchmarks/intervals.py [--clips 4932] [--models 10] [--samples 10000]

CLIPS clips under 4 conditions, MODELS models: intervals of all scores and of the G scores of every model from SAMPLES resamples,
clips drawn by video and under off-screen by the sound's source; and every pair of models compared. A plain loop draws clips and
averages their scores, of one model and a hundredth of the resamples, and is extrapolated. Memory is the peak of what the
intervals allocate, for one model and for all: it does not grow with their number.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from itertools import combinations

import numpy as np

from avsrobust.metrics.comparison import ResampledScores, difference, g_statistics
from avsrobust.metrics.intervals import score_intervals
from avsrobust.metrics.resampling import ClipTerms, Clusters, Resampling
from avsrobust.vocabulary import NEGATIVES

CONDITIONS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=4932, help="clips (4932: all of S4)")
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--samples", type=int, default=10_000)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    values = generator.random((options.models, options.clips, CONDITIONS, 3))
    video = np.unique(generator.integers(options.clips, size=options.clips), return_inverse=True)[1].astype(np.int64)
    sounds = generator.integers(max(options.clips // 3, 1), size=options.clips)
    clusters = Clusters(video, {("offscreen", None): sounds})

    loop, _ = timed(lambda: plain_loop(values[0], options.samples // 100))
    loop *= 100 * options.models
    one, peak_of_one = timed(lambda: all_intervals(values[:1], clusters, options.samples))
    every, peak = timed(lambda: all_intervals(values, clusters, options.samples))
    pairs, peak_of_pairs = timed(lambda: all_pairs(values, clusters, options.samples))
    print(f"{options.clips} clips x {CONDITIONS} conditions, {options.samples} resamples")
    print(f"  intervals, {options.models} models         {every:8.2f} s   ratio of a plain loop {loop / every:6.1f}")
    # A numerator and a denominator of three scores under each condition.
    products = 2 * options.models * options.samples * options.clips * CONDITIONS * 2 * values.shape[-1]
    print(f"  products of matrices behind them: {products / 1e9:.2f} GFLOP")
    print(f"  intervals, 1 model           {one:8.2f} s   ratio of all models   {every / one:6.1f}")
    print(f"  all pairs of {options.models} models      {pairs:8.2f} s")
    print(f"  peak memory: 1 model {peak_of_one:.0f} MB, all {peak:.0f} MB, all pairs {peak_of_pairs:.0f} MB")


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds, of all threads, and the peak of allocated memory in MB."""
    tracemalloc.start()
    begun = time.process_time()
    work()
    seconds = time.process_time() - begun
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return seconds, peak


def terms_of(values: np.ndarray) -> np.ndarray:
    """Numerators and denominators of scores, [clips, C, 2, 3]."""
    return np.stack([values, np.ones_like(values)], axis=2)


def ratios(sums: np.ndarray) -> np.ndarray:
    return sums[:, :, 0] / sums[:, :, 1]


def all_intervals(values: np.ndarray, clusters: Clusters, samples: int) -> None:
    conditions, _ = g_statistics(NEGATIVES)
    resampling = Resampling(clusters, samples)
    for model in values:
        score_intervals(terms_of(model), resampling, ratios, list(conditions.values()), NEGATIVES)


def all_pairs(values: np.ndarray, clusters: Clusters, samples: int) -> None:
    conditions, statistics = g_statistics(NEGATIVES)
    resampling = Resampling(clusters, samples)
    there = np.ones(values.shape[1:3], dtype=np.bool_)
    models = [ResampledScores(ClipTerms(terms_of(model), there, ratios), resampling, conditions) for model in values]
    for a, b in combinations(models, 2):
        for statistic in statistics:
            difference(statistic, a, b)


def plain_loop(values: np.ndarray, samples: int) -> None:
    generator = np.random.default_rng(0)
    means = [values[generator.integers(len(values), size=len(values))].mean(axis=0) for _ in range(samples)]
    np.percentile(means, [2.5, 97.5], axis=0)


if __name__ == "__main__":
    main()
