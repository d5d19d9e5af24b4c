"""How long reports of many runs take, and where: seconds and shares of one run.

    python benchmarks/report_speed.py [--runs 50] [--clips 40] [--frames 5]

RUNS models on each of 3 data sets, CLIPS clips under 4 conditions, written as `evaluate` writes them into a temporary folder.
Reading them, the table under one protocol, each format; then the table with intervals. CPU seconds, so that a busy machine does
not count; "report" is what `avsrobust report` does for a format: reading, table and rendering.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from avsrobust.metrics import concatenate, frame_statistics
from avsrobust.reporting.formats import find_format
from avsrobust.reporting.loading import load_results, load_runs
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Run, ScoreInfo, Scores, write_run, write_scores
from avsrobust.vocabulary import CLEAN, DATASETS, NEGATIVES

T = TypeVar("T")
SIDE = 32
# The formats that show no threshold; all others need the curves.
WITHOUT_CURVES = ("csv", "latex")
FORMATS = ("csv", "md", "latex", "json", "parquet", "html")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="models on each data set")
    parser.add_argument("--clips", type=int, default=40, help="clips of each data set (40: the demo's)")
    parser.add_argument("--frames", type=int, default=5, help="frames of each clip")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for dataset in DATASETS:
            for number in range(options.runs):
                write(Path(folder), dataset, number, options.clips, options.frames)
        results, reading = timed(lambda: load_results([folder]))
        (runs, _), of_runs = timed(lambda: load_runs(results))
        table, building = timed(lambda: build_table(results, ["avsbench"], runs=runs))
        print(f"{options.runs} runs x {len(DATASETS)} data sets, {options.clips} clips x {options.frames} frames each")
        before = reading + of_runs + building
        _, of_curves = timed(lambda: [subject.diagnostics.curve for subject in table.subjects])
        print(f"  reading {reading:.2f} s, run.json {of_runs:.2f} s, table {building:.2f} s, curves {of_curves:.2f} s")
        for name in FORMATS:
            _, rendering = timed(partial(find_format(name), table))
            rendering += 0.0 if name in WITHOUT_CURVES else of_curves
            print(f"  {name:<8} rendering {rendering:6.2f} s   report {before + rendering:6.2f} s")
        _, with_intervals = timed(lambda: build_table(results, ["avsbench"], runs=runs, intervals=True))
        print(f"  table with intervals {with_intervals:.2f} s, ratio {with_intervals / building:.1f}")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    begun = time.process_time()
    result = work()
    return result, time.process_time() - begun


def write(folder: Path, dataset: str, number: int, clips: int, frames: int) -> None:
    """Write the results of one model on one data set."""
    generator = np.random.default_rng([number, len(dataset)])
    target = np.zeros((frames, SIDE, SIDE), dtype=np.bool_)
    target[:, 8:20, 8:24] = True
    records, statistics = [], []
    for clip in range(clips):
        for condition in (CLEAN, *NEGATIVES):
            statistics.append(frame_statistics(generator.random(target.shape).astype(np.float32), target))
            records += [
                {
                    "split": "test",
                    "clip_id": f"clip{clip:05d}",
                    "labels": ["dog"],
                    "condition": condition,
                    "polarity": "positive" if condition == CLEAN else "negative",
                    "level": None,
                    "frame": frame,
                    "clean_intersection": None if condition == CLEAN else 10,
                    "clean_union": None if condition == CLEAN else 20,
                }
                for frame in range(frames)
            ]
    name = f"model{number:02d}"
    path = folder / name / f"{dataset}-seed42" / "scores.parquet"
    path.parent.mkdir(parents=True)
    scores = Scores(ScoreInfo(name, dataset, 42), pd.DataFrame(records), concatenate(statistics))
    write_scores(path, scores)
    write_run(path.with_name("run.json"), Run(name, dataset))


if __name__ == "__main__":
    main()
