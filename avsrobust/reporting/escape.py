r"""Text from results made inert in every format: nothing in a name can move a cursor, end a cell, run or be a formula.

Conventions
    Names of models, data sets, splits, conditions and categories, messages and paths come from files and are not trusted.
    Characters that cannot be seen (control characters, other directions of writing, no width, halves of a surrogate pair) are
    shown as Python writes them (``\x1b``, ``\u202e``), so that two names that differ look different. JSON alone keeps them, as
    its own escapes. Ends of lines and tabs become one blank where a format has lines.
    csv: a text cell that a spreadsheet would take for a formula (first character = + - @, a tab or an end of line, also behind
    blanks) gets a single quote before it, and so does one that begins with quotes and then such a character; take one quote away
    to have the text again. Numbers stay numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from avsrobust.inert import is_unseen, reveal

_FORMULA = re.compile("'*[\\s\ufeff\u200b]*[=+\\-@＝＋－＠]|'*[\t\r\n]")  # noqa: RUF001 - the wide ones are taken for the same
# The last character of Latin Extended-A, which LaTeX's own encodings reach to.
_LATIN = 0x17F
_MOST_NAMED = 20
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_MARKDOWN = {**{character: f"\\{character}" for character in "\\`*[]|~$"}, "<": "&lt;", ">": "&gt;"}


def one_line(text: str) -> str:
    r"""Return `reveal` of `text` on one line: every run of blanks, tabs and ends of lines is one blank.

    >>> one_line(" a\t b\r\nc ")
    'a b c'
    """
    return reveal(" ".join(text.split()))


def unicode_text(text: str) -> str:
    r"""Return `text` as it is, but for halves of surrogate pairs, which no encoding can hold; these are shown as escapes.

    >>> unicode_text("caf\udce9")
    'caf\\udce9'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def csv_cell(value: str | float | None) -> str | float:
    """Return a csv cell: numbers as they are, None empty, text revealed and never a formula (see the module's conventions).

    >>> csv_cell(-0.5), csv_cell("-5"), csv_cell("=1+1"), csv_cell("'=1"), csv_cell("a-b"), csv_cell(None)
    (-0.5, "'-5", "'=1+1", "''=1", 'a-b', '')
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    return f"'{reveal(value)}" if _FORMULA.match(value) else reveal(value)


def latex(text: str) -> str:
    r"""Return `text` for LaTeX's text mode, on one line.

    >>> print(latex("m2f_debias 50% {a}"))
    m2f\_debias 50\% \{a\}
    """
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def latex_needs(text: str) -> str:
    r"""Return a comment for the head of a LaTeX file whose text has characters that pdflatex and its fonts lack, "" for none.

    >>> print(latex_needs("Müller & ours"), end="")
    >>> print(latex_needs("模型 & ours\n% 注"), end="")
    % holds 模型: compile with lualatex or xelatex and a font that has them, or give other names with --rename
    """
    lines = (line for line in text.splitlines() if not line.startswith("%"))
    found = dict.fromkeys(character for line in lines for character in line if ord(character) > _LATIN)
    if not found:
        return ""
    named = "".join(list(found)[:_MOST_NAMED])
    return f"% holds {named}: compile with lualatex or xelatex and a font that has them, or give other names with --rename\n"


def latex_row(cells: list[str]) -> str:
    r"""Return one row of a tabular from cells of LaTeX.

    >>> print(latex_row(["[1em]", "2"]))
    {}[1em] & 2 \\
    """
    # The ``\\`` or rule before would take a bracket or star that begins a row for its own argument.
    guard = "{}" if cells[0].startswith(("[", "*")) else ""
    return guard + " & ".join(cells) + r" \\"


def markdown(text: str) -> str:
    r"""Return `text` for a line or a table's cell of Markdown: no markup, HTML, link or end of a cell is left in it.

    >>> print(markdown("m2f_debias __a__ <b> [x](y) a|b http://x"))
    m2f_debias \_\_a\_\_ &lt;b&gt; \[x\](y) a\|b http&#58;//x
    """
    # An ampersand is only special where it may begin an entity.
    plain = re.sub(r"&(?=[#A-Za-z])", "&amp;", one_line(text))
    marked = "".join(_MARKDOWN.get(character, character) for character in plain)
    # Underscores between letters or digits are no emphasis, and every other model has one.
    marked = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", marked)
    # GitHub makes links of bare addresses.
    return re.sub(r"(?i)\bwww\.", lambda found: found[0][:-1] + "&#46;", marked.replace("://", "&#58;//"))


def markdown_line(text: str) -> str:
    r"""Return `markdown` of `text` for the beginning of a paragraph or a list's item, where more is special.

    >>> print(markdown_line("# a"), markdown_line("1. b"), markdown_line("a-b"))
    \# a 1\. b a-b
    """
    return re.sub(r"^(\d*)([#+\-=:.)])", r"\1\\\2", markdown(text))


def json_text(content: Any) -> str:
    r"""Return JSON in which everything that cannot be seen is an escape; undefined numbers are not allowed.

    >>> print(json_text(["caf\u00e9", "\x9b\u202e"]), end="")
    [
      "café",
      "\u009b\u202e"
    ]
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    # Outside of strings JSON is ASCII without control characters but ends of lines, so whatever is found here stands in a string.
    return re.sub(r"[^\n -~]", _json_escape, text) + "\n"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], numeric_from: int = 1) -> str:
    r"""Return a Markdown table whose columns line up; those from index `numeric_from` on are right-aligned.

    Cells are Markdown (`escape.markdown` makes it of text from files); none can end its cell or its line.

    >>> print(text_table(["model", "F"], [["oracle", "1.0"], ["a|b", "0"]]))
    | model  |   F |
    | ------ | --: |
    | oracle | 1.0 |
    | a\|b   |   0 |
    """
    cells = [[_table_cell(cell) for cell in row] for row in [header, *rows]]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    lines = [_table_line(row, widths, numeric_from) for row in cells]
    rule = ["-" * (width - 1) + ":" if column >= numeric_from else "-" * width for column, width in enumerate(widths)]
    return "\n".join([lines[0], "| " + " | ".join(rule) + " |", *lines[1:]])


def _json_escape(found: re.Match[str]) -> str:
    character = found[0]
    if not is_unseen(character):
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _table_line(cells: Sequence[str], widths: Sequence[int], numeric_from: int) -> str:
    padded = [
        cell.rjust(width) if column >= numeric_from else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"


def _table_cell(cell: str) -> str:
    # A bar behind an even number of backslashes would end the cell.
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", one_line(cell))
