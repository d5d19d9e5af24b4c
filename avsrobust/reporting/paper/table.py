"""A table for a paper, laid out for every format: a row per model, and the chosen columns of each data set side by side.

Conventions
    A group is a block of comparable lines (one data set, release, split and task): only cells of one column of one group
    compare. Best and second are found among models as they are displayed, never among baselines or reported rows, and in no
    column where a model that marks nothing is at least as good as the best model: there the best number says nothing.
    A model's results on several data sets share a row, unless it has several on one of them: then each build has its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from avsrobust.errors import OptionError, ResultsError, did_you_mean
from avsrobust.metrics import DatasetScore
from avsrobust.reporting.columns import MEASURES, METRICS, condition_title, extended_cells
from avsrobust.reporting.model import Line, Subject, Table
from avsrobust.reporting.naming import split_name
from avsrobust.reporting.paper.model import (
    BASELINE,
    BEST,
    DIFFERENCE,
    MODEL,
    NOTHING_TITLE,
    REPORTED,
    SECOND,
    TRIVIAL,
    Cell,
    Column,
    G,
    Group,
    PaperTable,
    Row,
)
from avsrobust.reporting.paper.style import Style
from avsrobust.reporting.presentation import Block, sections
from avsrobust.reporting.reported import ReportedLine, difference
from avsrobust.vocabulary import BINARY, CLASS_DATASET, DATASETS, NEGATIVES


def paper_tables(table: Table, style: Style) -> list[PaperTable]:
    """Return the tables for a paper: one per protocol, or one where the style names a protocol for each task.

    Raises:
        OptionError: A column, or a name to replace, is in no result.
        ResultsError: No line can be shown.
    """
    blocks = [block for section in sections(table) for block in section.blocks if block.lines]
    if style.protocols:
        chosen = [block for block in blocks if block.protocol.name == style.protocols.get(block.task)]
        parts = [(_protocols_title(chosen), chosen)] if chosen else []
    else:
        names = dict.fromkeys(block.protocol.name for block in blocks)
        parts = [(name, [block for block in blocks if block.protocol.name == name]) for name in names]
    if not parts:
        raise ResultsError("results: no line under the table's protocols; expected a model with a scored clip")
    _check_names(table, style)
    return [_paper_table(table, style, title, members, len(parts) > 1) for title, members in parts]


def known_columns(table: Table) -> dict[str, Column]:
    """Return every score column that a paper's table can show, by name."""
    found: dict[str, Column] = {}
    for name, metric in METRICS.items():
        condition = condition_title(metric.condition) if metric.condition in NEGATIVES else ""
        condition = G if metric.condition == G else condition
        found[name] = Column(name, condition, metric.measure, metric.higher_is_better)
    for line in table.lines:
        polarity = {score.key: score.negative for score in line.score.conditions}
        for key, prefix in table.extended.items():
            if key in polarity:
                for measure in MEASURES:
                    up = measure != "FPR" and not polarity[key]
                    name = f"{prefix}_{measure}"
                    found.setdefault(name, Column(name, line.subject.condition_title(*key), measure, up))
        for name in line.score.columns():
            condition, _, measure = name.rpartition("_")
            found.setdefault(name, Column(name, condition, measure, False))
        for score in line.extra:
            found.setdefault(score.column, Column(score.column, score.row, score.measure, score.higher_is_better))
    return found


def _paper_table(table: Table, style: Style, title: str, blocks: Sequence[Block], several: bool) -> PaperTable:
    known = known_columns(table)
    chosen = [_named(known[name], style) for name in style.columns]
    published = [list(dict.fromkeys(score.line for score in block.reported)) for block in blocks]
    groups = tuple(
        Group(_group_title(block, blocks, style), tuple(_with_differences(block, chosen, lines)))
        for block, lines in zip(blocks, published, strict=True)
    )
    rows = tuple(_rows(table, style, blocks, groups, published))
    label = style.label or "tab:avsrobust"
    if several:
        label += "-" + "".join(character if character.isalnum() else "-" for character in title)
    signatures = (f"{split_name(block.split_key)}: {block.signature}" for block in blocks)
    sources = dict.fromkeys(line.citation for lines in published for line in lines)
    return PaperTable(
        protocol=title,
        groups=groups,
        rows=rows,
        caption=_caption(table, style, title, groups, rows) if style.caption is None else style.caption,
        label=label,
        remarks=(*signatures, *sources, *(f"warning: {text}" for text in table.warnings), *table.notes),
    )


