"""The plain kinds of PNG through imagecodecs, where it is installed (extra ``pictures``): half of Pillow's time, without the GIL.

Conventions
    Plain is a picture of 8-bit grey or RGB values, not interlaced: AVSBench's frames and masks. PNG is lossless, so that any
    decoder that reads one finds the same pixels. Whatever else there is, damaged files above all, is left to Pillow
    (`avsrobust.datasets.pictures`), whose verdict and messages are those without imagecodecs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsrobust.limits import PICTURE_PIXELS

GREY, RGB = 0, 2
# Signature, length and name of the first chunk; then width, height, bits, colour type, compression, filter and interlacing.
_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_HEADER = struct.Struct(">IIBBBBB")
_CHANNELS: dict[int, tuple[int, ...]] = {GREY: (), RGB: (3,)}


def plain_pixels(content: bytes, colour: int) -> NDArray[np.uint8] | None:
    """Return the pixels of a plain PNG, or None for anything that Pillow is to decode.

    Args:
        content: Bytes of the file.
        colour: PNG's colour type, `GREY` or `RGB`.

    Returns:
        uint8 [H, W] of grey values, [H, W, 3] of RGB.
    """
    decode = _decoder()
    if decode is None or not content.startswith(_START) or len(content) < len(_START) + _HEADER.size:
        return None
    width, height, *kind = _HEADER.unpack_from(content, len(_START))
    if kind != [8, colour, 0, 0, 0] or not 0 < width * height <= PICTURE_PIXELS.value:
        return None
    try:
        pixels = decode(content)
    # Pillow says what is wrong with it.
    except (RuntimeError, ValueError):
        return None
    # A transparent colour may come as one more channel.
    return pixels if pixels.shape == (height, width, *_CHANNELS[colour]) and pixels.dtype == np.uint8 else None


@cache
def _decoder() -> Callable[[bytes], NDArray[Any]] | None:
    if find_spec("imagecodecs") is None:
        return None
    from imagecodecs import png_decode

    return png_decode
