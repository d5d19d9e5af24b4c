"""Looks of the people."""

from __future__ import annotations

from avsrobust.toy.looks.base import Look
from avsrobust.toy.shapes import ACCENT, BODY, DARK, LIGHT, SECOND, Part, box, each, ellipse, poly, stroke


def _face(y: float, radius: float) -> tuple[Part, ...]:
    return (
        ellipse(LIGHT, 0.0, y, radius, 1.12 * radius),
        *each(DARK, (-0.38 * radius, 0.38 * radius), y - 0.1 * radius, 0.11 * radius, 0.13 * radius),
        ellipse(ACCENT, 0.0, y + 0.5 * radius, 0.34 * radius, 0.17 * radius),
    )


LOOKS = {
    "baby": Look(
        parts=(
            *each(LIGHT, (-0.42, 0.42), 0.9, 0.2, 0.12),
            *(stroke(BODY, 0.24, (side * 0.3, 0.3), (side * 0.72, 0.1)) for side in (-1, 1)),
            *each(LIGHT, (-0.76, 0.76), 0.06, 0.13, 0.13),
            ellipse(BODY, 0.0, 0.5, 0.46, 0.44),
            *each(LIGHT, (-0.5, 0.5), -0.36, 0.12, 0.14),
            *_face(-0.4, 0.5),
            stroke(DARK, 0.07, (-0.1, -0.9), (0.04, -1.0), (0.14, -0.9)),
        ),
        body=(255, 226, 110),
        second=(120, 206, 250),
        accent=(214, 70, 90),
        light=(252, 208, 180),
        texture="checker",
        scale=3.2,
        motion="bounce",
    ),
    "girl": Look(
        parts=(
            *each(SECOND, (-0.48, 0.48), -0.46, 0.17, 0.3),
            *(stroke(LIGHT, 0.13, (side * 0.14, 0.6), (side * 0.16, 0.98)) for side in (-1, 1)),
            *(stroke(LIGHT, 0.13, (side * 0.2, 0.06), (side * 0.6, 0.34)) for side in (-1, 1)),
            poly(BODY, (-0.2, -0.14), (0.2, -0.14), (0.52, 0.66), (-0.52, 0.66)),
            ellipse(SECOND, 0.0, -0.62, 0.36, 0.34),
            *_face(-0.5, 0.3),
            poly(SECOND, (-0.3, -0.72), (0.0, -0.92), (0.3, -0.72), (0.0, -0.64)),
        ),
        body=(92, 214, 92),
        second=(232, 108, 28),
        accent=(200, 60, 70),
        light=(248, 204, 168),
        texture="stripes",
        scale=3.6,
        stripe_deg=90,
        motion="sway",
    ),
    "man": Look(
        parts=(
            *(stroke(DARK, 0.22, (side * 0.16, 0.4), (side * 0.2, 0.98)) for side in (-1, 1)),
            *(stroke(BODY, 0.19, (side * 0.36, -0.12), (side * 0.56, 0.22), (side * 0.52, 0.5)) for side in (-1, 1)),
            *each(LIGHT, (-0.52, 0.52), 0.54, 0.09, 0.09),
            poly(BODY, (-0.42, -0.26), (0.42, -0.26), (0.32, 0.52), (-0.32, 0.52)),
            poly(LIGHT, (-0.12, -0.27), (0.12, -0.27), (0.0, 0.14)),
            poly(ACCENT, (-0.04, -0.24), (0.04, -0.24), (0.06, 0.2), (0.0, 0.28), (-0.06, 0.2)),
            ellipse(DARK, 0.0, -0.68, 0.29, 0.3),
            *_face(-0.58, 0.26),
            box(DARK, 0.0, -0.86, 0.2, 0.07),
        ),
        body=(40, 70, 160),
        second=(28, 44, 110),
        accent=(220, 40, 40),
        light=(232, 184, 150),
        texture="stripes",
        scale=4.5,
        motion="drift",
        turn_deg=8,
    ),
    "woman": Look(
        parts=(
            ellipse(SECOND, 0.0, -0.42, 0.4, 0.5),
            *(stroke(LIGHT, 0.14, (side * 0.22, -0.06), (side * 0.62, -0.3)) for side in (-1, 1)),
            *(stroke(LIGHT, 0.13, (side * 0.12, 0.7), (side * 0.12, 0.99)) for side in (-1, 1)),
            poly(BODY, (-0.24, -0.18), (0.24, -0.18), (0.16, 0.16), (0.58, 0.84), (-0.58, 0.84), (-0.16, 0.16)),
            *_face(-0.56, 0.27),
            poly(SECOND, (-0.3, -0.62), (-0.16, -0.9), (0.2, -0.9), (0.3, -0.62), (0.0, -0.76)),
        ),
        body=(216, 34, 96),
        second=(92, 44, 26),
        accent=(190, 30, 60),
        light=(246, 200, 170),
        texture="dots",
        scale=4.2,
        motion="orbit",
        turn_deg=10,
    ),
}