def _with_differences(block: Block, columns: Sequence[Column], reported: Sequence[ReportedLine]) -> Iterator[Column]:
    """The columns, and behind each one that of the differences from reported numbers, where a model of the block has any."""
    matched = [found for entry in block.lines for found in reported if found.is_of(entry.line)]
    for column in columns:
        yield column
        if any(column.name in found.values for found in matched):
            yield replace(column, heading=DIFFERENCE, higher_is_better=None, is_difference=True)


def _named(column: Column, style: Style) -> Column:
    """The column under the name that the style gives it."""
    name = style.names.get(column.name)
    if name is None:
        return column
    # The new name is one of the whole G score.
    return replace(column, heading=name, condition="" if column.condition == G else column.condition)


def _rows(
    table: Table,
    style: Style,
    blocks: Sequence[Block],
    groups: Sequence[Group],
    published: Sequence[Sequence[ReportedLine]],
) -> Iterator[Row]:
    """Models, reported numbers, baselines, and the trivial score."""
    by_row: dict[tuple[str, ...], dict[int, Line]] = {}
    keys = _row_keys(blocks)
    for position, block in enumerate(blocks):
        for entry in block.lines:
            by_row.setdefault(keys[id(entry.line)], {})[position] = entry.line
    lines = sorted(by_row.values(), key=lambda of: _first(of).subject.is_baseline)
    columns = [
        _group_cells(table, style, block, group, [of.get(position) for of in lines], published[position])
        for position, (block, group) in enumerate(zip(blocks, groups, strict=True))
    ]
    rows = [_row(of, tuple(cells[row] for cells in columns)) for row, of in enumerate(lines)]
    yield from (row for row in rows if row.kind == MODEL)
    for title in dict.fromkeys(line.model for of_group in published for line in of_group):
        cells = tuple(_reported_cells(style, *both, title) for both in zip(groups, published, strict=True))
        if any(cell.text for of_group in cells for cell in of_group):
            yield Row(title, REPORTED, cells)
    yield from (row for row in rows if row.kind == BASELINE)
    yield Row(
        NOTHING_TITLE,
        TRIVIAL,
        tuple(
            tuple(_cell(style, column, _trivial(table, block, column)) for column in group.columns)
            for block, group in zip(blocks, groups, strict=True)
        ),
    )


def _row(of: Mapping[int, Line], cells: tuple[tuple[Cell, ...], ...]) -> Row:
    """The row of a model, whose lines are given by the position of their group."""
    subject = _first(of).subject
    names = {line.subject.name for line in of.values()}
    name = names.pop() if len(names) == 1 else subject.csv_model
    incomplete = any(_is_incomplete(line.subject) for line in of.values())
    return Row(name, BASELINE if subject.is_baseline else MODEL, cells, incomplete)


def _group_cells(
    table: Table,
    style: Style,
    block: Block,
    group: Group,
    lines: Sequence[Line | None],
    reported: Sequence[ReportedLine],
) -> list[tuple[Cell, ...]]:
    """The cells of every row of models and baselines in one group."""
    columns = []
    for column in group.columns:
        values = [_value(table, line, column, reported) for line in lines]
        spread = [None if line is None or column.is_difference else line.spread.get(column.name) for line in lines]
        competing = [
            None if line is None or line.subject.is_baseline else value
            for line, value in zip(lines, values, strict=True)
        ]
        marks = _marks(style, column, competing, _trivial(table, block, column))
        cells = [
            _with_interval(_with_spread(_cell(style, column, value), style, column, of), table, line, style, column)
            for line, value, of in zip(lines, values, spread, strict=True)
        ]
        columns.append([replace(cell, mark=mark) for cell, mark in zip(cells, marks, strict=True)])
    return list(zip(*columns, strict=True))


