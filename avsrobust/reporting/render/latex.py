r"""Format latex: booktabs tabulars; percent with two decimals, the best value per column bold, baselines in italics.

Conventions
    One tabular per data set, split, task and protocol, and another for its extended conditions, its intervals and so on where
    there are any, without a float around them, so that they can be put into the paper's own. The preamble needs
    ``\usepackage{booktabs}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from avsrobust.reporting.columns import METRICS, MISSING, Metric, condition_title, percent
from avsrobust.reporting.escape import latex as escape
from avsrobust.reporting.escape import latex_needs, latex_row
from avsrobust.reporting.formats import Format
from avsrobust.reporting.model import Subject, Table
from avsrobust.reporting.naming import split_title
from avsrobust.reporting.presentation import (
    REPORTED_HEADINGS,
    Block,
    BoundLine,
    ExtraTable,
    MarkedLine,
    condition_intervals,
    extra_cell,
    interval_text,
    reported_rows,
    sections,
)
from avsrobust.vocabulary import NEGATIVE, POSITIVE

_ARROWS = {True: r"$\uparrow$", False: r"$\downarrow$"}


def render_latex(table: Table) -> str:
    """Return the tabulars of every block; warnings and notes as comments."""
    parts = []
    for section in sections(table):
        for block in section.blocks:
            parts += [_scores(block), _extended(block)] if block.extended else [_scores(block)]
            parts += _intervals(block)
            parts += [_extra(block, extra) for extra in block.extra]
            parts += [_reported(block)] if block.reported else []
    remarks = [*(f"warning: {text}" for text in table.warnings), *table.notes]
    comments = "".join(f"% {escape(remark)}\n" for remark in remarks)
    tabulars = "\n".join(parts)
    return "% \\usepackage{booktabs}\n" + latex_needs(tabulars) + comments + tabulars


def _scores(block: Block) -> str:
    """The tabular of a block's score columns."""
    by_category = bool(block.categories)
    keys = ["Category", "Model"] if by_category else ["Model"]
    head = [
        f"% {escape(f'{split_title(block.split_key)}, protocol {block.title}')}",
        f"% {escape(block.signature)}",
        rf"\begin{{tabular}}{{{'l' * len(keys)}r*{{{len(METRICS)}}}{{r}}}}",
        r"\toprule",
        *_header(keys, escape(split_title(block.split_key))),
        r"\midrule",
    ]
    body = list(_rows(block.lines, ["all"] if by_category else []))
    body += [_bound(line, by_category) for line in block.bounds]
    for category, entries in block.categories:
        body += [r"\midrule", *_rows(entries, [escape(category)])]
    return "\n".join([*head, *body, r"\bottomrule", r"\end{tabular}", ""])


def _extended(block: Block) -> str:
    """The tabular of a block's scores under extended conditions, a row per model and condition."""
    head = [
        f"% {escape(f'{split_title(block.split_key)}, protocol {block.title}: under further conditions')}",
        r"\begin{tabular}{lllr*{3}{r}}",
        r"\toprule",
        latex_row(["Model", "Condition", "Polarity", "Clips", "mIoU", "F", "FPR"]),
        r"\midrule",
    ]
    body = [
        latex_row(
            [
                _name(entry.line.subject),
                escape(entry.line.subject.condition_title(score.condition, score.level)),
                NEGATIVE if score.negative else POSITIVE,
                str(score.clips),
                *(_cell(value) for value in (score.miou, score.f, score.fpr)),
            ]
        )
        for entry, score in block.extended
    ]
    return "\n".join([*head, *body, r"\bottomrule", r"\end{tabular}", ""])


def _intervals(block: Block) -> Iterator[str]:
    """The tabulars of 95 % intervals over all clips and over those of each part, narrow enough for a page."""
    for part, entries in (("", block.lines), *block.categories):
        rows = [row for entry in entries for row in _interval_rows(entry)]
        if rows:
            title = f"{split_title(block.split_key)}, protocol {block.title}: 95 % intervals" + (
                f", {part}" if part else ""
            )
            yield "\n".join(
                [
                    f"% {escape(title)}",
                    r"{\footnotesize\setlength{\tabcolsep}{3pt}%",
                    r"\begin{tabular}{ll*{3}{r}}",
                    r"\toprule",
                    latex_row(["Model", "Condition", "mIoU", "F", "FPR"]),
                    r"\midrule",
                    *rows,
                    r"\bottomrule",
                    r"\end{tabular}}",
                    "",
                ]
            )


