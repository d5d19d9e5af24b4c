"""A table laid out for people: a section per split of a data set, in it a block per task and protocol, best values marked.

Conventions
    Only lines of one block compare. In a block of models scored on the same targets the trivial scores are one line and the
    ceilings another; otherwise every model has its own.
    Best values are found among lines of one block and category as they are displayed: values that look equal are equally good.
    Baselines compete only among themselves, where the block has no model. A line alone has no best value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from avsrobust.metrics import ConditionScore, DatasetScore, SemanticProtocol
from avsrobust.metrics.intervals import Interval
from avsrobust.reporting.breakdowns import AVS_V3, CATEGORY, TRAIN_SOURCE
from avsrobust.reporting.columns import DECIMALS, HEADLINES, METRICS, MISSING, fraction, is_extended, percent
from avsrobust.reporting.extra_scores import GROUPS, ExtraScore, ScoreGroup
from avsrobust.reporting.model import Line, Subject, Table
from avsrobust.reporting.naming import split_order, split_title, task_title
from avsrobust.reporting.reported import ReportedScore, reported_scores
from avsrobust.reporting.selection import AnyProtocol
from avsrobust.reporting.split_results import SplitKey
from avsrobust.vocabulary import BINARY, NEGATIVES

TRIVIAL_TITLE = "trivial score: nothing predicted"
CEILING_TITLE = "ceiling: everything right"
REPORTED_HEADINGS = ("model", "score", "reported", "measured", "difference", "comparable")
_BREAKDOWN_TITLES = {CATEGORY: "category", TRAIN_SOURCE: "source in train", AVS_V3: "AVS-V3 zero-shot split"}


@dataclass(frozen=True)
class MarkedLine:
    """A line and the score columns in which it is the best of its block."""

    line: Line
    best: frozenset[str]


@dataclass(frozen=True)
class BoundLine:
    """Scores of a model that predicts nothing, or of a perfect one; `title` says on whose targets where these differ."""

    title: str
    score: DatasetScore


@dataclass(frozen=True)
class ExtraRow:
    """A row of extra scores: `title` is the condition, pair or threshold; a cell is None where a model lacks the score."""

    subject: Subject
    title: str
    clips: int | None
    frames: int | None
    cells: tuple[ExtraScore | None, ...]


@dataclass(frozen=True)
class ExtraTable:
    """The extra scores of one group in a block; `headings` are those of the rows' cells."""

    group: ScoreGroup
    headings: tuple[str, ...]
    rows: tuple[ExtraRow, ...]


@dataclass(frozen=True)
class ReportedRow:
    """A published score as text, next to the measured one of the same model and measured minus reported."""

    model: str
    score: str
    reported: str
    measured: str
    difference: str
    comparable: str


@dataclass(frozen=True)
class Breakdown:
    """Parts of a block's clips or classes: their noun, whether a clip may be in several, and each part's lines."""

    name: str
    overlapping: bool
    parts: tuple[tuple[str, tuple[MarkedLine, ...]], ...]


