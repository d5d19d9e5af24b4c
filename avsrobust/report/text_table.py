"""Tables in plain text: Markdown that is also aligned for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], numeric_from: int = 1) -> str:
    r"""Return a Markdown table whose columns line up; those from index `numeric_from` on are right-aligned.

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
    # A bar or a line break in a model's name would end the cell.
    return " ".join(cell.split()).replace("|", "\\|")
