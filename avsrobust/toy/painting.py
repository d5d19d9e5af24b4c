"""Painting an object's look into a picture, and knowing which pixels it covers.

Conventions
    Pictures are float32 [H, W, 3], RGB, 0..255, changed in place. Owners are uint8 [H, W]: 0 for the background, i + 1 where
    the i-th painted object is visible; a pixel belongs to an object that covers more than half of it.
    Lengths in pixels, angles in degrees, clockwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from avsrobust.toy.looks.base import Look
from avsrobust.toy.shapes import ACCENT, BODY, DARK, LIGHT, OUTLINE, SECOND

Picture = NDArray[np.float32]
Plane = NDArray[np.float32]
Owners = NDArray[np.uint8]

_FINE = 3
_OUTLINE_COLOUR = (18, 14, 20)
_OUTLINE_WIDTH = 0.055
_SHADING = 0.2
_ROUND = 20


@dataclass(frozen=True)
class Pose:
    """Position of an object in one frame.

    Attributes:
        x: Centre, in pixels from the left.
        y: Centre, in pixels from the top.
        unit: Pixels per unit of the object's own frame.
        turn_deg: Turn in degrees, clockwise.
        stretch: Factor of the width, and its inverse of the height.
        mirrored: Left and right exchanged.
    """

    x: float
    y: float
    unit: float
    turn_deg: float = 0.0
    stretch: float = 1.0
    mirrored: bool = False

    def matrix(self) -> NDArray[np.float64]:
        """Return the 2x2 matrix from the object's frame to pixels."""
        c, s = cos(radians(self.turn_deg)), sin(radians(self.turn_deg))
        across = self.unit * self.stretch * (-1.0 if self.mirrored else 1.0)
        down = self.unit / self.stretch
        return np.array([[c * across, -s * down], [s * across, c * down]])


@dataclass(frozen=True)
class Tint:
    """Variation of one instance of a look: factors of red, green and blue, and the phase of its texture."""

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    phase: float = 0.0


def paint(picture: Picture, owners: Owners, look: Look, pose: Pose, tint: Tint, number: int) -> None:
    """Paint `look` over `picture` and mark the pixels it covers with `number` in `owners`."""
    height, width = owners.shape
    matrix = pose.matrix()
    outlines = [(part.fill, part_points(part.points) @ matrix.T + (pose.x, pose.y)) for part in look.parts]
    corners = np.concatenate([points for _, points in outlines])
    margin = _OUTLINE_WIDTH * pose.unit + 2
    left, top = np.maximum(np.floor(corners.min(axis=0) - margin), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0) + margin), (width, height)).astype(int)
    if right <= left or bottom <= top:
        return
    fills = _fill_map(outlines, (left, top, right, bottom), pose.unit)
    own = _own_coordinates(matrix, pose, (left, top, right, bottom))
    colour, alpha = _coloured(fills, look, tint, own)
    window = (slice(top, bottom), slice(left, right))
    picture[window] = picture[window] * (1 - alpha[..., None]) + colour
    owners[window][alpha > 0.5] = number


