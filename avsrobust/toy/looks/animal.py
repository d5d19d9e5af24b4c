"""Looks of the animals, all turned to the right; instances may be mirrored."""

from __future__ import annotations

from avsrobust.toy.looks.base import Look
from avsrobust.toy.shapes import ACCENT, BODY, DARK, LIGHT, SECOND, Part, box, boxes, each, ellipse, poly, star, stroke


def _eye(x: float, y: float) -> tuple[Part, ...]:
    return (ellipse(LIGHT, x, y, 0.06, 0.06), ellipse(DARK, x + 0.015, y, 0.035, 0.035))


def _wool() -> tuple[Part, ...]:
    places = (
        (-0.5, 0.0),
        (-0.3, -0.24),
        (0.0, -0.3),
        (0.28, -0.2),
        (0.4, 0.05),
        (0.2, 0.26),
        (-0.1, 0.3),
        (-0.4, 0.24),
    )
    return (ellipse(BODY, -0.06, 0.0, 0.44, 0.3), *(ellipse(BODY, x, y, 0.24, 0.22) for x, y in places))


def _trotting_legs() -> tuple[Part, ...]:
    hips = ((-0.5, -0.1), (-0.34, 0.08), (0.16, -0.06), (0.3, 0.14))
    return tuple(stroke(BODY, 0.12, (x, 0.24), (x + step, 0.98)) for x, step in hips)


