"""Matrix products with the same bits on any number of cores.

Conventions
    BLAS may add up in another order when it uses another number of threads, and job runners give their workers fewer
    threads than a single process has. Features must come out the same bytes either way (CONTRACT.md section 4), so every
    product behind them is computed on one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread inside the block."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    # Looking for the loaded libraries takes milliseconds, so once per process.
    return ThreadpoolController()
