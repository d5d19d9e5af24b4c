"""Training reader: samples per second from the warm cache of pictures, against decoding each picture, in one run, interleaved.

Toy clips of s4 and ms3 with frames of the size that AVSBench ships, resized to that of the recipe. Decoding each picture is what
a run did before there was a cache, in its first epoch and for all that its memory did not hold; with --base it is the reader of
another checkout that decodes, in processes of its own. Rates are samples per second of CPU time of one process, which other work
on the machine changes least, so those of as many cores are as many times as high; with --workers N they are by the clock, with N
reading processes that put batches together, as in `avsrobust train --workers N`. The ratio is that of the medians. Expected: at
least 10, also against commit f508d87.

    python benchmarks/training_reader.py [--base ../other-checkout] [--clips N] [--samples N] [--workers N] [--size S]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from avsrobust.adapters.base import AudioInput
from avsrobust.manifest import load_manifest
from avsrobust.toy.build import toy_build
from avsrobust.training.data import TrainingBuild, TrainingSet, collate
from avsrobust.training.recipe import DataPart, NegativesPart
from avsrobust.training.sampler import SampleIndex

REQUIRED = 10.0
BATCH = 32
DATASETS = ("s4", "ms3")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60, help="toy clips of each data set")
    parser.add_argument(
        "--samples", type=int, default=1024, help="samples read in a timing from the cache; a tenth without"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--size", type=int, default=128, help="side of the resized pictures")
    parser.add_argument("--base", type=Path, help="another checkout of the project, whose reader decodes")
    parser.add_argument("--child", type=Path, nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    few = max(BATCH, arguments.samples // 10)
    if arguments.child is not None:
        print(_rate(_samples(_opened(arguments.child), arguments.size, 0), few, arguments.workers))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        manifests = [
            toy_build(dataset, arguments.clips, 0, on_message=print, root=Path(folder)).path for dataset in DATASETS
        ]
        warm, cold = (_samples(_opened(manifests), arguments.size, cache_mib) for cache_mib in (2048, 0))
        warm.decode_once(Path(folder) / "pictures", on_message=print)
        rates: dict[str, list[float]] = {"warm cache": [], "decoded each time": []}
        for _ in range(arguments.repeat):
            rates["warm cache"].append(_rate(warm, arguments.samples, arguments.workers))
            if arguments.base is None:
                rates["decoded each time"].append(_rate(cold, few, arguments.workers))
            else:
                rates["decoded each time"].append(_rate_of(arguments.base.resolve(), manifests))
    for name, found in rates.items():
        print(f"{name:18}{statistics.median(found):9.0f} samples/s  ({', '.join(f'{one:.0f}' for one in found)})")
    ratio = statistics.median(rates["warm cache"]) / statistics.median(rates["decoded each time"])
    print(f"{arguments.workers} workers, size {arguments.size}: ratio {ratio:.1f} (expected: at least {REQUIRED})")
    return 0 if ratio >= REQUIRED else 1


def _opened(manifests: Sequence[Path]) -> list[TrainingBuild]:
    builds = [load_manifest(path) for path in manifests]
    return [TrainingBuild(manifest, manifest.data_root(None)) for manifest in builds]


def _rate_of(checkout: Path, manifests: Sequence[Path]) -> float:
    """Return the rate of another checkout's reader that decodes each picture, with the options of this call."""
    environment = {**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, __file__, *sys.argv[1:], "--child", *map(str, manifests)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{checkout}: {run.stderr[-2000:]}")
    return float(run.stdout.splitlines()[-1])


def _samples(builds: list[TrainingBuild], size: int, cache_mib: int) -> TrainingSet:
    negatives = NegativesPart(0.1, ("offscreen", "silence"))
    data = DataPart(DATASETS, cache_mib=cache_mib)
    return TrainingSet(builds, data, negatives, audio=AudioInput.log_mel(), image_size=size)


def _rate(samples: TrainingSet, count: int, workers: int) -> float:
    indices = [SampleIndex(number % len(samples), 0, (number,)) for number in range(count)]
    batches = [indices[start : start + BATCH] for start in range(0, count, BATCH)]
    loader: DataLoader[object]
    try:
        from avsrobust.training.loading import TrainingBatches
    except ImportError:
        # A checkout of before there was this module.
        loader = DataLoader(samples, batch_sampler=batches, num_workers=workers, collate_fn=collate)
    else:
        loader = TrainingBatches(samples, batches).loader(workers)
    batch = iter(loader)
    # The workers' start is not the reader's rate.
    next(batch)
    clock = time.perf_counter if workers else time.process_time
    start = clock()
    read = sum(1 for _ in batch) * BATCH
    return read / (clock() - start)


if __name__ == "__main__":
    sys.exit(main())
