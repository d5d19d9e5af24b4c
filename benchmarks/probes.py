"""What the machine can do at most: reading a file in sequence, copying memory, multiplying matrices.

    python benchmarks/probes.py [--quick]

The file is written, flushed and read once with its pages dropped from the page cache, then once from the cache; how much of it
the cache held before each reading is said, for not every file system drops pages when asked. A copy counts what it reads and what
it writes. Products are square, of one type, with two operations for each multiplication. The best of a few tries counts.
"""

from __future__ import annotations

import argparse
import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BLOCK = 4 << 20
TRIES = 5
# Pages looked at to tell how much of a file is in the page cache.
SAMPLED = 64


@dataclass(frozen=True)
class Probe:
    """A rate that nothing on this machine exceeds.

    `key` names it in code, `what` for people; `per_second` counts `unit` ("bytes" or "operations"); `remark` says under which
    circumstances it was measured.
    """

    key: str
    what: str
    per_second: float
    unit: str
    remark: str

    def __str__(self) -> str:
        name = {"bytes": "GB/s", "operations": "GFLOP/s"}[self.unit]
        return f"{self.what}: {self.per_second / 1e9:.2f} {name} ({self.remark})"


def measure(*, quick: bool = False) -> list[Probe]:
    """Return all probes; `quick` takes small sizes, whose rates are not worth much."""
    return [*_disk(quick), _copy(quick), *_products(quick)]


def drop_cached(paths: Iterable[Path]) -> None:
    """Flush files and ask the system to drop their pages from the page cache, as far as it has such a call."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _drop(descriptor)
        finally:
            os.close(descriptor)


def _drop(descriptor: int) -> None:
    os.fsync(descriptor)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _disk(quick: bool) -> list[Probe]:
    size = (16 if quick else 512) << 20
    block = np.random.default_rng(0).bytes(BLOCK)
    with tempfile.TemporaryDirectory(prefix="avsrobust-probe-") as folder:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            for _ in range(size // BLOCK):
                file.write(block)
            file.flush()
            _drop(file.fileno())
        kind = file_system_of(path)
        found = []
        for key, what in (("disk", "reading a file, its pages dropped"), ("cache", "reading it again, from the cache")):
            held = _cached_share(path)
            remark = f"{kind}; the cache held {'an unknown share' if held is None else f'{held:.0%}'} of it before"
            found.append(Probe(key, what, size / _read(path), "bytes", remark))
    return found


def _read(path: Path) -> float:
    buffer = bytearray(BLOCK)
    with path.open("rb", buffering=0) as file:
        start = time.perf_counter()
        while file.readinto(buffer):
            pass
        return time.perf_counter() - start


def _cached_share(path: Path) -> float | None:
    """Return the share of a file's pages that are in the page cache, of a sample; None where the system does not tell."""
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    with path.open("rb", buffering=0) as file:
        size, held = path.stat().st_size, 0
        # Reading a page brings its neighbours in: from the end to the start, the sample does not meet them.
        places = [size * number // SAMPLED for number in reversed(range(SAMPLED))]
        for place in places:
            try:
                held += os.preadv(file.fileno(), [bytearray(1)], place, os.RWF_NOWAIT)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK):
                    return None
    return held / len(places)


def file_system_of(path: Path) -> str:
    """Return the type of the file system that a path lies on, as /proc/mounts names it."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "unknown file system"
    around = [(len(where), kind) for where, kind in mounts if path.resolve().is_relative_to(where)]
    # The last of those mounted at one place is what is seen there.
    return max(reversed(around), key=lambda found: found[0])[1] if around else "unknown file system"


def _copy(quick: bool) -> Probe:
    size = (16 if quick else 256) << 20
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    seconds = _best(lambda: np.copyto(target, source))
    return Probe(
        "copy", "numpy copy in memory, read and written", 2 * size / seconds, "bytes", f"{size >> 20} MiB, 1 thread"
    )


def _products(quick: bool) -> list[Probe]:
    import torch

    side, found = 256 if quick else 2048, []
    before = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ways = {
        "float32": (torch.float32, 1),
        "float64": (torch.float64, 1),
        "float32_all": (torch.float32, cores),
    }
    try:
        for key, (dtype, threads) in ways.items():
            torch.set_num_threads(threads)
            matrix = torch.ones((side, side), dtype=dtype)
            out = torch.empty_like(matrix)

            def multiply(matrix: torch.Tensor = matrix, out: torch.Tensor = out) -> None:
                torch.mm(matrix, matrix, out=out)

            name = key.removesuffix("_all")
            remark = f"{side} x {side}, {threads} {'thread' if threads == 1 else 'threads'}"
            what = f"torch product of {name} matrices{', all cores' if key.endswith('_all') else ''}"
            found.append(Probe(key, what, 2 * side**3 / _best(multiply), "operations", remark))
    finally:
        torch.set_num_threads(before)
    return found


def _best(call: Callable[[], object]) -> float:
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run?")
    for probe in measure(quick=parser.parse_args().quick):
        print(probe)


if __name__ == "__main__":
    main()
