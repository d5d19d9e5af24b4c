"""Whether a JPEG file holds the data of all its blocks. libjpeg makes those that are missing grey, and Pillow does not say so.

Conventions
    A file that ends without a marker is an error of Pillow's. One that was cut and then given an end, as a stopped writer
    or a repair tool leaves it, is not: its scan breaks off, or scans that refine the picture are missing.
    Form of the data: ITU-T T.81, annex B (markers, B.2.3 scan header: bands of coefficients and bits that they lack) and F, G.
    libjpeg, jdhuff.c `decode_mcu`: behind the end of a scan's data every coefficient of a sequential picture is zero, mid-grey.
    The last scan of a progressive picture may be cut unseen: what it lacks is fine detail.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

START = b"\xff\xd8"
# Any marker but the ones inside of entropy-coded data (stuffed zero, restart, fill).
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
EOI, SOS, TEM = 0xD9, 0xDA, 0x01
# Its length and its number of components.
_SCAN = re.compile(rb"\xff\xda\0(..)", re.DOTALL)
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Zero coefficients; a CMYK picture's are stored inverted.
_GREY = frozenset((127, 128))
# Data that no scan expects; restart markers, so that the intervals of a scan that has them go on.
_MORE = b"".join(bytes(range(1, 0xF0, 7)) + bytes((0xFF, marker)) for marker in range(0xD0, 0xD8))


def segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield each marker of a JPEG, start excepted, and the position behind it; the last one is the end, if it is there.

    Raises:
        EOFError: A segment is cut, or there is no end.
    """
    position = len(START)
    while (found := MARKER.search(content, position)) is not None:
        marker, position = content[found.start() + 1], found.end()
        yield marker, position
        if marker == EOI:
            return
        if marker != TEM:
            length = int.from_bytes(content[position : position + 2], "big")
            if length < 2 or position + length > len(content):
                break
            position += length
    raise EOFError


def lacks_blocks(content: bytes, picture: Image.Image) -> bool:
    """Return whether a JPEG's data end before its last block, or before its last bits.

    Args:
        content: Bytes of the file.
        picture: What Pillow has decoded from them.
    """
    if not content.startswith(START):
        return False
    # Few whole pictures end in that very grey; all others are spared what follows.
    last = picture.getpixel((picture.width - 1, picture.height - 1))
    is_grey = set(last if isinstance(last, tuple) else (last,)) <= _GREY
    if not is_grey and "progressive" not in picture.info:
        return False
    try:
        if _lacks_scans(content):
            return True
        return is_grey and _goes_on(content, picture)
    except (EOFError, LookupError, ValueError):
        # Pillow has taken what it is.
        return False


def _lacks_scans(content: bytes) -> bool:
    """Return whether coefficients lack bits that a later scan was to bring, or components their first scan."""
    lacking: dict[tuple[int, bool], int] = {}
    for marker, position in segments(content):
        if marker in FRAME_HEADERS:
            components = content[position + 8 : position + 8 + 3 * content[position + 7] : 3]
            lacking = {(component, True): 1 for component in components}
        if marker == SOS:
            break
    # Not segment by segment any more, which takes longer; data of a scan cannot hold a marker.
    for found in _SCAN.finditer(content, position - 2):
        length, count = found[1][0], found[1][1]
        if length == 6 + 2 * count:
            band = found.end() + 2 * count
            first, _, bits = content[band : band + 3]
            for component in content[found.end() : band : 2]:
                # The last scan of a component's bands settles it: writers refine all bands alike.
                lacking[component, first == 0] = bits & 15
    return any(lacking.values())


def _goes_on(content: bytes, picture: Image.Image) -> bool:
    """Return whether the picture changes where its last scan has more data: a whole one has no blocks for them."""
    end = next(position for marker, position in segments(content) if marker == EOI) - 2
    with Image.open(io.BytesIO(content[:end] + _MORE + content[end:]), formats=("JPEG",)) as longer:
        longer.load()
        return not np.array_equal(np.asarray(longer), np.asarray(picture))
