"""What files are by their first bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from avsrobust.beginnings import LENGTH, is_lfs_pointer, is_web_page, recognise


@pytest.mark.parametrize(
    ("kind", "noun"), [("PNG", "PNG"), ("JPEG", "JPEG"), ("GIF", "GIF"), ("TIFF", "TIFF"), ("BMP", "BMP")]
)
def test_pictures_are_recognised(kind: str, noun: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(stream, kind)
    found = recognise(stream.getvalue()[:LENGTH])
    assert found is not None
    assert noun in found.noun


def test_what_takes_the_place_of_a_download_is_recognised() -> None:
    assert is_web_page(b"\n<!DOCTYPE html><html>")
    assert is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\n")
    assert not is_web_page(b"")
    assert not is_lfs_pointer(b"")


def test_only_whole_beginnings_of_zeros_are_named() -> None:
    assert recognise(bytes(LENGTH)) is not None
    assert recognise(bytes(LENGTH - 1)) is None
    assert recognise(bytes(LENGTH - 1) + b"x") is None
