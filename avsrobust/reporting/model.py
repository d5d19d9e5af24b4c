"""The table of a report: models' results (subjects), their scores under a protocol (lines), and what explains them.

Conventions
    A table is built once, by `avsrobust.reporting.table_builder.build_table`; formats only read it.
    Scores are fractions in [0, 1]; None is undefined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from avsrobust.metrics import DatasetScore, Protocol, SemanticProtocol, SemanticScores, signature
from avsrobust.metrics.dataset_score import ConditionKey, negative_key
from avsrobust.metrics.intervals import G_KEY, Interval, ScoreIntervals
from avsrobust.reporting.columns import (
    ALL_CATEGORIES,
    CATEGORY_COLUMN,
    CSV_COLUMNS,
    HEADLINES,
    KEY_COLUMNS,
    MEAN_COLUMNS,
    MEAN_SCORES,
    MEASURES,
    METRICS,
    REPORTED_COLUMN,
    RUNS_COLUMN,
    SIGNATURE_COLUMN,
    condition_columns,
    condition_title,
    extended_cells,
)
from avsrobust.reporting.comparison_model import Comparisons
from avsrobust.reporting.diagnostics import Diagnostics
from avsrobust.reporting.extra_scores import ExtraScore
from avsrobust.reporting.media import Gallery
from avsrobust.reporting.reported import ReportedLine, difference, reported_value
from avsrobust.reporting.selection import AnyProtocol
from avsrobust.reporting.split_results import SplitKey
from avsrobust.results import FailedClip, is_baseline
from avsrobust.vocabulary import BINARY, CLEAN, NEGATIVES, SEMANTIC

RunDetails = Mapping[str, Any]
Cells = dict[str, str | int | float | None]


@dataclass(frozen=True)
class Subject:
    """One model's results on one split of a data set, scored under one task.

    Attributes:
        name: The model, told apart from others of the same name; for people.
        csv_model: The model, with a number where not even seed, recipe and release of the build tell two results apart.
        model: The model as its results name it, or as the report renames it.
        dataset: Data set.
        split: Split.
        seed: Seed of the build.
        recipe: Recipe of the build; empty where the results do not say.
        release: Release of the data; empty where the results do not say.
        source: The results' file, or None for results in memory.
        diagnostics: Whether audio changes the masks, and which rows are missing.
        failed: Clips that could not be scored.
        run: The content of ``run.json``; empty where there is none.
        task: "semantic" or "binary".
        units: Unit of the levels of conditions, where the results say it.
        original_model: The model as its results name it.
    """

    name: str
    csv_model: str
    model: str
    dataset: str
    split: str
    seed: int
    recipe: str
    release: str
    source: str | None
    diagnostics: Diagnostics
    failed: tuple[FailedClip, ...]
    run: RunDetails
    task: str = BINARY
    units: Mapping[str, str] = field(default_factory=dict)
    original_model: str = ""

    def condition_title(self, condition: str, level: float | None) -> str:
        """Return a condition's name for people, with its level in its unit."""
        return condition_title(condition, level, self.units.get(condition))

    @property
    def is_baseline(self) -> bool:
        """Whether this is a baseline: a reference point with known scores, or any other adapter that sees the targets."""
        return is_baseline(self.original_model or self.model, self.run)

    @property
    def score_size(self) -> str:
        """Size of the scored masks, such as "224:nearest"; empty: that of the mask files."""
        size = self.run.get("score_size")
        return size if isinstance(size, str) else ""

    @property
    def split_key(self) -> SplitKey:
        """Data set, release and split."""
        return (self.dataset, self.release, self.split)


