"""Whether a PNG file holds the values of all its pixels. Pillow makes those that are missing black, and says nothing.

Conventions
    Only files whose chunks end are looked at: a compressed stream that breaks off is an error of Pillow's, one that ends too
    early, as a writer that was stopped may leave it, is not.
    Form of the data: PNG (Third Edition), sections 7.2 (rows of whole bytes behind a filter byte) and 8.1 (Adam7's seven passes).
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Width, height, bits, colour type, compression, filter, interlacing; behind the signature, and the header's length and name.
_HEADER = struct.Struct(">IIBBBBB")
_HEADER_START = len(_SIGNATURE) + 8
# Values of a pixel by colour type: grey, RGB, palette, grey with alpha, RGB with alpha.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Adam7: first column and row of a pass, and its steps.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def may_lack_pixels(picture: Image.Image) -> bool:
    """Return whether what Pillow has decoded leaves it open if pixels are missing; most frames and masks it spares the rest.

    A last row that is not black has been there, unless the picture is interlaced.
    """
    last = (0, picture.height - 1, picture.width, picture.height)
    return "interlace" in picture.info or not np.asarray(picture.crop(last)).any()


def lacks_pixels(content: bytes, picture: Image.Image) -> bool:
    """Return whether a PNG has fewer values than pixels.

    Args:
        content: Bytes of the file.
        picture: What Pillow has decoded from them.
    """
    if len(content) < _HEADER_START + _HEADER.size or not content.startswith(_SIGNATURE):
        return False
    width, height, bits, colour, _, _, interlaced = _HEADER.unpack_from(content, _HEADER_START)
    if not may_lack_pixels(picture):
        return False
    values = bits * _CHANNELS.get(colour, 1)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    expected = sum(_pass_bytes(width, height, values, *steps) for steps in passes)
    return _decompressed(content, expected) < expected


def _pass_bytes(width: int, height: int, bits: int, left: int, top: int, across: int, down: int) -> int:
    columns, rows = -(-max(width - left, 0) // across), -(-max(height - top, 0) // down)
    return rows * (1 + (columns * bits + 7) // 8) if columns else 0


def _decompressed(content: bytes, most: int) -> int:
    """Return how many bytes the file's data hold, `most` where they are more."""
    data, position = [], len(_SIGNATURE)
    while position + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        if name == b"IDAT":
            data.append(content[position + 8 : position + 8 + length])
        elif data:
            break
        position += 12 + length
    return len(zlib.decompressobj().decompress(b"".join(data), most))