LOOKS = {
    "bird": Look(
        parts=(
            poly(SECOND, (-0.5, 0.1), (-1.0, -0.16), (-0.98, 0.3), (-0.5, 0.36)),
            *(stroke(ACCENT, 0.06, (x, 0.5), (x + 0.04, 0.86), (x + 0.16, 0.88)) for x in (-0.1, 0.1)),
            ellipse(BODY, -0.08, 0.16, 0.56, 0.42, -14),
            ellipse(BODY, 0.44, -0.3, 0.32, 0.3),
            poly(ACCENT, (0.7, -0.4), (1.0, -0.26), (0.7, -0.16)),
            poly(SECOND, (-0.5, -0.2), (0.26, 0.0), (0.08, 0.4), (-0.3, 0.36)),
            poly(SECOND, (0.3, -0.56), (0.24, -0.82), (0.48, -0.6)),
            *_eye(0.5, -0.36),
        ),
        body=(30, 120, 240),
        second=(250, 220, 40),
        accent=(250, 140, 20),
        texture="gradient",
        stripe_deg=90,
        motion="bounce",
    ),
    "cat": Look(
        parts=(
            stroke(BODY, 0.15, (0.3, 0.82), (0.74, 0.7), (0.86, 0.3), (0.7, 0.02)),
            poly(BODY, (-0.24, -0.2), (0.24, -0.2), (0.5, 0.9), (-0.5, 0.9)),
            ellipse(BODY, 0.0, 0.62, 0.5, 0.32),
            poly(BODY, (-0.42, -0.5), (-0.4, -0.98), (-0.06, -0.7)),
            poly(BODY, (0.42, -0.5), (0.4, -0.98), (0.06, -0.7)),
            ellipse(BODY, 0.0, -0.44, 0.42, 0.36),
            ellipse(LIGHT, 0.0, -0.3, 0.2, 0.14),
            *each(ACCENT, (-0.17, 0.17), -0.5, 0.085, 0.1),
            *each(DARK, (-0.17, 0.17), -0.5, 0.03, 0.085),
            poly(DARK, (-0.06, -0.38), (0.06, -0.38), (0.0, -0.3)),
            ellipse(LIGHT, 0.0, 0.34, 0.15, 0.3),
        ),
        body=(142, 142, 158),
        second=(66, 66, 82),
        accent=(120, 230, 90),
        texture="stripes",
        scale=3.2,
        stripe_deg=90,
        motion="sway",
    ),
    "dog": Look(
        parts=(
            stroke(BODY, 0.13, (-0.6, 0.0), (-0.88, -0.22), (-0.92, -0.5)),
            *boxes(BODY, (-0.52, -0.34, 0.14, 0.32), 0.6, 0.085, 0.32),
            ellipse(BODY, -0.1, 0.16, 0.6, 0.32),
            ellipse(BODY, 0.5, -0.32, 0.34, 0.3),
            ellipse(LIGHT, 0.8, -0.2, 0.2, 0.14),
            ellipse(DARK, 0.94, -0.26, 0.07, 0.06),
            ellipse(ACCENT, 0.32, -0.22, 0.13, 0.32, 12),
            ellipse(ACCENT, 0.74, -0.08, 0.07, 0.1),
            *_eye(0.56, -0.4),
        ),
        body=(212, 158, 96),
        second=(104, 62, 30),
        accent=(120, 58, 40),
        texture="dots",
        scale=2.6,
        motion="bounce",
    ),
    "elephant": Look(
        parts=(
            *boxes(BODY, (-0.6, -0.3, 0.08, 0.32), 0.66, 0.13, 0.3),
            stroke(SECOND, 0.06, (-0.76, 0.0), (-0.92, 0.34)),
            ellipse(BODY, -0.18, 0.06, 0.66, 0.5),
            ellipse(BODY, 0.48, -0.26, 0.38, 0.38),
            stroke(BODY, 0.2, (0.72, -0.2), (0.9, 0.1), (0.86, 0.46), (0.96, 0.66)),
            poly(LIGHT, (0.62, 0.0), (0.98, 0.12), (0.62, 0.12)),
            ellipse(ACCENT, 0.26, -0.28, 0.28, 0.38, 10),
            *_eye(0.62, -0.36),
        ),
        body=(134, 146, 176),
        second=(96, 106, 140),
        accent=(226, 150, 170),
        texture="waves",
        scale=3.0,
        stripe_deg=90,
        motion="approach",
        turn_deg=8,
    ),
    "horse": Look(
        parts=(
            stroke(DARK, 0.16, (-0.62, -0.04), (-0.9, 0.12), (-0.92, 0.56)),
            *_trotting_legs(),
            ellipse(BODY, -0.1, 0.1, 0.56, 0.27),
            poly(BODY, (0.14, 0.06), (0.42, 0.2), (0.76, -0.56), (0.48, -0.8)),
            poly(BODY, (0.46, -0.86), (0.66, -0.82), (1.0, -0.5), (0.92, -0.36), (0.58, -0.54)),
            stroke(DARK, 0.17, (0.46, -0.9), (0.32, -0.5), (0.1, -0.08)),
            poly(BODY, (0.46, -0.84), (0.5, -1.0), (0.6, -0.82)),
            poly(LIGHT, (0.66, -0.74), (0.9, -0.52), (0.82, -0.5)),
            *each(DARK, (0.64,), -0.68, 0.04, 0.04),
        ),
        body=(128, 62, 24),
        second=(170, 92, 40),
        accent=(60, 30, 14),
        texture="gradient",
        stripe_deg=90,
        motion="bounce",
        turn_deg=8,
    ),
    "lion": Look(
        parts=(
            stroke(BODY, 0.09, (-0.66, 0.2), (-0.92, 0.0), (-0.86, -0.3)),
            ellipse(SECOND, -0.85, -0.36, 0.12, 0.14),
            *boxes(BODY, (-0.58, -0.38, 0.16, 0.38), 0.7, 0.1, 0.26),
            ellipse(BODY, -0.2, 0.26, 0.56, 0.34),
            star(SECOND, 0.36, -0.28, 0.64, 0.5, 11),
            ellipse(BODY, 0.4, -0.26, 0.36, 0.36),
            *each(BODY, (0.16, 0.64), -0.56, 0.11, 0.11),
            ellipse(LIGHT, 0.42, -0.1, 0.2, 0.14),
            poly(DARK, (0.32, -0.2), (0.52, -0.2), (0.42, -0.08)),
            *each(DARK, (0.26, 0.56), -0.36, 0.05, 0.06),
        ),
        body=(240, 192, 84),
        second=(164, 82, 16),
        accent=(190, 120, 40),
        motion="drift",
    ),
    "sheep": Look(
        parts=(
            *boxes(DARK, (-0.4, -0.2, 0.12, 0.3), 0.66, 0.07, 0.28),
            *_wool(),
            ellipse(ACCENT, 0.64, -0.24, 0.2, 0.28, -20),
            ellipse(BODY, 0.56, -0.46, 0.2, 0.13),
            ellipse(ACCENT, 0.42, -0.28, 0.15, 0.07, 25),
            *_eye(0.68, -0.3),
        ),
        body=(250, 248, 242),
        second=(206, 204, 214),
        accent=(72, 58, 66),
        texture="rings",
        scale=4.5,
        motion="drift",
    ),
    "wolf": Look(
        parts=(
            stroke(BODY, 0.24, (-0.46, 0.3), (-0.76, 0.46), (-0.92, 0.8)),
            *(stroke(BODY, 0.13, (x, 0.3), (x, 0.98)) for x in (-0.42, -0.26, 0.2, 0.36)),
            poly(BODY, (-0.6, 0.44), (-0.5, 0.02), (0.16, -0.16), (0.46, 0.36), (0.0, 0.48)),
            poly(BODY, (0.0, 0.0), (0.46, 0.3), (0.64, -0.5), (0.24, -0.56)),
            poly(BODY, (0.22, -0.5), (0.4, -0.7), (0.8, -1.0), (0.9, -0.9), (0.66, -0.4), (0.4, -0.34)),
            poly(SECOND, (0.26, -0.5), (0.06, -0.84), (0.42, -0.68)),
            poly(LIGHT, (0.5, -0.24), (0.62, -0.5), (0.46, 0.28), (0.34, 0.2)),
            box(DARK, 0.84, -0.95, 0.05, 0.05),
            *each(ACCENT, (0.5,), -0.64, 0.05, 0.04),
        ),
        body=(96, 112, 124),
        second=(44, 52, 62),
        accent=(250, 220, 60),
        texture="gradient",
        stripe_deg=60,
        motion="sway",
    ),
}
