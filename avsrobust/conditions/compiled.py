"""The draw of `avsrobust.conditions.seeds` for many seeds among many candidates, compiled by numba, which librosa brings too.

Conventions
    Same numbers as numpy's, to the bit: 64-bit integers that wrap. Seeds are split over the cores; nothing depends on how.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numpy.typing import NDArray

_SEEDS_AT_ONCE = 1024


@numba.njit(nogil=True)
def _fill(
    seeds: NDArray[np.uint64],
    candidates: NDArray[np.uint64],
    first: np.uint64,
    second: np.uint64,
    found: NDArray[np.uint64],
) -> None:
    for position in range(seeds.size):
        seed = seeds[position]
        highest = np.uint64(0)
        for candidate in candidates:
            score = candidate + seed
            score ^= score >> np.uint64(30)
            score *= first
            score ^= score >> np.uint64(27)
            score *= second
            score ^= score >> np.uint64(31)
            highest = max(highest, score)
        found[position] = highest


def highest_scores(
    seeds: NDArray[np.uint64], candidates: NDArray[np.uint64], multipliers: tuple[int, int]
) -> NDArray[np.uint64]:
    """Return the highest score among the candidates, uint64 [N], N above 0, for each of the seeds, uint64 [M].

    `multipliers` are those of the mixer.
    """
    first, second = (np.uint64(factor) for factor in multipliers)
    found = np.empty(len(seeds), dtype=np.uint64)

    def fill(begin: int) -> None:
        part = slice(begin, begin + _SEEDS_AT_ONCE)
        _fill(seeds[part], candidates, first, second, found[part])

    with ThreadPoolExecutor(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    ) as pool:
        list(pool.map(fill, range(0, len(seeds), _SEEDS_AT_ONCE)))
    return found
