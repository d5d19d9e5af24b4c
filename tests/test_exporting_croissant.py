"""Descriptions of builds in Croissant, checked and read by mlcroissant."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avsrobust import load_manifest
from avsrobust.cli.main import invoke
from avsrobust.errors import ManifestError, OptionError
from avsrobust.exporting.croissant import DESCRIPTIONS, Publication, croissant, export_croissant
from avsrobust.files import sha256_of_file
from avsrobust.manifest import COLUMNS, Manifest


@pytest.fixture(scope="module")
def build(toy_builds: Path) -> Manifest:
    return load_manifest(toy_builds / "robust/s4-seed42")


def read(path: Path) -> Any:
    import mlcroissant

    return mlcroissant.Dataset(str(path))


def text(value: Any) -> Any:
    if isinstance(value, list):
        return [text(entry) for entry in value]
    return value.decode() if isinstance(value, bytes) else value


def test_mlcroissant_finds_no_fault(build: Manifest, tmp_path: Path) -> None:
    export_croissant(build, tmp_path / "plain.json")
    issues = read(tmp_path / "plain.json").metadata.issues
    assert issues.errors == set()
    # What only the publisher knows.
    assert len(issues.warnings) == 3
    export_croissant(build, tmp_path / "full.json", Publication("CC-BY-4.0", "Zhou et al., ECCV 2022", "2026-01-31"))
    issues = read(tmp_path / "full.json").metadata.issues
    assert (issues.errors, issues.warnings) == (set(), set())


def test_mlcroissant_reads_the_rows(build: Manifest, tmp_path: Path) -> None:
    export_croissant(build, tmp_path / "build.json")
    dataset = read(tmp_path / "build.json")
    found = [
        {name.rpartition("/")[2]: text(value) for name, value in record.items()} for record in dataset.records("rows")
    ]
    assert len(found) == len(build.rows)
    for row, record in zip(build.rows, found, strict=True):
        for name in record:
            wanted = getattr(row, name)
            assert record[name] == (list(wanted) if isinstance(wanted, tuple) else wanted), name
    assert set(found[0]) >= {"clip_id", "condition", "frames", "masks", "audio", "seed"}


def test_every_file_has_its_checksum(build: Manifest, tmp_path: Path) -> None:
    export_croissant(build, tmp_path / "build.json")
    content = json.loads((tmp_path / "build.json").read_text())
    objects = {entry["name"]: entry for entry in content["distribution"]}
    assert set(objects) == {"manifest.parquet", "checksums.parquet"}
    for name, entry in objects.items():
        assert entry["sha256"] == sha256_of_file(build.folder / name)
        assert entry["contentSize"] == f"{(build.folder / name).stat().st_size} B"
        assert (tmp_path / entry["contentUrl"]).resolve() == (build.folder / name).resolve()
    files = [
        {name: text(value) for name, value in record.items()}
        for record in read(tmp_path / "build.json").records("files")
    ]
    root = build.data_root()
    assert len(files) > len(build.rows)
    for record in files:
        path = build.file(record["files/path"], root)
        assert (record["files/bytes"], record["files/sha256"]) == (path.stat().st_size, sha256_of_file(path))


def test_it_lies_in_the_build_or_anywhere(build: Manifest, tmp_path: Path) -> None:
    content = json.loads(croissant(build))
    assert [entry["contentUrl"] for entry in content["distribution"]] == ["manifest.parquet", "checksums.parquet"]
    (tmp_path / "a b").mkdir()
    export_croissant(build, tmp_path / "a b" / "c.json")
    assert len(list(read(tmp_path / "a b" / "c.json").records("rows"))) == len(build.rows)


def test_equal_builds_give_equal_bytes_without_this_machine(build: Manifest, tmp_path: Path) -> None:
    assert croissant(build) == croissant(load_manifest(build.path))
    assert str(build.folder) not in croissant(build)


def test_a_build_without_checksums_is_described(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    export_croissant(make_build(levels=(-3.0,)), tmp_path / "c.json")
    dataset = read(tmp_path / "c.json")
    assert dataset.metadata.issues.errors == set()
    assert [record.id for record in dataset.metadata.record_sets] == ["rows"]
    levels = {record["rows/level"] for record in dataset.records("rows")}
    assert -3.0 in levels


def test_changed_checksums_are_refused(build: Manifest) -> None:
    other = replace(build, info=replace(build.info, checksums_sha256="0" * 64))
    with pytest.raises(ManifestError, match="is not the one of"):
        croissant(other)


def test_every_column_is_described() -> None:
    assert set(COLUMNS) | {"path", "bytes", "sha256"} == set(DESCRIPTIONS)


def test_hostile_names_stay_inert(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    manifest = make_build()
    hostile = '"}\n<script>\u202e\x1b[31m'
    info = replace(manifest.info, dataset=hostile, recipe={"name": hostile}, release=hostile)
    rows = tuple(replace(row, condition=hostile) for row in manifest.rows)
    content = croissant(replace(manifest, info=info, rows=rows))
    assert all(character.isprintable() or character == "\n" for character in content)
    found = json.loads(content)
    assert found["name"].isascii()
    assert "\u202e" not in found["description"]
    path = tmp_path / "build" / "c.json"
    path.write_text(content)
    assert read(path).metadata.issues.errors == set()


def test_the_command(
    toy_builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    build = str(toy_builds / "robust/s4-seed42")
    assert invoke(["export", "croissant", build]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    options = ["--license", "CC-BY-4.0", "--cite", "us", "--date", "2026-01-31"]
    assert invoke(["export", "croissant", build, "--output", "c.json", *options]) == 0
    assert capsys.readouterr().out == "c.json\n"
    before = Path("c.json").read_bytes()
    assert json.loads(before)["license"] == "CC-BY-4.0"
    assert invoke(["export", "croissant", build, "--output", "c.json"]) == 2
    assert (
        capsys.readouterr().err
        == "error: --output c.json: is there already; expected a new file; choose another name\n"
    )
    assert Path("c.json").read_bytes() == before
    assert invoke(["export", "croissant", build, "--date", "yesterday"]) == 2
    assert "--date yesterday: expected a day such as 2026-01-31" in capsys.readouterr().err


def test_a_day_is_a_day() -> None:
    with pytest.raises(OptionError, match="--date"):
        Publication(date_published="31.1.2026").properties()
