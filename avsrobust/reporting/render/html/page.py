"""The report as one page: a single HTML file with its style, its charts and one small script in it, without outside references.

Conventions
    Everything that comes from results (names, categories, messages) is escaped by the template engine, and shown where it could
    not be seen. Anchors are made of ASCII letters, digits, hyphens and, behind those of a section, dots.
    A Content-Security-Policy in the page lets run no script but its own, by its checksum, and load nothing from anywhere.
    Without the script the page shows everything; the script sorts, filters and hides.
    The page says nothing of the time or host it was made on: equal results give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from avsrobust import __version__
from avsrobust.inert import reveal
from avsrobust.reporting.columns import HEADLINE, UNDER_NEGATIVES, condition_title, fraction, percent
from avsrobust.reporting.model import Subject, Table
from avsrobust.reporting.presentation import (
    REPORTED_HEADINGS,
    Block,
    Section,
    condition_intervals,
    extra_cell,
    reported_rows,
    sections,
    uncertainty_text,
)
from avsrobust.reporting.render.html.charts import (
    AreaChart,
    BarChart,
    CurveChart,
    LevelChart,
    area_chart,
    bar_chart,
    curve_chart,
    level_charts,
)
from avsrobust.reporting.render.html.gallery_view import GalleryView, gallery_view
from avsrobust.reporting.render.html.overview import baseline_rows, leaderboards, without_baselines
from avsrobust.reporting.render.html.pairs import PairTable, pair_table
from avsrobust.vocabulary import NEGATIVES

_CHECKSUM_SHOWN = 12
# Anchors that no section has; the first is that of a name without any letter.
_FIXED_ANCHORS = ("", "leaderboard", "baselines", "reading")
_DEFAULT_THRESHOLD = 0.5
# Scores that sum a model up come first: the page is wide, and a reader may not scroll.
_METRICS = (*HEADLINE, *UNDER_NEGATIVES)
_MEANS = tuple(metric for metric in HEADLINE if metric.measure != "FPR")


@dataclass(frozen=True)
class ColumnGroup:
    """Neighbouring columns under one title."""

    title: str
    condition: str
    width: int


@dataclass(frozen=True)
class BlockView:
    """A block, its anchor, its charts, each with whether it is a baseline's, and its pairs of models."""

    anchor: str
    block: Block
    charts: tuple[tuple[BarChart, bool], ...]
    levels: tuple[LevelChart, ...]
    pairs: PairTable | None


@dataclass(frozen=True)
class ThresholdView:
    """Scores over the thresholds: a row per model, of its name and its scores in percent at each threshold, as text.

    `start` is the position of the threshold that is shown first.
    """

    thresholds: tuple[str, ...]
    start: int
    rows: tuple[tuple[Subject, tuple[tuple[str, ...], ...]], ...]


@dataclass(frozen=True)
class SectionView:
    """A section, its anchor, its charts and its gallery."""

    anchor: str
    section: Section
    blocks: tuple[BlockView, ...]
    curves: tuple[tuple[CurveChart, bool], ...]
    areas: tuple[tuple[AreaChart, bool], ...]
    threshold: ThresholdView | None
    gallery: GalleryView | None
    provenance: tuple[tuple[Subject, tuple[tuple[str, str], ...]], ...]


def render_html(table: Table) -> str:
    """Return the page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("avsrobust.reporting.render.html", ""),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(percent=percent, fraction=fraction, extra_cell=extra_cell)
    environment.globals.update(
        condition_title=condition_title,
        negatives=NEGATIVES,
        headline_metrics=_MEANS,
        uncertainty=uncertainty_text,
        condition_intervals=condition_intervals,
        reported_rows=reported_rows,
        reported_headings=REPORTED_HEADINGS,
    )
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        version=__version__,
        script=script,
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        sections=_views(table),
        leaderboards=leaderboards([without_baselines(section) for section in sections(table)]),
        baselines=baseline_rows(sections(table)),
        metrics=_METRICS,
        groups=_groups(),
        warnings=table.warnings,
        notes=(*table.notes, *(() if table.gallery is None else table.gallery.notes)),
    )


def _visible(value: Any) -> Any:
    """Return what a template prints: plain text revealed; markup was made of such."""
    return reveal(value) if type(value) is str else value


def _views(table: Table) -> list[SectionView]:
    found = sections(table)
    anchors = [*_FIXED_ANCHORS]
    for section in found:
        anchor = _anchor(" ".join(part for part in section.split_key if part)).strip("-")
        # Names that differ in other characters only would share an anchor.
        anchors.append(f"{anchor}--{len(anchors)}" if anchor in anchors else anchor)
    return [
        _view(section, anchor, table) for section, anchor in zip(found, anchors[len(_FIXED_ANCHORS) :], strict=True)
    ]


def _anchor(text: str) -> str:
    """Text with a hyphen for every run of characters that anchors do not have."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text)


