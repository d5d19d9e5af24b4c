"""Sounds and pictures of any content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avsrobust.audio.io import check_sound, read_stored
from avsrobust.audio.recordings import read_recording
from avsrobust.datasets.masks import read_binary_mask, read_class_mask, read_frame
from avsrobust.datasets.pictures import check_structure, read_content, read_header

READERS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "sound header": ("sounds", "a.wav", check_sound),
    "samples": ("sounds", "a.wav", read_stored),
    "recording": ("sounds", "a.wav", read_recording),
    "picture header": ("frames", "a.png", read_header),
    "structure": ("frames", "a.png", lambda path: check_structure(path, read_content(path))),
    "frame": ("frames", "a.png", read_frame),
    "binary mask": ("binary_masks", "a.png", read_binary_mask),
    "class mask": ("class_masks", "a.png", lambda path: read_class_mask(path, ("dog",))),
}


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files(reader: str, fuzz: Any) -> None:
    folder, _, read = READERS[reader]
    fuzz(folder, read)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file(reader: str, refuses_what_is_no_file: Any) -> None:
    _, name, read = READERS[reader]
    refuses_what_is_no_file(name, read)