@dataclass(frozen=True)
class Block:
    """Comparable lines: one split, task and protocol.

    Attributes:
        split_key: Data set, release and split.
        task: "semantic" or "binary".
        protocol: The protocol.
        lines: Lines over all clips.
        bounds: Trivial scores and ceilings over all clips.
        categories: Each category and its lines, where the table is by category.
        classes: Each class and its lines in the semantic task, whether or not the table is by category.
        by: The breakdown of the table, or None.
        score_size: Size of the scored masks, such as "224:nearest"; empty: that of the mask files.
        reported: Published scores of the same split, task and protocol, where the report shows them.
    """

    split_key: SplitKey
    task: str
    protocol: AnyProtocol
    lines: tuple[MarkedLine, ...]
    bounds: tuple[BoundLine, ...]
    categories: tuple[tuple[str, tuple[MarkedLine, ...]], ...]
    classes: tuple[tuple[str, tuple[MarkedLine, ...]], ...]
    by: str | None = None
    score_size: str = ""
    reported: tuple[ReportedScore, ...] = ()

    @property
    def title(self) -> str:
        """The protocol, the task on data sets that have both, and the size of the masks where it is not their own."""
        size, _, mode = self.score_size.partition(":")
        at = f", masks at {size} ({mode})" if size else ""
        return f"{self.protocol.name}{task_title(self.task, self.split_key[0])}{at}"

    @property
    def heading(self) -> str:
        """The split and the title."""
        return f"{split_title(self.split_key)}: protocol {self.title}"

    @property
    def key(self) -> str:
        """A name that no other block of its section has, for anchors."""
        task = "" if self.task == BINARY else f"-{self.task}"
        return f"{self.protocol.name}{task}" + (f"-{self.score_size}" if self.score_size else "")

    @property
    def signature(self) -> str:
        """All that the block's scores depend on besides the models and the data."""
        return self.lines[0].line.signature if self.lines else ""

    @property
    def other_negatives(self) -> str:
        """The negative conditions of the G scores, where they are not the default ones; else empty."""
        negatives = self.lines[0].line.score.negatives if self.lines else NEGATIVES
        return "" if negatives == NEGATIVES else ", ".join(negatives)

    @property
    def extra(self) -> tuple[ExtraTable, ...]:
        """A table for each group of extra scores that a line has."""
        groups = dict.fromkeys(score.group for entry in self.lines for score in entry.line.extra)
        return tuple(_extra_table(GROUPS[name], [entry.line for entry in self.lines]) for name in groups)

    @property
    def breakdowns(self) -> tuple[Breakdown, ...]:
        """The parts of the table's breakdown, and the classes in the semantic task."""
        found = []
        if self.categories and not (self.classes and self.by == CATEGORY):
            found.append(
                Breakdown(_BREAKDOWN_TITLES.get(self.by or "", CATEGORY), self.by == CATEGORY, self.categories)
            )
        if self.classes:
            found.append(Breakdown("class", False, self.classes))
        return tuple(found)

    @property
    def headline(self) -> str:
        """The classes over which mIoU and F are means; empty in the binary task."""
        return self.protocol.headline if isinstance(self.protocol, SemanticProtocol) else ""

    @property
    def secondary_headline(self) -> str:
        """The classes over which `secondary_means` are; empty in the binary task."""
        return next((title for title in HEADLINES if self.headline and title != self.headline), "")

    @property
    def secondary_means(self) -> tuple[tuple[MarkedLine, DatasetScore], ...]:
        """Each line and its other means over classes; none in the binary task."""
        found = ((entry, entry.line.semantic) for entry in self.lines)
        return tuple((entry, semantic.secondary) for entry, semantic in found if semantic is not None)

    @property
    def extended(self) -> tuple[tuple[MarkedLine, ConditionScore], ...]:
        """Each line and its scores under conditions beyond those of the G scores."""
        return tuple(
            (entry, score) for entry in self.lines for score in entry.line.score.conditions if is_extended(score.key)
        )


@dataclass(frozen=True)
class Section:
    """One split of a data set in one release: its subjects, and a block per task and protocol."""

    split_key: SplitKey
    subjects: tuple[Subject, ...]
    blocks: tuple[Block, ...]

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return self.split_key[0]

    @property
    def title(self) -> str:
        """The split, for headings."""
        return split_title(self.split_key)


def sections(table: Table) -> list[Section]:
    """Return the table's sections, sorted by data set (s4, ms3, avss), release and split."""
    subjects: dict[SplitKey, list[Subject]] = {}
    for subject in table.subjects:
        subjects.setdefault(subject.split_key, []).append(subject)
    blocks = list(_blocks(table))
    return [
        Section(key, tuple(members), tuple(block for block in blocks if block.split_key == key))
        for key, members in sorted(subjects.items(), key=lambda item: split_order(item[0]))
    ]


def reported_rows(block: Block) -> list[ReportedRow]:
    """Return the rows of a block's published scores for people: one per score, and one per result of the same model."""
    rows = []
    for score in block.reported:
        name, label = score.line.model, METRICS[score.column].heading
        comparable = "yes" if score.line.comparable else "not strictly"
        for subject, value in score.measured or ((None, None),):
            same = "" if subject is None else f" (here: {subject.name})"
            gap = MISSING if value is None else f"{100 * (value - score.value):+.{DECIMALS}f}"
            rows.append(ReportedRow(f"{name}{same}", label, percent(score.value), percent(value), gap, comparable))
    return rows


def best_columns(lines: Sequence[Line]) -> list[frozenset[str]]:
    """Return for each of these comparable lines the score columns in which no other is better."""
    models = [line for line in lines if not line.subject.is_baseline]
    competing = models or list(lines)
    if len(competing) < 2:
        return [frozenset()] * len(lines)
    shown = {id(line): _displayed(line) for line in competing}
    best = {name: _best([values[name] for values in shown.values()], name) for name in METRICS}
    return [
        frozenset(name for name, value in shown.get(id(line), {}).items() if value is not None and value == best[name])
        for line in lines
    ]


def _best(values: Sequence[float | None], name: str) -> float | None:
    """The best value of a column; None where all are undefined."""
    choose = max if METRICS[name].higher_is_better else min
    return choose((value for value in values if value is not None), default=None)


