from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avsrobust.datasets.pictures import PictureHeader, decode, read_header
from avsrobust.errors import DataSetError


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
    with pytest.raises(DataSetError, match=r"a.png: found a file that is no PNG or JPEG"):
        decode(tmp_path / "a.png")


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
    with pytest.raises(DataSetError, match=r"a.png: found a damaged picture \(Image size \(3600000000 pixels\)"):
        read_header(path)
