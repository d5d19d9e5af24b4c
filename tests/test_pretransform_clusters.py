"""k-means over embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.errors import OptionError
from avsrobust.pretransform.clusters import fit_clusters, nearest


def blobs(clusters: int = 4, each: int = 20, seed: int = 0) -> np.ndarray:
    """Well separated groups, float32 [clusters * each, 6]."""
    generator = np.random.default_rng(seed)
    means = 100 * np.eye(clusters, 6)
    return (np.repeat(means, each, axis=0) + generator.standard_normal((clusters * each, 6))).astype(np.float32)


def test_groups_are_found() -> None:
    samples = blobs()
    centers = fit_clusters(samples, 4, seed=1)
    assert centers.dtype == np.float32
    groups = nearest(samples, centers).reshape(4, 20)
    assert all(len(set(group)) == 1 for group in groups.tolist())
    assert len(set(groups[:, 0].tolist())) == 4
    means = samples.reshape(4, 20, 6).mean(axis=1)
    np.testing.assert_allclose(centers[groups[:, 0]], means, atol=1e-4)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**64 - 1), order=st.integers(0, 1000))
def test_order_and_repetition_have_no_say(seed: int, order: int) -> None:
    samples = blobs(each=5)
    other = np.random.default_rng(order).permutation(np.concatenate([samples, samples[:7], samples[:7]]))
    assert fit_clusters(samples, 3, seed).tobytes() == fit_clusters(other, 3, seed).tobytes()


def test_seeds_draw_other_starts() -> None:
    samples = np.random.default_rng(0).standard_normal((60, 6)).astype(np.float32)
    assert fit_clusters(samples, 10, 1).tobytes() != fit_clusters(samples, 10, 2).tobytes()


def test_no_cluster_stays_empty() -> None:
    """Skewed samples, as many clusters as there are samples."""
    samples = np.geomspace(1e-3, 1e6, 12, dtype=np.float32)[:, None].repeat(6, axis=1)
    for clusters in range(1, 13):
        centers = fit_clusters(samples, clusters, seed=0)
        assert np.unique(nearest(samples, centers)).size == clusters


def test_global_generator_is_left_alone() -> None:
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    fit_clusters(blobs(each=5), 3, seed=1)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_more_clusters_than_sounds() -> None:
    samples = np.repeat(blobs(each=1), 9, axis=0)
    with pytest.raises(OptionError, match="--clusters 5: found 4 different sounds of one second to fit them on"):
        fit_clusters(samples, 5, seed=0)
    assert fit_clusters(samples, 4, seed=0).shape == (4, 6)


def test_seed_out_of_range() -> None:
    with pytest.raises(OptionError, match="--seed: found -1"):
        fit_clusters(blobs(), 2, seed=-1)


def test_nearest_takes_the_first_of_equals() -> None:
    centers = np.array([[5, 5], [0, 1], [1, 0], [0, 1]], np.float32)
    samples = np.array([[0, 0], [0, 2], [3, 0]], np.float32)
    expected = [min(range(4), key=lambda k: float(((s - centers[k]) ** 2).sum())) for s in samples]
    assert nearest(samples, centers).tolist() == expected == [1, 1, 2]
