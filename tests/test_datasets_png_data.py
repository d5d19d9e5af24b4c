from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avsrobust.datasets.masks import read_binary_mask, read_frame
from avsrobust.datasets.pictures import check_structure, decode_content
from avsrobust.errors import DataSetError

WIDTH, HEIGHT = 13, 11
# Depth and colour type of each kind of PNG, and the values of a pixel.
KINDS = {
    "1": (1, 0, 1),
    "2-bit grey": (2, 0, 1),
    "L": (8, 0, 1),
    "I;16": (16, 0, 1),
    "RGB": (8, 2, 3),
    "RGB of 16 bits": (16, 2, 3),
    "P": (8, 3, 1),
    "4-bit palette": (4, 3, 1),
    "LA": (8, 4, 2),
    "RGBA": (8, 6, 4),
}


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(kind: str, rows: int, value: int = 0xFF, parts: int = 1) -> bytes:
    """A whole file by its chunks, whose data are `rows` rows of HEIGHT, each byte `value`."""
    depth, colour, values = KINDS[kind]
    row = b"\0" + bytes([value]) * ((WIDTH * depth * values + 7) // 8)
    data = zlib.compress(row * rows)
    size = -(-len(data) // parts)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if colour == 3 else b""
    idat = b"".join(chunk(b"IDAT", data[start : start + size]) for start in range(0, len(data), size))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + idat + chunk(b"IEND", b"")


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_too_few_rows_are_refused_and_all_of_them_taken(kind: str, parts: int) -> None:
    path = Path("a.png")
    for value in (0, 1):
        decode_content(path, png(kind, HEIGHT, value, parts))
    for rows in (1, HEIGHT - 1):
        content = png(kind, rows, parts=parts)
        check_structure(path, content)
        with pytest.raises(DataSetError, match=r"a.png: found a damaged picture .*copy or extract"):
            decode_content(path, content)


def adam7(pixels: np.ndarray, missing: int = 0) -> bytes:
    """An interlaced grey file, without the last `missing` bytes of its data."""
    raw = b""
    for left, top, across, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    ):  # fmt: skip
        part = pixels[top::down, left::across]
        raw += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 0, 0, 0, 1)
    data = zlib.compress(raw[: len(raw) - missing])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (4, 4), (5, 3), (16, 17), (224, 224)])
def test_interlaced_files_are_whole_or_refused(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(np.asarray(decode_content(Path("a.png"), adam7(pixels))), pixels)
    # A row, with its filter byte, and the whole last pass.
    for missing in {shape[1] + 1, (shape[0] // 2) * (shape[1] + 1)} - {0}:
        with pytest.raises(DataSetError, match=r"a.png: found a damaged picture"):
            decode_content(Path("a.png"), adam7(pixels, missing))


def checked(_path: Path, _content: bytes) -> None:
    """Take any content for what was built."""


@pytest.mark.parametrize("check", [None, checked], ids=["pillow", "imagecodecs, where it is installed"])
@pytest.mark.parametrize(("read", "kind"), [(read_frame, "RGB"), (read_binary_mask, "L")])
def test_both_decoders_refuse_it_in_the_same_words(
    tmp_path: Path, read: Callable[..., object], kind: str, check: Callable[[Path, bytes], None] | None
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(kind, HEIGHT - 2))
    with pytest.raises(DataSetError, match=r"a.png: found a damaged picture \(fewer rows of pixels than it declares\)"):
        read(path, check=check)


def test_data_far_beyond_the_pixels_are_not_unpacked_for_the_count() -> None:
    # A hundred megabytes of black behind a black picture.
    content = png("L", 7_000_000, value=0)
    assert len(content) < 200_000
    assert not np.asarray(decode_content(Path("a.png"), content)).any()


def test_files_of_pillows_are_whole() -> None:
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16"):
        for value in (0, 1):
            stream = io.BytesIO()
            Image.new(mode, (WIDTH, HEIGHT), value).save(stream, "PNG")
            assert decode_content(Path("a.png"), stream.getvalue()).size == (WIDTH, HEIGHT)
