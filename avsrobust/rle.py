"""COCO's run-length encodings of binary masks: decoded here, for every file that may hold them.

Conventions
    A mask of height x width pixels is a list of runs, column by column, of background, foreground, background and so on; the
    first run may be 0 long. `counts` is that list ("uncompressed") or COCO's string of it ("compressed", str or bytes).
    Runs come from files: each is checked against the number of pixels before any two are added, so that no sum can wrap.
    Masks are bool [H, W]. Everything wrong is a `ValueError` of one line, for the reader of the file to put its name in front.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from avsrobust.inert import inert_line
from avsrobust.limits import PICTURE_PIXELS

Mask = npt.NDArray[np.bool_]

# COCO's string holds 5 bits a character; 7 characters hold any run of a mask below 2^34 pixels.
_MOST_CHARACTERS = 7
# 2^28 runs below 2^34 add up to less than 2^62, however far the limit on pictures is raised.
_MOST_RUNS, _MOST_PIXELS = 1 << 28, 1 << 34
_NOT_COCO = "the string is no COCO run-length encoding"


def encode_masks(masks: Mask) -> list[str]:
    """Return the COCO run-length string of each of N masks.

    Args:
        masks: bool [N, H, W].
    """
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8))
    return [entry["counts"].decode("ascii") for entry in encoded]


def decode_entry(size: object, counts: object) -> Mask:
    """Return the mask of one entry of a file.

    Args:
        size: [height, width] in pixels.
        counts: COCO's string (str or bytes), or a list of runs.

    Returns:
        bool [height, width].

    Raises:
        ValueError: The entry is malformed.

    >>> decode_entry([2, 2], [1, 2, 1]).astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    if not isinstance(size, list | tuple) or [type(length) for length in size] != [int, int]:
        raise ValueError(f"its size is {_short(size)}; expected [height, width]")
    height, width = size
    if isinstance(counts, bytes):
        # pycocotools itself makes bytes; programs store either.
        counts = counts.decode("latin-1")
    if isinstance(counts, str):
        return decode_mask(counts, height, width)
    if isinstance(counts, list | tuple):
        return decode_runs(counts, height, width)
    raise ValueError(f"its counts are {_short(counts)}; expected a compressed run-length string or a list of runs")


def decode_mask(counts: str, height: int, width: int) -> Mask:
    """Return the mask of a COCO run-length string.

    Decoded here and not with pycocotools, which returns uninitialised memory where the runs do not fill the mask.

    Args:
        counts: The string.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        bool [height, width].

    Raises:
        ValueError: The string is no run-length encoding of that size.
    """
    _check_size(height, width)
    return _fill(_run_lengths(counts), height, width)


def decode_runs(counts: list[Any] | tuple[Any, ...], height: int, width: int) -> Mask:
    """Return the mask of a list of runs.

    Args:
        counts: Lengths of runs, integers.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        bool [height, width].

    Raises:
        ValueError: The runs do not fill that size.
    """
    _check_size(height, width)
    for run in counts:
        # Compared as Python's integers, which do not wrap; True is an integer too.
        if type(run) is not int or not 0 <= run <= height * width:
            raise ValueError(f"the run {_short(run)} is none of {height} x {width} pixels")
    return _fill(np.array(counts, np.int64), height, width)


def _check_size(height: int, width: int) -> None:
    # Numbers of numpy would wrap where they are multiplied.
    height, width = int(height), int(width)
    most = min(PICTURE_PIXELS.current, _MOST_PIXELS)
    if height <= 0 or width <= 0 or height * width > most:
        raise ValueError(f"size {height} x {width} is not one of a mask (at most {most:,} pixels)")


def _fill(runs: npt.NDArray[np.int64], height: int, width: int) -> Mask:
    pixels = int(height) * int(width)
    in_bounds = bool(((runs >= 0) & (runs <= pixels)).all())
    if not in_bounds or runs.size > _MOST_RUNS or int(runs.sum()) != pixels:
        raise ValueError(f"the runs do not fill {height} x {width} pixels")
    values = np.arange(runs.size) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _run_lengths(counts: str) -> npt.NDArray[np.int64]:
    """Undo COCO's string form: 5 bits a character, bit 5 means "more", the last one's bit 4 is the sign.

    From the fourth run on the string holds differences to the run before last (cocoapi, maskApi.c, `rleFrString`).
    """
    units = np.frombuffer(counts.encode("latin-1", "replace"), np.uint8).astype(np.int64) - 48
    if not 0 < units.size <= _MOST_RUNS or (units < 0).any() or (units > 63).any() or units[-1] & 32:
        raise ValueError(_NOT_COCO)
    ends = np.flatnonzero((units & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts >= _MOST_CHARACTERS).any():
        raise ValueError(_NOT_COCO)
    shifts = 5 * (np.arange(units.size) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((units & 31) << shifts, starts)
    values -= np.where(units[ends] & 16, np.int64(1) << (5 * (ends - starts + 1)), 0)
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return values


def _short(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return "an integer beyond 64 bits"
    if isinstance(value, int | float | type(None)) or (isinstance(value, str | list | tuple) and len(value) <= 4):
        return inert_line(value)[:40]
    return f"a {type(value).__name__}"
