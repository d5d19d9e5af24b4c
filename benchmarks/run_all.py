"""Run the benchmarks one after the other and write what they found into one page, `make bench`.

    python benchmarks/run_all.py [--quick] [--only NAME]... [--output FILE] [--patience FACTOR]

What the machine can do at most is measured first (`probes.py`); the page sets against it what each part took. The page is written
once, at the end, and replaces that of an earlier run; `--quick` (small sizes, a rehearsal) and `--only` print it unless --output
names a file. A part that fails, takes longer than its budget, or finds the twelve minutes of all parts used up, is named in the
page, and the exit status is 1; the other parts are run all the same. `--patience 3` triples budgets and minutes, for a slow or
busy machine. The parts, and which numbers are taken from their output: `parts.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from parts import MINUTES, PARTS, Part
from probes import Probe, file_system_of, measure

from avsrobust.files import write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
PACKAGES = (
    "avsrobust", "numpy", "pandas", "pyarrow", "torch", "transformers", "scipy", "numba", "soxr", "resampy", "librosa", "pydub",
)  # fmt: skip
# Of the load average before anything is run, per core: above it, the page says that the machine was busy.
QUIET = 0.3
# What a benchmark prints before it leaves with status 1 because its ratio is too low.
_BAR = "(expected: at least"


@dataclass(frozen=True)
class Outcome:
    """A part that was run: its command as a reader would type it, what it printed, and `failure`, None where it went well.

    `seconds` are by the clock, `load` is the load average before it.
    """

    part: Part
    command: str
    output: str
    seconds: float
    load: float | None
    failure: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: does everything run? The numbers mean nothing"
    )
    parser.add_argument(
        "--only", action="append", choices=[part.name for part in PARTS], metavar="NAME", help="this part; repeatable"
    )
    parser.add_argument("--output", type=Path, help="the page [default: benchmarks/RESULTS.md, of a whole run]")
    parser.add_argument(
        "--patience", type=float, default=1.0, metavar="FACTOR", help="all may take so many times as long"
    )
    options = parser.parse_args(arguments)
    began, before = datetime.now(UTC), load_average()
    deadline = time.monotonic() + 60 * MINUTES * options.patience
    machine = describe_machine()
    print("probes", file=sys.stderr, flush=True)
    probes = measure(quick=options.quick)
    outcomes = []
    for part in PARTS:
        if options.only is None or part.name in options.only:
            print(f"{part.name}: {part.command(options.quick)}", file=sys.stderr, flush=True)
            budget = min(part.budget_s * options.patience, deadline - time.monotonic())
            outcomes.append(run(part, budget, quick=options.quick))
            last = outcomes[-1]
            print(f"{part.name}: {last.failure or 'done'} ({last.seconds:.0f} s)", file=sys.stderr, flush=True)
    facts = [
        ("run", f"{began:%Y-%m-%d %H:%M} UTC, {(datetime.now(UTC) - began).total_seconds():.0f} s"),
        ("command", " ".join(["python", "benchmarks/run_all.py", *(sys.argv[1:] if arguments is None else arguments)])),
        ("commit", commit()),
        ("load average, before and after", f"{_load(before)} and {_load(load_average())}"),
        *machine,
    ]
    page = render(facts, probes, outcomes, quick=options.quick, busy=is_busy(before))
    output = options.output or (None if options.quick or options.only else RESULTS)
    if output is None:
        print(page, end="")
    else:
        write_text(output, page)
        print(output)
    return 1 if any(outcome.failure for outcome in outcomes) else 0


def run(part: Part, budget: float, *, quick: bool) -> Outcome:
    """Run a part in a process group of its own, which is ended when the budget, in seconds, is used up."""
    load, start = load_average(), time.perf_counter()
    if budget <= 0:
        return Outcome(part, part.command(quick), "", 0.0, load, "not run: the time of all parts was used up")
    process = subprocess.Popen(
        [sys.executable, *part.arguments(quick)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=budget)
        failure = _failure(process.returncode, output, errors, quick)
    except subprocess.TimeoutExpired:
        _end(process)
        output, _ = process.communicate()
        failure = f"took longer than its budget of {budget:.0f} s and was stopped"
    except BaseException:
        _end(process)
        raise
    seconds, output = time.perf_counter() - start, portable(output)
    failure = failure or "; ".join(part.missing(output)) or None
    return Outcome(part, part.command(quick), output, seconds, load, failure)


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _failure(status: int, output: str, errors: str, quick: bool) -> str | None:
    if status == 0 or (quick and status == 1 and _BAR in output):
        # Small sizes need not reach the ratio of the true ones.
        return None
    bar = [line for line in output.splitlines() if _BAR in line] if status == 1 else []
    if bar:
        return f"below what it should reach: {bar[-1].strip()}"
    last = (errors.splitlines() or ["nothing on stderr"])[-1]
    return f"exit status {status}: {portable(last.strip())}"


def portable(text: str) -> str:
    """Return a text without the folders of this machine.

    >>> portable(f"{ROOT}/benchmarks/growth.py failed")
    './benchmarks/growth.py failed'
    """
    return text.replace(str(ROOT), ".").replace(str(Path.home()), "~")


# The machine


def load_average() -> float | None:
    """Return the load average of the last minute, None where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def is_busy(load: float | None) -> bool:
    return load is not None and load > QUIET * usable_cores()


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine() -> list[tuple[str, str]]:
    """Return what a reader must know to compare numbers; neither the machine's name nor its folders."""
    import tempfile

    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    versions = ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    return [
        ("processor", f"{_processor()}, {usable_cores()} cores"),
        ("memory", f"{memory / 2**30:.1f} GiB" if memory else "unknown"),
        ("GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none"),
        ("system", f"{platform.system()} {platform.release()}; temporary files on {_temporary(tempfile.gettempdir())}"),
        ("versions", f"Python {platform.python_version()}, {versions}"),
        ("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "not set")),
    ]


def _temporary(folder: str) -> str:
    return file_system_of(Path(folder))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str:
    """Return the commit, and whether files other than the results differ from it."""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/RESULTS.md")
    except (OSError, subprocess.CalledProcessError):
        return "unknown: no git checkout"
    return f"{head}, with changes that are not committed" if changed else head


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


# The page


def render(
    facts: Sequence[tuple[str, str]], probes: Sequence[Probe], outcomes: Sequence[Outcome], *, quick: bool, busy: bool
) -> str:
    """Return the page, Markdown."""
    rates = {probe.key: probe for probe in probes}
    lines = ["# What it takes", ""]
    lines += [
        "Written by `make bench`. Ratios compare two ways in one run on one machine; do not compare seconds between machines.",
        "",
    ]
    if quick:
        lines += ["**A rehearsal with small sizes: the numbers mean nothing.**", ""]
    if busy:
        lines += ["**The machine was busy before the run began: the numbers are not worth much.**", ""]
    failed = [outcome for outcome in outcomes if outcome.failure]
    if failed:
        lines += ["**Failed:**", ""] + [f"- {each.part.name}: {_inline(each.failure or '')}" for each in failed] + [""]
    lines += ["## Machine", "", *_table(("", ""), facts), ""]
    lines += ["## What the machine can do at most", ""]
    lines += [*_table(("probe", "rate", "how"), [_probe_cells(probe) for probe in probes]), ""]
    lines += ["## Ratios", "", *_table(("part", "what", "ratio"), _ratios(outcomes)), ""]
    lines += ["## Distance from the physical limit", ""]
    lines += [
        "The least that a part must read, copy or multiply, at the rate of the probe, against what it took: by the clock or,",
        "where it says so, of CPU time.",
        "",
        *_table(("part", "took", "must", "limit", "least", "times the limit"), _distances(outcomes, rates)),
        "",
    ]
    lines += [line for outcome in outcomes if outcome.part.is_table for line in _growth(outcome)]
    lines += ["## Output", ""]
    for outcome in outcomes:
        lines += [f"### {outcome.part.name}", ""]
        lines += [
            f"{outcome.part.title}. `{outcome.command}`: {outcome.seconds:.0f} s, load before {_load(outcome.load)}.",
            "",
        ]
        lines += ["```text", *(line.rstrip() for line in outcome.output.strip().splitlines()), "```", ""]
    return "\n".join(lines[:-1]) + "\n"


def _ratios(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    return [
        (
            outcome.part.name,
            what,
            f"{number.found_in(outcome.output):.1f}" if number.is_in(outcome.output) else "missing",
        )
        for outcome in outcomes
        for what, number in outcome.part.ratios
    ]


def _distances(outcomes: Sequence[Outcome], rates: dict[str, Probe]) -> list[tuple[str, ...]]:
    rows = []
    for outcome in outcomes:
        for limit in outcome.part.limits:
            name = outcome.part.name if limit.of is None else f"{outcome.part.name}: {limit.of}"
            if not (limit.seconds.is_in(outcome.output) and limit.amount_is_in(outcome.output)):
                rows.append((name, "missing", limit.must, rates[limit.probe].what, "", ""))
                continue
            took, amount = limit.seconds.found_in(outcome.output), limit.amount_in(outcome.output)
            least = amount / rates[limit.probe].per_second
            times = f"{took / least:,.1f}"
            rows.append((name, _seconds(took), limit.must, rates[limit.probe].what, _seconds(least), times))
    return rows


def _growth(outcome: Outcome) -> list[str]:
    table = [line for line in outcome.output.splitlines() if line.startswith("|")]
    return [f"## {outcome.part.title}", "", *table, ""] if table else []


def _probe_cells(probe: Probe) -> tuple[str, str, str]:
    what, _, rest = str(probe).rpartition(": ")
    rate, _, how = rest.partition(" (")
    return what, rate, how.removesuffix(")")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(_inline(cell) for cell in row) + " |" for row in cells]


def _inline(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def _seconds(seconds: float) -> str:
    """Return seconds with three digits, in the unit that suits.

    >>> _seconds(12.345), _seconds(0.00123), _seconds(0.0000045)
    ('12.3 s', '1.23 ms', '4.5 µs')
    """
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1 or unit == "µs":
            return f"{seconds * factor:,.3g} {unit}"
    raise AssertionError


def _load(load: float | None) -> str:
    return "unknown" if load is None else f"{load:.2f}"


if __name__ == "__main__":
    sys.exit(main())
