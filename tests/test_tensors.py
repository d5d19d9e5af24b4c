"""safetensors files: the same bytes every time, ordinary rights, and what was put in comes out."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from avsrobust.tensors import save_tensors

TENSORS = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.int64), "c": torch.ones(5, dtype=torch.bfloat16)}


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=8))
def test_what_was_put_in_comes_out_and_order_does_not_matter(metadata: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder) / "one", Path(folder) / "other"
        save_tensors(one, TENSORS, metadata)
        save_tensors(other, dict(reversed(TENSORS.items())), dict(reversed(metadata.items())))
        assert one.read_bytes() == other.read_bytes()
        with safe_open(one, framework="pt") as stored:
            assert (stored.metadata() or {}) == metadata
        found = load_file(one)
        assert found.keys() == TENSORS.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


def test_without_metadata(tmp_path: Path) -> None:
    save_tensors(tmp_path / "t", TENSORS)
    assert load_file(tmp_path / "t").keys() == TENSORS.keys()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_rights_are_those_of_any_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        save_tensors(tmp_path / "t", TENSORS, {"a": "b"})
    finally:
        os.umask(before)
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o666 & ~mask
