"""The report as one page: a single HTML file with its style and charts in it, without scripts or outside references.

Conventions
    Everything that comes from results (names, categories, messages) is escaped by the template engine, and shown where it could
    not be seen. Anchors are made of ASCII letters, digits, hyphens and, behind those of a section, dots.
    The page says nothing of the time or host it was made on: equal results give equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from avsrobust import __version__
from avsrobust.inert import reveal
from avsrobust.reporting.columns import HEADLINE, UNDER_NEGATIVES, condition_title, fraction, percent
from avsrobust.reporting.model import Subject, Table
from avsrobust.reporting.presentation import Block, Section, extra_cell, sections
from avsrobust.reporting.render.html.charts import (
    BarChart,
    CurveChart,
    LevelChart,
    bar_chart,
    curve_chart,
    level_charts,
)
from avsrobust.vocabulary import NEGATIVES

_CHECKSUM_SHOWN = 12
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
    """A block, its anchor and its charts."""

    anchor: str
    block: Block
    charts: tuple[BarChart, ...]
    levels: tuple[LevelChart, ...]


@dataclass(frozen=True)
class SectionView:
    """A section, its anchor and its charts."""

    anchor: str
    section: Section
    blocks: tuple[BlockView, ...]
    curves: tuple[CurveChart, ...]
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
    environment.globals.update(condition_title=condition_title, negatives=NEGATIVES, headline_metrics=_MEANS)
    return environment.get_template("page.html.j2").render(
        version=__version__,
        sections=_views(sections(table)),
        metrics=_METRICS,
        groups=_groups(),
        warnings=table.warnings,
        notes=table.notes,
    )


def _visible(value: Any) -> Any:
    """Return what a template prints: plain text revealed; markup was made of such."""
    return reveal(value) if type(value) is str else value


def _views(found: Sequence[Section]) -> list[SectionView]:
    anchors = ["", "reading"]
    for section in found:
        anchor = _anchor(" ".join(part for part in section.split_key if part)).strip("-")
        # Names that differ in other characters only would share an anchor.
        anchors.append(f"{anchor}--{len(anchors)}" if anchor in anchors else anchor)
    return [_view(section, anchor) for section, anchor in zip(found, anchors[2:], strict=True)]


def _anchor(text: str) -> str:
    """Text with a hyphen for every run of characters that anchors do not have."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text)


def _view(section: Section, anchor: str) -> SectionView:
    curves = (curve_chart(subject) for subject in section.subjects)
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
                tuple(bar_chart(entry.line) for entry in block.lines),
                tuple(chart for entry in block.lines for chart in level_charts(entry.line)),
            )
            for key, block in zip(keys, section.blocks, strict=True)
        ),
        curves=tuple(curve for curve in curves if curve is not None),
        provenance=tuple((subject, _provenance(subject)) for subject in section.subjects),
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
