"""Memory that a process has freed and still holds: given back where a stage ends that took much of it.

Conventions
    arrow's pool and the C library keep what is freed for what comes next; of a stage whose arrays were large, the next one has
    no use for that, and the two together would be the process's peak. It costs milliseconds, and nothing that is in use moves.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import pyarrow as pa


def release_unused() -> None:
    """Give freed memory back to the system."""
    pa.default_memory_pool().release_unused()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """Return glibc's function of that name; None where the C library is another one."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
