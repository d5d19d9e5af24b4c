"""Freed memory is given back to the system, what is in use stays."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from avsrobust import heap

# In a process of its own: what the others have freed is none of it.
_SCRIPT = """
from avsrobust.heap import release_unused

def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1])

blocks = [bytearray(b"x" * 100_000) for _ in range(1000)]
last = blocks[-1]
del blocks
# The last block keeps the C library from giving back those below it.
before = resident()
release_unused()
assert last == b"x" * 100_000
print(before - resident())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries give memory back by themselves, or never"
)
def test_memory_between_blocks_in_use_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    # 100 MB in pages of 4 kB.
    assert int(done.stdout) > 20_000


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_malloc_trim", lambda: None)
    array = pa.array(range(1000))
    heap.release_unused()
    assert array.to_pylist() == list(range(1000))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is begun anew in /proc")
def test_a_peak_is_seen_below_an_earlier_one(peak_above: Callable[[Callable[[], object]], int | None]) -> None:
    """The tests' own measure: what bounds of memory in other tests rest on."""
    megabytes = 1 << 20
    np.ones(256 * megabytes, np.uint8)
    grown = peak_above(lambda: np.ones(64 * megabytes, np.uint8))
    if grown is None:
        pytest.skip("the peak of memory cannot be begun anew here")
    assert 60 * megabytes < grown < 200 * megabytes
    assert peak_above(lambda: None) < 32 * megabytes