def _cell(style: Style, column: Column, value: float | None) -> Cell:
    """A cell without a mark; differences are left empty where there is none."""
    if value is None:
        return Cell("" if column.is_difference else None)
    text = style.text(column.name, value)
    return Cell(text if not column.is_difference or text.startswith("-") else f"+{text}")


def _with_spread(cell: Cell, style: Style, column: Column, spread: float | None) -> Cell:
    """A cell with the spread over several runs behind its score."""
    return cell if spread is None else replace(cell, text=f"{cell.text} ± {style.text(column.name, spread)}")


def _with_interval(cell: Cell, table: Table, line: Line | None, style: Style, column: Column) -> Cell:
    """A cell with the 95 % interval of its score."""
    found = None if line is None or column.is_difference else table.interval(line, column.name)
    if found is None:
        return cell
    low, high = (style.text(column.name, value) for value in (found.low, found.high))
    return replace(cell, interval=f"[{low}, {high}]")


def _reported_cells(style: Style, group: Group, reported: Sequence[ReportedLine], model: str) -> tuple[Cell, ...]:
    """The reported numbers of a model in one group."""
    values: dict[str, float] = {}
    for line in reported:
        if line.model == model:
            values = {**line.values, **values}
    return tuple(
        _cell(style, column, None if column.is_difference else values.get(column.name)) for column in group.columns
    )


def _row_keys(blocks: Sequence[Block]) -> dict[int, tuple[str, ...]]:
    """The row of each line, by the line's id: its model, and its build where a block has several of the model."""
    counts = Counter(
        (position, entry.line.subject.csv_model) for position, block in enumerate(blocks) for entry in block.lines
    )
    several = {model for (_, model), count in counts.items() if count > 1}
    keys = {}
    for block in blocks:
        for entry in block.lines:
            subject = entry.line.subject
            build = (str(subject.seed), subject.recipe) if subject.csv_model in several else ()
            keys[id(entry.line)] = (subject.csv_model, *build)
    return keys


def _first(of: Mapping[int, Line]) -> Line:
    """Any line of a row."""
    return next(iter(of.values()))


def _is_incomplete(subject: Subject) -> bool:
    """Whether clips failed, or rows are missing."""
    return bool(subject.failed) or subject.diagnostics.missing_rows > 0


def _value(table: Table, line: Line | None, column: Column, reported: Sequence[ReportedLine]) -> float | None:
    """A line's score, or its difference from the number reported of the same model."""
    value = None if line is None else table.cells(line).get(column.name)
    if line is None or not isinstance(value, float):
        return None
    return difference(line, column.name, reported) if column.is_difference else value


def _trivial(table: Table, block: Block, column: Column) -> float | None:
    """The best score that a model which marks nothing gets on the targets of any line of a block."""
    found = [
        value for entry in block.lines if (value := _trivial_columns(table, entry.line).get(column.name)) is not None
    ]
    if not found or column.higher_is_better is None:
        return None
    return max(found) if column.higher_is_better else min(found)


def _trivial_columns(table: Table, line: Line) -> dict[str, float | None]:
    trivial: DatasetScore = line.trivial
    extra = {score.column: score.trivial for score in line.extra}
    return {**extra, **trivial.columns(), **extended_cells(trivial.conditions, table.extended)}


def _marks(style: Style, column: Column, values: Sequence[float | None], trivial: float | None) -> list[str]:
    """The mark of each value of a column; None does not compete."""
    sign = 1 if column.higher_is_better else -1
    shown = [None if value is None else sign * float(style.text(column.name, value)) for value in values]
    competing = [value for value in shown if value is not None]
    if column.higher_is_better is None or len(competing) < 2:
        return [""] * len(shown)
    ranked = sorted(set(competing), reverse=True)
    if trivial is not None and sign * float(style.text(column.name, trivial)) >= ranked[0]:
        return [""] * len(shown)
    names = dict(zip(ranked, (BEST, SECOND), strict=False))
    return ["" if value is None else names.get(value, "") for value in shown]


