"""The values of stored predictions: reading one file, and telling for a whole folder on which scale its values are.

Conventions
    A file holds the mask of one frame [h, w] (PNG, NPY) or of a clip [T, h, w] (NPY, NPZ with the array `masks`).
    bool and 1-bit pictures are masks; floating point is probabilities in [0, 1]. Integers are probabilities times a scale: 1,
    255 or, 16-bit, 65535, decided once for all files of the folder, since a file of zeros and ones alone may be either.
    A palette of greys stands for its greys, one of colours for its indices. RGB pictures hold greys; alpha is ignored.
    Class ids hold few values, all small, and no 255: such a folder is refused where it is not said to hold classes.
"""

from __future__ import annotations

import logging
import os
import re
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avsrobust.archives import open_archive
from avsrobust.arrays import map_npy, read_npy, read_npz
from avsrobust.errors import AdapterError, ClipError
from avsrobust.files import open_regular
from avsrobust.limits import PICTURE_PIXELS, Limit
from avsrobust.metrics.classes import NUM_CLASSES

Values = npt.NDArray[Any]
Probability = npt.NDArray[np.float32]
ClassIds = npt.NDArray[np.uint8]

MASK_BYTES = Limit(512 << 20, "bytes", "ten frames of 1280 x 720 in float64 have 74 MB")
ARRAY_NAME = "masks"
BINARY, BYTE, WORD = 1, 255, 65535
# label2idx.json counts the 71 classes from 1.
_HIGHEST_ID = NUM_CLASSES
# A frame shows a handful of classes; a probability map has dozens of values.
_MOST_IDS_IN_A_FILE = 16
# The beginning of an array's header, as numpy writes it.
_DESCRIPTION, _HEADER_BYTES = re.compile(rb"'descr': '([<>|=]?[a-z][0-9]{1,2})'"), 256
_SEMANTIC = "for class ids add --option task=semantic"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredValues:
    """What one file holds: `values` as they are stored, and the largest scale that their type allows (1: they are masks)."""

    values: Values
    widest: int


def read_values(path: Path) -> StoredValues:
    """Return what a PNG, NPY or NPZ file holds, greys and arrays as they are. Raises `ClipError`."""
    if path.suffix == ".png":
        return _picture_values(path)
    values = _read_array(path)
    if values.dtype == np.bool_:
        return StoredValues(values, BINARY)
    return StoredValues(values, WORD if values.dtype == np.uint16 else BYTE)


def read_class_ids(path: Path) -> ClassIds:
    """Return the class ids, uint8, that a PNG, NPY or NPZ file holds. Raises `ClipError`."""
    if path.suffix != ".png":
        return _class_ids(path, _read_array(path), _array_label(path))
    mode, values, _ = _read_picture(path)
    if mode in ("RGB", "RGBA"):
        return _ids_of_colours(path, values[..., :3])
    if mode not in ("L", "P"):
        raise ClipError(
            f"{path}: found a picture of mode {mode}; expected class ids, 8-bit grayscale (L), a palette (P) or AVSBench's colours"
        )
    return _class_ids(path, values, "pixels")


def to_probability(path: Path, stored: StoredValues, scale: int) -> Probability:
    """Return probabilities, float32, of a file's values, integers being probabilities times `scale`. Raises `ClipError`."""
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
    # Of 16 bits only what needs them is on their scale: 0/1 and 0/255 may be stored so too.
    divisor = BYTE if scale == WORD and stored.widest != WORD else scale
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high > divisor:
        raise ClipError(
            f"{path}: found integers from {low} to {high}; expected 0 to {divisor}, as in the rest of the folder; "
            "store probabilities times 255, or as floating point"
        )
    return values.astype(np.float32) / np.float32(divisor)


def _picture_values(path: Path) -> StoredValues:
    mode, values, palette = _read_picture(path)
    if mode == "1":
        return StoredValues(values.astype(np.bool_), BINARY)
    if mode == "P":
        return _palette_values(path, values, palette)
    if mode in ("RGB", "RGBA", "LA"):
        return StoredValues(_grey_of_channels(path, mode, values), BYTE)
    if mode in ("I", "I;16", "I;16B", "I;16L"):
        return StoredValues(values, WORD)
    if mode != "L":
        raise ClipError(
            f"{path}: found a picture of mode {mode}; expected grayscale, a palette, 1 bit or RGB; convert it"
        )
    return StoredValues(values, BYTE)


