"""The values of stored predictions: reading one file.

Conventions
    A file holds the mask of one frame [h, w] (PNG, NPY) or of a clip [T, h, w] (NPY, NPZ with the array `masks`).
    bool and 1-bit pictures are masks; floating point is probabilities in [0, 1]. Integers are probabilities times a scale: 1,
    255 or, 16-bit, 65535 (`adapters.prediction_survey` decides for the whole folder).
    A palette of greys stands for its greys, one of colours for its indices. RGB pictures hold greys; alpha is ignored.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from avsrobust.archives import open_archive
from avsrobust.arrays import map_npy, read_npy, read_npz
from avsrobust.errors import ClipError
from avsrobust.files import open_regular
from avsrobust.limits import PICTURE_BYTES, PICTURE_PIXELS, Limit
from avsrobust.vocabulary import NUM_CLASSES

if TYPE_CHECKING:
    from PIL import Image

Values = npt.NDArray[Any]
Probability = npt.NDArray[np.float32]
ClassIds = npt.NDArray[np.uint8]

MASK_BYTES = Limit(512 << 20, "bytes", "ten frames of 1280 x 720 in float64 have 74 MB")
ARRAY_NAME = "masks"
BINARY, BYTE, WORD = 1, 255, 65535
# The beginning of an array's header, as numpy writes it.
_DESCRIPTION, _HEADER_BYTES = re.compile(rb"'descr': '([<>|=]?[a-z][0-9]{1,2})'"), 256
# Signature, length and type of the first chunk; width, height.
_PNG_HEADER = struct.Struct(">16sII")
SEMANTIC_HINT = "for class ids add --option task=semantic"


@dataclass(frozen=True)
class StoredValues:
    """The content of one file.

    Attributes:
        values: Values as they are stored.
        widest: Largest scale that their type allows: 1 (they are masks), 255 or 65535.
    """

    values: Values
    widest: int


def read_values(path: Path) -> StoredValues:
    """Return the values of a PNG, NPY or NPZ file, greys and arrays as they are.

    Raises:
        ClipError: The file is missing, damaged, or of a kind that holds no mask.
    """
    if path.suffix == ".png":
        return _picture_values(path)
    values = _read_array(path)
    if values.dtype == np.bool_:
        return StoredValues(values, BINARY)
    return StoredValues(values, WORD if values.dtype == np.uint16 else BYTE)


def distinct_values(path: Path, *, ids: bool = False) -> StoredValues:
    """Return the different values of a file, [n], sorted; of 8-bit pictures without a copy of their pixels.

    Args:
        path: The file.
        ids: Read it as class ids.

    Raises:
        ClipError: As for `read_values`.
    """
    picture = _read_picture(path, pixels=False) if path.suffix == ".png" else None
    if picture is None or picture.used is None:
        stored = StoredValues(read_class_ids(path), BYTE) if ids else read_values(path)
    elif ids:
        stored = StoredValues(_class_ids(path, picture.used, "pixels"), BYTE)
    else:
        stored = _of_palette(path, picture, picture.used) if picture.mode == "P" else StoredValues(picture.used, BYTE)
    values = stored.values
    # Counting is many times faster than sorting.
    found = np.flatnonzero(np.bincount(values.ravel())) if values.dtype == np.uint8 else np.unique(values)
    return StoredValues(found, stored.widest)


def read_class_ids(path: Path) -> ClassIds:
    """Return the class ids, uint8, in a PNG, NPY or NPZ file.

    Raises:
        ClipError: The file is missing or damaged, or holds other values.
    """
    if path.suffix != ".png":
        return _class_ids(path, _read_array(path), _array_label(path))
    picture = _read_picture(path)
    if picture.mode in ("RGB", "RGBA"):
        return _ids_of_colours(path, picture.values[..., :3])
    if picture.mode not in ("L", "P"):
        raise ClipError(
            f"{path}: found a picture of mode {picture.mode}; expected class ids: 8-bit grey, a palette or AVSBench's colours"
        )
    return _class_ids(path, picture.values, "pixels")


def to_probability(path: Path, stored: StoredValues, scale: int) -> Probability:
    """Return a file's values as probabilities, float32.

    Args:
        path: The file, for messages.
        stored: Its values.
        scale: The integer that stands for 1: 1, 255 or 65535.

    Raises:
        ClipError: A value lies outside the scale.
    """
    values = stored.values
    if stored.widest == BINARY:
        return values.astype(np.float32)
    if values.dtype.kind == "f":
        # NaN fails both comparisons.
        if not (values.min() >= 0 and values.max() <= 1):
            raise ClipError(
                f"{path}: found {_array_label(path)} from {values.min():.4g} to {values.max():.4g}; expected probabilities "
                "in [0, 1]; apply the sigmoid to logits, divide pixels by 255"
            )
        return values.astype(np.float32)
    # A 16-bit file is on the 16-bit scale only where its values need it: 0/1 and 0/255 may be stored in 16 bits too.
    divisor = BYTE if scale == WORD and stored.widest != WORD else scale
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high > divisor:
        raise ClipError(
            f"{path}: found integers from {low} to {high}; expected 0 to {divisor}, as in the rest of the folder; "
            "store probabilities times 255, or as floating point"
        )
    return values.astype(np.float32) / np.float32(divisor)


def _picture_values(path: Path) -> StoredValues:
    picture = _read_picture(path)
    mode, values = picture.mode, picture.values
    if mode == "1":
        return StoredValues(values.astype(np.bool_), BINARY)
    if mode == "P":
        return _of_palette(path, picture, values)
    if mode in ("RGB", "RGBA", "LA"):
        return StoredValues(_grey_of_channels(path, mode, values), BYTE)
    if mode in ("I", "I;16", "I;16B", "I;16L"):
        return StoredValues(values, WORD)
    if mode != "L":
        raise ClipError(
            f"{path}: found a picture of mode {mode}; expected grayscale, a palette, 1 bit or RGB; convert it"
        )
    return StoredValues(values, BYTE)


def _of_palette(path: Path, picture: _Picture, indices: Values) -> StoredValues:
    """Return the values that `indices` of a picture's palette stand for."""
    palette, used = picture.palette, picture.used
    colours = palette if used is None else palette[used]
    if (colours == colours[:, :1]).all():
        return StoredValues(np.take(palette[:, 0], indices), BYTE)
    if used is None or used.max() > 1:
        # Indices of a coloured palette number objects or classes.
        return StoredValues(indices, BYTE)
    foreground: npt.NDArray[np.bool_] = np.any(palette[:2], axis=1)
    if foreground.all():
        raise ClipError(f"{path}: found a palette of two colours, neither of them black; expected a black background")
    return StoredValues(np.take(foreground, indices), BINARY)


