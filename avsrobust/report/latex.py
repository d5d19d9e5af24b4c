r"""Tables in LaTeX (booktabs): percent with two decimals, the best value per column bold, baselines in italics.

Conventions
    One tabular per data set, split, task and protocol, without a float around it, so that it can be put into the paper's own.
    The preamble needs ``\usepackage{booktabs}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from avsrobust.report.blocks import Block, Floor, MarkedLine, sections
from avsrobust.report.builds import place_title
from avsrobust.report.columns import METRICS, MISSING, Metric, condition_title, percent
from avsrobust.report.escape import latex as escape
from avsrobust.report.escape import latex_row
from avsrobust.report.tables import Table

_ARROWS = {True: r"$\uparrow$", False: r"$\downarrow$"}


def render_latex(table: Table) -> str:
    """Return a tabular per block; warnings and notes as comments."""
    parts = [_block(block) for section in sections(table) for block in section.blocks]
    remarks = [*(f"warning: {text}" for text in table.warnings), *table.notes]
    comments = "".join(f"% {escape(remark)}\n" for remark in remarks)
    return "% \\usepackage{booktabs}\n" + comments + "\n".join(parts)


def _block(block: Block) -> str:
    by_category = bool(block.categories)
    keys = ["Category", "Model"] if by_category else ["Model"]
    head = [
        f"% {escape(f'{place_title(block.place)}, protocol {block.title}')}",
        rf"\begin{{tabular}}{{{'l' * len(keys)}r*{{{len(METRICS)}}}{{r}}}}",
        r"\toprule",
        *_header(keys, escape(place_title(block.place))),
        r"\midrule",
    ]
    body = list(_rows(block.lines, ["all"] if by_category else []))
    body += [_floor(floor, by_category) for floor in block.floors]
    for category, entries in block.categories:
        body += [r"\midrule", *_rows(entries, [escape(category)])]
    return "\n".join([*head, *body, r"\bottomrule", r"\end{tabular}", ""])


def _header(keys: Sequence[str], place: str) -> Iterator[str]:
    """Two lines: the place, and the condition over its measures; then the measures."""
    groups = [(condition, len(list(same))) for condition, same in groupby(METRICS.values(), lambda m: m.condition)]
    column = len(keys) + 2
    titles, rules = [], []
    for condition, width in groups:
        title = "all conditions" if condition == "G" else condition_title(condition)
        titles.append(rf"\multicolumn{{{width}}}{{c}}{{{title}}}")
        rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        column += width
    yield latex_row([place, *([""] * len(keys)), *titles])
    yield " ".join(rules)
    yield latex_row([*keys, "Clips", *(_measure(metric) for metric in METRICS.values())])


def _measure(metric: Metric) -> str:
    name = f"G-{metric.measure}" if metric.condition == "G" else metric.measure
    return f"{name} {_ARROWS[metric.higher_is_better]}"


def _rows(entries: Sequence[MarkedLine], before: Sequence[str]) -> Iterator[str]:
    for entry in entries:
        subject = entry.line.subject
        name = escape(subject.name)
        columns = entry.line.score.columns()
        cells = (rf"\textbf{{{_cell(columns[m])}}}" if m in entry.best else _cell(columns[m]) for m in METRICS)
        shown = rf"\textit{{{name}}}" if subject.is_baseline else name
        yield latex_row([*before, shown, str(entry.line.score.clips), *cells])


def _floor(floor: Floor, by_category: bool) -> str:
    columns = floor.score.columns()
    before = ["all"] if by_category else []
    title = rf"\textit{{{escape(floor.title)}}}"
    return latex_row([*before, title, str(floor.score.clips), *(_cell(columns[name]) for name in METRICS)])


def _cell(value: float | None) -> str:
    return "--" if (text := percent(value)) == MISSING else text