def _palette_values(path: Path, indices: Values, palette: npt.NDArray[np.uint8]) -> StoredValues:
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    colours = palette[used]
    if (colours == colours[:, :1]).all():
        return StoredValues(palette[:, 0][indices], BYTE)
    if used.max() > 1:
        # Indices of a coloured palette number objects or classes.
        return StoredValues(indices, BYTE)
    if (colours.any(axis=1)).all():
        raise ClipError(f"{path}: found a palette of two colours, neither of them black; expected a black background")
    return StoredValues(np.asarray(palette[indices].any(axis=-1)), BINARY)


def _grey_of_channels(path: Path, mode: str, values: Values) -> Values:
    """Return the one grey channel of RGB, RGBA or LA; refuse colours, and masks that only alpha holds."""
    channels, alpha = (values, None) if mode == "RGB" else (values[..., :-1], values[..., -1])
    if (channels != channels[..., :1]).any():
        raise ClipError(
            f"{path}: found a picture of mode {mode} with colours; expected grey values; {_SEMANTIC} in AVSBench's colours"
        )
    grey = channels[..., 0]
    if alpha is not None and alpha.min() != alpha.max() and grey.min() == grey.max():
        raise ClipError(
            f"{path}: found its mask in the alpha channel alone; expected it in the grey values; convert it"
        )
    return np.ascontiguousarray(grey)


def _read_picture(path: Path) -> tuple[str, Values, npt.NDArray[np.uint8]]:
    """Return mode, pixels and palette, uint8 [256, 3] (of greys where it has none), of a PNG file."""
    from PIL import Image

    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    try:
        with open_regular(path) as stream, Image.open(stream, formats=("PNG",)) as picture:
            PICTURE_PIXELS.check(picture.width * picture.height, path, ClipError)
            mode, values = picture.mode, np.asarray(picture)
            if mode == "P":
                colours = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
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
    return mode, values, palette


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


@dataclass(frozen=True)
class _Summary:
    """The integers of one file: smallest, largest, how many different ones, and which of 0..255 there are."""

    smallest: int
    largest: int
    count: int
    present: npt.NDArray[np.bool_]
    widest: int

    @classmethod
    def of(cls, stored: StoredValues) -> _Summary | None:
        """Summarise a file's values; None where they are no integers on a scale."""
        values = stored.values
        if stored.widest == BINARY or values.dtype.kind not in "iu" or values.size == 0:
            return None
        byte = values.dtype == np.uint8
        found = np.flatnonzero(np.bincount(values.ravel(), minlength=256)) if byte else np.unique(values)
        present = np.zeros(256, np.bool_)
        present[found[(found >= 0) & (found < 256)].astype(np.int64)] = True
        return cls(int(found[0]), int(found[-1]), len(found), present, stored.widest)

    @property
    def full(self) -> int | None:
        """1, 255 or 65535 where the file holds nothing but 0 and that, 0 for nothing but 0, and None for other values."""
        if self.largest == 0 == self.smallest:
            return 0
        two_valued = self.count == 1 or (self.count == 2 and self.smallest == 0)
        return self.largest if two_valued and self.largest in (BINARY, BYTE, WORD) else None


