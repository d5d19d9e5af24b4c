"""Geometry of the page's charts: numbers to positions; the template draws them.

Conventions
    Positions are in units of the chart's own viewBox, x to the right, y down. Scores are fractions; axes show percent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from avsrobust.metrics import LevelCurve, ThresholdCurve, level_curves
from avsrobust.reporting.columns import condition_title, percent
from avsrobust.reporting.diagnostics import AREA_BINS, AreaHistogram
from avsrobust.reporting.extra_scores import LEVELS
from avsrobust.reporting.model import Line, Subject
from avsrobust.vocabulary import CLEAN

Floats = npt.NDArray[np.float64]

_AREA_NAMES = ("clean", "negatives")
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_CHART_WIDTH = 330.0
_BAR_LEFT, _BAR_RIGHT = 88.0, 282.0
_BAR_TOP, _BAR_HEIGHT, _BAR_STEP, _AXIS = 6.0, 13.0, 18.0, 20.0
_CURVE_HEIGHT = 210.0
# At the right there is room for half of "100".
_CURVE_LEFT, _CURVE_RIGHT, _CURVE_TOP, _CURVE_BOTTOM = 34.0, 318.0, 10.0, 176.0


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its position in the chart's units, and its text."""

    position: float
    text: str


@dataclass(frozen=True)
class Axes:
    """The size of a chart, the edges of the part that is plotted in, and the marks on both axes, in the chart's units."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...] = ()


@dataclass(frozen=True)
class Bar:
    """mIoU of one model under one condition.

    Attributes:
        title: The condition, for people.
        text: mIoU in percent.
        negative: Whether none of the picture's objects makes the sound.
        y: Top of the bar.
        width: Width of the bar; 0 where mIoU is undefined.
        trivial: Position of the score of an empty prediction, or None.
    """

    title: str
    text: str
    negative: bool
    y: float
    width: float
    trivial: float | None


@dataclass(frozen=True)
class BarChart:
    """mIoU of one model per condition; lengths are in the chart's units, `description` is for screen readers."""

    name: str
    axes: Axes
    bar_height: float
    bars: tuple[Bar, ...]
    description: str


@dataclass(frozen=True)
class Curve:
    """One line: a CSS class, its name, and the path's ``d``."""

    kind: str
    name: str
    path: str


@dataclass(frozen=True)
class CurveChart:
    """mIoU, mIoU- and G-mIoU of one model over the thresholds; the best single threshold is marked."""

    name: str
    axes: Axes
    curves: tuple[Curve, ...]
    best_x: float
    best_y: float
    best_text: str
    description: str


@dataclass(frozen=True)
class AreaChart:
    """How many of a model's clips have a mask of which size, under clean audio and under negatives, as steps."""

    name: str
    axes: Axes
    curves: tuple[Curve, ...]
    description: str


@dataclass(frozen=True)
class LevelChart:
    """mIoU of one model over the levels of a condition, next to its mIoU under clean audio (None: not there)."""

    name: str
    axes: Axes
    path: str
    kind: str
    clean_y: float | None
    x_title: str
    description: str


def level_charts(line: Line) -> tuple[LevelChart, ...]:
    """Return a chart for each condition of a line whose mIoU is defined at two levels or more."""
    if not any(score.group == LEVELS for score in line.extra):
        return ()
    curves = [curve for curve in level_curves(line.score, ("miou",)) if curve.area is not None]
    return tuple(_level_chart(line, curve) for curve in curves)


def _level_chart(line: Line, curve: LevelCurve) -> LevelChart:
    """The chart of one curve."""
    scores = [score or 0.0 for score in curve.scores]
    low, high = curve.levels[0], curve.levels[-1]
    x = [_curve_x((level - low) / (high - low)) for level in curve.levels]
    unit = line.subject.units.get(curve.condition) or "dB"
    spoken = ", ".join(f"{level:g} {unit} {percent(score)}" for level, score in zip(curve.levels, scores, strict=True))
    return LevelChart(
        name=f"{line.subject.name}, {condition_title(curve.condition)}",
        axes=_curve_axes((Tick(x[0], f"{low:g}"), Tick(x[-1], f"{high:g}"))),
        path="M" + "L".join(f"{at:g} {_curve_y(score):g}" for at, score in zip(x, scores, strict=True)),
        kind="negative" if curve.negative else "positive",
        clean_y=None if line.score.miou is None or curve.negative else _curve_y(line.score.miou),
        x_title=f"{unit} (area: {percent(curve.area)})",
        description=f"{line.subject.name}: mIoU in percent under {condition_title(curve.condition)}: {spoken}.",
    )


def bar_chart(line: Line) -> BarChart:
    """Return the chart of a line's mIoU per condition."""
    bars = tuple(_bars(line))
    bottom = _BAR_TOP + len(bars) * _BAR_STEP
    spoken = ", ".join(f"{bar.title} {bar.text}" for bar in bars)
    return BarChart(
        name=line.subject.name,
        axes=Axes(
            width=_CHART_WIDTH,
            height=bottom + _AXIS,
            left=_BAR_LEFT,
            right=_BAR_RIGHT,
            top=_BAR_TOP,
            bottom=bottom,
            x_ticks=tuple(Tick(_bar_x(value), f"{100 * value:.0f}") for value in _TICKS),
        ),
        bar_height=_BAR_HEIGHT,
        bars=bars,
        description=f"{line.subject.name}: mIoU in percent per condition: {spoken}.",
    )


