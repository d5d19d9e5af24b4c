"""CPU time of `avsrobust --help`, against an interpreter that only imports click. Run: python benchmarks/cli_start.py"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

RUNS = 10


def cpu_seconds(command: list[str]) -> float:
    """User and system time of the fastest of several runs of a command, in seconds."""
    times = []
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(times)


def main() -> None:
    """Print both times and their ratio."""
    ours = cpu_seconds([str(Path(sys.executable).with_name("avsrobust")), "--help"])
    click = cpu_seconds([sys.executable, "-c", "import click"])
    print(f"avsrobust --help: {ours:.3f} s of CPU; python -c 'import click': {click:.3f} s; ratio {ours / click:.1f}")


if __name__ == "__main__":
    main()
