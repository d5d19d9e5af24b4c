from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from avsrobust.datasets import plain_png
from avsrobust.datasets.masks import read_binary_mask, read_class_mask, read_frame
from avsrobust.datasets.pictures import decode_content
from avsrobust.datasets.plain_png import GREY, RGB, plain_pixels
from avsrobust.errors import DataSetError

pytest.importorskip("imagecodecs", reason="the extra 'pictures' is not installed")


def checked(_path: Path, _content: bytes) -> None:
    """Take any content for what was built."""


def png(pixels: np.ndarray, mode: str | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture if mode is None else picture.convert(mode)).save(stream, "PNG", **options)
    return stream.getvalue()


def values(shape: tuple[int, ...], seed: int = 0, top: int = 256) -> np.ndarray:
    # Smooth and noisy parts, so that encoders choose all filters.
    noise = np.random.default_rng(seed).integers(0, top, shape)
    ramp = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % top
    ramp = ramp.reshape(*shape[:2], *[1] * (len(shape) - 2))
    return np.where(ramp % 7 < 3, noise, ramp).astype(np.uint8)


@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 9), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_pixels_are_pillows(height: int, width: int, coloured: bool, level: int, seed: int) -> None:
    pixels = values((height, width, 3) if coloured else (height, width), seed)
    content = png(pixels, compress_level=level)
    found = plain_pixels(content, RGB if coloured else GREY)
    assert found is not None
    assert np.array_equal(found, pixels)
    assert np.array_equal(found, np.asarray(decode_content(Path("a.png"), content)))


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "I;16"])
@pytest.mark.parametrize("colour", [GREY, RGB])
def test_other_kinds_are_left_to_pillow(mode: str, colour: int) -> None:
    pixels = values((8, 9)).astype(np.uint16) if mode == "I;16" else values((8, 9))
    assert plain_pixels(png(pixels, None if mode == "I;16" else mode), colour) is None


def test_a_transparent_colour_changes_no_pixel(tmp_path: Path) -> None:
    pixels = values((8, 9, 3))
    (tmp_path / "a.png").write_bytes(png(pixels, transparency=tuple(int(value) for value in pixels[0, 0])))
    assert np.array_equal(read_frame(tmp_path / "a.png", checked), pixels.transpose(2, 0, 1))


def test_no_picture_is_decoded_that_declares_too_many_pixels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = bytearray(png(values((8, 9, 3))))
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    monkeypatch.setattr(plain_png, "_decoder", lambda: lambda _content: pytest.fail("it was decoded"))
    assert plain_pixels(bytes(content), RGB) is None
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataSetError, match="found 10,000,000,000 pixels"):
        read_frame(tmp_path / "a.png", checked)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_damaged_files_are_what_they_are_to_pillow(data: st.DataObject) -> None:
    content = bytearray(png(values((12, 10, 3))))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(8, len(content) - 13)) :]
    else:
        content[data.draw(st.integers(8, len(content) - 13))] ^= data.draw(st.integers(1, 255))
    found = plain_pixels(bytes(content), RGB)
    if found is None:
        return
    # Pillow also compares the checksums of chunks that hold no pixels.
    try:
        expected = np.asarray(decode_content(Path("a.png"), bytes(content), "RGB"))
    except DataSetError:
        return
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("cut", [20, 60, 200])
def test_a_damaged_file_has_pillows_message(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(values((12, 10, 3)))[:cut])
    with pytest.raises(DataSetError) as with_library:
        read_frame(path, checked)
    with pytest.raises(DataSetError) as without:
        read_frame(path)
    assert str(with_library.value) == str(without.value)


@pytest.mark.parametrize("top", [2, 60, 256])
def test_masks_are_those_of_pillow(tmp_path: Path, top: int) -> None:
    path = tmp_path / "labels_semantic" / "0.png"
    path.parent.mkdir()
    path.write_bytes(png(values((12, 10), top=top)))
    for rule in ("non_zero", "above_half"):
        assert np.array_equal(read_binary_mask(path, rule, checked), read_binary_mask(path, rule))
    if top <= 71:
        assert np.array_equal(read_class_mask(path, (), checked), read_class_mask(path))
        return
    with pytest.raises(DataSetError, match="found the value 2"):
        read_class_mask(path, (), checked)


def test_without_the_library_pillow_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_png, "find_spec", lambda _name: None)
    plain_png._decoder.cache_clear()
    assert plain_pixels(png(values((4, 4, 3))), RGB) is None
    plain_png._decoder.cache_clear()
