"""Parquet files of ours of any content: whole files damaged, and good files with other metadata."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from avsrobust.manifest import load_manifest
from avsrobust.results import read_scores
from avsrobust.stored_masks import StoredMasks


def read_masks(path: Path) -> None:
    masks = StoredMasks(path)
    for split, clip_id in masks.clips:
        for condition, level in (("clean", None), ("offscreen", 3.0)):
            masks.read(split, clip_id, condition, level)


READERS: dict[str, Callable[[Path], object]] = {
    "manifests": load_manifest,
    "scores": read_scores,
    "mask_tables": read_masks,
}


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files(reader: str, fuzz: Any) -> None:
    # StoredMasks.read documents ValueError for a mask that cannot be decoded.
    fuzz(reader, READERS[reader], *([ValueError] if reader == "mask_tables" else []))


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file(reader: str, refuses_what_is_no_file: Any) -> None:
    refuses_what_is_no_file("a.parquet", READERS[reader])


@pytest.mark.parametrize("reader", ["manifests", "scores"])
def test_other_metadata(reader: str, fuzz: Any) -> None:
    """Flips of a file mostly meet a checksum; here every entry of its metadata is damaged and the file written well."""

    def change(path: Path, draw: Any, damaged: Callable[[bytes], bytes]) -> None:
        table = pq.read_table(path)
        metadata = dict(table.schema.metadata)
        key = draw(st.sampled_from(sorted(key for key in metadata if key.startswith(b"avsrobust."))))
        metadata[key] = damaged(metadata[key])
        pq.write_table(table.replace_schema_metadata(metadata), path)

    fuzz(reader, READERS[reader], change=change)
