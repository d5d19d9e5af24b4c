"""Looks of the musical instruments."""

from __future__ import annotations

from avsrobust.toy.looks.base import Look
from avsrobust.toy.shapes import ACCENT, BODY, DARK, LIGHT, SECOND, Part, box, boxes, each, ellipse, poly, stroke


def _bars() -> tuple[Part, ...]:
    fills = (BODY, SECOND)
    return tuple(box(fills[i % 2], -0.82 + 0.235 * i, 0.0, 0.095, 0.62 - 0.055 * i) for i in range(8))


def _drum(x: float, y: float, width: float, height: float) -> tuple[Part, ...]:
    wall = poly(BODY, (x - width, y), (x + width, y), (x + 0.72 * width, y + height), (x - 0.72 * width, y + height))
    return (
        wall,
        ellipse(BODY, x, y + height, 0.72 * width, 0.1),
        ellipse(LIGHT, x, y, width, 0.36 * width),
        ellipse(DARK, x, y, 0.45 * width, 0.16 * width),
    )


LOOKS = {
    "flute": Look(
        parts=(
            stroke(BODY, 0.2, (-1.0, 0.0), (1.0, 0.0)),
            stroke(SECOND, 0.27, (-0.62, 0.0), (-0.54, 0.0)),
            stroke(SECOND, 0.27, (0.5, 0.0), (0.58, 0.0)),
            ellipse(DARK, -0.82, -0.02, 0.06, 0.05),
            *each(ACCENT, (-0.36, -0.2, -0.04, 0.12, 0.28, 0.44), -0.07, 0.055, 0.07),
        ),
        body=(186, 206, 224),
        second=(74, 92, 190),
        accent=(250, 214, 90),
        texture="gradient",
        stripe_deg=90,
        motion="sway",
        turn_deg=50,
    ),
    "guitar": Look(
        parts=(
            box(DARK, 0.0, -0.55, 0.085, 0.5),
            poly(ACCENT, (-0.12, -0.98), (0.12, -0.98), (0.09, -0.74), (-0.09, -0.74)),
            ellipse(BODY, 0.0, 0.5, 0.52, 0.46),
            ellipse(BODY, 0.0, 0.02, 0.38, 0.32),
            ellipse(DARK, 0.0, 0.18, 0.15, 0.15),
            box(DARK, 0.0, 0.62, 0.2, 0.045),
            box(LIGHT, 0.0, 0.02, 0.025, 0.62),
        ),
        body=(226, 132, 40),
        second=(150, 62, 22),
        accent=(120, 50, 20),
        texture="rings",
        scale=1.4,
        motion="sway",
        turn_deg=40,
    ),
    "marimba": Look(
        parts=(
            stroke(DARK, 0.1, (-0.98, -0.3), (0.95, -0.12)),
            stroke(DARK, 0.1, (-0.98, 0.3), (0.95, 0.12)),
            *_bars(),
            *each(LIGHT, tuple(-0.82 + 0.235 * i for i in range(8)), -0.17, 0.03, 0.03),
        ),
        body=(60, 200, 214),
        second=(240, 86, 150),
        accent=(250, 220, 80),
        motion="shake",
    ),
    "piano": Look(
        parts=(
            poly(ACCENT, (-0.95, 0.02), (-0.8, -0.62), (0.1, -0.72), (0.6, -0.3), (0.95, 0.02)),
            poly(DARK, (-0.78, 0.0), (-0.66, -0.5), (0.04, -0.58), (0.46, -0.24), (0.74, 0.0)),
            box(ACCENT, 0.0, 0.18, 0.98, 0.2),
            box(BODY, 0.0, 0.16, 0.88, 0.12),
            *boxes(ACCENT, (-0.8, 0.8), 0.62, 0.07, 0.3),
            box(ACCENT, 0.0, 0.55, 0.05, 0.22),
        ),
        body=(252, 252, 246),
        second=(20, 20, 26),
        accent=(52, 44, 66),
        texture="stripes",
        scale=6.0,
        motion="drift",
        turn_deg=6,
    ),
    "tabla": Look(
        parts=(*_drum(-0.45, -0.12, 0.44, 0.52), *_drum(0.45, -0.3, 0.52, 0.8)),
        body=(178, 92, 44),
        second=(246, 196, 96),
        accent=(120, 40, 30),
        texture="stripes",
        scale=3.5,
        motion="bounce",
        turn_deg=8,
    ),
    "trumpet": Look(
        parts=(
            poly(BODY, (0.3, -0.2), (0.72, -0.26), (0.98, -0.52), (0.98, 0.3), (0.72, 0.04), (0.3, -0.02)),
            stroke(BODY, 0.14, (-0.98, -0.11), (0.4, -0.11)),
            stroke(BODY, 0.12, (-0.5, -0.1), (-0.62, 0.12), (-0.5, 0.36), (0.3, 0.36), (0.44, 0.12), (0.34, -0.08)),
            box(DARK, -0.99, -0.11, 0.05, 0.1),
            *boxes(SECOND, (-0.3, -0.08, 0.14), 0.06, 0.07, 0.3),
            *each(LIGHT, (-0.3, -0.08, 0.14), -0.28, 0.09, 0.06),
        ),
        body=(250, 206, 60),
        second=(186, 120, 24),
        accent=(120, 80, 20),
        texture="gradient",
        stripe_deg=90,
        motion="bounce",
        turn_deg=25,
    ),
    "ukulele": Look(
        parts=(
            box(ACCENT, 0.0, -0.4, 0.075, 0.4),
            poly(DARK, (-0.16, -0.98), (0.16, -0.98), (0.1, -0.7), (-0.1, -0.7)),
            ellipse(BODY, 0.0, 0.55, 0.44, 0.36),
            ellipse(BODY, 0.0, 0.15, 0.34, 0.27),
            ellipse(LIGHT, 0.0, 0.3, 0.15, 0.15),
            ellipse(DARK, 0.0, 0.3, 0.1, 0.1),
            box(LIGHT, 0.0, 0.68, 0.16, 0.04),
        ),
        body=(40, 190, 168),
        second=(20, 110, 130),
        accent=(240, 196, 120),
        texture="dots",
        scale=4.0,
        motion="bounce",
        turn_deg=40,
    ),
    "violin": Look(
        parts=(
            box(DARK, 0.0, -0.5, 0.06, 0.46),
            ellipse(DARK, 0.0, -0.94, 0.1, 0.08),
            ellipse(BODY, 0.0, 0.58, 0.4, 0.34),
            ellipse(BODY, 0.0, 0.0, 0.32, 0.28),
            box(BODY, 0.0, 0.3, 0.2, 0.3),
            box(ACCENT, 0.0, 0.2, 0.06, 0.4),
            stroke(DARK, 0.05, (-0.14, 0.16), (-0.18, 0.44)),
            stroke(DARK, 0.05, (0.14, 0.16), (0.18, 0.44)),
            stroke(LIGHT, 0.06, (-0.72, 0.62), (0.8, -0.3)),
        ),
        body=(150, 30, 30),
        second=(212, 84, 50),
        accent=(60, 24, 22),
        texture="waves",
        scale=3.0,
        stripe_deg=0,
        motion="orbit",
        turn_deg=45,
    ),
}