def _grey_of_channels(path: Path, mode: str, values: Values) -> Values:
    """Return the one grey channel of RGB, RGBA or LA; refuse colours, and masks that only alpha holds."""
    channels, alpha = (values, None) if mode == "RGB" else (values[..., :-1], values[..., -1])
    if (channels != channels[..., :1]).any():
        raise ClipError(
            f"{path}: found a picture of mode {mode} with colours; expected grey values; {SEMANTIC_HINT} in AVSBench's colours"
        )
    grey = channels[..., 0]
    if alpha is not None and alpha.min() != alpha.max() and grey.min() == grey.max():
        raise ClipError(
            f"{path}: found its mask in the alpha channel alone; expected it in the grey values; convert it"
        )
    return np.ascontiguousarray(grey)


@dataclass(frozen=True)
class _Picture:
    """A PNG file: mode, pixels, palette, uint8 [256, 3], and, where it has 8 bits and one channel, the values that occur."""

    mode: str
    values: Values
    palette: npt.NDArray[np.uint8]
    used: npt.NDArray[np.uint8] | None


def _read_picture(path: Path, *, pixels: bool = True) -> _Picture:
    """Read a PNG file; without `pixels` only the values that occur in it. Raises `ClipError`."""
    from PIL import Image

    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    try:
        with open_regular(path) as stream:
            # Before Pillow, which warns of large pictures by itself.
            PICTURE_PIXELS.check(_declared_pixels(stream.read(_PNG_HEADER.size)), path, ClipError)
            stream.seek(0)
            with Image.open(stream, formats=("PNG",)) as picture:
                mode, used = picture.mode, None
                if mode in ("L", "P"):
                    used = np.flatnonzero(picture.histogram()).astype(np.uint8)
                values = np.asarray(picture) if pixels else np.zeros(0, np.uint8)
                if pixels:
                    _require_all_rows(path, stream, picture)
                colours = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
            if mode == "P":
                palette[: len(colours)] = colours
                palette[len(colours) :] = 0
    except FileNotFoundError as error:
        raise ClipError(f"{path}: not found; expected the prediction of this frame there") from error
    except ClipError:
        raise
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise ClipError(f"{path}: cannot be read as PNG ({_reason(error)}); write it again") from error
    return _Picture(mode, values, palette, used)


