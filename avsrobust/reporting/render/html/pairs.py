"""Pairs of models as the page shows them: differences with intervals, as numbers and as marks on one scale.

Conventions
    Differences are A minus B, in percent. A difference is marked where p after Holm's correction is below 0.05.
    Positions are in units of a mark's own viewBox, `WIDTH` wide; all marks of a table have one scale, with 0 in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from avsrobust.metrics import PairedDifference
from avsrobust.reporting.columns import METRICS, MISSING
from avsrobust.reporting.comparison_model import Comparison, Comparisons, SplitComparison
from avsrobust.reporting.presentation import Block

WIDTH, HEIGHT = 120.0, 14.0
SCORES = ("mIoU", "F", "G_mIoU", "G_F", "G_FPR")
_MARKED_SCORE = "G_mIoU"
_LEVEL = 0.05
_EDGE = 4.0


@dataclass(frozen=True)
class Mark:
    """An interval and the difference in it: positions from left to right, and whether the pair differs clearly."""

    low: float
    value: float
    high: float
    is_clear: bool


@dataclass(frozen=True)
class DifferenceView:
    """A difference as text: the value, its interval, and p after correction; `better` is "A", "B" or "" where it is not clear."""

    value: str
    interval: str
    p: str
    better: str


@dataclass(frozen=True)
class PairRow:
    """Two models on the clips that both have."""

    a: str
    b: str
    clips: int
    differences: tuple[DifferenceView, ...]
    mark: Mark | None


@dataclass(frozen=True)
class PairTable:
    """All pairs of a block: the models, the headings of the differences, the rows, and the number of resamples."""

    models: tuple[str, ...]
    headings: tuple[str, ...]
    marked: str
    extent: str
    samples: int
    rows: tuple[PairRow, ...]


def pair_table(block: Block, comparisons: Sequence[Comparisons]) -> PairTable | None:
    """Return the pairs of models under a block's protocol, task and split; None where there are none."""
    found = [
        (comparison, split)
        for several in comparisons
        for comparison in several.comparisons
        for split in comparison.splits
        if _key(comparison, split) == (*block.split_key, block.task, block.protocol.name)
    ]
    if not found:
        return None
    extent = max((_extent(_entry(split, _MARKED_SCORE)) for _, split in found), default=0.0) or 1.0
    return PairTable(
        models=tuple(dict.fromkeys(name for comparison, _ in found for name in (comparison.a, comparison.b))),
        headings=tuple(METRICS[name].heading for name in SCORES),
        marked=METRICS[_MARKED_SCORE].label,
        extent=f"{100 * extent:.1f}",
        samples=found[0][0].samples,
        rows=tuple(
            PairRow(
                comparison.a,
                comparison.b,
                split.common,
                tuple(_view(name, _entry(split, name)) for name in SCORES),
                _mark(_entry(split, _MARKED_SCORE), extent),
            )
            for comparison, split in found
        ),
    )


def _key(comparison: Comparison, split: SplitComparison) -> tuple[str, str, str, str, str]:
    return (comparison.dataset, comparison.release, split.split, comparison.task, comparison.protocol)


def _entry(split: SplitComparison, name: str) -> PairedDifference | None:
    return next((entry for entry in split.differences if entry.statistic == name), None)


def _extent(entry: PairedDifference | None) -> float:
    if entry is None or entry.low is None or entry.high is None:
        return 0.0
    return max(abs(entry.low), abs(entry.high))


def _view(name: str, entry: PairedDifference | None) -> DifferenceView:
    if entry is None or entry.difference is None:
        return DifferenceView(MISSING, "", "", "")
    is_up = entry.difference > 0
    better = "A" if is_up == METRICS[name].higher_is_better else "B"
    return DifferenceView(
        value=f"{100 * entry.difference:+.2f}",
        interval=""
        if entry.low is None or entry.high is None
        else f"[{100 * entry.low:+.2f}, {100 * entry.high:+.2f}]",
        p="" if entry.p_holm is None else f"{entry.p_holm:.4f}",
        better=better if _is_clear(entry) else "",
    )


def _is_clear(entry: PairedDifference) -> bool:
    return entry.p_holm is not None and entry.p_holm < _LEVEL


def _mark(entry: PairedDifference | None, extent: float) -> Mark | None:
    if entry is None or entry.difference is None or entry.low is None or entry.high is None:
        return None
    low, value, high = (
        round(WIDTH / 2 + position / extent * (WIDTH / 2 - _EDGE), 1)
        for position in (entry.low, entry.difference, entry.high)
    )
    return Mark(low, value, high, _is_clear(entry))
