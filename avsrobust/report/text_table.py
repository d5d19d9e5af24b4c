"""Tables in plain text: Markdown that is also aligned for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from avsrobust.report.escape import one_line


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], numeric_from: int = 1) -> str:
    r"""Return a Markdown table whose columns line up; those from index `numeric_from` on are right-aligned.

    Cells are Markdown (`escape.markdown` makes it of text from files); none can end its cell or its line.

    >>> print(text_table(["model", "F"], [["oracle", "1.0"], ["a|b", "0"]]))
    | model  |   F |
    | ------ | --: |
    | oracle | 1.0 |
    | a\|b   |   0 |
    """
    cells = [[_escaped(cell) for cell in row] for row in [header, *rows]]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    lines = [_line(row, widths, numeric_from) for row in cells]
    rule = ["-" * (width - 1) + ":" if column >= numeric_from else "-" * width for column, width in enumerate(widths)]
    return "\n".join([lines[0], "| " + " | ".join(rule) + " |", *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int], numeric_from: int) -> str:
    padded = [
        cell.rjust(width) if column >= numeric_from else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"


def _escaped(cell: str) -> str:
    # A bar behind an even number of backslashes would end the cell.
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", one_line(cell))