def _view(everything: Section, anchor: str, table: Table) -> SectionView:
    section = without_baselines(everything)
    curves = ((curve_chart(subject), subject.is_baseline) for subject in section.subjects)
    areas = ((area_chart(subject), subject.is_baseline) for subject in section.subjects)
    clips = [] if table.gallery is None else [c for c in table.gallery.clips if c.split_key == section.split_key]
    keys: list[str] = []
    for block in section.blocks:
        key = _anchor(block.key)
        keys.append(f"{key}--{len(keys)}" if key in keys else key)
    return SectionView(
        anchor=anchor,
        section=section,
        blocks=tuple(
            BlockView(
                f"{anchor}.{key}",
                block,
                tuple((bar_chart(entry.line), entry.line.subject.is_baseline) for entry in block.lines),
                tuple(chart for entry in block.lines for chart in level_charts(entry.line)),
                pair_table(block, table.comparisons),
            )
            for key, block in zip(keys, section.blocks, strict=True)
        ),
        curves=tuple((chart, baseline) for chart, baseline in curves if chart is not None),
        areas=tuple((chart, baseline) for chart, baseline in areas if chart is not None),
        threshold=_threshold_view(section.subjects),
        gallery=gallery_view(clips, everything.subjects, anchor),
        provenance=tuple((subject, _provenance(subject)) for subject in everything.subjects),
    )


def _threshold_view(subjects: Sequence[Subject]) -> ThresholdView | None:
    """The scores of the models that have a curve; None where none has."""
    curves = [(subject, subject.diagnostics.curve) for subject in subjects]
    found = [(subject, curve) for subject, curve in curves if curve is not None]
    if not found:
        return None
    thresholds = found[0][1].threshold
    return ThresholdView(
        thresholds=tuple(f"{value:.3f}" for value in thresholds),
        start=int(np.abs(thresholds - _DEFAULT_THRESHOLD).argmin()),
        rows=tuple(
            (
                subject,
                tuple(
                    tuple(percent(value) for value in scores.tolist())
                    for scores in (curve.miou, curve.miou_negative, curve.g_miou)
                ),
            )
            for subject, curve in found
        ),
    )


def _groups() -> tuple[ColumnGroup, ...]:
    return tuple(
        ColumnGroup("all conditions" if condition == "G" else condition_title(condition), condition, len(list(same)))
        for condition, same in groupby(_METRICS, lambda metric: metric.condition)
    )


def _provenance(subject: Subject) -> tuple[tuple[str, str], ...]:
    """Facts of ``run.json`` and of the build, in pairs of name and text."""
    run = subject.run
    pairs = [
        ("results", subject.source),
        ("seed of the build", str(subject.seed)),
        ("recipe of the build", subject.recipe),
        ("release of the data", subject.release),
        ("adapter", _entry(run, "adapter", "spec")),
        ("checkpoint", _entry(run, "checkpoint", "path")),
        ("checkpoint SHA-256", _checksum(run, "checkpoint")),
        ("manifest", _entry(run, "manifest", "path")),
        ("manifest SHA-256", _checksum(run, "manifest")),
        ("device", _text(run.get("device_name")) or _text(run.get("device"))),
        ("wall time", _with_unit(run.get("wall_time_s"), "s")),
        ("speed", _with_unit(run.get("clips_per_s"), "clips/s")),
        ("versions", _versions(run.get("versions"))),
    ]
    return tuple((name, text) for name, text in pairs if text)


def _entry(run: Mapping[str, Any], key: str, name: str) -> str | None:
    value = run.get(key)
    return _text(value.get(name)) if isinstance(value, Mapping) else None


def _checksum(run: Mapping[str, Any], key: str) -> str | None:
    text = _entry(run, key, "sha256")
    return None if text is None else text[:_CHECKSUM_SHOWN]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _with_unit(value: object, unit: str) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return f"{value:.4g} {unit}"
    except OverflowError:  # an integer beyond all floats
        return None


def _versions(value: object) -> str | None:
    return ", ".join(f"{name} {version}" for name, version in value.items()) if isinstance(value, Mapping) else None
