r"""The paper's table in LaTeX: booktabs, caption and label, in the largest size that fits the width, without ``\resizebox``.

Conventions
    The preamble needs ``\usepackage{booktabs}`` alone, and no package for Unicode: marks and arrows are mathematics.
    Signatures, sources, warnings and notes are comments above the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from avsrobust.reporting.columns import MISSING
from avsrobust.reporting.escape import latex as escape
from avsrobust.reporting.escape import latex_needs, latex_row
from avsrobust.reporting.paper.latex_width import SIZES, SMALL, Fit, Headed, fit, name_width, split, text_width
from avsrobust.reporting.paper.model import (
    BASELINE,
    BEST,
    MODEL,
    REPORTED,
    SECOND,
    TRIVIAL,
    Cell,
    Column,
    Group,
    PaperTable,
    Row,
)
from avsrobust.reporting.paper.style import WIDTHS, Style

_ARROWS = {True: "↑", False: "↓", None: ""}
_MATHEMATICS = {
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "≤": r"$\leq$", "Δ": r"$\Delta$", "†": r"$^{\dagger}$", "±": r"$\pm$", "–": "--",  # noqa: RUF001
}  # fmt: skip
# Heights in points: what the caption leaves of a page of an article, and rules and spaces of a panel.
_PAGE_HEIGHT = 430.0
_PANEL_HEIGHT = 50.0


@dataclass(frozen=True)
class _Panel:
    """A tabular: the numbers of its groups, and its rows."""

    groups: tuple[int, ...]
    rows: tuple[Row, ...]


def render_latex(tables: Sequence[PaperTable], style: Style) -> str:
    """Return the tables as LaTeX."""
    floats = "\n".join(_table(table, style) for table in tables)
    return "% \\usepackage{booktabs}\n" + latex_needs(floats) + floats


def _table(table: PaperTable, style: Style) -> str:
    """One float, or several where its panels need more than a page."""
    table = _split_wide_groups(table, style.width)
    names = [text_width(_title(row)) for row in table.rows]
    chosen = fit(names, [_headed(table, number) for number in range(len(table.groups))], style.width)
    # A smaller font, where the whole table then fits a page.
    smaller = [replace(chosen, size=size) for size in SIZES if size.scale < chosen.size.scale]
    chosen = next((found for found in (chosen, *smaller) if len(_pages(table, found)) == 1), chosen)
    comments = [*table.remarks, _fitted(chosen, style)]
    floats = [_float(table, style, chosen, panels, number) for number, panels in enumerate(_pages(table, chosen))]
    return "".join(f"% {escape(comment)}\n" for comment in comments) + "\n".join(floats)


def _float(table: PaperTable, style: Style, chosen: Fit, panels: Sequence[_Panel], number: int) -> str:
    """The float of some panels; the first one has the label."""
    # table* spans both columns of two, and is a plain table where there is one.
    environment = "table" if style.width <= 1.2 * WIDTHS["column"] else "table*"
    return "\n".join(
        [
            rf"\begin{{{environment}}}",
            r"\centering",
            rf"\caption{{{_text(table.caption)}{'' if number == 0 else ' (Continued.)'}}}",
            *([rf"\label{{{table.label}}}"] if number == 0 else []),
            rf"\{chosen.size.command}",
            rf"\setlength{{\tabcolsep}}{{{chosen.size.gap:g}pt}}",
            r"\vspace{4pt}",
            "\n\\par\\medskip\n".join(_tabular(table, chosen, panel) for panel in panels),
            rf"\end{{{environment}}}",
            "",
        ]
    )


def _pages(table: PaperTable, chosen: Fit) -> list[list[_Panel]]:
    """The panels of each float: no more of them than a page takes; a panel longer than a page is split between its rows."""
    pages: list[list[_Panel]] = []
    room = 0.0
    for panel in (piece for groups in chosen.panels for piece in _pieces(table, chosen, groups)):
        height = _PANEL_HEIGHT + chosen.size.line * (3 + sum(_height(row) for row in panel.rows))
        if not pages or height > room:
            pages.append([])
            room = _PAGE_HEIGHT
        pages[-1].append(panel)
        room -= height
    return pages


def _pieces(table: PaperTable, chosen: Fit, groups: Sequence[int]) -> Iterator[_Panel]:
    """The groups of one panel with as many rows at a time as a page takes."""
    most = int((_PAGE_HEIGHT - _PANEL_HEIGHT) / chosen.size.line) - 3
    rows: list[Row] = []
    for row in _rows(table, groups):
        if rows and sum(_height(other) for other in (*rows, row)) > most:
            yield _Panel(tuple(groups), tuple(rows))
            rows = []
        rows.append(row)
    yield _Panel(tuple(groups), tuple(rows))


def _rows(table: PaperTable, panel: Sequence[int]) -> list[Row]:
    """The rows that say anything in a panel."""
    return [row for row in table.rows if any(cell.text for number in panel for cell in row.cells[number])]


def _height(row: Row) -> int:
    """Lines of a row: two where it has intervals."""
    return 2 if any(cell.interval for group in row.cells for cell in group) else 1


def _fitted(chosen: Fit, style: Style) -> str:
    """A comment that says what the table was made for."""
    return (
        f"{chosen.size.command}, for a width of {style.width:g} pt (--width); needs a document of 10 pt or a wider page"
    )


def _tabular(table: PaperTable, chosen: Fit, panel: _Panel) -> str:
    """The tabular of some groups."""
    groups = [table.groups[number] for number in panel.groups]
    columns = sum(len(group.columns) for group in groups)
    lines = [rf"\begin{{tabular}}{{@{{}}l*{{{columns}}}{{r}}@{{}}}}", r"\toprule", *_header(table, groups), r"\midrule"]
    kinds = groupby(panel.rows, lambda row: row.kind)
    for position, (_, rows) in enumerate(kinds):
        lines += [r"\midrule"] if position else []
        lines += [
            line
            for row in rows
            for line in _lines(row, chosen, [cell for number in panel.groups for cell in row.cells[number]])
        ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _lines(row: Row, chosen: Fit, cells: Sequence[Cell]) -> Iterator[str]:
    """A row, and below it the intervals of its scores where it has any."""
    yield latex_row([_name(row, chosen), *(_cell(row, cell) for cell in cells)])
    if any(cell.interval for cell in cells):
        small = rf"\{chosen.size.small} "
        yield latex_row(["", *(small + cell.interval if cell.interval else "" for cell in cells)])


def _header(table: PaperTable, groups: Sequence[Group]) -> Iterator[str]:
    """The data sets; the conditions, where a column has one; the measures."""
    yield from _spanning([("", 1), *((group.title, len(group.columns)) for group in groups)])
    if table.has_conditions:
        spans = [("", 1)]
        for group in groups:
            spans += [
                (title, len(list(same))) for title, same in groupby(group.columns, lambda column: column.condition)
            ]
        yield from _spanning(spans)
    yield latex_row(["Model", *(_text(_heading(column)) for group in groups for column in group.columns)])


def _spanning(spans: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Headings over several columns, and the rules below them."""
    cells, rules, column = [], [], 1
    for title, width in spans:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{_text(title)}}}" if title else " & " * (width - 1))
        if title:
            rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        column += width
    yield latex_row(cells)
    yield " ".join(rules)


