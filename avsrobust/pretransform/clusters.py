"""k-means over embeddings.

Conventions
    Embeddings are float32 [N, D], centres float32 [K, D]; an embedding's cluster is that of the nearest centre by Euclidean
    distance, the first of several. Every distinct embedding counts once (silence would else outweigh sounds), and sorted, so
    that no order of files has a say. Everything drawn depends on (seed, purpose, run) alone.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from avsrobust.conditions.seeds import check_seed
from avsrobust.errors import OptionError
from avsrobust.pretransform.base import Floats

RUNS = 3
ITERATIONS = 30
# Rounds in which centres that have lost all their embeddings are put elsewhere.
_RESEATINGS = 5
_PURPOSE = 0x636C7573  # "clus"


def fit_clusters(embeddings: Floats, clusters: int, seed: int) -> Floats:
    """Return the centres of `clusters` clusters, float32 [clusters, D], of embeddings [N, D]; the best of `RUNS` runs.

    scipy's k-means with k-means++ starts (Arthur and Vassilvitskii 2007), on one thread: the same bytes on any number of cores.
    Raises `OptionError` where there are fewer distinct embeddings than clusters.
    """
    check_seed(seed)
    # Sums of float32 would depend on what the sums are split into.
    distinct = np.unique(embeddings, axis=0).astype(np.float64)
    if len(distinct) < clusters:
        raise OptionError(
            f"--clusters {clusters}: found {len(distinct)} different sounds of one second to fit them on; expected at least as "
            "many as clusters; ask for fewer, or name more splits with --fit-split"
        )
    with threadpool_limits(limits=1, user_api="blas"):
        runs = [_run(distinct, clusters, np.random.default_rng([_PURPOSE, seed, run])) for run in range(RUNS)]
    centers, _ = min(runs, key=lambda run: run[1])
    return centers.astype(np.float32)


def nearest(embeddings: Floats, centers: Floats) -> NDArray[np.int64]:
    """Return the cluster of each embedding, int64 [N]."""
    differences = embeddings[:, None].astype(np.float64) - centers[None]
    clusters: NDArray[np.int64] = np.square(differences).sum(axis=-1).argmin(axis=1)
    return clusters


def _run(
    samples: NDArray[np.float64], clusters: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """Return centres and the mean squared distance to them."""
    from scipy.cluster.vq import kmeans2, vq

    with warnings.catch_warnings():
        # Empty clusters are dealt with below.
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        centers, _ = kmeans2(samples, clusters, iter=ITERATIONS, minit="++", seed=generator)
        labels, distances = vq(samples, centers)
        for _ in range(_RESEATINGS):
            empty = np.setdiff1d(np.arange(clusters), labels)
            if empty.size == 0:
                break
            # The embeddings that are served worst; a stable sort, so that ties have one answer.
            centers[empty] = samples[np.argsort(-distances, kind="stable")[: empty.size]]
            centers, _ = kmeans2(samples, centers, iter=ITERATIONS, minit="matrix")
            labels, distances = vq(samples, centers)
    return centers, float(np.square(distances).mean())
