"""Markdown of a report on a terminal: aligned tables, in colour where the terminal and NO_COLOR allow it.

Conventions
    Reads only what `reporting.render.md` and `reporting.paper.markdown` write, whose text from files is inert already; it is
    taken as plain text here, never as markup of the terminal.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

# Blanks between columns: padding and the box.
_GAP = 2
_MARKS = (
    (re.compile(r"\*\*(.*)\*\*"), "bold green"),
    (re.compile(r"<ins>(.*)</ins>"), "underline"),
    (re.compile(r"_(.*)_"), "italic dim"),
)


def print_markdown(text: str | bytes, console: Console | None = None) -> None:
    """Print a report in Markdown to a terminal; without a console, to stdout."""
    content = text.decode() if isinstance(text, bytes) else text
    console = console or Console(highlight=False)
    for is_table, lines in groupby(content.splitlines(), lambda line: line.startswith("|")):
        found = list(lines)
        for shown in _tables(found, console.width) if is_table else map(_line, found):
            console.print(shown, markup=False, highlight=False)


def _line(line: str) -> Text:
    """A heading, or a line of text."""
    if line.startswith("## "):
        return Text(_plain(line[3:]), style="bold cyan")
    return Text(_plain(line))


def _tables(lines: list[str], width: int) -> Iterator[RenderableType]:
    """A table, or several that share its first column where the terminal is too narrow to keep words whole."""
    header, rule, *rows = [[_cell(text) for text in _cells(line)] for line in lines]
    columns = list(zip(header, rule, *rows, strict=True))
    needed = [max(_longest_word(title), *map(_longest_word, cells), 1) for title, _, *cells in columns]
    panels: list[list[int]] = []
    room = 0
    for number in range(1, len(columns)):
        if not panels or needed[number] + _GAP > room:
            panels.append([0])
            room = width - needed[0]
        panels[-1].append(number)
        room -= needed[number] + _GAP
    for panel in panels or [[0]]:
        yield _table([columns[number] for number in panel], [needed[number] for number in panel], width)


def _table(columns: Sequence[tuple[Text, ...]], needed: Sequence[int], width: int) -> RenderableType:
    """A table of columns (heading, rule, cells); the columns whose rule ends in a colon are right-aligned."""
    whole = sum(max(map(len, column)) + _GAP for column in columns) <= width
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for (title, dashes, *cells), least in zip(columns, needed, strict=True):
        is_number = dashes.plain.endswith(":")
        widest = max(map(len, [title, *cells])) if whole else least
        table.add_column(
            title,
            justify="right" if is_number else "left",
            overflow="fold",
            min_width=min(widest, width),
            max_width=widest if is_number else None,
        )
    for row in zip(*(cells for _, _, *cells in columns), strict=True):
        table.add_row(*row)
    return table


def _longest_word(text: Text) -> int:
    """The width of a text's longest word."""
    return max(map(len, text.plain.split()), default=0)


def _cells(line: str) -> list[str]:
    """The cells of a table's line."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def _cell(text: str) -> Text:
    """A cell with its mark as a style."""
    for pattern, style in _MARKS:
        if found := pattern.fullmatch(text):
            return Text(_plain(found[1]), style=style)
    return Text(_plain(text))


def _plain(text: str) -> str:
    """Markdown without its escapes."""
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text))