def _require_all_rows(path: Path, stream: BinaryIO, picture: Image.Image) -> None:
    """Raise `ClipError` where the file's data end early: Pillow makes the remaining rows black."""
    from avsrobust.datasets.png_data import lacks_pixels, may_lack_pixels

    if not may_lack_pixels(picture):
        return
    size = stream.seek(0, 2)
    PICTURE_BYTES.check(size, path, ClipError)
    stream.seek(0)
    if lacks_pixels(stream.read(size), picture):
        raise ClipError(f"{path}: found a damaged picture (fewer rows of pixels than it declares); write it again")


def _declared_pixels(start: bytes) -> int:
    """Return the number of pixels that the beginning of a PNG file declares, 0 where it is none."""
    if len(start) < _PNG_HEADER.size:
        return 0
    _, width, height = _PNG_HEADER.unpack(start)
    return int(width * height)


def _read_array(path: Path) -> Values:
    try:
        if path.suffix == ".npy":
            values = read_npy(path, ClipError, MASK_BYTES)
        else:
            arrays = read_npz(path, ClipError, None, MASK_BYTES)
            if ARRAY_NAME not in arrays:
                names = ", ".join(f"'{name}'" for name in list(arrays)[:4]) or "none"
                raise ClipError(f"{path}: found the arrays {names}; expected an NPZ file with the array '{ARRAY_NAME}'")
            values = arrays[ARRAY_NAME]
    except OSError as error:
        raise ClipError(f"{path}: cannot be read ({_reason(error)}); write it again") from error
    # As the float32 that they become.
    MASK_BYTES.check(values.size * 4, f"{path}: as probabilities", ClipError)
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    return values


def _class_ids(path: Path, stored: Values, label: str) -> ClassIds:
    if stored.dtype.kind not in "iu":
        raise ClipError(f"{path}: found {label} of dtype {stored.dtype}; expected class ids, integers")
    if stored.size and not (stored.min() >= 0 and stored.max() < NUM_CLASSES):
        raise ClipError(
            f"{path}: found {label} from {stored.min()} to {stored.max()}; expected class ids 0..{NUM_CLASSES - 1}; "
            "for binary masks leave out --option task=semantic"
        )
    return stored.astype(np.uint8)


def _ids_of_colours(path: Path, pixels: Values) -> ClassIds:
    """Return the ids of AVSBench's colours, red first, as its test script saves them."""
    from avsrobust.datasets.masks import palette

    packed = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    known = palette().astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    order = np.argsort(known)
    places = order[np.searchsorted(known[order], packed).clip(max=len(known) - 1)]
    strange = known[places] != packed
    if strange.any():
        colour = pixels[strange][0].tolist()
        raise ClipError(
            f"{path}: found the colour {colour}, which is no class's; expected AVSBench's palette, or class ids as grey values; "
            "do not resize masks after colouring them"
        )
    ids: ClassIds = places.astype(np.uint8)
    return ids


def _array_label(path: Path) -> str:
    return f"'{ARRAY_NAME}'" if path.suffix == ".npz" else "values"


def _reason(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]


def stored_kind(path: Path) -> str:
    """Return the kind of an array's numbers, by numpy's letter, without reading them; "?" where that fails."""
    try:
        if path.suffix == ".npy":
            return map_npy(path, ClipError).dtype.kind
        with (
            open_regular(path) as stream,
            open_archive(stream, path, MASK_BYTES, ClipError) as archive,
            archive.open(f"{ARRAY_NAME}.npy") as member,
        ):
            header = _DESCRIPTION.search(member.read(_HEADER_BYTES))
        return np.dtype(header[1].decode()).kind if header else "?"
    # Readers of damaged archives raise anything; reading the whole file later names the damage.
    except Exception:
        return "?"