def _displayed(line: Line) -> dict[str, float | None]:
    """The scores in percent, rounded as tables show them."""
    scores = line.score.columns()
    return {name: None if (value := scores[name]) is None else round(100 * value, DECIMALS) for name in METRICS}


def _block_key(line: Line) -> tuple[SplitKey, str, str, str]:
    """Lines with the same key share a block."""
    return (line.subject.split_key, line.subject.task, line.protocol.name, line.subject.score_size)


def _blocks(table: Table) -> Iterator[Block]:
    """Yield the table's blocks in the order of its lines."""
    classes = {key: list(group) for key, group in groupby(table.classes, _block_key)}
    for key, group in groupby(table.lines, _block_key):
        members = list(group)
        overall = [line for line in members if line.is_overall]
        yield Block(
            split_key=key[0],
            task=key[1],
            protocol=members[0].protocol,
            lines=_marked(overall),
            bounds=_bound_lines(overall),
            categories=_by_category(line for line in members if not line.is_overall),
            classes=_by_category(classes.get(key, [])),
            by=table.by,
            score_size=key[3],
            reported=reported_scores(overall, table.reported),
        )


def _by_category(lines: Iterable[Line]) -> tuple[tuple[str, tuple[MarkedLine, ...]], ...]:
    """Each category and its lines, marked."""
    groups = groupby(lines, lambda line: line.category or "")
    return tuple((category, _marked(list(same))) for category, same in groups)


def _marked(lines: Sequence[Line]) -> tuple[MarkedLine, ...]:
    """The lines with their best columns."""
    return tuple(MarkedLine(line, best) for line, best in zip(lines, best_columns(lines), strict=True))


def _bound_lines(lines: Sequence[Line]) -> tuple[BoundLine, ...]:
    """A trivial score and a ceiling where all models share their targets, else one of each for every model."""
    shared = all((line.trivial, line.ceiling) == (lines[0].trivial, lines[0].ceiling) for line in lines)
    of = [("", lines[0])] if shared else [(f" ({line.subject.name})", line) for line in lines]
    return (
        *(BoundLine(f"{TRIVIAL_TITLE}{whose}", line.trivial) for whose, line in of),
        *(BoundLine(f"{CEILING_TITLE}{whose}", line.ceiling) for whose, line in of),
    )


def _extra_table(group: ScoreGroup, lines: Sequence[Line]) -> ExtraTable:
    """The table of one group: the rows of each condition, pair or threshold together, a row per model."""
    of_group = [
        (line, [score for score in line.extra if score.group == group.name and not score.is_detail]) for line in lines
    ]
    everything = [score for _, scores in of_group for score in scores]
    measures = list(dict.fromkeys(score.measure for score in everything))
    rows = []
    for title in dict.fromkeys(score.row for score in everything):
        for line, scores in of_group:
            cells = {score.measure: score for score in scores if score.row == title}
            if cells:
                clips, frames = (
                    next((value for score in cells.values() if (value := getattr(score, name)) is not None), None)
                    for name in ("clips", "frames")
                )
                rows.append(ExtraRow(line.subject, title, clips, frames, tuple(cells.get(name) for name in measures)))
    return ExtraTable(group, tuple(_extra_heading(name, everything) for name in measures), tuple(rows))


def _extra_heading(measure: str, scores: Sequence[ExtraScore]) -> str:
    """The heading of a measure, with an arrow where its scores that have a better direction agree on it."""
    of_measure = [score for score in scores if score.measure == measure and score.higher_is_better is not None]
    headings = {score.heading for score in of_measure}
    return headings.pop() if len(headings) == 1 else measure


def uncertainty_text(line: Line, column: str) -> str:
    """Return the uncertainty of a score in percent: its spread over several runs, or its 95 % interval; empty without one."""
    if column in line.spread:
        return f" ± {percent(line.spread[column])}"
    text = interval_text(line.interval(column))
    return f" {text}" if text else ""


def interval_text(interval: Interval | None) -> str:
    """Return an interval in percent; empty for None.

    >>> interval_text(Interval(0.5, 0.6234))
    '[50.00, 62.34]'
    """
    return "" if interval is None else f"[{percent(interval.low)}, {percent(interval.high)}]"


def condition_intervals(line: Line, score: ConditionScore) -> tuple[str, str, str]:
    """Return the intervals of mIoU, F and FPR under one condition as text; empty where there is none."""
    miou, f, fpr = (interval_text(line.intervals.get((score.key, measure))) for measure in ("miou", "f", "fpr"))
    return miou, f, fpr


def extra_cell(score: ExtraScore | None) -> str:
    """Return an extra score for people: a fraction with three decimals, or percent with two."""
    if score is None:
        return MISSING
    return fraction(score.value) if score.is_fraction else percent(score.value)
