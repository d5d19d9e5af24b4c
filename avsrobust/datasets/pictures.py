"""Pictures on disk: headers, and decoding that refuses anything but a whole PNG or JPEG file.

Conventions
    Sizes are (width, height) in pixels; arrays are [H, W] or [H, W, C]. Modes are Pillow's (1, L, P, RGB, I;16, ..).
    Every problem is a `DataSetError` of one line, ``PATH: found ..; expected ..``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from avsrobust.errors import DataSetError

FORMATS = ("PNG", "JPEG")
# What a whole file ends with: PNG's IEND chunk, JPEG's end-of-image marker. Some writers leave bytes after it.
_END_MARKERS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
_TAIL = 1024
_REPLACE = "expected a whole PNG or JPEG picture; copy or extract it again"


@dataclass(frozen=True)
class PictureHeader:
    """What a picture's header says."""

    width: int
    height: int
    mode: str

    @property
    def size(self) -> str:
        """Width and height for display, ``224x224``."""
        return f"{self.width}x{self.height}"


def read_header(path: Path) -> PictureHeader:
    """Return a picture's header, after checking that the file's end is there. Pixels are not decoded.

    Raises `DataSetError` for a file that is missing, empty, no PNG or JPEG, or truncated.
    """
    with _open(path) as (stream, picture):
        stream.seek(-min(_TAIL, stream.seek(0, 2)), 2)
        if _END_MARKERS[str(picture.format)] not in stream.read():
            raise DataSetError(f"{path}: found a {picture.format} file without its end (truncated); {_REPLACE}")
        return PictureHeader(*picture.size, picture.mode)


def decode(path: Path, mode: str | None = None) -> Image.Image:
    """Return a picture with its pixels, converted to `mode` (None: as it is).

    Raises `DataSetError` for a file that is missing, empty, no PNG or JPEG, truncated or damaged.
    """
    with _open(path) as (_, picture):
        picture.load()
        return picture.convert(mode) if mode else picture.copy()


@contextmanager
def _open(path: Path) -> Iterator[tuple[BinaryIO, Image.Image]]:
    """Open a picture; turn whatever Pillow raises, in here or in the block, into a `DataSetError`."""
    try:
        with path.open("rb") as stream:
            if stream.seek(0, 2) == 0:
                raise DataSetError(f"{path}: found an empty file (0 bytes); {_REPLACE}")
            stream.seek(0)
            with Image.open(stream, formats=FORMATS) as picture:
                yield stream, picture
    except FileNotFoundError as error:
        raise DataSetError(f"{path}: found no file; {_REPLACE}") from error
    except UnidentifiedImageError as error:
        raise DataSetError(
            f"{path}: found a file that is no PNG or JPEG, or one cut off in its header; {_REPLACE}"
        ) from error
    except (SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise DataSetError(f"{path}: found a damaged picture ({error}); {_REPLACE}") from error
    except OSError as error:
        # Pillow's own complaints have no errno; the operating system's have.
        found = f"a file that cannot be read ({error.strerror})" if error.errno else f"a damaged picture ({error})"
        raise DataSetError(f"{path}: found {found}; {_REPLACE}") from error
