"""The paper's table in Markdown: one header, in which every column names its data set; best bold, second underlined."""

from __future__ import annotations

from collections.abc import Sequence

from avsrobust.reporting.columns import MISSING
from avsrobust.reporting.escape import markdown, markdown_line, text_table
from avsrobust.reporting.paper.model import (
    BASELINE,
    BEST,
    REPORTED,
    SECOND,
    TRIVIAL,
    Cell,
    Column,
    Group,
    PaperTable,
    Row,
)
from avsrobust.reporting.paper.style import Style

_ARROWS = {True: " ↑", False: " ↓", None: ""}


def render_markdown(tables: Sequence[PaperTable], style: Style) -> str:
    """Return the tables as Markdown."""
    del style
    return "\n\n".join(part for table in tables for part in _table(table)) + "\n"


def _table(table: PaperTable) -> list[str]:
    """A table and its caption."""
    header = ["model", *(_heading(group, column) for group in table.groups for column in group.columns)]
    rows = [[_name(row), *(_cell(cell) for cells in row.cells for cell in cells)] for row in table.rows]
    return [text_table(header, rows), markdown_line(table.caption)]


def _heading(group: Group, column: Column) -> str:
    """The data set, the condition and the measure."""
    return markdown(f"{group.title} {column.label}") + _ARROWS[column.higher_is_better]


def _name(row: Row) -> str:
    """A row's title with its mark; baselines and trivial scores in italics."""
    name = markdown(f"{row.title}{'*' if row.is_incomplete else ''}{'†' if row.kind == REPORTED else ''}")
    return f"_{name}_" if row.kind in (BASELINE, TRIVIAL) else name


def _cell(cell: Cell) -> str:
    """A score with its mark; Markdown has no underlining but HTML's."""
    if cell.text is None:
        return MISSING
    text = {BEST: f"**{cell.text}**", SECOND: f"<ins>{cell.text}</ins>"}.get(cell.mark, cell.text)
    return f"{text} {cell.interval}".rstrip()
