"""The draw of `avsrobust.conditions.seeds` for many seeds among many candidates, compiled by numba, which librosa brings too.

Conventions
    Same numbers as numpy's, to the bit: 64-bit integers that wrap. Seeds are split over the cores; nothing depends on how.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from avsrobust.processes import usable_cores

_SEEDS_AT_ONCE = 1024
Numbers = NDArray[np.uint64]


@lru_cache
def _compiled(multipliers: tuple[int, int]) -> Callable[[Numbers, Numbers, Numbers], None]:
    """Return the loop for these multipliers of the mixer, which as constants of it halve its time."""
    first, second = (np.uint64(factor) for factor in multipliers)

    @numba.njit(nogil=True)
    def fill(seeds: Numbers, candidates: Numbers, found: Numbers) -> None:
        for position in range(seeds.size):
            seed = seeds[position]
            highest = np.uint64(0)
            for number in range(candidates.size):
                score = candidates[number] + seed
                score ^= score >> np.uint64(30)
                score *= first
                score ^= score >> np.uint64(27)
                score *= second
                score ^= score >> np.uint64(31)
                highest = score if score > highest else highest
            found[position] = highest

    filled: Callable[[Numbers, Numbers, Numbers], None] = fill
    return filled


def highest_scores(seeds: Numbers, candidates: Numbers, multipliers: tuple[int, int]) -> Numbers:
    """Return the highest score among the candidates, uint64 [N], N above 0, for each of the seeds, uint64 [M].

    `multipliers` are those of the mixer.
    """
    loop = _compiled(multipliers)
    found = np.empty(len(seeds), dtype=np.uint64)

    def fill(begin: int) -> None:
        part = slice(begin, begin + _SEEDS_AT_ONCE)
        loop(seeds[part], candidates, found[part])

    # Compiles it in this thread: numba silences warnings meanwhile, which in others is not safe.
    loop(seeds[:0], candidates, found[:0])
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(fill, range(0, len(seeds), _SEEDS_AT_ONCE)))
    return found
