"""Lines grouped the way people read them: a block per data set, split and protocol.

Conventions
    In a block of models scored on the same targets the floors are one line; otherwise every model has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from avsrobust.metrics import CLEAN, NEGATIVES, ConditionScore, DatasetScore, Protocol
from avsrobust.report.marks import best_columns
from avsrobust.report.tables import Line, Subject, Table

FLOOR_TITLE = "floor: nothing predicted"


@dataclass(frozen=True)
class MarkedLine:
    """A line and the score columns in which it is the best of its block."""

    line: Line
    best: frozenset[str]


@dataclass(frozen=True)
class Floor:
    """What a model that predicts nothing scores; `title` says for whose targets where models differ in them."""

    title: str
    score: DatasetScore


@dataclass(frozen=True)
class Block:
    """Comparable lines: `lines` over all clips, `categories` the same per category."""

    dataset: str
    split: str
    protocol: Protocol
    lines: tuple[MarkedLine, ...]
    floors: tuple[Floor, ...]
    categories: tuple[tuple[str, tuple[MarkedLine, ...]], ...]

    @property
    def extended(self) -> tuple[tuple[MarkedLine, ConditionScore], ...]:
        """Scores under conditions beyond clean and the three negatives."""
        known = (CLEAN, *NEGATIVES)
        return tuple(
            (entry, score)
            for entry in self.lines
            for score in entry.line.score.conditions
            if score.condition not in known or score.level is not None
        )


@dataclass(frozen=True)
class Section:
    """Everything about one split of a data set: its models, and a block per protocol."""

    dataset: str
    split: str
    subjects: tuple[Subject, ...]
    blocks: tuple[Block, ...]


def sections(table: Table) -> list[Section]:
    """Return the table's sections, sorted by data set and split."""
    subjects: dict[tuple[str, str], list[Subject]] = {}
    for subject in table.subjects:
        subjects.setdefault((subject.dataset, subject.split), []).append(subject)
    blocks = list(_blocks(table.lines))
    return [
        Section(dataset, split, tuple(there), tuple(b for b in blocks if (b.dataset, b.split) == (dataset, split)))
        for (dataset, split), there in sorted(subjects.items())
    ]


def _blocks(lines: Sequence[Line]) -> Iterator[Block]:
    def key(line: Line) -> tuple[str, str, str]:
        return (line.subject.dataset, line.subject.split, line.protocol.name)

    for (dataset, split, _), group in groupby(lines, key):
        members = list(group)
        overall = [line for line in members if line.is_overall]
        by_category = groupby((line for line in members if not line.is_overall), lambda line: line.category or "")
        yield Block(
            dataset=dataset,
            split=split,
            protocol=members[0].protocol,
            lines=_marked(overall),
            floors=_floors(overall),
            categories=tuple((category, _marked(list(same))) for category, same in by_category),
        )


def _marked(lines: Sequence[Line]) -> tuple[MarkedLine, ...]:
    return tuple(MarkedLine(line, best) for line, best in zip(lines, best_columns(lines), strict=True))


def _floors(lines: Sequence[Line]) -> tuple[Floor, ...]:
    if all(line.floor == lines[0].floor for line in lines):
        return (Floor(FLOOR_TITLE, lines[0].floor),)
    return tuple(Floor(f"{FLOOR_TITLE} ({line.subject.name})", line.floor) for line in lines)