def _heading(column: Column) -> str:
    """The heading of a column with its arrow."""
    return f"{column.heading}{_ARROWS[column.higher_is_better]}"


def _title(row: Row) -> str:
    """A row's title, with its mark."""
    return f"{row.title}{'*' if row.is_incomplete else ''}{'†' if row.kind == REPORTED else ''}"


def _name(row: Row, chosen: Fit) -> str:
    """The first cell of a row; long names are broken where the table has no room for them."""
    text = _text(_title(row))
    if row.kind in (BASELINE, TRIVIAL):
        text = rf"\textit{{{text}}}"
    if chosen.name is None or chosen.size.scale * text_width(_title(row)) <= chosen.name:
        return text
    breakable = text.replace(r"\_", r"\_\allowbreak{}").replace("-", r"-\allowbreak{}").replace("/", r"/\allowbreak{}")
    return rf"\parbox[t]{{{chosen.name:.1f}pt}}{{\raggedright\sloppy {breakable}\strut}}"


def _cell(row: Row, cell: Cell) -> str:
    """A score with its mark."""
    if cell.text is None:
        return "--"
    text = (cell.text.replace("-", "$-$") if row.kind == MODEL else cell.text).replace(" ± ", r"$\pm$")
    return {BEST: rf"\textbf{{{text}}}", SECOND: rf"\underline{{{text}}}"}.get(cell.mark, text)


def _text(text: str) -> str:
    """Text with its symbols as mathematics."""
    return "".join(_MATHEMATICS.get(character, character) for character in escape(text))


def _headed(table: PaperTable, number: int) -> Headed:
    """The widths of a group's columns under its headings."""
    group = table.groups[number]
    widths = [
        max(
            text_width(_heading(column)),
            *(_cell_width(row.cells[number][place]) for row in table.rows),
        )
        for place, column in enumerate(group.columns)
    ]
    parts, place = [], 0
    for title, same in groupby(group.columns, lambda column: column.condition):
        count = len(list(same))
        parts.append(Headed(text_width(title) if title else 0.0, tuple(widths[place : place + count])))
        place += count
    return Headed(text_width(group.title), tuple(widths), tuple(parts))


def _cell_width(cell: Cell) -> float:
    """The width of a cell; a minus sign is as wide as a plus."""
    text = (cell.text or MISSING).replace("-", "+")
    # The interval's font is smaller, in the least favourable size by this much.
    return max(text_width(text, bold=cell.mark == BEST), SMALL * text_width(cell.interval))


def _split_wide_groups(table: PaperTable, width: float) -> PaperTable:
    """The table with every group that no page takes split into several of the same title."""
    longest = max(text_width(_title(row)) for row in table.rows)
    room = width - name_width(longest, width)
    pieces = []
    for number, group in enumerate(table.groups):
        headed = _headed(table, number)
        pieces += (
            [(number, places) for places in split(headed, room)]
            if headed.parts
            else [(number, range(len(group.columns)))]
        )
    groups = tuple(
        Group(table.groups[number].title, tuple(table.groups[number].columns[place] for place in places))
        for number, places in pieces
    )
    rows = tuple(
        replace(row, cells=tuple(tuple(row.cells[number][place] for place in places) for number, places in pieces))
        for row in table.rows
    )
    return replace(table, groups=groups, rows=rows)
