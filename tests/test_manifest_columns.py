"""Columns are declared once: schema, defaults and checks follow, and a build without the new ones keeps its bytes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avsrobust.errors import ManifestError
from avsrobust.manifest import COLUMNS, SCHEMA, Manifest, Row, load_manifest, write_manifest
from avsrobust.manifest_columns import LEVEL, NAME, NUMBER, Column, column, columns_of

LATER = ("draw", "source_dataset", "sound", "tiles", "annotated")


@dataclass(frozen=True, kw_only=True)
class Example:
    name: str = column(pa.string(), NAME)
    level: float | None = column(pa.float32(), LEVEL, nullable=True)
    count: int = column(pa.int32(), NUMBER, low=1, high=5, optional=1)
    parts: tuple[str, ...] = column(pa.list_(pa.string()), NAME, default=())


def test_a_declaration_says_all() -> None:
    found = columns_of(Example)
    assert list(found) == ["name", "level", "count", "parts"]
    assert [entry.is_optional for entry in found.values()] == [False, False, True, False]
    assert [entry.is_list for entry in found.values()] == [False, False, False, True]
    assert found["level"].arrow_field == pa.field("level", pa.float32(), nullable=True)
    assert (found["count"].low, found["count"].high, found["count"].default) == (1, 5, 1)
    assert Example(name="a", level=None) == Example(name="a", level=None, count=1, parts=())


def test_every_field_of_a_row_is_a_column() -> None:
    assert list(COLUMNS) == [entry.name for entry in fields(Row)]
    assert all(isinstance(entry, Column) for entry in COLUMNS.values())
    assert tuple(name for name, entry in COLUMNS.items() if entry.is_optional) == LATER
    assert not set(LATER) & set(SCHEMA.names)


def test_columns_that_hold_nothing_are_not_written(toy_builds: Path, extended_builds: Path) -> None:
    assert not set(LATER) & set(pq.read_schema(toy_builds / "robust/s4-seed42/manifest.parquet").names)
    assert set(LATER) <= set(pq.read_schema(extended_builds / "extended/ms3/manifest.parquet").names)
    assert {row.draw for row in load_manifest(toy_builds / "robust/s4-seed42").rows} == {0}


def test_a_manifest_comes_back_as_it_was(extended_builds: Path, tmp_path: Path) -> None:
    manifest = load_manifest(extended_builds / "extended/avss")
    write_manifest(tmp_path / "manifest.parquet", manifest.rows, manifest.info)
    again = load_manifest(tmp_path)
    assert again.rows == manifest.rows
    assert (tmp_path / "manifest.parquet").read_bytes() == manifest.path.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draw": -1}, "column draw: found -1; expected at least 0"),
        ({"source_dataset": "a b"}, "column source_dataset: found 'a b'"),
        ({"sound": ""}, "column sound: found ''; expected a text"),
        ({"sound": "x" * 5000}, "column sound: found a text of 5,000 bytes"),
        ({"tiles": ("../a", "b")}, "column tiles names '../a', which leaves its root"),
        ({"annotated": ("build:../../x.png",) * 5}, "column annotated names '../../x.png', which leaves its root"),
        ({"frames": ("build:/etc/passwd",) * 5}, "column frames names '/etc/passwd', which leaves its root"),
        ({"audio": "made:../x.wav"}, "column audio names '../x.wav', which leaves its root"),
        ({"log_mel": "made:/x.py:f"}, "column log_mel names '/x.py:f', which leaves its root"),
    ],
)
def test_values_that_are_none_of_a_column_are_refused(
    change: dict, message: str, tiny_build: Manifest, tmp_path: Path
) -> None:
    rows = (replace(tiny_build.rows[0], **change), *tiny_build.rows[1:])
    write_manifest(tmp_path / "manifest.parquet", rows, tiny_build.info)
    with pytest.raises(ManifestError, match=message.replace("(", r"\(")):
        load_manifest(tmp_path)