def part_points(points: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    """Return a polygon's points as float64 [N, 2]."""
    return np.asarray(points, dtype=np.float64)


@cache
def unit_area(look: Look) -> float:
    """Return the area that `look` covers at one pixel per unit, in square units, its outline included."""
    scale = 40.0
    owners = np.zeros((112, 112), np.uint8)
    paint(np.zeros((112, 112, 3), np.float32), owners, look, Pose(56, 56, scale), Tint(), 1)
    return float(owners.sum()) / scale**2


def _fill_map(
    outlines: list[tuple[int, NDArray[np.float64]]], window: tuple[int, int, int, int], unit: float
) -> Image.Image:
    """Return the fill numbers over the window, `_FINE` times as fine as the picture."""
    left, top, right, bottom = window
    fills = Image.new("L", ((right - left) * _FINE, (bottom - top) * _FINE))
    draw = ImageDraw.Draw(fills)
    line = max(round(_OUTLINE_WIDTH * unit * _FINE), 2)
    fine = [(fill, [tuple(point) for point in (points - (left, top)) * _FINE]) for fill, points in outlines]
    for _, points in fine:
        # Rounded joints are slow, and an ellipse's corners are too blunt to need them.
        joint = "curve" if len(points) < _ROUND else None
        draw.line([*points, points[0], points[1]], fill=OUTLINE, width=line, joint=joint)
    for fill, points in fine:
        draw.polygon(points, fill=fill)
    return fills


def _own_coordinates(matrix: NDArray[np.float64], pose: Pose, window: tuple[int, int, int, int]) -> tuple[Plane, Plane]:
    """Return the object's own coordinates of the window's pixels, two float32 [h, w]."""
    left, top, right, bottom = window
    inverse = np.linalg.inv(matrix).astype(np.float32)
    x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - pose.x))[None, :]
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - pose.y))[:, None]
    return inverse[0, 0] * x + inverse[0, 1] * y, inverse[1, 0] * x + inverse[1, 1] * y


def _coloured(fills: Image.Image, look: Look, tint: Tint, own: tuple[Plane, Plane]) -> tuple[Picture, Plane]:
    """Return the object's colour, already times its coverage, and its coverage, float32 [h, w] in 0..1."""
    second = np.asarray(look.second, np.float32)
    flat = {SECOND: look.second, ACCENT: look.accent, DARK: look.dark, LIGHT: look.light, OUTLINE: _OUTLINE_COLOUR}
    cover = _coverage(fills, BODY)
    alpha = cover.copy()
    mix = _texture(look, tint.phase, *own)[..., None]
    colour = cover[..., None] * (np.asarray(look.body, np.float32) * (1 - mix) + second * mix)
    for fill, pixels in enumerate(fills.histogram()):
        if pixels and fill in flat:
            cover = _coverage(fills, fill)
            alpha += cover
            colour += cover[..., None] * np.asarray(flat[fill], np.float32)
    light = 1 - np.float32(_SHADING) * (own[0] * np.float32(0.4) + own[1])
    colour *= light[..., None] * np.asarray(tint.gain, np.float32)
    return np.minimum(colour, 255 * alpha[..., None]), alpha


def _coverage(fills: Image.Image, fill: int) -> Plane:
    table = [0] * 256
    table[fill] = 255
    return np.asarray(fills.point(table).reduce(_FINE), np.float32) / np.float32(255)


def _texture(look: Look, phase: float, u: Plane, v: Plane) -> Plane:
    """Return how much of the second colour the body shows, float32 [h, w] in 0..1."""
    turn = radians(look.stripe_deg)
    along = np.float32(cos(turn)) * u + np.float32(sin(turn)) * v
    across = np.float32(cos(turn)) * v - np.float32(sin(turn)) * u
    rate = np.float32(np.pi * look.scale)
    shift = np.float32(2 * np.pi * phase)
    # Plain is all body, and a gradient runs slowly from one to the other; the rest are patches with soft rims.
    steepness, middle = np.float32(3), np.float32(0.5)
    match look.texture:
        case "gradient":
            wave, steepness = along, np.float32(0.55)
        case "stripes":
            wave = np.sin(rate * along + shift)
        case "waves":
            wave = np.sin(rate * along + np.float32(1.2) * np.sin(np.float32(6) * across) + shift)
        case "checker":
            wave = np.sin(rate * along + shift) * np.sin(rate * across)
        case "dots":
            wave = np.sin(rate * along + shift) * np.sin(rate * across) - np.float32(0.35)
        case "rings":
            wave = np.sin(rate * np.float32(2) * np.hypot(along, across) + shift)
        case _:
            wave, middle = np.zeros_like(u), np.float32(0)
    mix: Plane = np.clip(middle + steepness * wave, 0, 1)
    return mix
