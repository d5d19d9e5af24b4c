"""Lines grouped the way people read them: a block per place (data set, release, split), task and protocol.

Conventions
    In a block of models scored on the same targets the floors are one line; otherwise every model has its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from avsrobust.metrics import ConditionScore, DatasetScore, SemanticProtocol
from avsrobust.report.builds import Place, place_order, place_title
from avsrobust.report.columns import is_extended
from avsrobust.report.marks import best_columns
from avsrobust.report.tables import Line, Subject, Table
from avsrobust.report.tasks import AnyProtocol, task_title
from avsrobust.vocabulary import BINARY

HEADLINES = ("with background", "without background")
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
    """Comparable lines: `lines` over all clips, `categories` the same per category where that was asked for.

    `classes`: where classes are scored, the lines of each, asked for or not.
    """

    place: Place
    task: str
    protocol: AnyProtocol
    lines: tuple[MarkedLine, ...]
    floors: tuple[Floor, ...]
    categories: tuple[tuple[str, tuple[MarkedLine, ...]], ...]
    classes: tuple[tuple[str, tuple[MarkedLine, ...]], ...]

    @property
    def title(self) -> str:
        """The protocol, and what is scored where that is not plain."""
        return f"{self.protocol.name}{task_title(self.task, self.place[0])}"

    @property
    def heading(self) -> str:
        """The place and the title."""
        return f"{place_title(self.place)}: protocol {self.title}"

    @property
    def key(self) -> str:
        """A name that no other block of its section has, for anchors."""
        return self.protocol.name if self.task == BINARY else f"{self.protocol.name}-{self.task}"

    @property
    def breakdown(self) -> tuple[tuple[str, tuple[MarkedLine, ...]], ...]:
        """`classes`, or else `categories`."""
        return self.classes or self.categories

    @property
    def breakdown_title(self) -> str:
        """What the breakdown is by."""
        return "By class" if self.classes else "By category"

    @property
    def headline(self) -> str:
        """Over which classes mIoU and F are means; empty where classes are not scored."""
        return self.protocol.headline if isinstance(self.protocol, SemanticProtocol) else ""

    @property
    def beside_headline(self) -> str:
        """Over which classes the means of `beside` are."""
        return next((title for title in HEADLINES if self.headline and title != self.headline), "")

    @property
    def beside(self) -> tuple[tuple[MarkedLine, DatasetScore], ...]:
        """The other means over classes of each line; none where classes are not scored."""
        found = ((entry, entry.line.semantic) for entry in self.lines)
        return tuple((entry, semantic.beside) for entry, semantic in found if semantic is not None)

    @property
    def extended(self) -> tuple[tuple[MarkedLine, ConditionScore], ...]:
        """Scores under conditions beyond clean and the three negatives."""
        return tuple(
            (entry, score) for entry in self.lines for score in entry.line.score.conditions if is_extended(score)
        )


@dataclass(frozen=True)
class Section:
    """Everything about one place, a split of a data set in one release: its models, and a block per protocol."""

    place: Place
    subjects: tuple[Subject, ...]
    blocks: tuple[Block, ...]

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return self.place[0]

    @property
    def title(self) -> str:
        """The place, for headings."""
        return place_title(self.place)


def sections(table: Table) -> list[Section]:
    """Return the table's sections, sorted by data set (s4, ms3, avss), release and split."""
    subjects: dict[Place, list[Subject]] = {}
    for subject in table.subjects:
        subjects.setdefault(subject.place, []).append(subject)
    blocks = list(_blocks(table))
    return [
        Section(place, tuple(there), tuple(block for block in blocks if block.place == place))
        for place, there in sorted(subjects.items(), key=lambda item: place_order(item[0]))
    ]


def _block_key(line: Line) -> tuple[Place, str, str]:
    return (line.subject.place, line.subject.task, line.protocol.name)


def _blocks(table: Table) -> Iterator[Block]:
    classes = {key: list(group) for key, group in groupby(table.classes, _block_key)}
    for key, group in groupby(table.lines, _block_key):
        members = list(group)
        overall = [line for line in members if line.is_overall]
        yield Block(
            place=key[0],
            task=key[1],
            protocol=members[0].protocol,
            lines=_marked(overall),
            floors=_floors(overall),
            categories=_by_category(line for line in members if not line.is_overall),
            classes=_by_category(classes.get(key, [])),
        )


def _by_category(lines: Iterable[Line]) -> tuple[tuple[str, tuple[MarkedLine, ...]], ...]:
    groups = groupby(lines, lambda line: line.category or "")
    return tuple((category, _marked(list(same))) for category, same in groups)


def _marked(lines: Sequence[Line]) -> tuple[MarkedLine, ...]:
    return tuple(MarkedLine(line, best) for line, best in zip(lines, best_columns(lines), strict=True))


def _floors(lines: Sequence[Line]) -> tuple[Floor, ...]:
    if all(line.floor == lines[0].floor for line in lines):
        return (Floor(FLOOR_TITLE, lines[0].floor),)
    return tuple(Floor(f"{FLOOR_TITLE} ({line.subject.name})", line.floor) for line in lines)
