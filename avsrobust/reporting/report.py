"""`report`: stored results in, one rendered table out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from avsrobust.errors import OptionError
from avsrobust.metrics import DEFAULT_PROTOCOL
from avsrobust.reporting.all_pairs import compare_all
from avsrobust.reporting.common_clips import on_common_clips
from avsrobust.reporting.comparison_model import Comparisons
from avsrobust.reporting.escape import one_line
from avsrobust.reporting.formats import Format, find_format
from avsrobust.reporting.loading import load_results, load_runs
from avsrobust.reporting.media import Gallery
from avsrobust.reporting.paper.render import FULL, WIDE, check_layout, render_paper
from avsrobust.reporting.paper.style import Style, requested_style
from avsrobust.reporting.reported import BUNDLED, ReportedLine, load_reported
from avsrobust.reporting.selection import requested_renames
from avsrobust.reporting.table_builder import build_table, check_choices
from avsrobust.results import Scores

__all__ = ["Rendered", "ReportOptions", "load_results", "report", "report_options"]

_PAGE_OPTIONS = {"--gallery": "a gallery", "--compare": "pairs of models"}


@dataclass(frozen=True)
class Rendered:
    """A table in some format.

    Attributes:
        content: The table: text, or bytes where the format is binary.
        warnings: Sentences for the user, each one line.
        suffix: Suffix of a file in this format, with its dot.
    """

    content: str | bytes
    warnings: tuple[str, ...]
    suffix: str


def report(
    results: Sequence[Scores],
    protocols: Sequence[str] = (DEFAULT_PROTOCOL,),
    by: str | None = None,
    format: str | Format = "md",  # noqa: A002 - the option's name
    task: str | None = None,
    negatives: Sequence[str] | None = None,
    scores: Sequence[str] = (),
    gallery: Gallery | None = None,
    *,
    layout: str = FULL,
    style: Style | None = None,
    renames: Mapping[str, str] | None = None,
    reported: Sequence[ReportedLine] = (),
    intervals: bool = False,
    aggregate: str | None = None,
    common_clips: bool = False,
    compare: bool = False,
) -> Rendered:
    """Render `results` as one table.

    Args:
        results: Stored results (`load_results`).
        protocols: Protocols, each a name, ``package.module:OBJECT`` or ``file.py:OBJECT`` (`metrics.find_protocol`).
        by: A breakdown for a line per part as well (`breakdowns.GROUPINGS`), or None.
        format: A format: a name, ``package.module:OBJECT`` or ``file.py:OBJECT`` (`formats.find_format`).
        task: "semantic" for the results that hold classes, "binary" for all as foreground and background, or None: semantic
            where available.
        negatives: The negative conditions that G averages over; None: silence, noise and offscreen.
        scores: Groups of extra scores (`extra_scores.GROUPS`), or "all".
        layout: "full", or "wide": the table for a paper, data sets side by side, in md, latex or html.
        style: Choices about the wide layout.
        renames: Names to show, by those of models, and in the wide layout of columns and data sets.
        reported: Published scores to show next to the measured ones (`reported.load_reported`).
        intervals: Show 95 % intervals by a bootstrap over the clips, in every format and layout.
        aggregate: "seeds": one line, with mean and spread, for all results of a model that differ in seeds alone; None: none.
        common_clips: Score every split on the clips alone that all its results have.
        gallery: Clips to look at and listen to (`avsrobust.gallery.collect.make_gallery`), for the format html.
        compare: Format html: compare all pairs of models, as `compare.compare_models` does.

    Raises:
        OptionError: A protocol, breakdown, task, negative, group of scores, format, column or name is unknown, the format has no
            such layout, or a plug-in fails.
        ResultsError: The results cannot be true, or none can be shown.
    """
    chosen = check_report(
        protocols,
        by,
        format,
        task,
        scores,
        layout=layout,
        style=style,
        intervals=intervals,
        aggregate=aggregate,
        compare=compare,
    )
    left_out: list[str] = []
    if common_clips:
        results, left_out = on_common_clips(results)
    names = dict(renames or {})
    if layout == WIDE:
        style = style or Style()
        models = {entry.info.model for entry in results}
        style = replace(style, names={**style.names, **{old: new for old, new in names.items() if old not in models}})
        names = {old: new for old, new in names.items() if old in models}
        protocols = tuple(dict.fromkeys(style.protocols.values())) or protocols
    runs, damaged = load_runs(results)
    table = build_table(results, protocols, by, runs, task, negatives, scores, names, intervals, aggregate)
    compared: tuple[Comparisons, ...] = ()
    if compare:
        compared, unpaired = compare_all(results, runs, protocols, task, negatives, names)
        left_out += unpaired
    table = replace(
        table,
        reported=tuple(reported),
        gallery=gallery,
        comparisons=compared,
        notes=(*table.notes, *left_out),
    )
    content = chosen(table) if layout == FULL or style is None else render_paper(table, style, chosen.name)
    remarks = (*damaged, *table.warnings, *(gallery.notes if gallery else ()))
    return Rendered(content, tuple(one_line(text) for text in remarks), chosen.suffix)


def check_report(
    protocols: Sequence[str] = (DEFAULT_PROTOCOL,),
    by: str | None = None,
    format: str | Format = "md",  # noqa: A002 - the option's name
    task: str | None = None,
    scores: Sequence[str] = (),
    *,
    layout: str = FULL,
    style: Style | None = None,
    intervals: bool = False,
    aggregate: str | None = None,
    compare: bool = False,
    gallery: bool = False,
    rerun: bool = False,
) -> Format:
    """Check arguments of `report` that are right or wrong whatever the results are: before these are read.

    Args:
        protocols: As of `report`, as are those that are not listed here.
        by: A breakdown.
        format: A format.
        task: A task.
        scores: Groups of extra scores.
        layout: A layout.
        style: Choices about the wide layout.
        intervals: Whether intervals are shown.
        aggregate: An aggregation.
        compare: Whether models are compared.
        gallery: Whether a gallery is to be shown.
        rerun: Whether models are run again for it.

    Returns:
        The format.

    Raises:
        OptionError: A name is unknown, or two options exclude one another.
    """
    chosen = find_format(format) if isinstance(format, str) else format
    check_layout(layout, chosen.name, style)
    if intervals and aggregate is not None:
        raise OptionError(
            "--intervals, --aggregate: a mean over seeds has a spread, no interval; leave one of the two out"
        )
    if rerun and not gallery:
        raise OptionError("--rerun: found no --gallery; expected --gallery N, for whose clips models are run again")
    if gallery:
        _check_page_option("--gallery", chosen.name, layout)
    if compare:
        _check_page_option("--compare", chosen.name, layout)
        if aggregate is not None:
            raise OptionError(
                "--compare, --aggregate: single results are compared, no means over seeds; leave one of the two out"
            )
    check_choices(protocols, by, task, scores, aggregate)
    return chosen


def _check_page_option(option: str, format: str, layout: str = FULL) -> None:  # noqa: A002 - the option's name
    """Raise `OptionError` for a format or a layout that does not show what an option of the page asks for."""
    if format != "html" or layout != FULL:
        raise OptionError(
            f"{option}: found --format {format}{'' if layout == FULL else f' --layout {layout}'}; expected --format html in the "
            f"full layout, which alone shows {_PAGE_OPTIONS[option]}"
        )


class ReportOptions(TypedDict):
    """Keyword arguments of `report` that options stand for."""

    protocols: Sequence[str]
    layout: str
    style: Style | None
    renames: Mapping[str, str]
    reported: Sequence[ReportedLine]


def report_options(
    *,
    protocols: Sequence[str] = (),
    layout: str = FULL,
    preset: str | None = None,
    columns: Sequence[str] = (),
    digits: str | int | None = None,
    width: str | float | None = None,
    caption: str | None = None,
    label: str | None = None,
    renames: Sequence[str] | Mapping[str, str] = (),
    reported: bool = False,
    reported_files: Sequence[Path | str] = (),
) -> ReportOptions:
    """Return the arguments of `report` for options as the command line has them.

    Args:
        protocols: Protocols; empty: those of the preset, else avsbench.
        layout: "full" or "wide"; a preset implies "wide".
        preset: Name of a preset (`paper.style.PRESETS`), or None.
        columns: Columns of the wide layout, separated by commas too.
        digits: Decimals, as ``1`` or ``1,G_FPR=3``.
        width: A name of `paper.style.WIDTHS`, or points.
        caption: Caption, or None.
        label: LaTeX label, or None.
        renames: Names to show: a mapping, or texts ``old=new``.
        reported: Whether to show the published scores that come with avsrobust.
        reported_files: Files of further ones.

    Raises:
        OptionError: A value cannot be used.
    """
    chosen = (columns, digits, width, caption, label)
    style = None
    if preset is not None or layout == WIDE or any(value not in (None, (), []) for value in chosen):
        style = requested_style(preset, columns, digits, None, width, caption, label)
        if preset is not None:
            layout = WIDE
            # A protocol named by hand takes the place of the paper's.
            style = replace(style, protocols={}) if protocols else style
    files = [*([BUNDLED] if reported else []), *reported_files]
    return ReportOptions(
        protocols=tuple(protocols) or (DEFAULT_PROTOCOL,),
        layout=layout,
        style=style,
        renames=renames if isinstance(renames, Mapping) else requested_renames(renames),
        reported=[line for path in files for line in load_reported(path)],
    )
