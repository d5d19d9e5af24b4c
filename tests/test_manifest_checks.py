"""A manifest of which anything is wrong is one line: every column and metadata entry, of every other kind and value."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifest_rows import CLEAN, INFO, NOISE, OFFSCREEN

from avsrobust.errors import ManifestError
from avsrobust.files import is_safe_relative
from avsrobust.limits import Limit
from avsrobust.manifest import SCHEMA, load_manifest, write_manifest
from avsrobust.manifest_checks import _UNSAFE_PATH

NULLABLE = ("level", "source_clip_id", "source_labels")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("written") / "manifest.parquet"
    write_manifest(path, [CLEAN, NOISE, OFFSCREEN], INFO)
    return path.read_bytes()


@pytest.fixture
def path(written: bytes, tmp_path: Path) -> Path:
    (tmp_path / "manifest.parquet").write_bytes(written)
    return tmp_path / "manifest.parquet"


def refused(path: Path, match: str) -> None:
    with pytest.raises(ManifestError, match=match) as caught:
        load_manifest(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def replace_column(path: Path, name: str, values: pa.Array) -> None:
    table = pq.read_table(path)
    index = table.column_names.index(name)
    table = table.set_column(index, pa.field(name, values.type), values)
    pq.write_table(table.replace_schema_metadata(pq.read_schema(path).metadata), path)


def replace_entry(path: Path, name: str, value: str | bytes | None) -> None:
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata)
    metadata.pop(f"avsrobust.{name}".encode())
    if value is not None:
        metadata[f"avsrobust.{name}".encode()] = value.encode() if isinstance(value, str) else value
    pq.write_table(table.replace_schema_metadata(metadata), path)


OTHER_TYPES = {
    "bytes": pa.array([b"\xff"] * 3),
    "float64": pa.array([1.5] * 3),
    "int64": pa.array([1] * 3),
    "text": pa.array(["1"] * 3),
    "texts": pa.array([["1"]] * 3),
    "bytes in lists": pa.array([[b"\xff"]] * 3),
    "numbers in lists": pa.array([[1]] * 3),
    "lists in lists": pa.array([[["1"]]] * 3),
    "structs": pa.array([{"a": 1}] * 3),
    "maps": pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int32())),
    "booleans": pa.array([True] * 3),
    "times": pa.array([0] * 3, pa.timestamp("us")),
    "decimals": pa.array([1] * 3).cast(pa.decimal128(20)),
    "nothing": pa.nulls(3),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in SCHEMA.names
        for kind, values in OTHER_TYPES.items()
        if values.type != SCHEMA.field(name).type
    ],
)
def test_a_column_of_another_type(name: str, kind: str, path: Path) -> None:
    replace_column(path, name, OTHER_TYPES[kind])
    refused(path, rf"column {name} is of type .*; expected {re.escape(str(SCHEMA.field(name).type))}; build again")


@pytest.mark.parametrize("name", SCHEMA.names)
def test_a_column_that_is_not_there(name: str, path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([name]), path)
    refused(path, f"has no column {name}")


@pytest.mark.parametrize("name", [name for name in SCHEMA.names if name not in NULLABLE])
def test_a_row_without_a_value(name: str, path: Path) -> None:
    values = pq.read_table(path).column(name).to_pylist()
    replace_column(path, name, pa.array([values[0], None, values[2]], SCHEMA.field(name).type))
    refused(path, f"column {name}: found 1 row without a value")


TEXTS = ["", "..", "../x", "/etc", "a\x1b[31mb", "a\nb", "a" * 10_000]
WRONG = {
    **{name: [*TEXTS, "a/b", "-a", ".a", "\u202e"] for name in ("split", "condition")},
    "dataset": [*TEXTS, "avss", "S4"],
    "polarity": [*TEXTS, "Positive", "neutral"],
    "foreground": [*TEXTS, "nonzero", "above half "],
    **{name: [*TEXTS, "a/../b", "a//b", "a\\b", "./a"] for name in ("clip_id", "audio", "log_mel", "source_clip_id")},
    "audio_sha256": [*TEXTS, "0" * 63, "0" * 65, "A" * 64, "g" * 64],
    "log_mel_row": [-1, -(2**31)],
    "num_frames": [0, -1, 3, 2**31 - 1],
    "sample_rate": [0, -16_000, 2**31 - 1],
    "duration_s": [0.0, -1.0, math.nan, math.inf, -math.inf, 1e30],
    "level": [math.nan, math.inf, -math.inf],
    **{name: [["a", None], [""], ["a\x07"], ["a" * 10_000]] for name in ("labels", "broad", "source_labels")},
    "frames": [[], ["a"], ["a", "b", "c"], ["a", None], ["a", ""], ["a", "../b"], ["a", "/b"], ["a", "b" * 10_000]],
    "masks": [[], ["a"], ["a", "b", "c"], ["a", ""], [None, "../b"], [None, "/b"]],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param(name, value, id=f"{name}-{str(value)[:20]!r}") for name, values in WRONG.items() for value in values],
)
def test_a_value_that_no_build_writes(name: str, value: Any, path: Path) -> None:
    values = pq.read_table(path).column(name).to_pylist()
    values[2] = value
    replace_column(path, name, pa.array(values, SCHEMA.field(name).type))
    refused(path, "column frames" if (name, value) == ("num_frames", 3) else f"column {name}")


def test_source_clip_and_labels_belong_together(path: Path) -> None:
    replace_column(path, "source_labels", pa.nulls(3, SCHEMA.field("source_labels").type))
    refused(path, "column source_labels: found values without a source_clip_id")


def test_contradictions_are_read_where_they_are_to_be_listed(path: Path) -> None:
    replace_column(path, "num_frames", pa.array([2, 2, 9], pa.int32()))
    refused(path, "column frames: found lists of another length than num_frames")
    assert load_manifest(path, consistent=False).rows[2].num_frames == 9


def test_text_that_is_no_utf8(path: Path) -> None:
    broken = pa.array([b"a\xff"] * 3).view(pa.string())
    replace_column(path, "clip_id", broken)
    refused(path, "cannot be read as parquet")


def test_another_programs_types_and_order_of_columns_are_read(path: Path) -> None:
    table = pq.read_table(path)
    for name in ("clip_id", "audio"):
        table = table.set_column(table.column_names.index(name), name, table.column(name).cast(pa.large_string()))
    table = table.set_column(1, "split", pc.dictionary_encode(table.column("split")))
    table = table.append_column("mine", pa.array([b"\xff"] * 3)).select([*reversed(table.column_names), "mine"])
    pq.write_table(table, path, store_schema=True, row_group_size=1, compression="gzip")
    assert load_manifest(path).rows == (CLEAN, NOISE, OFFSCREEN)


def test_an_empty_manifest_is_one(tmp_path: Path) -> None:
    write_manifest(tmp_path / "manifest.parquet", [], INFO)
    assert load_manifest(tmp_path).rows == ()


DEEP = "[" * 100_000
WRONG_ENTRIES: dict[str, list[Any]] = {
    "dataset": ["", "../x", "S4", "ms3", b"\xff", None],
    "seed": ["", "-1", "1.5", "1e3", " 42", "4_2", "٤", "9" * 30, "9" * 6000, "null", b"\xff", None],
    "recipe": [
        *(
            '"standard"',
            "[]",
            "null",
            "{",
            "",
            DEEP,
            '{"name": NaN}',
            '{"name": 3}',
            '{"name": "../../x"}',
            '{"name": ".."}',
        ),
        *('{"name": null}', '{"conditions": []}', '{"conditions": {"noise": []}}', "{}{}", b"\xff", None),
    ],
    "fingerprints": ["[]", '"x"', "null", '{"test": 1}', '{"test": null}', DEEP, None],
    "skipped": [
        "{}",
        '"abc"',
        '["abc"]',
        '[["a", "b"]]',
        '[["a", null, 3]]',
        '[[1, null, "a"]]',
        '[["a", 1, "a"]]',
        DEEP,
        None,
    ],
    "notes": ["{}", '"abc"', "[1]", "[null]", '[["a"]]', DEEP, None],
    "release": ["other", "\x1b", None],
    "muted": ["{}", '"abc"', "[1]", DEEP, None],
    "survey": ["[]", '"abc"', "null", '{"a": Infinity}', '{"a": 1e999}', DEEP, None],
    "version": ["", "\x1b[31m", "a" * 1000, None],
    "checksums_sha256": ["0" * 63, "0" * 65, "g" * 64, "A" * 64, None],
    "build_format": ["1", "2.0", "", "x" * 10_000, b"\xff"],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}-{number}")
        for name, values in WRONG_ENTRIES.items()
        for number, value in enumerate(values)
    ],
)
def test_metadata_that_no_build_writes(name: str, value: str | bytes | None, path: Path) -> None:
    replace_entry(path, name, value)
    refused(path, "damaged metadata|is a build of format|column dataset")


def test_every_entry_is_tried(path: Path) -> None:
    entries = {key.decode().removeprefix("avsrobust.") for key in pq.read_schema(path).metadata if b"avsrobust." in key}
    assert entries == set(WRONG_ENTRIES)
    assert set(WRONG) | {"seed"} == set(SCHEMA.names)
    json.loads(pq.read_schema(path).metadata[b"avsrobust.recipe"])


def test_a_column_of_one_value_repeated_is_bounded_before_it_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pq.read_table(path)
    pq.write_table(table.take([0] * 1000), path)
    assert path.stat().st_size < 40_000
    monkeypatch.setattr("avsrobust.manifest.MANIFEST_ROWS", Limit(999, "rows", "a test"))
    refused(path, r"found 1,000 rows; expected at most 999 .*--raise-limits 2")
    monkeypatch.setattr("avsrobust.manifest.MANIFEST_ROWS", Limit(1000, "rows", "a test"))
    monkeypatch.setattr("avsrobust.manifest.MANIFEST_VALUES", Limit(1999, "values", "a test"))
    refused(path, r"column frames.*found 2,000 values; expected at most 1,999")
    monkeypatch.setattr("avsrobust.manifest.MANIFEST_VALUES", Limit(2000, "values", "a test"))
    monkeypatch.setattr("avsrobust.manifest_checks.MANIFEST_TEXT", Limit(60_000, "bytes of text", "a test"))
    refused(path, r"column audio_sha256: found 64,000 bytes of text; expected at most 60,000")


@given(st.text("a./\\\n\x1f", max_size=6))
def test_paths_are_judged_as_by_is_safe_relative(text: str) -> None:
    assert pc.match_substring_regex(pa.array([text]), _UNSAFE_PATH)[0].as_py() is not is_safe_relative(text)
