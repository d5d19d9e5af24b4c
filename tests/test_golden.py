"""The golden files are those that their README describes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from avsrobust.files import sha256_of_file

GOLDEN = Path(__file__).parent / "golden"
LISTED = dict(re.findall(r"^\| `([^`]+)` \| `([0-9a-f]{12})` \|", (GOLDEN / "README.md").read_text(), re.MULTILINE))


def test_every_golden_file_is_listed() -> None:
    data = {path.name for path in GOLDEN.iterdir() if path.is_file() and path.suffix not in {".md", ".py"}}
    assert set(LISTED) == data


@pytest.mark.parametrize("name", LISTED)
def test_no_golden_file_has_changed(name: str) -> None:
    assert sha256_of_file(GOLDEN / name).startswith(LISTED[name])


def test_the_readme_names_the_tests_that_use_the_files() -> None:
    users = {
        path.name
        for path in GOLDEN.parent.glob("test_*.py")
        if '"golden"' in path.read_text() or "golden/" in path.read_text()
    }
    named = set(re.findall(r"`(test_\w+\.py)`", (GOLDEN / "README.md").read_text()))
    assert named <= {path.name for path in GOLDEN.parent.glob("test_*.py")} | {"test_golden_remade.py"}
    assert users - {Path(__file__).name} <= named
