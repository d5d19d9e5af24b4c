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

from avsrobust.conditions.seeds import MULTIPLIERS

_SEEDS_AT_ONCE = 1024
# The mixer's multipliers; being constants of the compiled loop they halve its time.
_FIRST, _SECOND = (np.uint64(factor) for factor in MULTIPLIERS)


@numba.njit(nogil=True)
def _fill(
    seeds: NDArray[np.uint64],
    candidates: NDArray[np.uint64],
    found: NDArray[np.uint64],
) -> None:
    for position in range(seeds.size):
        seed = seeds[position]
        highest = np.uint64(0)
        for number in range(candidates.size):
            score = candidates[number] + seed
            score ^= score >> np.uint64(30)
            score *= _FIRST
            score ^= score >> np.uint64(27)
            score *= _SECOND
            score ^= score >> np.uint64(31)
            highest = score if score > highest else highest
        found[position] = highest


def highest_scores(seeds: NDArray[np.uint64], candidates: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the highest score among the candidates, uint64 [N], N above 0, for each of the seeds, uint64 [M]."""
    found = np.empty(len(seeds), dtype=np.uint64)

    def fill(begin: int) -> None:
        part = slice(begin, begin + _SEEDS_AT_ONCE)
        _fill(seeds[part], candidates, found[part])

    with ThreadPoolExecutor(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    ) as pool:
        list(pool.map(fill, range(0, len(seeds), _SEEDS_AT_ONCE)))
    return found
