"""Resamples of clips by video and by sound: which clusters are drawn, sharing between models, coverage."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

from avsrobust.errors import OptionError
from avsrobust.metrics import resampling as module
from avsrobust.metrics.intervals import expanded_percentiles, score_intervals
from avsrobust.metrics.resampling import Clusters, Resampling, Resamplings, cluster_numbers, clusters_of
from avsrobust.vocabulary import CLEAN

OFFSCREEN = ("offscreen", None)
KEYS = [(CLEAN, None), OFFSCREEN]
# As MS3's test split: 64 clips, fifteen sounds of which one serves twelve.
SOUNDS = np.repeat(np.arange(15), [12, 9, 8, 6, 5, 4, 4, 3, 3, 3, 2, 2, 1, 1, 1])


def weights(resampling: Resampling, keys: list[tuple[str, float | None]]) -> np.ndarray:
    """How often each clip counts in each resample."""
    blocks = resampling.blocks(np.eye(len(resampling)), resampling.grouping(keys))
    return np.concatenate(list(blocks))


def ratios(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def test_without_sounds_clips_of_a_video_count_alike() -> None:
    found = weights(Resampling(np.array([0, 0, 1, 2]), 200), KEYS)
    assert (found[:, 0] == found[:, 1]).all()
    assert ((found[:, [0, 2, 3]]).sum(axis=1) == 3).all()
    assert found.std() > 0


def test_sounds_matter_under_their_condition_alone() -> None:
    clusters = Clusters(np.arange(4), {OFFSCREEN: np.array([0, 0, 1, -1])})
    resampling = Resampling(clusters, 200)
    clean, offscreen = weights(resampling, KEYS[:1]), weights(resampling, [OFFSCREEN])
    assert (clean == weights(Resampling(np.arange(4), 200), KEYS)).all()
    assert (offscreen[:, 0] == offscreen[:, 1]).all()
    # The clip without a sound is a cluster of its own.
    assert (offscreen[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert resampling.grouping([OFFSCREEN]) is resampling.grouping(KEYS)


def test_a_video_with_two_sounds_is_drawn_with_both() -> None:
    # Video 0 has two sounds, the others lie within one.
    clusters = Clusters(np.array([0, 0, 1, 2]), {OFFSCREEN: np.array([0, 1, 0, 1])})
    found = weights(Resampling(clusters, 500), [OFFSCREEN])
    assert ((found[:, 0] > 0) <= (found[:, 2] > 0)).all()
    assert (found[:, 0] != found[:, 2]).any()
    assert found[:, 0].mean() == pytest.approx(1, abs=0.3)


def test_sounds_of_one_clip_each_change_nothing() -> None:
    video = np.array([0, 0, 1, 2, 3])
    crossed = Clusters(video, {OFFSCREEN: np.arange(5)})
    assert (weights(Resampling(crossed, 100), [OFFSCREEN]) == weights(Resampling(video, 100), KEYS)).all()


def test_models_of_the_same_clips_share_their_resamples() -> None:
    resamplings = Resamplings(50)
    first, second = (resamplings(clusters_of(["b", "a", "b"])) for _ in range(2))
    assert first is second
    assert resamplings(clusters_of(["a", "b", "c"])) is not first
    assert (weights(first, KEYS) == weights(Resampling(cluster_numbers(["x", "y", "x"]), 50), KEYS)).all()
    small = Resamplings(50, most_bytes=1)
    kept = small(clusters_of(range(9)))
    weights(kept, KEYS)
    assert kept.bytes == 450
    small(clusters_of(range(8)))
    assert small(clusters_of(range(9))) is not kept
    with pytest.raises(OptionError, match="samples: found 0"):
        Resampling(np.arange(3), 0)


def test_counts_beyond_a_byte_are_kept() -> None:
    # One cluster is drawn every time.
    (total,) = np.unique(weights(Resampling(np.zeros(3, np.int64), 10), KEYS))
    assert total == 1
    few = Resampling(np.arange(2), 2000)
    assert (weights(few, KEYS).sum(axis=1) == 2).all()


@pytest.mark.parametrize("block", [7, 100, 1 << 20])
def test_draws_that_are_not_kept_are_the_same(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    clusters = Clusters(generator.integers(0, 40, 60), {OFFSCREEN: generator.integers(-1, 9, 60)})
    monkeypatch.setattr(module, "_BLOCK", block)
    terms = [generator.random((60, 2, 3)) for _ in range(2)]
    kept = Resampling(clusters, 300)
    expected = {len(keys): weights(kept, keys) for keys in (KEYS, KEYS[:1])}
    assert kept.bytes > 0
    monkeypatch.setattr(module, "_KEPT_BYTES", 0)
    again = Resampling(clusters, 300)
    for _ in range(2):
        for keys in (KEYS, KEYS[:1]):
            assert (weights(again, keys) == expected[len(keys)]).all()
    grouping = again.grouping(KEYS)
    together = [np.concatenate(sums) for sums in zip(*again.blocks_of_all(terms, grouping), strict=True)]
    for sums, of_model in zip(together, terms, strict=True):
        assert (sums == np.concatenate(list(kept.blocks(of_model, kept.grouping(KEYS))))).all()
    assert again.bytes == 0


def test_draws_of_many_clusters_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_BYTES", 1 << 20)
    monkeypatch.setattr(module, "_BLOCK", 1 << 16)
    clips, samples = 20_000, 1000
    resampling, terms = Resampling(np.arange(clips), samples), np.ones((clips, 1, 1))
    grouping = resampling.grouping(KEYS)
    gc.collect()
    tracemalloc.start()
    try:
        assert all((sums == clips).all() for sums in resampling.blocks(terms, grouping))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A byte for each would be 20 MB.
    assert peak < clips * samples / 4


def test_few_clusters_widen_the_interval() -> None:
    low, high = expanded_percentiles(15)
    assert (low, high) == pytest.approx((1.32, 98.68), abs=2e-3)
    assert expanded_percentiles(1) == (0, 100)
    assert expanded_percentiles(10**6)[0] == pytest.approx(2.5, abs=1e-4)


@pytest.mark.parametrize("videos", [64, 50])
@pytest.mark.parametrize("of_sound", [0.0, 1.0])
def test_coverage_under_borrowed_sounds(videos: int, of_sound: float) -> None:
    """Scores made of the clip and its sound; without the sounds' clusters 65 to 70 % of the intervals hold the truth."""
    generator = np.random.default_rng(9)
    trials, hits = 300, {"with sounds": 0, "by video alone": 0}
    for trial in range(trials):
        video = generator.permutation(np.concatenate([np.arange(videos), generator.integers(videos, size=64 - videos)]))
        score = generator.normal(size=64) + of_sound * generator.normal(size=15)[SOUNDS]
        terms = np.ones((64, 2, 2, 3))
        terms[:, 0] = score[:, None, None]
        for name, sounds in (("with sounds", {OFFSCREEN: SOUNDS}), ("by video alone", {})):
            found = score_intervals(terms, Clusters(video, sounds), ratios, KEYS, [], 300, seed=trial)
            interval = found[OFFSCREEN, "miou"]
            hits[name] += interval.low <= 0 <= interval.high
    # 300 trials of 95 % have a standard deviation of 1.3 %; the seed is fixed.
    assert hits["with sounds"] / trials >= 0.90
    if of_sound:
        assert hits["by video alone"] / trials <= 0.80
