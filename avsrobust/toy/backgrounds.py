"""Cluttered backgrounds: shading, texture, and odds and ends that belong to no category.

Conventions
    A background is float32 [H, W, 3], RGB, 0..255. Its colours are dull and its rims soft, so that the objects in front of
    it can be found by eye, as in AVSBench, and only the audio says which of them are foreground.
"""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from avsrobust.toy.painting import Picture

_FEWEST_ITEMS, _MOST_ITEMS = 9, 22


def background(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Return a background drawn from `rng`."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    hue = float(rng.random())
    picture = _shaded(rng, hue, x / width, y / height)
    if rng.random() < 0.6:
        _add_ground(rng, hue, picture, x / width, y / height)
    items = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    _scatter_items(rng, hue, items)
    items = items.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.7, 1.6))))
    return np.asarray(items, np.float32) + _mottle(rng, height, width)[..., None]


def _dull(rng: np.random.Generator, hue: float, spread: float) -> NDArray[np.float32]:
    """Return a dull colour near `hue`, float32 [3]."""
    near = (hue + rng.uniform(-spread, spread)) % 1.0
    colour = colorsys.hsv_to_rgb(near, rng.uniform(0.05, 0.38), rng.uniform(0.25, 0.85))
    return np.array(colour, np.float32) * np.float32(255)


def _shaded(rng: np.random.Generator, hue: float, x: NDArray[np.float32], y: NDArray[np.float32]) -> Picture:
    turn = rng.uniform(0, 2 * np.pi)
    slope = np.clip(0.5 + np.cos(turn) * (x - 0.5) + np.sin(turn) * (y - 0.5), 0, 1).astype(np.float32)[..., None]
    shaded: Picture = _dull(rng, hue, 0.2) * slope + _dull(rng, hue, 0.2) * (1 - slope)
    return shaded


def _add_ground(
    rng: np.random.Generator, hue: float, picture: Picture, x: NDArray[np.float32], y: NDArray[np.float32]
) -> None:
    """Paint a floor with boards or furrows below a horizon."""
    horizon = rng.uniform(0.45, 0.8) + rng.uniform(-0.12, 0.12) * (x - 0.5)
    colour = _dull(rng, hue + 0.4, 0.25)
    depth = np.maximum(y - horizon, 0) + 0.08
    boards = (
        np.sin(rng.uniform(4, 10) * (x - rng.uniform(0.2, 0.8)) / depth) if rng.random() < 0.5 else np.sin(4 / depth)
    )
    ground = colour * (0.9 + 0.12 * boards[..., None])
    below = (y > horizon)[..., None]
    np.copyto(picture, ground.astype(np.float32), where=below)


def _scatter_items(rng: np.random.Generator, hue: float, picture: Image.Image) -> None:
    """Draw ellipses, posts, slabs and lines."""
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    unit = min(width, height)
    for _ in range(int(rng.integers(_FEWEST_ITEMS, _MOST_ITEMS))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        rx, ry = unit * np.exp(rng.uniform(np.log(0.02), np.log(0.16), size=2))
        red, green, blue = (int(value) for value in _dull(rng, hue, 0.5))
        colour = (red, green, blue)
        match int(rng.integers(4)):
            case 0:
                draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)
            case 1:
                draw.rectangle((x - rx, y - ry, x + rx, y + ry), fill=colour)
            case 2:
                corners = rng.uniform(-1.2, 1.2, size=(3, 2)) * (rx, ry) + (x, y)
                draw.polygon([(float(px), float(py)) for px, py in corners], fill=colour)
            case _:
                end = rng.uniform(-0.5, 0.5, size=2) * unit + (x, y)
                draw.line((x, y, float(end[0]), float(end[1])), fill=colour, width=int(rng.integers(1, 5)))


def _mottle(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Return smooth noise of three sizes, float32 [H, W], about -20..20."""
    total = np.zeros((height, width), np.float32)
    for cells, strength in ((4, 9.0), (14, 6.0), (48, 4.0)):
        coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) * np.float32(
            strength * rng.uniform(0.5, 1.3)
        )
    return total