def curve_chart(subject: Subject) -> CurveChart | None:
    """Return the chart of a model's threshold curve; None where it has none."""
    curve = subject.diagnostics.curve
    if curve is None:
        return None
    best = curve.best_index
    threshold, g_miou = float(curve.threshold[best]), float(curve.g_miou[best])
    best_text = f"best: {percent(g_miou)} at {threshold:.3f}"
    return CurveChart(
        name=subject.name,
        axes=_curve_axes(Tick(_curve_x(value), f"{value:g}") for value in _TICKS),
        curves=_curves(curve),
        best_x=_curve_x(threshold),
        best_y=_curve_y(g_miou),
        best_text=best_text,
        description=f"{subject.name}: mIoU, mIoU under negatives and G-mIoU over the threshold; {best_text}.",
    )


def area_chart(subject: Subject) -> AreaChart | None:
    """Return the chart of a model's activated areas; None where clean audio or the negatives are missing."""
    clean = [entry for entry in subject.diagnostics.areas if entry.condition == CLEAN]
    negatives = [entry for entry in subject.diagnostics.areas if entry.negative]
    if not clean or not negatives:
        return None
    shares = [_shares(clean), _shares(negatives)]
    empty = ", ".join(f"{name} {percent(float(share[0]))}" for name, share in zip(_AREA_NAMES, shares, strict=True))
    return AreaChart(
        name=subject.name,
        axes=_curve_axes(Tick(_curve_x(value), f"{100 * value:.0f}") for value in _TICKS),
        curves=tuple(
            Curve(kind, name, _steps(share))
            for kind, name, share in zip(("positive", "negative"), _AREA_NAMES, shares, strict=True)
        ),
        description=f"{subject.name}: share of the clips over the marked share of the frame; marked below "
        f"{100 // AREA_BINS} %: {empty} percent of the clips.",
    )


def _shares(histograms: list[AreaHistogram]) -> Floats:
    """The share of all clips in each bin of some histograms together."""
    counts = np.sum([entry.clips for entry in histograms], axis=0).astype(np.float64)
    shares: Floats = counts / max(counts.sum(), 1.0)
    return shares


def _steps(shares: Floats) -> str:
    """The path's ``d`` of a histogram's upper edge."""
    edges = np.linspace(0, 1, len(shares) + 1)
    points = [
        f"{_curve_x(float(x)):g} {_curve_y(float(share)):g}"
        for left, right, share in zip(edges[:-1], edges[1:], shares, strict=True)
        for x in (left, right)
    ]
    return "M" + "L".join(points)


def _bars(line: Line) -> Iterator[Bar]:
    """A bar per condition."""
    for position, entry in enumerate(line.score.conditions):
        same = line.trivial.condition(entry.condition, entry.level)
        yield Bar(
            title=line.subject.condition_title(entry.condition, entry.level),
            text=percent(entry.miou),
            negative=entry.negative,
            y=_BAR_TOP + position * _BAR_STEP,
            width=0.0 if entry.miou is None else _bar_x(entry.miou) - _BAR_LEFT,
            trivial=None if same is None or same.miou is None else _bar_x(same.miou),
        )


def _bar_x(value: float) -> float:
    """Position of a score on the x axis of the bars."""
    return round(_BAR_LEFT + value * (_BAR_RIGHT - _BAR_LEFT), 1)


def _curves(curve: ThresholdCurve) -> tuple[Curve, ...]:
    """The three lines of a threshold curve."""
    return (
        Curve("positive", "mIoU, clean", _path(curve.threshold, curve.miou)),
        Curve("negative", "mIoU, negatives", _path(curve.threshold, curve.miou_negative)),
        Curve("g", "G-mIoU", _path(curve.threshold, curve.g_miou)),
    )


def _path(threshold: Floats, score: Floats) -> str:
    """The path's ``d`` of a line through the scores over the thresholds."""
    points = zip(_curve_texts(tuple(threshold.tolist())), score.tolist(), strict=True)
    return "M" + "L".join([f"{x} {_curve_y(y):g}" for x, y in points])


@lru_cache(maxsize=1)
def _curve_texts(thresholds: tuple[float, ...]) -> tuple[str, ...]:
    """The positions of all thresholds, as a path has them: curves share them."""
    return tuple(f"{_curve_x(value):g}" for value in thresholds)


def _curve_axes(x_ticks: Iterable[Tick]) -> Axes:
    """The axes of a chart of curves; y is in percent, up to 100 in every chart, so that charts compare."""
    return Axes(
        width=_CHART_WIDTH,
        height=_CURVE_HEIGHT,
        left=_CURVE_LEFT,
        right=_CURVE_RIGHT,
        top=_CURVE_TOP,
        bottom=_CURVE_BOTTOM,
        x_ticks=tuple(x_ticks),
        y_ticks=tuple(Tick(_curve_y(value), f"{100 * value:.0f}") for value in _TICKS),
    )


def _curve_x(value: float) -> float:
    """Position of a threshold on the x axis of the curves."""
    return round(_CURVE_LEFT + value * (_CURVE_RIGHT - _CURVE_LEFT), 1)


def _curve_y(value: float) -> float:
    """Position of a score on the y axis of the curves."""
    return round(_CURVE_BOTTOM - value * (_CURVE_BOTTOM - _CURVE_TOP), 1)
