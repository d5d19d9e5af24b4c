"""The parts of `make bench`: what is run, how long it may take, which numbers are taken from its output, and what bounds it.

A number is found by a pattern with one group; of several lines that match, the last one counts. Budgets are about twice what a
part takes on two quiet cores; all parts together may take `MINUTES`, and those that this list names last go short.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MINUTES = 12

_MEGA, _GIGA, _MS = 1e6, 1e9, 1e-3
_PIXELS = 224 * 224
_NUMBER = r"([\d.,]+)"


@dataclass(frozen=True)
class Number:
    """Where an output states a number: a pattern with one group, and its unit; `inverse`: 1 over it, for rates."""

    pattern: str
    unit: float = 1.0
    inverse: bool = False

    def is_in(self, output: str) -> bool:
        """Return whether the output states it."""
        return re.search(self.pattern, output, re.MULTILINE) is not None

    def found_in(self, output: str) -> float:
        """Return the number; it must be there."""
        value = float(re.findall(self.pattern, output, re.MULTILINE)[-1].replace(",", "")) * self.unit
        return 1 / value if self.inverse else value


@dataclass(frozen=True)
class Limit:
    """What a part cannot do without, against how long it took.

    `must` says it in words; `amount` is it in bytes or operations, as the probe named `probe` counts them; `of` is what of the
    part it concerns, None for all of it.
    """

    must: str
    probe: str
    amount: float | Number
    seconds: Number
    of: str | None = None

    def amount_is_in(self, output: str) -> bool:
        """Return whether the amount is known, or stated by the output."""
        return not isinstance(self.amount, Number) or self.amount.is_in(output)

    def amount_in(self, output: str) -> float:
        """Return the amount; the output must state it where it is not known before."""
        return self.amount.found_in(output) if isinstance(self.amount, Number) else self.amount


@dataclass(frozen=True)
class Part:
    """A benchmark of this folder: its name in ``--only``, a title, its script, its arguments, those of a rehearsal, its budget.

    `ratios` are (what is compared, where the output states it). `is_table`: its lines with "|" are a table for the page.
    """

    name: str
    title: str
    script: str
    full: tuple[str, ...]
    quick: tuple[str, ...]
    budget_s: float
    ratios: tuple[tuple[str, Number], ...] = ()
    limits: tuple[Limit, ...] = ()
    is_table: bool = False

    def arguments(self, quick: bool) -> tuple[str, ...]:
        """Return the script and its arguments, relative to the repository."""
        return (f"benchmarks/{self.script}", *(self.quick if quick else self.full))

    def command(self, quick: bool) -> str:
        """Return the command for a reader."""
        return " ".join(("python", *self.arguments(quick)))

    def missing(self, output: str) -> list[str]:
        """Return a line for each pattern that the output does not match."""
        wanted = [number for _, number in self.ratios]
        for limit in self.limits:
            wanted += [limit.seconds, *([limit.amount] if isinstance(limit.amount, Number) else [])]
        absent = dict.fromkeys(number.pattern for number in wanted if not number.is_in(output))
        return [f"its output has no line that matches {pattern}" for pattern in absent]


def _step(name: str, must: str) -> Limit:
    """Return the limit of a step of papers_build.py: its files, at the rate of the disk."""
    return Limit(
        must,
        "disk",
        Number(rf"^{name}: .*, {_NUMBER} MB", _MEGA),
        Number(rf"^{name}: {_NUMBER} s"),
        of=name,
    )


def _row(step: str, column: int, unit: float = 1.0) -> Number:
    """Return a number of growth.py's table: of the last, largest size of a step; columns after the step's name count from 1."""
    return Number(rf"^\| {step} \|(?: [^|]* \|){{{column - 1}}} {_NUMBER} \|", unit)


PARTS = (
    Part(
        "cli_start",
        "CPU time of `avsrobust --help` against an interpreter that imports click",
        "cli_start.py",
        (),
        (),
        20,
        ratios=(("avsrobust --help / import click", Number(rf"ratio {_NUMBER}")),),
    ),
    Part(
        "front_end",
        "VGGish's front end against the resampling alone of the reference",
        "front_end.py",
        (),
        (),
        40,
        ratios=(("resampy's kaiser_best alone / all of the front end", Number(rf"^ratio +{_NUMBER}")),),
        limits=(
            # 80,000 samples of 353 taps, 480 spectra of 512 points (2.5 N log2 N), 480 x 257 x 64 for the bands.
            Limit(
                "77.8 million operations: taps of the resampling, spectra, mel bands",
                "float64",
                2 * 80_000 * 353 + 480 * 2.5 * 512 * 9 + 2 * 480 * 257 * 64,
                Number(rf"^vggish_log_mel, all of it +{_NUMBER} ms", _MS),
            ),
        ),
    ),
    Part(
        "papers_build",
        "Survey, build and verify against the papers' procedure restated",
        "papers_build.py",
        ("--clips", "60", "--repeat", "1"),
        ("--clips", "6", "--repeat", "1"),
        110,
        ratios=(
            ("the papers' procedure as released / survey and build", Number(rf"^ratio, as released.* {_NUMBER}$")),
            (
                "the papers' procedure with one front end / survey and build",
                Number(rf"^ratio, one front end against survey.* {_NUMBER}$"),
            ),
            (
                "the papers' procedure with one front end / build alone",
                Number(rf"^ratio, one front end against build.* {_NUMBER}$"),
            ),
        ),
        limits=(
            _step("survey", "read all files of the data set once, not from the cache"),
            _step("build", "read the sounds, write the build"),
            _step("verify", "read the data set and the build once, not from the cache"),
        ),
    ),
    Part(
        "scoring",
        "One pass over the pixels against the papers' 255",
        "scoring.py",
        (),
        ("--clips", "20"),
        40,
        ratios=(
            ("255 passes in numpy, the papers' form / one pass", Number(rf"numpy, papers' form.*ratio +{_NUMBER}")),
            ("255 passes in torch, the papers' form / one pass", Number(rf"torch, papers' form.*ratio +{_NUMBER}")),
            ("255 passes, the quickest form found / one pass", Number(rf"count_nonzero.*ratio +{_NUMBER}")),
        ),
        limits=(
            Limit(
                "read five maps of 4 bytes and masks of 1 byte a pixel",
                "copy",
                5 * _PIXELS * 5,
                Number(rf"^  one pass, all 4 protocols +{_NUMBER} ms", _MS),
            ),
        ),
    ),
    Part(
        "pipeline",
        "`evaluate` without a model: reading and scoring",
        "pipeline.py",
        ("--without-model-only", "--clips", "60", "--rounds", "2"),
        ("--without-model-only", "--clips", "6", "--rounds", "1"),
        70,
        limits=(
            Limit(
                "of a clip, move five pictures and, for four conditions, maps and masks; CPU time",
                "copy",
                5 * 3 * _PIXELS + 4 * 5 * 5 * _PIXELS,
                Number(rf"^without a model, with frames.* {_NUMBER} ms of a core", _MS),
            ),
        ),
    ),
    Part(
        "training_reader",
        "Training samples from the cache of pictures against decoding each",
        "training_reader.py",
        (),
        ("--clips", "6", "--samples", "640", "--repeat", "1"),
        80,
        ratios=(("from the cache / decoded each time", Number(rf"ratio {_NUMBER}")),),
        limits=(
            Limit(
                "of a sample, move a frame and a mask of 128 x 128 and a log-mel once; CPU time",
                "copy",
                2 * (4 * 128 * 128 + 4 * 96 * 64),
                Number(rf"^warm cache +{_NUMBER} samples/s", inverse=True),
            ),
        ),
    ),
    Part(
        "report",
        "Reports of 10 models on each of 3 data sets",
        "report_speed.py",
        ("--runs", "10"),
        ("--runs", "1", "--clips", "5"),
        40,
        ratios=(("table with intervals / table", Number(rf"table with intervals.*ratio {_NUMBER}")),),
    ),
    Part(
        "intervals",
        "Intervals and comparisons by products of matrices against a loop over resamples",
        "intervals.py",
        (),
        ("--clips", "200", "--models", "2", "--samples", "1000"),
        60,
        ratios=(("a plain loop / products of matrices", Number(rf"ratio of a plain loop +{_NUMBER}")),),
        limits=(
            Limit(
                "multiply the resamples' weights with the clips' terms; CPU time",
                "float64",
                Number(rf"^  products of matrices behind them: {_NUMBER} GFLOP", _GIGA),
                Number(rf"^  intervals, \d+ models +{_NUMBER} s"),
                of="intervals",
            ),
        ),
    ),
    Part(
        "decoder",
        "The masked decoder of the published size against the library's",
        "m2f_decoder.py",
        ("--repeat", "1"),
        ("--toy", "--repeat", "1"),
        120,
        ratios=(("the library's / ours", Number(rf"^ratio {_NUMBER}")),),
        limits=(
            Limit(
                "the matrix operations that torch counts; CPU time of one thread",
                "float32",
                Number(rf"^matrix operations of ours: {_NUMBER} GFLOP", _GIGA),
                Number(rf"^ours +{_NUMBER} s"),
            ),
        ),
    ),
    Part(
        "growth",
        "Growth with the number of clips",
        "growth.py",
        ("--only", "plan,load,report"),
        ("--only", "plan,load,report", "--sizes", "10,100"),
        420,
        limits=(
            Limit("fill the memory that it takes once", "copy", _row("plan", 5, _MEGA), _row("plan", 3), of="plan"),
            Limit("read manifest.parquet", "disk", _row("load", 6, _MEGA), _row("load", 3), of="manifest"),
            Limit(
                "read scores.parquet, made up and thus small",
                "disk",
                _row("report", 6, _MEGA),
                _row("report", 3),
                of="report",
            ),
        ),
        is_table=True,
    ),
    Part(
        "encode_once",
        "The debiased Mask2Former of the published size, 4 conditions, against 8 full forward passes",
        "m2f_encode_once.py",
        (),
        ("--toy",),
        240,
        ratios=(("8 full passes / encoded once, decoded together", Number(rf"^ratio {_NUMBER}")),),
    ),
)
