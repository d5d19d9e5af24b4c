"""The paper's table in HTML: a ``table`` alone, to be put into a page; best in ``strong``, second in ``u``."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from itertools import groupby

from avsrobust.reporting.columns import MISSING
from avsrobust.reporting.escape import one_line
from avsrobust.reporting.paper.model import BASELINE, BEST, REPORTED, SECOND, TRIVIAL, Cell, Column, PaperTable, Row
from avsrobust.reporting.paper.style import Style

_ARROWS = {True: " ↑", False: " ↓", None: ""}


def render_html(tables: Sequence[PaperTable], style: Style) -> str:
    """Return the tables as HTML, without a page around them."""
    del style
    return "\n".join(line for table in tables for line in _table(table)) + "\n"


def _table(table: PaperTable) -> Iterator[str]:
    """The lines of a table."""
    yield '<table class="avsrobust">'
    yield f"<caption>{_text(table.caption)}</caption>"
    yield "<thead>"
    levels = 3 if table.has_conditions else 2
    spans = "".join(
        f'<th colspan="{len(group.columns)}" scope="colgroup">{_text(group.title)}</th>' for group in table.groups
    )
    yield f'<tr><th rowspan="{levels}" scope="col">model</th>{spans}</tr>'
    if table.has_conditions:
        spans = "".join(
            f'<th colspan="{len(list(same))}">{_text(title)}</th>'
            for group in table.groups
            for title, same in groupby(group.columns, lambda column: column.condition)
        )
        yield f"<tr>{spans}</tr>"
    measures = "".join(f'<th scope="col">{_heading(column)}</th>' for group in table.groups for column in group.columns)
    yield f"<tr>{measures}</tr>"
    yield "</thead>"
    for _, rows in groupby(table.rows, lambda row: row.kind):
        yield "<tbody>"
        for row in rows:
            cells = "".join(f"<td>{_cell(cell)}</td>" for of_group in row.cells for cell in of_group)
            yield f'<tr><th scope="row">{_name(row)}</th>{cells}</tr>'
        yield "</tbody>"
    yield "</table>"


def _heading(column: Column) -> str:
    """The measure and its arrow."""
    return f"{_text(column.heading)}{_ARROWS[column.higher_is_better]}"


def _name(row: Row) -> str:
    """A row's title with its mark; baselines and trivial scores in italics."""
    name = _text(f"{row.title}{'*' if row.is_incomplete else ''}")
    name += "<sup>†</sup>" if row.kind == REPORTED else ""
    return f"<em>{name}</em>" if row.kind in (BASELINE, TRIVIAL) else name


def _cell(cell: Cell) -> str:
    """A score with its mark."""
    if cell.text is None:
        return MISSING
    text = {BEST: f"<strong>{cell.text}</strong>", SECOND: f"<u>{cell.text}</u>"}.get(cell.mark, cell.text)
    return f"{text}<br><small>{cell.interval}</small>" if cell.interval else text


def _text(text: str) -> str:
    """Inert text."""
    return html.escape(one_line(text))