@dataclass(frozen=True)
class Line:
    """Scores of one subject under one protocol, over all clips or those of one category.

    Attributes:
        subject: The model's results.
        protocol: The protocol.
        category: Category (semantic task: class) of the line, "all", or None where the table has no categories.
        score: The model's scores.
        trivial: Scores of a model that predicts nothing, on the same targets.
        ceiling: Scores of a perfect model, on the same targets: the best that the protocol allows.
        semantic: The scores of all classes, in lines over all classes; otherwise None.
        extra: The extra scores that were requested, in lines over all clips.
        intervals: 95 % intervals by condition and measure, where they were requested, in lines over all clips.
        runs: Results that the line is the mean of.
        spread: Sample standard deviation of each score column over `runs` results; empty for one.
    """

    subject: Subject
    protocol: AnyProtocol
    category: str | None
    score: DatasetScore
    trivial: DatasetScore
    ceiling: DatasetScore
    semantic: SemanticScores | None = None
    extra: tuple[ExtraScore, ...] = ()
    intervals: ScoreIntervals = field(default_factory=dict)
    runs: int = 1
    spread: Mapping[str, float] = field(default_factory=dict)

    def interval(self, column: str) -> Interval | None:
        """Return the 95 % interval of a score column; None where the score is undefined, or no interval was requested."""
        condition, _, measure = column.rpartition("_")
        key = G_KEY if condition == G_KEY[0] else negative_key(condition or CLEAN)
        return self.intervals.get((key, measure.lower()))

    @property
    def is_overall(self) -> bool:
        """Whether the line is about all clips."""
        return self.category in (None, ALL_CATEGORIES)

    @property
    def signature(self) -> str:
        """All that the scores depend on besides the model and the data (`metrics.signature`)."""
        return signature(self.protocol, self.score.negatives, self.subject.score_size)

    def cells(self) -> Cells:
        """Return the line's cells by column, in the order of the csv, without those of extended conditions."""
        subject = self.subject
        return {
            "model": subject.model,
            "dataset": subject.dataset,
            "split": subject.split,
            "protocol": self.protocol.name,
            **({} if self.category is None else {CATEGORY_COLUMN: self.category}),
            "clips": self.score.clips,
            **self.score.columns(),
            "seed": subject.seed if self.runs == 1 else None,
            "recipe": subject.recipe,
            "release": subject.release,
            **{entry.column: entry.value for entry in self.extra},
            SIGNATURE_COLUMN: self.signature,
        }

    def mean_columns(self) -> dict[str, float | None]:
        """Return means over classes with and without background, by `columns.MEAN_COLUMNS`; None in the binary task."""
        if self.semantic is None:
            return dict.fromkeys(MEAN_COLUMNS)
        means = (self.semantic.with_background.columns(), self.semantic.without_background.columns())
        values = [mean[name] for _, mean in zip(HEADLINES, means, strict=True) for name in MEAN_SCORES]
        return dict(zip(MEAN_COLUMNS, values, strict=True))


