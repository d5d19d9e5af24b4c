"""The golden files are those that their README describes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from avsrobust.files import sha256_of_file

GOLDEN = Path(__file__).parent / "golden"
LISTED = dict(re.findall(r"^\| `([^`]+)` \| `([0-9a-f]{12})` \|", (GOLDEN / "README.md").read_text(), re.MULTILINE))


def test_every_golden_file_is_listed() -> None:
    data = {path.name for path in GOLDEN.iterdir() if path.suffix in {".json", ".npz", ".safetensors"}}
    assert set(LISTED) == data


@pytest.mark.parametrize("name", LISTED)
def test_no_golden_file_has_changed(name: str) -> None:
    assert sha256_of_file(GOLDEN / name).startswith(LISTED[name])
