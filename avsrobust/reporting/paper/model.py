"""A table for a paper, as every format writes it: groups of columns side by side, and rows of cells that are texts.

Conventions
    `avsrobust.reporting.paper.table` fills it; `latex`, `markdown` and `html` write it, and compute nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

MODEL, REPORTED, BASELINE, TRIVIAL = "model", "reported", "baseline", "trivial"
BEST, SECOND = "best", "second"
NOTHING_TITLE = "nothing predicted"
# The condition of the scores over all conditions.
G = "G"
DIFFERENCE = "Δ"


@dataclass(frozen=True)
class Column:
    """One column of a group.

    Attributes:
        name: Column of the csv.
        condition: Heading of its condition; "G": all conditions; empty: clean sound.
        heading: Heading of the measure, without the arrow.
        higher_is_better: Whether more is better; None where neither is.
        is_difference: Whether it holds the differences of measured scores from reported ones.
    """

    name: str
    condition: str
    heading: str
    higher_is_better: bool | None
    is_difference: bool = False

    @property
    def label(self) -> str:
        """The condition and the measure, where both stand in one heading."""
        if self.condition == G:
            return f"{G}-{self.heading}" if not self.is_difference else self.heading
        return f"{self.condition} {self.heading}".strip()


@dataclass(frozen=True)
class Group:
    """The columns of one data set; `title` is its heading."""

    title: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Cell:
    """A score as text, or None where it is undefined; `mark` is `BEST`, `SECOND` or empty, and so may be its 95 % `interval`."""

    text: str | None
    mark: str = ""
    interval: str = ""


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        title: Name of the model, or of the trivial score.
        kind: `MODEL`, `REPORTED`, `BASELINE` or `TRIVIAL`.
        cells: A tuple of cells for each group.
        is_incomplete: Whether clips failed or rows are missing in any of its results.
    """

    title: str
    kind: str
    cells: tuple[tuple[Cell, ...], ...]
    is_incomplete: bool = False


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Attributes:
        protocol: The protocol's name, or those of the tasks.
        groups: The data sets' columns.
        rows: Models, reported numbers, baselines, then the trivial score.
        caption: Sentences for people.
        label: LaTeX label.
        remarks: Signatures, warnings and notes, one line each.
    """

    protocol: str
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    caption: str
    label: str
    remarks: tuple[str, ...]

    @property
    def has_conditions(self) -> bool:
        """Whether any column is of other conditions than clean sound."""
        return any(column.condition for group in self.groups for column in group.columns)