@dataclass(frozen=True)
class Table:
    """The whole report.

    Attributes:
        lines: All lines, sorted (see `table_builder`).
        subjects: All results, sorted; one without a scored clip has no line.
        protocols: The binary protocols requested.
        by: The name of a breakdown (`breakdowns.GROUPINGS`), or None.
        notes: Sentences that explain the table.
        warnings: Sentences to act on, or to know before quoting a number.
        semantic_protocols: The semantic protocols requested.
        classes: Lines of single classes, whether or not `lines` holds them too.
        negatives: The negative conditions that the G scores average over.
        reported: Published scores to show next to the measured ones.
        gallery: Clips to look at and listen to, which the format html shows; None: none were requested.
        comparisons: All pairs of models under each protocol, which the format html shows; empty: none were requested.
    """

    lines: tuple[Line, ...]
    subjects: tuple[Subject, ...]
    protocols: tuple[Protocol, ...]
    by: str | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    semantic_protocols: tuple[SemanticProtocol, ...] = ()
    classes: tuple[Line, ...] = ()
    negatives: tuple[str, ...] = NEGATIVES
    reported: tuple[ReportedLine, ...] = ()
    gallery: Gallery | None = None
    comparisons: tuple[Comparisons, ...] = ()

    @cached_property
    def extended(self) -> dict[ConditionKey, str]:
        """Conditions beyond those of the G scores, and the prefix of each one's columns."""
        return condition_columns(score.key for line in self.lines for score in line.score.conditions)

    @property
    def columns(self) -> tuple[str, ...]:
        """The csv's columns."""
        position = CSV_COLUMNS.index("protocol") + 1
        category = () if self.by is None else (CATEGORY_COLUMN,)
        extended = (f"{name}_{measure}" for name in self.extended.values() for measure in MEASURES)
        extra = (entry.column for line in self.lines for entry in line.extra)
        columns = (
            *CSV_COLUMNS[:position],
            *category,
            *CSV_COLUMNS[position:],
            *extended,
            *extra,
            *self.interval_columns,
            *self.spread_columns,
            *self.reported_columns,
        )
        return (*dict.fromkeys(columns), SIGNATURE_COLUMN)

    @cached_property
    def interval_columns(self) -> tuple[str, ...]:
        """Lower and upper ends of the intervals of all score columns, where the report has any."""
        if not any(line.intervals for line in self.lines):
            return ()
        scores = [name for line in self.lines for name in line.score.columns()]
        scores += [f"{prefix}_{measure}" for prefix in self.extended.values() for measure in MEASURES]
        return tuple(f"{name}_{end}" for name in dict.fromkeys(scores) for end in ("low", "high"))

    @cached_property
    def spread_columns(self) -> tuple[str, ...]:
        """Number of results of each line, and the spread of all score columns, where any line is a mean of several."""
        spread = dict.fromkeys(name for line in self.lines for name in line.spread)
        return (RUNS_COLUMN, *(f"{name}_spread" for name in spread)) if spread else ()

    def _spread_cells(self, line: Line) -> Cells:
        """The cells of `spread_columns` of one line."""
        if not self.spread_columns:
            return {}
        spread = {f"{name}_spread": value for name, value in line.spread.items()}
        return {**dict.fromkeys(self.spread_columns), RUNS_COLUMN: line.runs, **spread}

    def interval(self, line: Line, column: str) -> Interval | None:
        """Return the interval of a score column of a line, extended conditions included; None where there is none."""
        for key, prefix in self.extended.items():
            for measure in MEASURES:
                if column == f"{prefix}_{measure}":
                    return line.intervals.get((key, measure.lower()))
        return line.interval(column) if column in line.score.columns() else None

    def _interval_cells(self, line: Line) -> Cells:
        """The cells of `interval_columns` of one line."""
        found = {name: line.interval(name) for name in line.score.columns()}
        for key, prefix in self.extended.items():
            found |= {f"{prefix}_{measure}": line.intervals.get((key, measure.lower())) for measure in MEASURES}
        cells: Cells = dict.fromkeys(self.interval_columns)
        for name, interval in found.items():
            if interval is not None:
                cells |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
        return cells

    @cached_property
    def reported_columns(self) -> tuple[str, ...]:
        """Columns of published scores: who reports them; of each score, the reported one and measured minus reported."""
        matched = [entry for entry in self.reported if any(entry.is_of(line) for line in self.lines)]
        found = [name for name in METRICS if any(name in entry.values for entry in matched)]
        pairs = (f"{name}_{part}" for name in found for part in ("reported", "difference"))
        return (REPORTED_COLUMN, *pairs) if self.reported else ()

    def cells(self, line: Line) -> Cells:
        """Return the cells of `columns` of one line, by column; None is undefined."""
        extra: Cells = {entry.column: None for other in self.lines for entry in other.extra}
        reported: Cells = dict.fromkeys(self.reported_columns)
        for name in self.reported_columns[1::2]:
            column = name.removesuffix("_reported")
            reported[name] = reported_value(line, column, self.reported)
            reported[f"{column}_difference"] = difference(line, column, self.reported)
        extended = extended_cells(line.score.conditions, self.extended)
        return {
            **extra,
            **line.cells(),
            **extended,
            **self._interval_cells(line),
            **self._spread_cells(line),
            **reported,
        }

    @property
    def reported_rows(self) -> list[Cells]:
        """Rows of csv and parquet of the published scores that belong to a data set, task and protocol of the table."""
        keys = {(s.dataset, s.split, s.task, line.protocol.name) for line in self.lines for s in (line.subject,)}
        return [
            {
                **dict.fromkeys(self.columns),
                **dict(zip(KEY_COLUMNS, (entry.model, entry.dataset, entry.split, entry.protocol), strict=True)),
                **({} if self.by is None else {CATEGORY_COLUMN: ALL_CATEGORIES}),
                **entry.values,
                REPORTED_COLUMN: entry.citation,
            }
            for entry in self.reported
            if entry.key in keys
        ]

    def csv_protocol(self, line: Line) -> str:
        """Return the csv's cell `protocol`: marked as binary where the same split has semantic lines too."""
        mixed = line.subject.task == BINARY and any(
            subject.split_key == line.subject.split_key for subject in self.subjects if subject.task == SEMANTIC
        )
        return f"{line.protocol.name}-{BINARY}" if mixed else line.protocol.name
