"""Building refuses what it cannot do: clear lines, nothing half-written; bad clips can be left out."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from avsrobust.building.build import build
from avsrobust.building.verify import verify
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.dataset import DataSet
from avsrobust.datasets.read import read_dataset
from avsrobust.errors import DataSetError, ManifestError, OptionError
from avsrobust.files import sha256_of_file
from avsrobust.manifest import load_manifest

STANDARD = load_recipe("standard")


@pytest.fixture(scope="module")
def data(tmp_path_factory, toy_in) -> Path:
    """A toy of S4. Tests must not change it."""
    return toy_in(tmp_path_factory.mktemp("toy"), s4=12, seed=3)


@pytest.fixture(scope="module")
def built(data, tmp_path_factory) -> Path:
    """A build of it. Tests must not change it."""
    output = tmp_path_factory.mktemp("built") / "s4"
    build(read_dataset("s4", data), STANDARD, 42, output)
    return output


@pytest.fixture
def own_data(data, tmp_path) -> Path:
    """A copy of the toy that a test may change."""
    return Path(shutil.copytree(data, tmp_path / "own"))


def checksums(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of_file(path) for path in folder.rglob("*") if path.is_file()}


def sound_file(dataset: DataSet, index: int) -> Path:
    return dataset.root / dataset.clips[index].audio


@pytest.mark.parametrize(
    ("seed", "recipe", "message"),
    [
        (
            43,
            "standard",
            "holds a build of another seed; expected this one or nothing; choose another --output, or delete",
        ),
        (42, "reference", "holds a build of another recipe"),
    ],
)
def test_another_build_is_never_mixed_in(built, data, tmp_path, seed, recipe, message):
    output = Path(shutil.copytree(built, tmp_path / "b", symlinks=True))
    with pytest.raises(OptionError, match=message):
        build(read_dataset("s4", data), load_recipe(recipe), seed, output)
    assert checksums(output) == checksums(built)


def test_other_data_is_never_mixed_in(built, own_data, tmp_path):
    output = Path(shutil.copytree(built, tmp_path / "b", symlinks=True))
    dataset = read_dataset("s4", own_data)
    path = sound_file(dataset, 0)
    content = path.read_bytes()
    path.write_bytes(content[:-2] + b"\1\1")
    (output / "manifest.parquet").unlink()
    with pytest.raises(OptionError, match=r"holds a build of other data \(contents of its sounds\)"):
        build(dataset, STANDARD, 42, output)
    with path.open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(OptionError, match=r"other data \(sizes of its files, or their names below --data-root\)"):
        build(dataset, STANDARD, 42, output)
    assert not (output / "manifest.parquet").exists()


def test_files_of_unknown_origin_are_not_touched(data, built, tmp_path):
    (tmp_path / "b" / "audio").mkdir(parents=True)
    with pytest.raises(OptionError, match=r"b: holds audio, which avsrobust did not write there"):
        build(read_dataset("s4", data), STANDARD, 42, tmp_path / "b")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["audio"]
    output = Path(shutil.copytree(built, tmp_path / "c", symlinks=True))
    (output / "build.json").unlink()
    with pytest.raises(OptionError, match=r"holds audio but no build.json that says what build .*; choose another"):
        build(read_dataset("s4", data), STANDARD, 42, output)
    (output / "build.json").write_text("{}")
    with pytest.raises(OptionError, match=r"its build.json is damaged; choose another --output"):
        build(read_dataset("s4", data), STANDARD, 42, output)


def test_an_output_that_is_no_folder_is_refused(data, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OptionError, match=r"file.*: cannot be .*; choose another"):
            build(read_dataset("s4", data), STANDARD, 42, output)
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, "--on-error ignore: expected fail or skip"),
        ({"engine": "daks"}, r"--engine daks: expected one of local, dask; did you mean 'dask'\?"),
        ({"workers": 0}, "--workers 0: expected 1 or more"),
        ({"scheduler": "tcp://x:1"}, "--scheduler tcp://x:1: only --engine dask uses one"),
        ({"export": "avsbnech"}, r"--export avsbnech: expected avsbench; did you mean 'avsbench'\?"),
        ({"seed": 2**64}, "--seed: found 18446744073709551616; expected an integer from 0 to 18446744073709551615"),
    ],
)
def test_options_are_checked_first(data, tmp_path, options, message):
    arguments = {"seed": 42, **options}
    with pytest.raises(OptionError, match=message):
        build(read_dataset("s4", data), STANDARD, arguments.pop("seed"), tmp_path / "b", **arguments)
    assert not (tmp_path / "b").exists()


def test_without_dask_it_says_what_to_install(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        OptionError, match=r"--engine dask: distributed is not installed; run: pip install 'avsrobust\[dask\]'"
    ):
        build(read_dataset("s4", data), STANDARD, 42, tmp_path / "b", engine="dask")
    assert not (tmp_path / "b").exists()


def test_all_findings_are_told_and_nothing_is_written(own_data, tmp_path):
    dataset = read_dataset("s4", own_data)
    sound_file(dataset, 1).write_bytes(b"")
    (own_data / dataset.clips[2].frames[0]).unlink()
    with pytest.raises(DataSetError, match=r"found 2 problems in s4; .*--on-error skip") as caught:
        build(read_dataset("s4", own_data), STANDARD, 42, tmp_path / "b")
    assert len(caught.value.findings) == 2
    assert not (tmp_path / "b").exists()


def test_a_sound_that_breaks_after_reading_is_found_before_anything_is_written(own_data, tmp_path):
    dataset = read_dataset("s4", own_data)
    size = sound_file(dataset, 1).stat().st_size
    sound_file(dataset, 1).write_bytes(bytes(size))
    with pytest.raises(DataSetError, match="found 1 problem in") as caught:
        build(dataset, STANDARD, 42, tmp_path / "b")
    assert "found nothing but zeros where it begins; expected RIFF/WAVE" in caught.value.findings[0]
    assert not (tmp_path / "b").exists()


def test_bad_clips_are_left_out_and_listed(own_data, tmp_path):
    first = read_dataset("s4", own_data)
    empty, broken = first.clips[1], first.clips[3]
    (own_data / empty.audio).write_bytes(b"")
    dataset = read_dataset("s4", own_data)
    (own_data / broken.audio).write_bytes(bytes(1000))
    report = build(dataset, STANDARD, 42, tmp_path / "b", on_error="skip")
    rest = [clip.clip_id for clip in first.clips if clip not in (empty, broken)]
    manifest = load_manifest(tmp_path / "b")
    assert report.skipped == manifest.info.skipped
    assert {entry.clip_id for entry in report.skipped if entry.condition is None} == {empty.clip_id, broken.clip_id}
    assert all(str(own_data) not in entry.reason for entry in report.skipped)
    assert sorted({row.clip_id for row in manifest.rows}) == sorted(rest)
    assert not {row.source_clip_id for row in manifest.rows} & {empty.clip_id, broken.clip_id}
    assert verify(tmp_path / "b").problems == ()

    again = build(dataset, STANDARD, 42, tmp_path / "b", on_error="skip")
    assert (again.rendered, again.skipped) == (0, report.skipped)
    with pytest.raises(DataSetError, match="found 1 problem in s4"):
        build(dataset, STANDARD, 42, tmp_path / "b", on_error="fail")

    good = replace(first, clips=tuple(clip for clip in first.clips if clip not in (empty, broken)))
    build(good, STANDARD, 42, tmp_path / "good")
    assert load_manifest(tmp_path / "good").rows == manifest.rows


def test_a_data_set_without_a_usable_clip_is_refused(own_data, tmp_path):
    dataset = read_dataset("s4", own_data)
    with pytest.raises(DataSetError, match=r"found no clip of s4 that can be used; .*check --split and --data-root"):
        build(replace(dataset, clips=()), STANDARD, 42, tmp_path / "b", on_error="skip")
    for clip in dataset.clips:
        (own_data / clip.audio).write_bytes(bytes(100))
    with pytest.raises(DataSetError, match="found no clip of s4 that can be used"):
        build(dataset, STANDARD, 42, tmp_path / "b", on_error="skip")
    assert not (tmp_path / "b").exists()


def test_a_frame_that_went_is_named(own_data, tmp_path):
    dataset = read_dataset("s4", own_data)
    (own_data / dataset.clips[0].frames[0]).unlink()
    with pytest.raises(ManifestError, match=r"_1.png: not found, but the data set's tables needs it"):
        build(dataset, STANDARD, 42, tmp_path / "b")
