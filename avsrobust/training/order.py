"""Which item stands where: the batch of a step as a function of (seed, step) alone.

Conventions
    A pool is a set of items that is drawn from without end: epoch after epoch, each in its own order. A `Slot` is one place
    in a batch: its item, and what its draws (mirroring, negatives) depend on. Pools of a mix fill fixed shares of each batch.
    Nothing here depends on the number of processes: each takes its part of the same batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_ORDER, _DRAWS, _NOISE = 1, 2, 3


@dataclass(frozen=True)
class Slot:
    """One place in a batch: an item's number, the pool's epoch, and the seed of the item's draws in that epoch."""

    item: int
    epoch: int
    draws: tuple[int, ...]

    def generator(self) -> np.random.Generator:
        """Return the generator of everything that is drawn for this item in this epoch."""
        return np.random.default_rng(self.draws)


@dataclass(frozen=True)
class Pool:
    """Items that are drawn from together; `share` of every batch is theirs. `key` tells the pools of a run apart."""

    items: tuple[int, ...]
    share: float
    key: int


@dataclass(frozen=True)
class Phase:
    """The pools from step `start` (counted from 0) up to step `stop`."""

    start: int
    stop: int
    pools: tuple[Pool, ...]


@dataclass(frozen=True)
class Order:
    """The order of a whole run."""

    seed: int
    batch_size: int
    phases: tuple[Phase, ...]

    def batch(self, step: int) -> list[Slot]:
        """Return the slots of step `step`, counted from 0."""
        number, phase = next((n, phase) for n, phase in enumerate(self.phases) if phase.start <= step < phase.stop)
        slots: list[Slot] = []
        for pool, count in zip(phase.pools, quotas([pool.share for pool in phase.pools], self.batch_size), strict=True):
            first = (step - phase.start) * count
            slots += [self._slot(pool, number, first + place) for place in range(count)]
        # Each process takes a stride of the batch, so that all of them get their share of every pool.
        return slots

    def _slot(self, pool: Pool, phase: int, position: int) -> Slot:
        epoch, place = divmod(position, len(pool.items))
        item = pool.items[int(_permutation(self.seed, phase, pool.key, epoch, len(pool.items))[place])]
        return Slot(item, epoch, (_DRAWS, self.seed, phase, epoch, item))


def part_of(slots: Sequence[Slot], part: int, parts: int) -> list[Slot]:
    """Return part `part` of `parts` of a batch: every `parts`-th slot."""
    return list(slots[part::parts])


def noise_seed(seed: int, step: int, part: int) -> int:
    """Return the seed of a model's noise in one part of one step, an integer below 2**63."""
    return int(np.random.SeedSequence([_NOISE, seed, step, part]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def quotas(shares: Sequence[float], total: int) -> list[int]:
    """Return how many of `total` places each share gets: rounded down, the rest to the largest remainders.

    >>> quotas([0.5, 0.5], 16), quotas([0.7, 0.3], 16), quotas([1.0], 4)
    ([8, 8], [11, 5], [4])
    """
    exact = np.array(shares, dtype=np.float64) / sum(shares) * total
    counts = np.floor(exact + 1e-9).astype(int)
    behind = np.argsort(counts - exact, kind="stable")
    counts[behind[: total - int(counts.sum())]] += 1
    return [int(count) for count in counts]


@lru_cache(maxsize=16)
def _permutation(seed: int, phase: int, key: int, epoch: int, size: int) -> NDArray[np.intp]:
    return np.random.default_rng((_ORDER, seed, phase, key, epoch)).permutation(size)
