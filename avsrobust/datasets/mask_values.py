"""Values of binary masks, and the rule that follows from them: which pixels are foreground.

Conventions
    A mask's *levels* are its pixels as uint8 [H, W]: grey values; of colours the largest channel; of 16 bits the upper eight
    (but at least 1 where a pixel is not black). Alpha is ignored. Sets of levels are whole numbers: bit v says that v occurs.
    A mask is *soft* where it holds grey values: more than black and one other level. A few colours are objects, not grey values.
    Masks with black and one other level (0/1, 0/255, 0/17) and masks of colours: any pixel that is not black is foreground.
    Soft masks: AVSBench's own loader reads masks with PIL's ``convert('1')`` (avs_s4/dataloader.py), which splits at half, so a
    pixel above half is foreground. Where no soft mask of a folder holds a level above half, they are no grey values but numbers
    of classes or objects, and again any pixel that is not black is foreground.
    The rule is one for all masks of a clip and stands in the manifest's column `foreground`.
    A picture of one colour whose alpha channel, or whose palette's indices, hold the shape is no mask that can be read
    (`hidden_shape`): it is a finding, not an empty or a full mask.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avsrobust.vocabulary import ABOVE_HALF, NON_ZERO

HALF = 127
HIGHEST = 255
# Colours of objects. A coloured picture with more was resized, or saved as JPEG.
_MOST_COLOURS = 64
_HIGHEST_CLASS = 70
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B")


@dataclass(frozen=True)
class MaskValues:
    """Values of one mask.

    Attributes:
        levels: The set of its levels, a whole number (see the module's conventions).
        is_soft: It holds grey values.
        mode: Pillow's mode.
        corner: The lowest level of its four corners: where it is foreground, so are all four.
    """

    levels: int
    is_soft: bool
    mode: str
    corner: int = field(default=0, compare=False)

    @property
    def has_alpha(self) -> bool:
        """Whether the picture has an alpha channel, which is ignored."""
        return self.mode in ("LA", "PA", "RGBA")


def level_list(levels: int) -> list[int]:
    """Return the members of a set of levels in order.

    >>> level_list(0b101)
    [0, 2]
    """
    return [value for value in range(HIGHEST + 1) if levels >> value & 1]


def level_set(levels: NDArray[np.uint8]) -> int:
    """Return the set of the levels of a mask, uint8 [H, W]."""
    counts = Image.fromarray(np.ascontiguousarray(levels)).histogram()
    return sum(1 << value for value, count in enumerate(counts) if count)


def measure(picture: Image.Image) -> MaskValues:
    """Return the values of a decoded mask."""
    levels, is_coloured = _levels(picture)
    found = level_set(levels)
    few_colours = is_coloured and picture.convert("RGB").getcolors(_MOST_COLOURS) is not None
    corner = int(levels[[0, 0, -1, -1], [0, -1, 0, -1]].min())
    return MaskValues(found, not few_colours and _is_grey(found), picture.mode, corner)


def hidden_shape(picture: Image.Image) -> str | None:
    """Return where a mask of one colour holds a shape that its colours do not show, for messages; None where there is none.

    >>> hidden_shape(Image.new("L", (2, 2)))
    """
    has_palette = picture.mode in ("P", "PA")
    if not (has_palette or picture.mode in ("LA", "RGBA")) or _differs(np.asarray(picture.convert("RGB"))):
        return None
    channels = np.atleast_3d(np.asarray(picture))
    if has_palette and _differs(channels[..., 0]):
        return "a palette that gives all its indices one colour"
    has_alpha = channels.shape[2] in (2, 4)
    return (
        "one colour throughout, and a shape in the alpha channel" if has_alpha and _differs(channels[..., -1]) else None
    )


def marks_all(values: MaskValues, rule: str) -> bool:
    """Return whether a mask, read by a rule, has no background."""
    return values.levels & ((1 << _lowest(rule)) - 1) == 0


def marks_corners(values: MaskValues, rule: str) -> bool:
    """Return whether all four corners of a mask, read by a rule, are foreground."""
    return values.corner >= _lowest(rule)


def _lowest(rule: str) -> int:
    """Return the lowest level that is foreground."""
    return HALF + 1 if rule == ABOVE_HALF else 1


def _differs(values: NDArray[np.uint8]) -> bool:
    return bool((values != values[:1, :1]).any())


def foreground(picture: Image.Image, rule: str = NON_ZERO) -> NDArray[np.bool_]:
    """Return the foreground of a decoded mask, bool [H, W].

    Args:
        picture: The mask, of any mode.
        rule: One of `avsrobust.vocabulary.FOREGROUND_RULES`.
    """
    return foreground_of_levels(_levels(picture)[0], rule)


def foreground_of_levels(levels: NDArray[np.uint8], rule: str = NON_ZERO) -> NDArray[np.bool_]:
    """Return the foreground of a mask's levels, as `foreground` does of a picture."""
    above: NDArray[np.bool_] = levels >= _lowest(rule)
    return above


def is_graded(masks: Iterable[MaskValues]) -> bool:
    """Return whether the soft ones of a folder's masks hold grey values up to more than half, rather than numbers of objects."""
    return any(mask.is_soft and mask.levels >> (HALF + 1) for mask in masks)


def may_ignore(masks: Iterable[MaskValues]) -> bool:
    """Return whether 255 may mean "ignore" in a folder's masks: some hold numbers of classes next to it, none a grey value."""
    union = 0
    for mask in masks:
        union |= mask.levels if mask.is_soft else 0
    values = level_list(union)
    return bool(values) and values[-1] == HIGHEST and all(value <= _HIGHEST_CLASS for value in values[:-1])


def foreground_rule(masks: Iterable[MaskValues], folder_is_graded: bool) -> str:
    """Return the rule by which a clip's masks are read.

    Args:
        masks: Values of the clip's masks.
        folder_is_graded: `is_graded` of all masks of their folder.
    """
    return ABOVE_HALF if folder_is_graded and any(mask.is_soft for mask in masks) else NON_ZERO


def _is_grey(levels: int) -> bool:
    """Return whether a set holds more than black and one other level; one level alone is black, 1 or white."""
    values = level_list(levels)
    if len(values) == 1:
        return values[0] not in (0, 1, HIGHEST)
    return len(values) > 2 or values[0] != 0


def _levels(picture: Image.Image) -> tuple[NDArray[np.uint8], bool]:
    """Return a mask's levels, uint8 [H, W], and whether it has colours."""
    if picture.mode not in _GREY_MODES:
        # An index means nothing by itself; its colour does.
        channels = np.asarray(picture.convert("RGB"))
        red, green, blue = (channels[..., index] for index in range(3))
        largest: NDArray[np.uint8] = np.maximum(np.maximum(red, green), blue)
        return largest, bool((red != green).any() or (red != blue).any())
    pixels = np.asarray(picture)
    if picture.mode == "LA":
        pixels = pixels[..., 0]
    if pixels.dtype in (np.uint8, np.bool_):
        return pixels.astype(np.uint8, copy=False), False
    if pixels.max(initial=0) <= HIGHEST:
        return np.maximum(pixels, 0).astype(np.uint8), False
    upper = np.clip(pixels, 0, 0xFFFF)
    return np.maximum(upper >> 8, upper > 0).astype(np.uint8), False
