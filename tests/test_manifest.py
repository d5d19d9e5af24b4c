"""The manifest: round trip, order, versions, fingerprints, openness to other tools."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from manifest_rows import CLEAN, INFO, NOISE, OFFSCREEN

from avsrobust.errors import AvsRobustError, ManifestError
from avsrobust.manifest import (
    ENVIRONMENT_DATA_ROOT,
    check_fingerprints,
    data_files,
    fingerprint,
    load_manifest,
    remember_data_root,
    write_manifest,
)


def test_what_was_written_is_read_sorted(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    write_manifest(path, [OFFSCREEN, NOISE, CLEAN], INFO)
    manifest = load_manifest(tmp_path)
    assert manifest.rows == (CLEAN, NOISE, OFFSCREEN)
    assert manifest.info == INFO
    assert [row.condition for row in manifest.select(conditions=["noise"]).rows] == ["noise"]
    assert manifest.select(splits=["train"]).rows == ()


def test_bytes_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    write_manifest(tmp_path / "a", [OFFSCREEN, NOISE, CLEAN], INFO)
    write_manifest(tmp_path / "b", [CLEAN, OFFSCREEN, NOISE], INFO)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_bytes_do_not_depend_on_how_many_rows_are_objects_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [replace(OFFSCREEN, clip_id=f"c/{index:05d}", draw=index % 2) for index in range(3000)]
    write_manifest(tmp_path / "a", rows, INFO)
    for block, group in ((1, 4096), (7, 1 << 20), (1024, 1 << 20)):
        monkeypatch.setattr("avsrobust.manifest._BLOCK", block)
        monkeypatch.setattr("avsrobust.manifest._ROW_GROUP", group)
        write_manifest(tmp_path / "b", iter(rows), INFO)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_other_tools_open_it(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "manifest.parquet"
    write_manifest(path, [NOISE, CLEAN], INFO)
    frame = pd.read_parquet(path)
    assert list(frame["condition"]) == ["clean", "noise"]
    assert int(frame["seed"][0]) == 2**64 - 1
    assert duckdb.sql(f"select count(*) from '{path}'").fetchall() == [(2,)]
    loaded = datasets.load_dataset("parquet", data_files=str(path), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded[0]["masks"] == ["s4/m_1.png", None]
    types = {field.name: str(field.type) for field in pq.read_schema(path)}
    assert types["seed"] == "uint64"
    assert types["level"] == types["duration_s"] == "float"
    assert types["log_mel_row"] == types["num_frames"] == types["sample_rate"] == "int32"


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    write_manifest(path, [CLEAN], INFO)
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"avsrobust.build_format": b"99"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(ManifestError, match="is a build of format 99"):
        load_manifest(path)


def test_files_that_are_no_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not found"):
        load_manifest(tmp_path / "nothing")
    (tmp_path / "text").write_text("no parquet")
    with pytest.raises(ManifestError, match="cannot be read as parquet"):
        load_manifest(tmp_path / "text")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ManifestError, match="but no manifest"):
        load_manifest(tmp_path / "other.parquet")


@pytest.mark.parametrize(
    "change",
    [
        {"audio": "data:../../etc/passwd"},
        {"frames": ("/etc/passwd", "b")},
        {"masks": ("../m", None)},
        {"log_mel": "../x"},
    ],
)
def test_paths_out_of_their_root_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    write_manifest(tmp_path / "m.parquet", [replace(CLEAN, **change)], INFO)
    with pytest.raises(ManifestError, match="leaves its root"):
        load_manifest(tmp_path / "m.parquet")


def _data(root: Path) -> None:
    for relative in data_files([CLEAN, NOISE]):
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        (root / relative).write_bytes(relative.encode())


def test_the_data_root_is_remembered_named_or_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_DATA_ROOT, raising=False)
    old, new, build = tmp_path / "old", tmp_path / "new", tmp_path / "build"
    old.mkdir()
    write_manifest(build / "manifest.parquet", [CLEAN], INFO)
    assert remember_data_root(build, old)
    manifest = load_manifest(build)
    assert manifest.data_root() == old
    old.rename(new)
    with pytest.raises(ManifestError, match="is not there any more"):
        manifest.data_root()
    assert manifest.data_root(new) == new
    monkeypatch.setenv(ENVIRONMENT_DATA_ROOT, str(new))
    assert manifest.data_root() == new
    with pytest.raises(ManifestError, match="--data-root: found no folder"):
        manifest.data_root(tmp_path / "elsewhere")


def test_fingerprints_notice_other_and_missing_files(tmp_path: Path) -> None:
    _data(tmp_path)
    mark = fingerprint(tmp_path, data_files([CLEAN, NOISE]), named_by="m")
    write_manifest(tmp_path / "m.parquet", [CLEAN, NOISE], replace(INFO, fingerprints={"test": mark}))
    manifest = load_manifest(tmp_path / "m.parquet")
    check_fingerprints(manifest, tmp_path, ["test"])
    (tmp_path / "s4/a_2.png").write_bytes(b"longer than before, surely")
    with pytest.raises(ManifestError, match="names or sizes differ"):
        check_fingerprints(manifest, tmp_path, ["test"])
    (tmp_path / "s4/a_2.png").unlink()
    with pytest.raises(ManifestError, match="not found"):
        check_fingerprints(manifest, tmp_path, ["test"])


def test_a_sound_is_found_in_the_build_or_in_the_data(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", [CLEAN, NOISE], INFO)
    manifest = load_manifest(tmp_path / "m.parquet")
    assert manifest.audio_path(manifest.rows[0], Path("/data")) == Path("/data/s4/a.wav")
    assert manifest.audio_path(manifest.rows[1], Path("/data")) == tmp_path / "audio/noise.wav"
    with pytest.raises(AvsRobustError, match="not a path inside"):
        manifest.audio_path(replace(CLEAN, audio="data:/x"), Path("/data"))
