"""AVSBench at its true size, end to end: build, verify, evaluate a baseline, report; time, CPU time, memory and disk
of each step.

    python benchmarks/true_size.py DATA_ROOT [--dataset s4 --dataset ms3 --dataset avss] [--output DIR] [--workers N]

DATA_ROOT holds AVSBench as its owners ship it. Every step must end with exit status 0, without ``--on-error skip``.
Prints a Markdown table; CPU seconds are those of all processes of a step, and peak memory is that of the largest. On a machine
that does other work too, read the CPU seconds: they stay nearly the same.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

DATASETS = ("s4", "ms3", "avss")
SEED = 42


@dataclass(frozen=True)
class Step:
    """One command and what it took."""

    dataset: str
    name: str
    seconds: float
    cpu_s: float
    peak_mb: float
    disk_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("--dataset", action="append", choices=DATASETS)
    parser.add_argument("--output", type=Path, help="where builds and results go [default: a temporary folder]")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--adapter", default="oracle")
    arguments = parser.parse_args()
    output = arguments.output or Path(tempfile.mkdtemp(prefix="avsrobust-true-size-"))
    output.mkdir(parents=True, exist_ok=True)
    steps: list[Step] = []
    for dataset in arguments.dataset or DATASETS:
        build = f"robust/{dataset}-seed{SEED}"
        data = ["--data-root", str(arguments.data_root.resolve())]
        commands = {
            "build --dry-run": ["build", "--dataset", dataset, "--seed", str(SEED), *data, "--dry-run"],
            "build": ["build", "--dataset", dataset, "--seed", str(SEED), *data, "--workers", str(arguments.workers)],
            "build again": [
                "build",
                "--dataset",
                dataset,
                "--seed",
                str(SEED),
                *data,
                "--workers",
                str(arguments.workers),
            ],
            "verify": ["verify", build],
            f"evaluate {arguments.adapter}": ["evaluate", "--adapter", arguments.adapter, "--manifest", build],
            "report": ["report", f"results/{arguments.adapter}/{dataset}-seed{SEED}", "--format", "csv"],
        }
        for name, command in commands.items():
            steps.append(run(dataset, name, command, output))
            print(
                f"{dataset} {name}: {steps[-1].seconds:.1f} s, CPU {steps[-1].cpu_s:.1f} s", file=sys.stderr, flush=True
            )
    print(f"{arguments.workers} workers, Python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    print("| data set | step | seconds | CPU seconds | peak memory of a process, MB | disk so far, MB |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for step in steps:
        print(
            f"| {step.dataset} | {step.name} | {step.seconds:.1f} | {step.cpu_s:.1f} | {step.peak_mb:.0f} | {step.disk_mb:.0f} |"
        )
    if arguments.output is None:
        shutil.rmtree(output)


def run(dataset: str, name: str, command: list[str], output: Path) -> Step:
    """Run one command in `output`; raise `SystemExit` where its exit status is not 0."""
    log = output / f"{dataset}-{name.replace(' ', '_')}.log"
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.chdir(output)
        descriptor = os.open(log.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.execv(sys.executable, [sys.executable, "-m", "avsrobust", *command])
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{dataset} {name}: exit status {os.waitstatus_to_exitcode(status)}; see {log}")
    disk = sum(path.lstat().st_size for path in output.rglob("*") if path.is_file() and not path.is_symlink())
    cpu_s = usage.ru_utime + usage.ru_stime  # of the command and of the workers it waited for
    return Step(dataset, name, seconds, cpu_s, usage.ru_maxrss / 1024, disk / 1e6)


if __name__ == "__main__":
    main()
