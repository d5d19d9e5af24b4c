from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from avsrobust.datasets.pictures import (
    PictureHeader,
    check_structure,
    decode,
    read_header,
    read_size,
    size_of_content,
)
from avsrobust.errors import DataSetError
from avsrobust.limits import ENVIRONMENT


def noise(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_header_and_pixels_of_whole_files(tmp_path: Path, suffix: str) -> None:
    path = noise(tmp_path / f"a.{suffix}")
    assert read_header(path) == PictureHeader(64, 48, "RGB")
    assert read_header(path).size == "64x48"
    assert decode(path, "L").size == (64, 48)


@pytest.mark.parametrize("save", [{}, {"exif": b"Exif\0\0" + bytes(60_000)}, {"progressive": True, "quality": 30}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_sizes_without_decoding_are_those_of_the_pixels(
    tmp_path: Path, suffix: str, mode: str, save: dict[str, Any]
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new(mode, (67, 31), 128 if mode == "L" else (1, 2, 3)).save(path, **save)
    assert read_size(path) == size_of_content(path, path.read_bytes()) == (67, 31)


def test_a_file_without_a_size_is_refused_as_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for read in (read_size, lambda path: size_of_content(path, path.read_bytes())):
        with pytest.raises(DataSetError, match=r"a.png: found .*; expected a whole PNG or JPEG picture"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("kept", [0.01, 0.3, 0.6, 0.99])
def test_a_file_cut_off_anywhere_is_refused_by_both(tmp_path: Path, suffix: str, kept: float) -> None:
    path = noise(tmp_path / f"a.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataSetError, match=rf"a.{suffix}: found .*; expected a whole PNG or JPEG picture"):
        read_header(path)
    with pytest.raises(DataSetError, match=rf"a.{suffix}: found .*; expected a whole PNG or JPEG picture"):
        decode(path)


def test_a_png_damaged_in_the_middle_is_refused_when_decoded(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    assert read_header(path).size == "64x48"
    with pytest.raises(DataSetError, match=r"a.png: found a damaged picture \(.+\)"):
        decode(path)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").rename(tmp_path / "a.png")
    (tmp_path / "none.png").write_bytes(b"something else")
    for read in (decode, read_header, lambda path: check_structure(path, path.read_bytes())):
        with pytest.raises(
            DataSetError, match=r"a.png: found a BMP picture; expected .* PNG or JPEG .*; save it as PNG"
        ):
            read(tmp_path / "a.png")
        with pytest.raises(DataSetError, match=r"none.png: found a file that is no PNG or JPEG"):
            read(tmp_path / "none.png")


def test_grey_of_16_bits_is_read_by_its_upper_eight(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels * 257).save(tmp_path / "deep.png")
    assert Image.open(tmp_path / "deep.png").mode.startswith("I")
    np.testing.assert_array_equal(np.asarray(decode(tmp_path / "deep.png", "RGB")), np.dstack([levels] * 3))


def test_missing_and_empty_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"a.png: found no file"):
        decode(tmp_path / "a.png")
    (tmp_path / "a.png").touch()
    with pytest.raises(DataSetError, match=r"a.png: found an empty file \(0 bytes\)"):
        decode(tmp_path / "a.png")


def test_a_picture_of_absurd_size_is_refused(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(bytes(content))
    with pytest.raises(DataSetError, match=r"a.png: found 3,600,000,000 pixels; expected at most 64,000,000"):
        read_header(path)


def encoded(kind: str, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


KINDS = {
    "png": encoded("PNG"),
    "jpeg": encoded("JPEG"),
    "progressive": encoded("JPEG", progressive=True),
    "restarts": encoded("JPEG", restart_marker_rows=1),
    "with a comment": encoded("JPEG", comment=b"\xff\xd9 is no end here"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", [b"", b"\0", b"\0" * 5000, b"\xff\xd9", b"more behind the end" * 400])
def test_padding_behind_the_end_is_no_fault(kind: str, padding: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(KINDS[kind] + padding)
    check_structure(path, path.read_bytes())
    assert read_header(path).size == "64x48"
    assert decode(path).size == (64, 48)


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(list(KINDS)), share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_anywhere_has_no_whole_structure(kind: str, share: float) -> None:
    content = KINDS[kind]
    with pytest.raises(DataSetError, match=r"^a: found .*; expected a whole PNG or JPEG picture"):
        check_structure(Path("a"), content[: int(len(content) * share)])


@settings(max_examples=200, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_every_flipped_bit_of_a_png_is_found_without_decoding(position: float, bit: int) -> None:
    content = bytearray(KINDS["png"])
    content[int(position * len(content))] ^= 1 << bit
    with pytest.raises(DataSetError, match=r"^a: found "):
        check_structure(Path("a"), bytes(content))


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300), start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8"]))
def test_no_bytes_are_more_than_an_error(content: bytes, start: bytes) -> None:
    with contextlib.suppress(DataSetError):
        check_structure(Path("a"), start + content)


def test_many_chunks_are_given_up() -> None:
    chunk = struct.pack(">I4s", 0, b"tEXt") + zlib.crc32(b"tEXt").to_bytes(4, "big")
    with pytest.raises(DataSetError, match="more than 131072 chunks"):
        check_structure(Path("a"), b"\x89PNG\r\n\x1a\n" + chunk * 140_000)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    for read in (read_header, decode):
        with pytest.raises(
            DataSetError, match=rf"a.png: found a file that cannot be read \(is a {kind}, not a regular file\)"
        ):
            read(path)


def bomb(path: Path, side: int) -> Path:
    """A whole PNG of one bit per pixel, all of them black: a few kB for millions of pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    rows = zlib.compress(bytes((1 + -(-side // 8)) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def test_a_small_file_of_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bomb(tmp_path / "a.png", 9000)
    assert path.stat().st_size < 20_000
    for read in (read_header, decode):
        with pytest.raises(DataSetError, match=r"a.png: found 81,000,000 pixels; expected at most .*--raise-limits 2"):
            read(path)
    with pytest.raises(DataSetError, match=r"a.png: found 81,000,000 pixels; expected at most .*--raise-limits 2"):
        size_of_content(path, path.read_bytes())
    monkeypatch.setenv(ENVIRONMENT, "2")
    assert read_header(path).size == "9000x9000"
    assert size_of_content(path, path.read_bytes()) == (9000, 9000)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_only_our_own_words_are_said_of_too_many_pixels(tmp_path: Path, kind: str) -> None:
    path = bomb(tmp_path / "a", 13_000)
    if kind == "JPEG":
        content = bytearray(KINDS["with a comment"])
        frame = content.index(b"\xff\xc0")
        content[frame + 5 : frame + 9] = struct.pack(">HH", 13_000, 13_000)
        path.write_bytes(content)
    for read in (read_header, decode):
        with pytest.raises(DataSetError, match="found 169,000,000 pixels; expected at most 64,000,000"):
            read(path)


def test_the_bytes_are_checked_before_they_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"no picture")

    def refuse(file: Path, content: bytes) -> None:
        raise DataSetError(f"{file}: {content.decode()}")

    with pytest.raises(DataSetError, match=r"a.png: no picture$"):
        decode(path, check=refuse)
