"""`report`: stored results in, one rendered table out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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

__all__ = [
    "Rendered",
    "ReportOptions",
    "ReportRequest",
    "load_results",
    "render_report",
    "report",
    "report_options",
]

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
    request = ReportRequest(
        protocols=protocols,
        by=by,
        format=format,
        task=task,
        negatives=negatives,
        scores=scores,
        layout=layout,
        style=style,
        renames=renames or {},
        reported=reported,
        intervals=intervals,
        aggregate=aggregate,
        common_clips=common_clips,
        compare=compare,
    )
    return render_report(results, request, gallery)


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """All choices of one report but its results: those of `report`, under the same names.

    Attributes:
        protocols: As in `report`, as are those that are not listed here.
        by: A breakdown.
        format: A format.
        task: A task.
        negatives: Negative conditions.
        scores: Groups of extra scores.
        layout: A layout.
        style: Choices about the wide layout.
        renames: Names to show.
        reported: Published scores.
        intervals: Whether intervals are shown.
        aggregate: An aggregation.
        common_clips: Whether splits are scored on the clips of all results alone.
        compare: Whether models are compared.
        gallery: Number of clips of each split that a gallery is to show; None: there is none.
        rerun: Whether models are run again for the gallery.
    """

    protocols: Sequence[str] = (DEFAULT_PROTOCOL,)
    by: str | None = None
    format: str | Format = "md"
    task: str | None = None
    negatives: Sequence[str] | None = None
    scores: Sequence[str] = ()
    layout: str = FULL
    style: Style | None = None
    renames: Mapping[str, str] = field(default_factory=dict)
    reported: Sequence[ReportedLine] = ()
    intervals: bool = False
    aggregate: str | None = None
    common_clips: bool = False
    compare: bool = False
    gallery: int | None = None
    rerun: bool = False

    def checked_format(self) -> Format:
        """Return the format, once all that is right or wrong whatever the results are has been checked.

        Raises:
            OptionError: A name is unknown, or two options exclude one another.
        """
        chosen = find_format(self.format) if isinstance(self.format, str) else self.format
        check_layout(self.layout, chosen.name, self.style)
        if self.intervals and self.aggregate is not None:
            raise OptionError(
                "--intervals, --aggregate: a mean over seeds has a spread, no interval; leave one of the two out"
            )
        if self.rerun and self.gallery is None:
            raise OptionError("--rerun: found no --gallery; expected --gallery N, for whose clips models are run again")
        if self.gallery is not None:
            _check_page_option("--gallery", chosen.name, self.layout)
        if self.compare:
            _check_page_option("--compare", chosen.name, self.layout)
            if self.aggregate is not None:
                raise OptionError(
                    "--compare, --aggregate: single results are compared, no means over seeds; leave one of the two out"
                )
        check_choices(self.protocols, self.by, self.task, self.scores, self.aggregate)
        return chosen


def render_report(results: Sequence[Scores], request: ReportRequest, gallery: Gallery | None = None) -> Rendered:
    """Render `results` as one table.

    Args:
        results: Stored results (`load_results`).
        request: The choices.
        gallery: The gallery that the request asks for.

    Raises:
        OptionError: As `report`.
        ResultsError: As `report`.
    """
    chosen = request.checked_format()
    protocols, style, names = request.protocols, request.style, dict(request.renames)
    notes: list[str] = []
    if request.common_clips:
        results, notes = on_common_clips(results)
    if request.layout == WIDE:
        style = style or Style()
        models = {entry.info.model for entry in results}
        style = replace(style, names={**style.names, **{old: new for old, new in names.items() if old not in models}})
        names = {old: new for old, new in names.items() if old in models}
        protocols = tuple(dict.fromkeys(style.protocols.values())) or protocols
    runs, damaged = load_runs(results)
    table = build_table(
        results,
        protocols,
        request.by,
        runs,
        request.task,
        request.negatives,
        request.scores,
        names,
        request.intervals,
        request.aggregate,
    )
    compared: tuple[Comparisons, ...] = ()
    if request.compare:
        compared, unpaired = compare_all(results, runs, protocols, request.task, request.negatives, names)
        notes += unpaired
    table = replace(
        table,
        reported=tuple(request.reported),
        gallery=gallery,
        comparisons=compared,
        notes=(*table.notes, *notes),
    )
    content = chosen(table) if request.layout == FULL or style is None else render_paper(table, style, chosen.name)
    remarks = (*damaged, *table.warnings, *(gallery.notes if gallery else ()))
    return Rendered(content, tuple(one_line(text) for text in remarks), chosen.suffix)


def _check_page_option(option: str, format: str, layout: str) -> None:  # noqa: A002 - the option's name
    """Raise `OptionError` for a format or a layout that cannot show a gallery or pairs of models."""
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
