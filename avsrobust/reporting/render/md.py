"""Format md: Markdown that lines up on a terminal; percent with two decimals, best values bold, baselines in italics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from avsrobust.reporting.columns import HEADLINE, UNDER_NEGATIVES, Metric, fraction, percent
from avsrobust.reporting.escape import markdown, markdown_line, text_table
from avsrobust.reporting.formats import Format
from avsrobust.reporting.model import Subject, Table
from avsrobust.reporting.presentation import (
    REPORTED_HEADINGS,
    Block,
    Breakdown,
    ExtraTable,
    MarkedLine,
    ReportedRow,
    Section,
    condition_intervals,
    extra_cell,
    reported_rows,
    sections,
    uncertainty_text,
)
from avsrobust.vocabulary import NEGATIVE, POSITIVE, SEMANTIC


def render_markdown(table: Table) -> str:
    """Return the table with trivial scores, diagnostics, warnings and notes as Markdown."""
    parts = [part for section in sections(table) for part in _section(section)]
    parts += _bullets("Warnings", table.warnings)
    parts += _bullets("Notes", table.notes)
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> Iterator[str]:
    """The parts of one section."""
    for block in section.blocks:
        yield f"## {markdown(block.heading)}"
        if block.headline:
            yield f"mIoU and F are means over classes {block.headline}; FPR is the share of pixels given any but class 0"
        if block.other_negatives:
            yield f"G scores are over {markdown(block.other_negatives)}"
        yield _headline(block)
        if block.secondary_means:
            yield f"Means over classes {block.secondary_headline} ({block.protocol.name})"
            yield _secondary_means(block)
        yield f"Under negative sound, against the clip's own mask ({block.protocol.name})"
        yield _scores(block, UNDER_NEGATIVES)
        if block.extended:
            yield f"Under further conditions ({block.protocol.name})"
            yield _extended(block)
        for extra in block.extra:
            yield f"{extra.group.title} ({block.protocol.name}). {extra.group.caption}"
            yield _extra(extra)
        for breakdown in block.breakdowns:
            yield f"By {breakdown.name} ({block.protocol.name})"
            yield _breakdown(breakdown)
        if block.reported:
            yield f"Published numbers ({block.protocol.name}): reported by others, not measured here"
            yield text_table(REPORTED_HEADINGS, [_reported_row(row) for row in reported_rows(block)], numeric_from=2)
            yield from (markdown_line(text) for text in dict.fromkeys(score.line.citation for score in block.reported))
        yield f"Signature: {markdown(block.signature)}"
    if section.subjects:
        yield f"## {markdown(section.title)}: does the sound change the mask?"
        yield _diagnostics(section.subjects)
        if any(subject.task == SEMANTIC for subject in section.subjects):
            yield "Of classes, the mask is that of any but background, at probability 0.5"


def _headline(block: Block) -> str:
    """The scores under clean audio and the G scores."""
    header = ["model", "clips", *(metric.heading for metric in HEADLINE)]
    rows = [[_name(entry), str(entry.line.score.clips), *_values(entry, HEADLINE)] for entry in block.lines]
    rows += [
        [
            _italic(markdown(bound.title)),
            str(bound.score.clips),
            *(percent(bound.score.columns()[m.name]) for m in HEADLINE),
        ]
        for bound in block.bounds
    ]
    return text_table(header, rows)


def _scores(block: Block, metrics: Sequence[Metric]) -> str:
    """Some score columns of a block."""
    header = ["model", *(metric.heading for metric in metrics)]
    rows = [[_name(entry), *_values(entry, metrics)] for entry in block.lines]
    rows += [
        [_italic(markdown(bound.title)), *(percent(bound.score.columns()[metric.name]) for metric in metrics)]
        for bound in block.bounds
    ]
    return text_table(header, rows)


def _extended(block: Block) -> str:
    """Scores under extended conditions, a row per model and condition."""
    rows = [
        [
            _name(entry),
            markdown(entry.line.subject.condition_title(score.condition, score.level)),
            NEGATIVE if score.negative else POSITIVE,
            str(score.clips),
            *(
                f"{percent(value)} {interval}".rstrip()
                for value, interval in zip(
                    (score.miou, score.f, score.fpr), condition_intervals(entry.line, score), strict=True
                )
            ),
        ]
        for entry, score in block.extended
    ]
    return text_table(["model", "condition", "polarity", "clips", "mIoU", "F", "FPR"], rows, numeric_from=3)


def _extra(table: ExtraTable) -> str:
    """The extra scores of one group."""
    rows = [
        [
            _subject_name(row.subject),
            markdown(row.title),
            "" if row.clips is None else str(row.clips),
            "" if row.frames is None else str(row.frames),
            *(extra_cell(cell) for cell in row.cells),
        ]
        for row in table.rows
    ]
    return text_table(["model", "of", "clips", "frames", *table.headings], rows, numeric_from=2)


def _reported_row(row: ReportedRow) -> list[str]:
    """A published score; the names are inert."""
    return [markdown(row.model), row.score, row.reported, row.measured, row.difference, markdown(row.comparable)]


def _secondary_means(block: Block) -> str:
    """The other means over classes."""
    metrics = [metric for metric in HEADLINE if metric.measure != "FPR"]
    header = ["model", *(metric.heading for metric in metrics)]
    rows = [
        [_name(entry), *(percent(score.columns()[metric.name]) for metric in metrics)]
        for entry, score in block.secondary_means
    ]
    return text_table(header, rows)


def _breakdown(breakdown: Breakdown) -> str:
    """Scores per category or class."""
    header = [breakdown.name, "model", "clips", *(metric.heading for metric in HEADLINE)]
    rows = [
        [markdown(category), _name(entry), str(entry.line.score.clips), *_values(entry, HEADLINE)]
        for category, entries in breakdown.parts
        for entry in entries
    ]
    return text_table(header, rows, numeric_from=2)


def _diagnostics(subjects: Sequence[Subject]) -> str:
    """Diagnostics, a row per subject."""
    header = [
        "model", "mask overlap with clean", "AUROC of area", "best threshold", "G-mIoU there", "frames", "empty frames",
        "failed clips", "missing rows",
    ]  # fmt: skip
    return text_table(header, [_diagnostic_row(subject) for subject in subjects])


def _diagnostic_row(subject: Subject) -> list[str]:
    diagnostics = subject.diagnostics
    return [
        _subject_name(subject),
        fraction(diagnostics.overlap.value),
        fraction(diagnostics.auroc),
        fraction(diagnostics.best_threshold),
        percent(diagnostics.best_g_miou),
        str(diagnostics.frames),
        str(diagnostics.empty_frames),
        str(len(subject.failed)),
        str(diagnostics.missing_rows),
    ]


def _values(entry: MarkedLine, metrics: Sequence[Metric]) -> list[str]:
    """Cells of some score columns, the best ones bold."""
    columns = entry.line.score.columns()
    texts = ((metric.name, percent(columns[metric.name])) for metric in metrics)
    return [
        (f"**{text}**" if name in entry.best else text) + uncertainty_text(entry.line, name) for name, text in texts
    ]


def _name(entry: MarkedLine) -> str:
    """Name of the line's model."""
    return _subject_name(entry.line.subject)


def _subject_name(subject: Subject) -> str:
    """Name of a subject; baselines in italics."""
    name = markdown(subject.name)
    return _italic(name) if subject.is_baseline else name


def _italic(text: str) -> str:
    return f"_{text}_"


def _bullets(title: str, texts: Sequence[str]) -> list[str]:
    """A heading and a list; nothing without texts."""
    return [f"## {title}", "\n".join(f"- {markdown_line(text)}" for text in texts)] if texts else []


FORMAT = Format("md", ".md", render_markdown)
