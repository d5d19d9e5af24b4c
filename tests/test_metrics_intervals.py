"""Intervals of single models: coverage, clusters, agreement with a slow bootstrap, memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from avsrobust.errors import OptionError
from avsrobust.metrics.intervals import G_KEY, cluster_numbers, score_intervals
from avsrobust.vocabulary import CLEAN

KEYS = [(CLEAN, None), ("silence", None)]


def ratios(sums: np.ndarray) -> np.ndarray:
    """Scores of sums [R, 2 terms, C, 3]."""
    return sums[:, 0] / sums[:, 1]


def terms_of(values: np.ndarray) -> np.ndarray:
    """Terms [clips, 2, C, 3] of scores [clips, C, 3]."""
    return np.stack([values, np.ones_like(values)], axis=1)


def test_coverage_is_about_95_percent() -> None:
    generator = np.random.default_rng(5)
    hits = 0
    for trial in range(300):
        values = generator.beta(2, 1, size=(80, 2, 3))
        found = score_intervals(terms_of(values), np.arange(80), ratios, KEYS, ["silence"], 400, seed=trial)
        interval = found[(CLEAN, None), "miou"]
        hits += interval.low <= 2 / 3 <= interval.high
    assert 0.91 <= hits / 300 <= 0.98


def test_coverage_of_clips_of_one_video_needs_its_clusters() -> None:
    generator = np.random.default_rng(6)
    clusters = cluster_numbers([number // 5 for number in range(200)])
    hits = {"by video": 0, "by clip": 0}
    for trial in range(200):
        of_video = generator.beta(2, 1, size=(40, 1, 1))
        values = np.broadcast_to(of_video[clusters], (200, 2, 3))
        for name, numbers in (("by video", clusters), ("by clip", np.arange(200))):
            found = score_intervals(terms_of(values), numbers, ratios, KEYS, ["silence"], 300, seed=trial)
            interval = found[(CLEAN, None), "miou"]
            hits[name] += interval.low <= 2 / 3 <= interval.high
    assert hits["by video"] / 200 >= 0.89
    assert hits["by clip"] / 200 < 0.75


def test_a_slow_bootstrap_agrees_for_g_too() -> None:
    generator = np.random.default_rng(7)
    values = generator.random((30, 2, 3))
    found = score_intervals(terms_of(values), np.arange(30), ratios, KEYS, ["silence"], 4000, seed=1)
    slow = []
    for _ in range(4000):
        clean, silent = values[generator.integers(30, size=30)].mean(axis=0)[:, 0]
        slow.append(2 * clean * (1 - silent) / (clean + 1 - silent))
    interval = found[G_KEY, "miou"]
    assert [interval.low, interval.high] == pytest.approx(np.percentile(slow, [2.5, 97.5]), abs=0.01)
    assert found[G_KEY, "fpr"] == found[("silence", None), "fpr"]


def test_scores_without_a_value_have_no_interval() -> None:
    values = np.full((5, 2, 3), np.nan)
    values[:, 0] = 1.0
    found = score_intervals(terms_of(values), np.arange(5), ratios, KEYS, ["silence", "noise"], 10)
    assert {key for key, _ in found} == {(CLEAN, None)}
    assert (found[(CLEAN, None), "miou"].low, found[(CLEAN, None), "miou"].high) == (1.0, 1.0)
    assert score_intervals(np.zeros((0, 2, 2, 3)), np.zeros(0, np.int64), ratios, KEYS, []) == {}
    with pytest.raises(OptionError, match="samples: found 0"):
        score_intervals(terms_of(values), np.arange(5), ratios, KEYS, [], 0)


def test_memory_does_not_grow_with_the_resamples_of_many_clips() -> None:
    values = np.random.default_rng(8).random((4932, 4, 3))
    keys = [(CLEAN, None), ("silence", None), ("noise", None), ("offscreen", None)]
    tracemalloc.start()
    score_intervals(terms_of(values), np.arange(4932), ratios, keys, ["silence", "noise", "offscreen"], 4000)
    # A byte per resample and clip, and blocks: as float64 the counts alone would be 158 MB.
    assert tracemalloc.get_traced_memory()[1] < 60 << 20
    tracemalloc.stop()