def _interval_rows(entry: MarkedLine) -> Iterator[str]:
    """The intervals of one line, under each condition and of the G scores; the model stands in the first row alone."""
    line = entry.line
    found = [
        (escape(line.subject.condition_title(score.condition, score.level)), condition_intervals(line, score))
        for score in line.score.conditions
    ]
    of_g = (interval_text(line.interval("G_mIoU")), interval_text(line.interval("G_F")))
    found.append(("G", (*of_g, interval_text(line.interval("G_FPR")))))
    name = _name(line.subject)
    for title, cells in found:
        if any(cells):
            yield latex_row([name, title, *(cell or "--" for cell in cells)])
            name = ""


def _extra(block: Block, table: ExtraTable) -> str:
    """The tabular of one group of extra scores."""
    title = f"{split_title(block.split_key)}, protocol {block.title}: {table.group.title}. {table.group.caption}"
    head = [
        f"% {escape(title)}",
        rf"\begin{{tabular}}{{ll*{{{len(table.headings)}}}{{r}}}}",
        r"\toprule",
        latex_row(["Model", "Of", *(_extra_heading(heading) for heading in table.headings)]),
        r"\midrule",
    ]
    body = [
        latex_row(
            [
                _name(row.subject),
                escape(row.title),
                *("--" if (text := extra_cell(cell)) == MISSING else text for cell in row.cells),
            ]
        )
        for row in table.rows
    ]
    return "\n".join([*head, *body, r"\bottomrule", r"\end{tabular}", ""])


def _reported(block: Block) -> str:
    """The tabular of published scores, next to the measured ones of the same model."""
    title = f"{split_title(block.split_key)}, protocol {block.title}: reported by others, not measured here"
    sources = dict.fromkeys(score.line.citation for score in block.reported)
    head = [
        f"% {escape(title)}",
        *(f"% {escape(source)}" for source in sources),
        r"\begin{tabular}{llrrrl}",
        r"\toprule",
        latex_row([heading.capitalize() for heading in REPORTED_HEADINGS]),
        r"\midrule",
    ]
    body = [
        latex_row(
            [
                escape(row.model),
                _extra_heading(row.score),
                *(text.replace(MISSING, "--") for text in (row.reported, row.measured)),
                row.difference.replace(MISSING, "--"),
                row.comparable,
            ]
        )
        for row in reported_rows(block)
    ]
    return "\n".join([*head, *body, r"\bottomrule", r"\end{tabular}", ""])


def _extra_heading(heading: str) -> str:
    """Heading of an extra score, its arrow and sign in mathematics."""
    text = escape(heading)
    return text.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$").replace("≤", r"$\leq$")


def _header(keys: Sequence[str], title: str) -> Iterator[str]:
    """Two lines: the split, and the condition over its measures; then the measures."""
    groups = [(condition, len(list(same))) for condition, same in groupby(METRICS.values(), lambda m: m.condition)]
    column = len(keys) + 2
    titles, rules = [], []
    for condition, width in groups:
        name = "all conditions" if condition == "G" else condition_title(condition)
        titles.append(rf"\multicolumn{{{width}}}{{c}}{{{name}}}")
        rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        column += width
    yield latex_row([title, *([""] * len(keys)), *titles])
    yield " ".join(rules)
    yield latex_row([*keys, "Clips", *(_measure(metric) for metric in METRICS.values())])


def _measure(metric: Metric) -> str:
    """Heading of a score column, with its arrow."""
    name = f"G-{metric.measure}" if metric.condition == "G" else metric.measure
    return f"{name} {_ARROWS[metric.higher_is_better]}"


def _rows(entries: Sequence[MarkedLine], before: Sequence[str]) -> Iterator[str]:
    """A row per line, behind the cells `before`."""
    for entry in entries:
        columns = entry.line.score.columns()
        cells = (rf"\textbf{{{_cell(columns[m])}}}" if m in entry.best else _cell(columns[m]) for m in METRICS)
        yield latex_row([*before, _name(entry.line.subject), str(entry.line.score.clips), *cells])


def _bound(line: BoundLine, by_category: bool) -> str:
    """The row of a trivial score or of a ceiling."""
    columns = line.score.columns()
    before = ["all"] if by_category else []
    title = rf"\textit{{{escape(line.title)}}}"
    return latex_row([*before, title, str(line.score.clips), *(_cell(columns[name]) for name in METRICS)])


def _name(subject: Subject) -> str:
    """Name of a subject; baselines in italics."""
    name = escape(subject.name)
    return rf"\textit{{{name}}}" if subject.is_baseline else name


def _cell(value: float | None) -> str:
    """A score in percent."""
    return "--" if (text := percent(value)) == MISSING else text


FORMAT = Format("latex", ".tex", render_latex)