def _group_title(block: Block, blocks: Sequence[Block], style: Style) -> str:
    """The heading of a data set, with whatever tells it from the other groups."""
    dataset, release, split = block.split_key
    name = style.names.get(dataset, dataset.upper() if dataset in DATASETS else dataset)
    same = [other for other in blocks if other.split_key[0] == dataset]
    parts = [release] if len({other.split_key[1] for other in same}) > 1 else []
    parts += [split] if len({other.split_key[2] for other in blocks}) > 1 else []
    parts += (
        [block.task]
        if len({other.task for other in same}) > 1 or (dataset == CLASS_DATASET and block.task == BINARY)
        else []
    )
    parts += [block.score_size] if len({other.score_size for other in blocks}) > 1 else []
    return f"{name} ({', '.join(part or 'unknown' for part in parts)})" if parts else name


def _protocols_title(blocks: Sequence[Block]) -> str:
    """The protocols of a table that takes one for each task."""
    names = dict.fromkeys((block.protocol.name, block.task) for block in blocks)
    if len({name for name, _ in names}) == 1:
        return blocks[0].protocol.name
    return ", ".join(f"{name} ({task})" for name, task in names)


def _caption(table: Table, style: Style, title: str, groups: Sequence[Group], rows: Sequence[Row]) -> str:
    """Sentences that say how to read the table."""
    parts = [f"Protocol {title}"]
    if any(name.startswith("G_") for name in style.columns):
        parts.append(f"G over {', '.join(table.negatives)}")
    fractions = [name for name in style.columns if name in style.fractions]
    units = "percent" + (f", {', '.join(_heading(name) for name in fractions)} as a fraction" if fractions else "")
    parts.append(units)
    sentences = ["; ".join(parts)]
    marks = {cell.mark for row in rows for group in row.cells for cell in group}
    if BEST in marks:
        sentences.append("Best in bold, second underlined, among models, where marking nothing does not win")
    if any(row.kind == REPORTED for row in rows):
        sentences.append("†: as reported by others, not measured here")
    if any(column.is_difference for group in groups for column in group.columns):
        sentences.append(f"{DIFFERENCE}: measured minus reported")
    if any(row.kind == BASELINE for row in rows):
        sentences.append("Baselines in italics")
    if any(" ± " in (cell.text or "") for row in rows for group in row.cells for cell in group):
        sentences.append("±: sample standard deviation over runs")
    if any(cell.interval for row in rows for group in row.cells for cell in group):
        sentences.append("In brackets: 95 % intervals by a bootstrap over clips")
    if any(row.is_incomplete for row in rows):
        sentences.append("*: incomplete, clips failed or were not evaluated under all conditions")
    return ". ".join(sentences) + "."


def _heading(name: str) -> str:
    return METRICS[name].label if name in METRICS else name


def _check_names(table: Table, style: Style) -> None:
    """Refuse columns and names that are in no result."""
    known = known_columns(table)
    for name in style.columns:
        if name not in known:
            raise OptionError(
                f"--columns: '{name}' is in no result; expected {', '.join(known)}{did_you_mean(name, known)}"
            )
    for name in style.digits:
        if name not in style.columns:
            raise OptionError(
                f"--digits: '{name}' is no column of the table; expected {', '.join(style.columns)}"
                f"{did_you_mean(name, style.columns)}"
            )
    datasets = {subject.dataset for subject in table.subjects}
    for name in style.names:
        if name not in (*style.columns, *datasets):
            names = [*sorted({subject.model for subject in table.subjects}), *sorted(datasets), *style.columns]
            raise OptionError(
                f"--rename: '{name}' is no model, data set or column of the table; expected one of {', '.join(names)}"
                f"{did_you_mean(name, names)}"
            )
