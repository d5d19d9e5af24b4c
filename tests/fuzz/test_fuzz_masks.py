"""Run-length encodings of any content, in texts and in JSON."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from avsrobust.adapters.prediction_json import JsonMasks, decode, read_clip
from avsrobust.rle import decode_mask


def read_runs(path: Path) -> None:
    for line in path.read_bytes().decode("latin-1").splitlines():
        size = re.match(r"(-?[0-9]{1,30}) (-?[0-9]{1,30}) (.*)", line)
        if size is not None:
            height, width = int(size[1]), int(size[2])
            assert decode_mask(size[3], height, width).shape == (height, width)


def read_json_clip(path: Path) -> None:
    if path.name == "records.json":
        JsonMasks(path)
        return
    for entry in read_clip(path).by_number.values():
        decode(entry)


def test_run_lengths(fuzz: Any) -> None:
    fuzz("rle", read_runs, ValueError)


def test_json(fuzz: Any) -> None:
    fuzz("mask_json", read_json_clip, ValueError)


def test_what_is_no_file(refuses_what_is_no_file: Any) -> None:
    refuses_what_is_no_file("clip.json", read_clip)
    refuses_what_is_no_file("all.json", JsonMasks)
