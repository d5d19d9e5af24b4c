"""The parts of the page that stand above all data sets: the leaderboard of the models, and the baselines.

Conventions
    A model is the same on several data sets where it has the same name there. The leaderboard's order is that of the mean G-mIoU
    over all columns of a protocol, best first; models that lack a column have no mean and stand below, by name.
    Baselines leave the tables and charts of a section that has models; a section of baselines alone keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from avsrobust.reporting.columns import METRICS, Metric, percent
from avsrobust.reporting.model import Line
from avsrobust.reporting.presentation import Block, MarkedLine, Section

# The columns of the paper's layout (`paper.style`).
LEADERBOARD = tuple(METRICS[name] for name in ("mIoU", "G_mIoU", "G_FPR"))
_ORDER = "G_mIoU"


@dataclass(frozen=True)
class LeaderboardRow:
    """A model: its line in each column group, None where it was not evaluated, and its mean G-mIoU over all, or None."""

    name: str
    entries: tuple[MarkedLine | None, ...]
    mean: float | None


@dataclass(frozen=True)
class Leaderboard:
    """The models under one protocol: the titles of the column groups, the columns of each, and the rows, best first."""

    protocol: str
    groups: tuple[str, ...]
    metrics: tuple[Metric, ...]
    rows: tuple[LeaderboardRow, ...]

    @property
    def best_mean(self) -> str | None:
        """The best mean as it is shown; None: fewer than two models have one."""
        means = [row.mean for row in self.rows if row.mean is not None]
        return percent(means[0]) if len(means) > 1 else None


@dataclass(frozen=True)
class BaselineRow:
    """A baseline's line on one split: the title of the split, and the protocol with its task."""

    split: str
    protocol: str
    line: Line


def without_baselines(section: Section) -> Section:
    """Return a section with its models alone; as it is where it has none, or nothing but models."""
    if all(subject.is_baseline for subject in section.subjects):
        return section
    return replace(
        section,
        subjects=tuple(subject for subject in section.subjects if not subject.is_baseline),
        blocks=tuple(
            replace(
                block,
                lines=_models(block.lines),
                categories=tuple((part, _models(lines)) for part, lines in block.categories),
                classes=tuple((part, _models(lines)) for part, lines in block.classes),
            )
            for block in section.blocks
        ),
    )


def baseline_rows(sections: Sequence[Section]) -> list[BaselineRow]:
    """Return the lines that `without_baselines` takes out of these sections."""
    return [
        BaselineRow(section.title, block.title, entry.line)
        for section in sections
        if not all(subject.is_baseline for subject in section.subjects)
        for block in section.blocks
        for entry in block.lines
        if entry.line.subject.is_baseline
    ]


def leaderboards(sections: Sequence[Section]) -> list[Leaderboard]:
    """Return a leaderboard for each protocol that has lines on several splits, tasks or sizes of masks."""
    blocks: dict[str, list[tuple[Section, Block]]] = {}
    for section in sections:
        for block in section.blocks:
            if block.lines:
                blocks.setdefault(block.protocol.name, []).append((section, block))
    return [_leaderboard(protocol, found) for protocol, found in blocks.items() if len(found) > 1]


def _leaderboard(protocol: str, found: Sequence[tuple[Section, Block]]) -> Leaderboard:
    # Names of one data set tell its subjects apart.
    lines = [{entry.line.subject.name: entry for entry in block.lines} for _, block in found]
    names = dict.fromkeys(name for of in lines for name in of)
    rows = [_row(name, [of.get(name) for of in lines]) for name in names]
    rows.sort(key=lambda row: (row.mean is None, -(row.mean or 0), row.name))
    titles = [f"{section.title}{block.title.removeprefix(protocol)}" for section, block in found]
    return Leaderboard(protocol, tuple(titles), LEADERBOARD, tuple(rows))


def _row(name: str, entries: Sequence[MarkedLine | None]) -> LeaderboardRow:
    scores = [None if entry is None else entry.line.score.columns()[_ORDER] for entry in entries]
    known = [score for score in scores if score is not None]
    return LeaderboardRow(
        name,
        tuple(entries),
        fmean(known) if len(known) == len(scores) else None,
    )


def _models(lines: Sequence[MarkedLine]) -> tuple[MarkedLine, ...]:
    return tuple(entry for entry in lines if not entry.line.subject.is_baseline)
