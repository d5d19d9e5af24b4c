"""Markdown of a report on a terminal: aligned tables, in colour where the terminal and NO_COLOR allow it.

Conventions
    Reads only what `reporting.render.md` and `reporting.paper.markdown` write, whose text from files is inert already; it is
    taken as plain text here, never as markup of the terminal.
"""

from __future__ import annotations

import html
import re
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_LONGEST_WORD = 20
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
        for shown in [_table(found)] if is_table else map(_line, found):
            console.print(shown, markup=False, highlight=False)


def _line(line: str) -> Text:
    """A heading, or a line of text."""
    if line.startswith("## "):
        return Text(_plain(line[3:]), style="bold cyan")
    return Text(_plain(line))


def _table(lines: list[str]) -> RenderableType:
    """A table; the columns whose rule ends in a colon are right-aligned. Names keep their words, as far as they are short."""
    header, rule, *rows = [_cells(line) for line in lines]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for number, (title, dashes) in enumerate(zip(header, rule, strict=True)):
        longest = max((word for row in rows for word in _cell(row[number]).plain.split()), key=len, default="")
        table.add_column(
            _cell(title),
            justify="right" if dashes.endswith(":") else "left",
            overflow="fold",
            min_width=min(len(longest), _LONGEST_WORD),
        )
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


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