@dataclass
class ValueSurvey:
    """What the integer files of a folder hold, all together; its methods draw the conclusions.

    `binary` maps (full value, widest scale of the type) to the first file that holds nothing but 0 and that value; `greys` is
    the first file with other values.
    """

    binary: dict[tuple[int, int], Path] = field(default_factory=dict)
    greys: Path | None = None
    largest: int = 0
    largest_in: Path | None = None
    narrow_largest: int = 0
    most_values: int = 0
    has_zero: bool = False
    files: int = 0
    present: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(256, np.bool_))

    def add(self, path: Path, summary: _Summary) -> None:
        """Take note of one file."""
        self.files += 1
        self.has_zero |= bool(summary.present[0])
        self.most_values = max(self.most_values, summary.count)
        self.present |= summary.present
        if summary.largest > self.largest:
            self.largest, self.largest_in = summary.largest, path
        if summary.widest != WORD:
            self.narrow_largest = max(self.narrow_largest, summary.largest)
        if summary.full is None:
            self.greys = self.greys or path
        elif summary.full:
            self.binary.setdefault((summary.full, summary.widest), path)

    def looks_like_ids(self, *, has_classes: bool) -> bool:
        """Tell whether the files hold class ids: few values each, at most 71; 255 may be "ignore" where there are classes."""
        present = np.flatnonzero(self.present)
        if has_classes:
            present = present[present != BYTE]
        if self.largest > (BYTE if has_classes else _HIGHEST_ID) or self.most_values > _MOST_IDS_IN_A_FILE:
            return False
        return bool(len(present) and 2 <= present[-1] <= _HIGHEST_ID)

    def require_no_ids(self, root: Path, *, has_classes: bool) -> None:
        """Raise `AdapterError` where the files look like class ids."""
        if self.looks_like_ids(has_classes=has_classes):
            shown = np.flatnonzero(self.present)
            listed = ", ".join(map(str, shown[:6])) + (", .." if len(shown) > 6 else "")
            raise AdapterError(
                f"--option masks={root}: holds only the values {listed} (see {self.greys}), which look like class ids and not "
                f"like probabilities times 255; {_SEMANTIC}; store binary masks as 0 and 255"
            )

    def require_background(self, root: Path) -> None:
        """Raise `AdapterError` where class ids never are 0, the background."""
        if self.files and not self.has_zero and self.largest <= _HIGHEST_ID:
            raise AdapterError(
                f"--option masks={root}: no pixel of {self.files} files has class 0 (background); expected class ids 0..70; "
                "label2idx.json counts from 1: subtract 1 from all"
            )

    def scale(self, root: Path) -> int:
        """Return the value that stands for a probability of 1. Raises `AdapterError` where the files contradict each other."""
        self._require_one_scale(root)
        if self.narrow_largest > BYTE or self.largest > WORD:
            raise AdapterError(
                f"--option masks={root}: found integers up to {self.largest} (in {self.largest_in}); expected masks of 0/1 or "
                "0/255, or probabilities times 255, or as floating point"
            )
        if self.largest > BYTE:
            return WORD
        if self.largest == 1:
            _LOG.warning(
                "%s: holds only the values 0 and 1, as do all files below %s: read as binary masks",
                self.largest_in,
                root,
            )
            return BINARY
        return BYTE

    def _require_one_scale(self, root: Path) -> None:
        """Refuse binary masks of several scales; where greys are among them, a file of 0 and 1 may be a faint probability."""
        scales = {full for full, _ in self.binary}
        wide = {full for full, widest in self.binary if widest == WORD}
        if self.greys is None and (len(wide) > 1 or (BINARY in scales and len(scales) > 1)):
            found = ", ".join(f"0 and {full} in {path}" for (full, _), path in sorted(self.binary.items()))
            raise AdapterError(
                f"--option masks={root}: found binary masks of several scales ({found}); expected one scale in the whole "
                "folder; store all masks as 0 and 255"
            )


def survey_values(paths: Sequence[Path], *, semantic: bool = False) -> ValueSurvey:
    """Read all files, in threads, and return what they hold. Files that cannot be read are left to whoever needs them."""

    def look(path: Path) -> _Summary | None:
        try:
            if path.suffix != ".png" and _stored_kind(path) in "fb":
                return None
            return _Summary.of(StoredValues(read_class_ids(path), BYTE) if semantic else read_values(path))
        except ClipError:
            return None

    survey = ValueSurvey()
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for path, summary in zip(paths, pool.map(look, paths), strict=True):
            if summary is not None:
                survey.add(path, summary)
    return survey


def _stored_kind(path: Path) -> str:
    """Return the kind of an array's numbers, by numpy's letter, without reading them; "?" where that fails."""
    try:
        if path.suffix == ".npy":
            return map_npy(path, ClipError).dtype.kind
        with open_regular(path) as stream, open_archive(stream, path, MASK_BYTES, ClipError) as archive:
            with archive.open(f"{ARRAY_NAME}.npy") as member:
                header = _DESCRIPTION.search(member.read(_HEADER_BYTES))
        return np.dtype(header[1].decode()).kind if header else "?"
    # What the readers of damaged archives raise has no bounds; reading the file in earnest says what is wrong.
    except Exception:
        return "?"
