"""Training reader: samples per second from the warm cache of pictures, against decoding each picture, in one run, interleaved.

Toy clips of s4 and ms3 with frames of the size that AVSBench ships, resized to that of the recipe. Decoding each picture is what
a run did before there was a cache, in its first epoch and for all that its memory did not hold. Rates are samples per second of
CPU time of one process, which other work on the machine changes least, so those of as many cores are as many times as high; with
--workers N they are by the clock, with N reading processes that collate, as in `avsrobust train --workers N`. The ratio is that
of the medians. Expected: at least 10.

    python benchmarks/training_reader.py [--clips N] [--samples N] [--repeat N] [--workers N] [--size S]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from avsrobust.adapters.base import AudioInput
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
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        builds = []
        for dataset in DATASETS:
            manifest = toy_build(dataset, arguments.clips, 0, on_message=print, root=Path(folder))
            builds.append(TrainingBuild(manifest, manifest.data_root(None)))
        warm, cold = _samples(builds, arguments.size, 2048), _samples(builds, arguments.size, 0)
        warm.decode_once(Path(folder) / "pictures", on_message=print)
        ways = {
            "warm cache": (warm, arguments.samples),
            "decoded each time": (cold, max(BATCH, arguments.samples // 10)),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.repeat):
            for name, (samples, count) in ways.items():
                rates[name].append(_rate(samples, count, arguments.workers))
    for name, found in rates.items():
        print(f"{name:18}{statistics.median(found):9.0f} samples/s  ({', '.join(f'{one:.0f}' for one in found)})")
    ratio = statistics.median(rates["warm cache"]) / statistics.median(rates["decoded each time"])
    print(f"{arguments.workers} workers, size {arguments.size}: ratio {ratio:.1f} (expected: at least {REQUIRED})")
    return 0 if ratio >= REQUIRED else 1


def _samples(builds: list[TrainingBuild], size: int, cache_mib: int) -> TrainingSet:
    negatives = NegativesPart(0.1, ("offscreen", "silence"))
    data = DataPart(DATASETS, cache_mib=cache_mib)
    return TrainingSet(builds, data, negatives, audio=AudioInput.log_mel(), image_size=size)


def _rate(samples: TrainingSet, count: int, workers: int) -> float:
    indices = [SampleIndex(number % len(samples), 0, (number,)) for number in range(count)]
    batches = [indices[start : start + BATCH] for start in range(0, count, BATCH)]
    loader: DataLoader[object] = DataLoader(samples, batch_sampler=batches, num_workers=workers, collate_fn=collate)
    batch = iter(loader)
    # The workers' start is not the reader's rate.
    next(batch)
    clock = time.perf_counter if workers else time.process_time
    start = clock()
    read = sum(1 for _ in batch) * BATCH
    return read / (clock() - start)


if __name__ == "__main__":
    sys.exit(main())
