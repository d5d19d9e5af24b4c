"""Rows of a manifest are made from its columns when they are asked for: the same as when all were made at once."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avsrobust import manifest_rows
from avsrobust.manifest import COLUMNS, Manifest, Row, load_manifest, write_manifest

SPLITS, CONDITIONS = ("train", "val", "test"), ("clean", "noise", "offscreen")


def read_slowly(path: Path) -> tuple[Row, ...]:
    """The rows as they used to be read: all columns as Python values, and a row of each."""
    table = pq.read_table(path)
    lists = {name for name, entry in COLUMNS.items() if entry.is_list}
    values: Mapping[str, Any] = {
        name: [
            tuple(value) if name in lists and value is not None else value for value in table.column(name).to_pylist()
        ]
        for name in table.column_names
    }
    rows = zip(*values.values(), strict=True)
    return tuple(Row(**dict(zip(values, row, strict=True))) for row in rows)


@pytest.fixture(scope="module")
def example(toy_builds: Path) -> Manifest:
    return load_manifest(toy_builds / "robust/s4-seed42")


@st.composite
def drawn_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What differs from row to row: keys, lists of any length, empty places."""
    keys = draw(
        st.lists(
            st.tuples(st.sampled_from(SPLITS), st.integers(0, 5), st.sampled_from(CONDITIONS), st.integers(0, 1)),
            min_size=1,
            max_size=30,
            unique=True,
        )
    )
    found = []
    for split, clip, condition, number in keys:
        frames = draw(st.integers(1, 4))
        source = draw(st.sampled_from((None, "a/b", "c")))
        found.append(
            {
                "split": split,
                "clip_id": f"clip/{clip}",
                "condition": condition,
                "draw": number,
                "num_frames": frames,
                "frames": tuple(f"{split}/{clip}/{frame}.png" for frame in range(frames)),
                "masks": tuple(draw(st.sampled_from((None, f"m/{frame}.png"))) for frame in range(frames)),
                "level": draw(st.sampled_from((None, -6.0, 0.5))),
                "source_clip_id": source,
                "source_labels": None if source is None else draw(st.sampled_from((("dog",), ("cat", "dog")))),
                "annotated": draw(st.sampled_from((None, ("x.png", None)))),
                "seed": draw(st.integers(0, 2**64 - 1)),
            }
        )
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=drawn_rows(), block=st.sampled_from((1, 3, 1 << 14)), group=st.sampled_from((2, 1000)))
def test_rows_are_those_read_at_once(
    changes: list[dict[str, Any]], block: int, group: int, example: Manifest, tmp_path: Path
) -> None:
    path = tmp_path / "manifest.parquet"
    write_manifest(path, [replace(example.rows[0], **change) for change in changes], example.info)
    # Files of several row groups are read too.
    pq.write_table(pq.read_table(path), path, row_group_size=group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_rows, "_BLOCK", block)
        loaded, expected = load_manifest(path), read_slowly(path)
        assert tuple(loaded.rows) == expected
        assert loaded.rows == expected
        assert [loaded.rows[index] for index in range(-len(expected), len(expected))] == [*expected, *expected]
        assert loaded.rows[1:5] == expected[1:5]
        assert tuple(pickle.loads(pickle.dumps(loaded)).rows) == expected
        assert loaded.distinct("condition") == sorted({row.condition for row in expected})
        chosen = loaded.select(["test", "val"], ["clean", "noise"])
        kept = tuple(row for row in expected if row.split != "train" and row.condition != "offscreen")
        assert tuple(chosen.rows) == kept
        assert len(chosen.rows) == len(kept)
        assert list(chosen.rows[:]) == list(kept)
        assert chosen.distinct("split") == sorted({row.split for row in kept})
        assert tuple(chosen.select(["test"]).rows) == tuple(row for row in kept if row.split == "test")
        by_columns = {name: list(values) for name, values in chosen.to_pandas().items()}
        assert by_columns["frames"] == [row.frames for row in kept]
        assert by_columns["seed"] == [row.seed for row in kept]
        with pytest.raises(IndexError):
            loaded.rows[len(expected)]


def test_rows_of_a_clip_share_their_lists(example: Manifest) -> None:
    first = example.rows[0]
    others = [row for row in example.rows if row.clip_id == first.clip_id]
    assert len(others) > 1
    assert all(row.frames is first.frames for row in others)


def test_rows_have_no_room_for_more(example: Manifest) -> None:
    assert not hasattr(example.rows[0], "__dict__")
    assert replace(example.rows[0], draw=3).draw == 3
