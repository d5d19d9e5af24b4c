"""Freed memory is given back to the system, what is in use stays."""

from __future__ import annotations

import platform
import subprocess
import sys

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
