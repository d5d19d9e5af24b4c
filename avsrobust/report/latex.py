r"""Tables in LaTeX (booktabs): percent with two decimals, the best value per column bold, yardsticks in italics.

Conventions
    One tabular per data set, split, task and protocol, without a float around it, so that it can be put into the paper's own.
    The preamble needs ``\usepackage{booktabs}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from avsrobust.report.blocks import Block, Floor, MarkedLine, sections
from avsrobust.report.columns import METRICS, MISSING, Metric, condition_title, percent
from avsrobust.report.tables import Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_ARROWS = {True: r"$\uparrow$", False: r"$\downarrow$"}


def render_latex(table: Table) -> str:
    """Return a tabular per block; warnings and notes as comments."""
    parts = [_block(block) for section in sections(table) for block in section.blocks]
    remarks = [*(f"warning: {text}" for text in table.warnings), *table.notes]
    comments = "".join(f"% {' '.join(remark.split())}\n" for remark in remarks)
    return "% \\usepackage{booktabs}\n" + comments + "\n".join(parts)


def escape(text: str) -> str:
    r"""Return `text` for LaTeX's text mode, on one line.

    >>> print(escape("m2f_debias 50% {a}"))
    m2f\_debias 50\% \{a\}
    """
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def _block(block: Block) -> str:
    by_category = bool(block.categories)
    keys = ["Category", "Model"] if by_category else ["Model"]
    head = [
        f"% {block.dataset}, {block.split}, protocol {block.title}",
        rf"\begin{{tabular}}{{{'l' * len(keys)}r*{{{len(METRICS)}}}{{r}}}}",
        r"\toprule",
        *_header(keys),
        r"\midrule",
    ]
    body = list(_rows(block.lines, ["all"] if by_category else []))
    body += [_floor(floor, by_category) for floor in block.floors]
    for category, entries in block.categories:
        body += [r"\midrule", *_rows(entries, [escape(category)])]
    return "\n".join([*head, *body, r"\bottomrule", r"\end{tabular}", ""])


def _header(keys: Sequence[str]) -> Iterator[str]:
    """Two lines: the condition over its measures, then the measures."""
    groups = [(condition, len(list(same))) for condition, same in groupby(METRICS.values(), lambda m: m.condition)]
    column = len(keys) + 2
    titles, rules = [], []
    for condition, width in groups:
        title = "all conditions" if condition == "G" else condition_title(condition)
        titles.append(rf"\multicolumn{{{width}}}{{c}}{{{title}}}")
        rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        column += width
    yield " & ".join([*([""] * len(keys)), "", *titles]) + r" \\"
    yield " ".join(rules)
    yield " & ".join([*keys, "Clips", *(_measure(metric) for metric in METRICS.values())]) + r" \\"


def _measure(metric: Metric) -> str:
    name = f"G-{metric.measure}" if metric.condition == "G" else metric.measure
    return f"{name} {_ARROWS[metric.higher_is_better]}"


def _rows(entries: Sequence[MarkedLine], before: Sequence[str]) -> Iterator[str]:
    for entry in entries:
        subject = entry.line.subject
        name = escape(subject.name)
        columns = entry.line.score.columns()
        cells = (rf"\textbf{{{_cell(columns[m])}}}" if m in entry.best else _cell(columns[m]) for m in METRICS)
        shown = rf"\textit{{{name}}}" if subject.is_yardstick else name
        yield " & ".join([*before, shown, str(entry.line.score.clips), *cells]) + r" \\"


def _floor(floor: Floor, by_category: bool) -> str:
    columns = floor.score.columns()
    before = ["all"] if by_category else []
    title = rf"\textit{{{escape(floor.title)}}}"
    return " & ".join([*before, title, str(floor.score.clips), *(_cell(columns[name]) for name in METRICS)]) + r" \\"


def _cell(value: float | None) -> str:
    return "--" if (text := percent(value)) == MISSING else text
