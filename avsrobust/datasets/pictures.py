"""Pictures on disk: headers, structure, and decoding that refuses anything but a whole PNG or JPEG file.

Conventions
    Sizes are (width, height) in pixels; arrays are [H, W] or [H, W, C]. Modes are Pillow's (1, L, P, RGB, I;16, ..).
    Only regular files are opened, and no picture is decoded that declares more than `limits.PICTURE_PIXELS`.
    A file's structure is its chunks and their checksums (PNG), or its segments from start to end marker (JPEG): that much is
    checked without decoding. Bytes behind the end are allowed, some writers leave padding there.
    Every problem is a `DataSetError` of one line, ``PATH: found ..; expected ..``.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from avsrobust.beginnings import LENGTH, recognise
from avsrobust.datasets.jpeg_data import EOI, FRAME_HEADERS, MARKER, SOS, START, TEM, lacks_blocks, segments
from avsrobust.datasets.png_data import lacks_pixels
from avsrobust.errors import DataSetError
from avsrobust.files import open_regular, read_regular
from avsrobust.limits import PICTURE_BYTES, PICTURE_PIXELS

FORMATS = ("PNG", "JPEG")
_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B")
_OWN = ("a PNG picture", "a JPEG picture")
# Called with a file's path and its bytes, before they are decoded; raises where they are not the right ones.
ContentCheck = Callable[[Path, bytes], None]
# The end of a whole file: PNG's IEND chunk, JPEG's end-of-image marker.
_END_MARKERS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
_TAIL = 1024
_HEAD = 1 << 16
# Enough for the size of most.
_START = 1 << 12
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks of 4 KB make a file of the largest size; keeps a hostile one from being walked 12 bytes at a time.
_MOST_CHUNKS = 1 << 17
_REPLACE = "expected a whole PNG or JPEG picture; copy or extract it again"


@dataclass(frozen=True)
class PictureHeader:
    """Facts from a picture's header.

    Attributes:
        width: In pixels.
        height: In pixels.
        mode: Pillow's mode.
    """

    width: int
    height: int
    mode: str

    @property
    def size(self) -> str:
        """Width and height for display, ``224x224``."""
        return f"{self.width}x{self.height}"


def read_header(path: Path) -> PictureHeader:
    """Return a picture's header, after checking that the file's end is there. Pixels are not decoded.

    Raises:
        DataSetError: The file is missing, empty, no regular file, no PNG or JPEG, too large or truncated.
    """
    with _data_set_errors(path), open_regular(path) as stream:
        with _opened(path, stream) as picture:
            header = PictureHeader(*picture.size, picture.mode)
            kind = str(picture.format)
        stream.seek(-min(_TAIL, stream.seek(0, 2)), 2)
        if _END_MARKERS[kind] not in stream.read():
            # More padding than that, or an end that is missing.
            check_structure(path, read_content(path))
        return header


def read_content(path: Path) -> bytes:
    """Return the bytes of a picture's file.

    Raises:
        DataSetError: It is missing, no regular file or too large.
    """
    with _data_set_errors(path):
        return read_regular(path, PICTURE_BYTES, DataSetError)


def check_structure(path: Path, content: bytes) -> None:
    """Check by structure that a file's bytes are a whole PNG or JPEG.

    Args:
        path: The file, for messages.
        content: Its bytes.

    Raises:
        DataSetError: They are not.
    """
    if not content:
        raise DataSetError(f"{path}: found an empty file (0 bytes); {_REPLACE}")
    if content.startswith(_PNG_SIGNATURE):
        _check_png(path, content)
    elif content.startswith(START):
        _check_jpeg(path, content)
    else:
        raise _of_another_kind(path, content)


def size_of_content(path: Path, content: bytes) -> tuple[int, int]:
    """Return (width, height) of a picture whose bytes are known to be a whole file's; raises as `read_header`."""
    declared = _declared_size(content[:_HEAD])
    if declared is None:
        header = header_of_content(path, content)
        return header.width, header.height
    PICTURE_PIXELS.check(declared[0] * declared[1], path, DataSetError)
    return declared


def read_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of a picture as its first bytes declare them; raises as `read_header` where they do not."""
    with _data_set_errors(path), open_regular(path) as stream:
        declared = _declared_size(stream.read(_START))
    if declared is None:
        header = read_header(path)
        return header.width, header.height
    return declared


def read_checked(path: Path, check: ContentCheck | None = None) -> bytes:
    """Return the bytes of a picture's file, after `check` has seen them; raises as `read_content`, and what `check` raises."""
    content = read_content(path)
    if check is not None:
        check(path, content)
    return content


def header_of_content(path: Path, content: bytes) -> PictureHeader:
    """Return the facts in the header of a picture whose bytes are known to be a whole file's; raises as `read_header`."""
    with _data_set_errors(path), _opened(path, io.BytesIO(content)) as picture:
        return PictureHeader(*picture.size, picture.mode)


def decode(path: Path, mode: str | None = None, check: ContentCheck | None = None) -> Image.Image:
    """Return a picture with its pixels.

    Args:
        path: Its file.
        mode: Pillow's mode to convert it to; None: as it is.
        check: Called with the file's bytes before they are decoded.

    Raises:
        DataSetError: The file is missing, empty, no regular file, no PNG or JPEG, too large, truncated or damaged.
    """
    return decode_content(path, read_checked(path, check), mode)


