"""The value that describes an object's look.

Conventions
    Colours are RGB, 0..255. `texture` mixes `body` and `second` over the parts filled with `BODY`, in the object's own frame,
    so it moves and turns with the object; its scale is the number of periods across the frame's unit length.
"""

from __future__ import annotations

from dataclasses import dataclass

from avsrobust.toy.shapes import Part

Colour = tuple[int, int, int]

TEXTURES = ("plain", "gradient", "stripes", "checker", "dots", "rings", "waves")
MOTIONS = ("drift", "bounce", "sway", "orbit", "shake", "approach")


@dataclass(frozen=True)
class Look:
    """Shape, colours, texture and way of moving of one object.

    `turn_deg` is how far an instance may be turned from upright; `stripe_deg` is the direction in which the texture varies.
    """

    parts: tuple[Part, ...]
    body: Colour
    second: Colour
    accent: Colour
    motion: str
    texture: str = "plain"
    scale: float = 3.0
    stripe_deg: float = 0.0
    turn_deg: float = 14.0
    dark: Colour = (38, 34, 40)
    light: Colour = (244, 240, 228)
