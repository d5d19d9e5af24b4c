"""Polygons from which the looks of the toy's objects are put together.

Conventions
    An object lives in its own frame: x to the right, y down, both about -1 to 1. A `Part` is one filled polygon; parts are
    painted in order, later ones on top. `fill` says which of the look's colours it takes: `BODY` is the textured one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import cos, pi, radians, sin

BODY, SECOND, ACCENT, DARK, LIGHT, OUTLINE = 1, 2, 3, 4, 5, 6

Point = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One polygon and the colour it is filled with."""

    fill: int
    points: tuple[Point, ...]


def poly(fill: int, *points: Point) -> Part:
    """Return the polygon through `points`."""
    return Part(fill, points)


def ellipse(fill: int, x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Part:
    """Return an ellipse about (x, y) with radii rx, ry, turned clockwise by `turn` degrees."""
    circle = ((rx * cos(2 * pi * step / 36), ry * sin(2 * pi * step / 36)) for step in range(36))
    return Part(fill, _placed(circle, x, y, turn))


def box(fill: int, x: float, y: float, half_width: float, half_height: float, turn: float = 0.0) -> Part:
    """Return a rectangle about (x, y), turned clockwise by `turn` degrees."""
    corners = ((sx * half_width, sy * half_height) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1)))
    return Part(fill, _placed(corners, x, y, turn))


def stroke(fill: int, width: float, *points: Point) -> Part:
    """Return a band of `width` along the open line through `points`: tails, trunks, hoses, handles."""
    left: list[Point] = []
    right: list[Point] = []
    for index, (x, y) in enumerate(points):
        before, after = points[max(index - 1, 0)], points[min(index + 1, len(points) - 1)]
        dx, dy = after[0] - before[0], after[1] - before[1]
        length = (dx * dx + dy * dy) ** 0.5
        shift = (-dy / length * width / 2, dx / length * width / 2)
        left.append((x + shift[0], y + shift[1]))
        right.append((x - shift[0], y - shift[1]))
    return Part(fill, (*left, *reversed(right)))


def star(fill: int, x: float, y: float, outer: float, inner: float, spikes: int) -> Part:
    """Return a star about (x, y): manes, flames."""
    turns = ((pi * step / spikes, inner if step % 2 else outer) for step in range(2 * spikes))
    return Part(fill, tuple((x + radius * cos(turn), y + radius * sin(turn)) for turn, radius in turns))


def each(fill: int, xs: Sequence[float], y: float, rx: float, ry: float) -> tuple[Part, ...]:
    """Return equal ellipses at several places of one height: wheels, knobs, windows."""
    return tuple(ellipse(fill, x, y, rx, ry) for x in xs)


def boxes(fill: int, xs: Sequence[float], y: float, half_width: float, half_height: float) -> tuple[Part, ...]:
    """Return equal rectangles at several places of one height: legs, keys, windows."""
    return tuple(box(fill, x, y, half_width, half_height) for x in xs)


def _placed(points: Iterable[Point], x: float, y: float, turn: float) -> tuple[Point, ...]:
    c, s = cos(radians(turn)), sin(radians(turn))
    return tuple((x + c * px - s * py, y + s * px + c * py) for px, py in points)