def decode_content(path: Path, content: bytes, mode: str | None = None) -> Image.Image:
    """Return the picture that a file's bytes hold, as `decode`; `path` is for messages."""
    with _data_set_errors(path), _opened(path, io.BytesIO(content)) as picture:
        picture.load()
        if lacks_pixels(content, picture):
            raise DataSetError(f"{path}: found a damaged picture (fewer rows of pixels than it declares); {_REPLACE}")
        if lacks_blocks(content, picture):
            raise DataSetError(
                f"{path}: found a damaged picture (its data end early; the remainder is grey); {_REPLACE}"
            )
        # Its pixels stay when its file is closed.
        if mode is None or mode == picture.mode:
            return picture
        return (_upper_bits(picture) if picture.mode in _DEEP_MODES else picture).convert(mode)


def _upper_bits(picture: Image.Image) -> Image.Image:
    """Return a grey picture of 16 bits by its upper eight, as colours of 16 bits are read; Pillow makes all above 255 white."""
    return Image.fromarray((np.asarray(picture).clip(0, 0xFFFF) >> 8).astype(np.uint8))


@contextmanager
def _opened(path: Path, stream: BinaryIO) -> Iterator[Image.Image]:
    """Open a picture that has bytes and does not declare too many pixels."""
    if stream.seek(0, 2) == 0:
        raise DataSetError(f"{path}: found an empty file (0 bytes); {_REPLACE}")
    stream.seek(0)
    # Before Pillow opens it, which prints a warning of its own.
    width, height = _declared_size(stream.read(_HEAD)) or (0, 0)
    PICTURE_PIXELS.check(width * height, path, DataSetError)
    stream.seek(0)
    with Image.open(stream, formats=FORMATS) as picture:
        PICTURE_PIXELS.check(picture.width * picture.height, path, DataSetError)
        yield picture


def _declared_size(head: bytes) -> tuple[int, int] | None:
    """Return (width, height) as the first bytes of a PNG or JPEG declare them, None where they do not."""
    if head.startswith(_PNG_SIGNATURE) and len(head) >= 24:
        width, height = struct.unpack_from(">II", head, 16)
        return width, height
    position = len(START)
    while head.startswith(START) and (found := MARKER.search(head, position)) is not None:
        marker, position = head[found.start() + 1], found.end()
        if marker in FRAME_HEADERS and len(head) >= position + 7:
            height, width = struct.unpack_from(">HH", head, position + 3)
            return width, height
        if marker in (SOS, EOI):
            break
        position += 0 if marker == TEM else int.from_bytes(head[position : position + 2], "big")
    return None


@contextmanager
def _data_set_errors(path: Path) -> Iterator[None]:
    """Turn whatever Pillow or the operating system raises in the block into a `DataSetError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataSetError(f"{path}: found no file; {_REPLACE}") from error
    except UnidentifiedImageError as error:
        with suppress(OSError), open_regular(path) as stream:
            raise _of_another_kind(path, stream.read(LENGTH)) from error
        raise _of_another_kind(path, b"") from error
    except (SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise DataSetError(f"{path}: found a damaged picture ({error}); {_REPLACE}") from error
    except OSError as error:
        # Pillow's own complaints have neither errno nor file name; the operating system's, and ours, have.
        if error.strerror:
            raise DataSetError(f"{path}: found a file that cannot be read ({error.strerror}); {_REPLACE}") from error
        raise DataSetError(f"{path}: found a damaged picture ({error}); {_REPLACE}") from error


def _check_png(path: Path, content: bytes) -> None:
    view = memoryview(content)
    position = len(_PNG_SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        if position + 12 > len(content):
            raise _without_end(path, "PNG")
        length, name = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            raise _without_end(path, "PNG")
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            shown = name.decode("ascii", "replace") if name.isalpha() else "?"
            raise DataSetError(f"{path}: found a damaged picture (wrong checksum in its chunk {shown}); {_REPLACE}")
        if name == b"IEND":
            return
        position = end
    raise DataSetError(f"{path}: found a damaged picture (more than {_MOST_CHUNKS} chunks); {_REPLACE}")


def _check_jpeg(path: Path, content: bytes) -> None:
    has_frame = has_scan = False
    try:
        for number, (marker, _) in enumerate(segments(content)):
            if number == _MOST_CHUNKS:
                raise DataSetError(f"{path}: found a damaged picture (more than {_MOST_CHUNKS} segments); {_REPLACE}")
            has_frame |= marker in FRAME_HEADERS
            has_scan |= marker == SOS and has_frame
    except EOFError as error:
        raise _without_end(path, "JPEG") from error
    if not has_scan:
        raise DataSetError(f"{path}: found a damaged picture (a JPEG without a scan); {_REPLACE}")


def _of_another_kind(path: Path, beginning: bytes) -> DataSetError:
    if (found := recognise(beginning)) is None or found.noun in _OWN:
        return DataSetError(f"{path}: found a file that is no PNG or JPEG, or one cut off in its header; {_REPLACE}")
    remedy = found.remedy or "save it as PNG"
    return DataSetError(f"{path}: found {found.noun}; expected a whole PNG or JPEG picture; {remedy}")


def _without_end(path: Path, kind: str) -> DataSetError:
    return DataSetError(f"{path}: found a {kind} file without its end (truncated); {_REPLACE}")
