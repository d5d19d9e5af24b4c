"""Verify finds each kind of damage, and nothing where there is none."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avsrobust.building.build import build
from avsrobust.building.verify import verify
from avsrobust.checksums import read_checksums
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.errors import ManifestError
from avsrobust.manifest import MADE_PREFIX, Row, load_manifest, write_manifest


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, toy_in) -> Path:
    """A folder with data and a build of it. Tests must not change it."""
    folder = tmp_path_factory.mktemp("pristine")
    toy_in(folder / "data", s4=12, seed=5)
    build(read_dataset("s4", folder / "data"), load_recipe("standard"), 42, folder / "build")
    return folder


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(pristine / "data", tmp_path / "data")
    shutil.copytree(pristine / "build", tmp_path / "build", ignore=lambda *_: ["data_root"])
    return tmp_path


def problems(folder: Path) -> tuple[str, ...]:
    return verify(folder / "build" / "manifest.parquet", folder / "data").problems


def first(folder: Path, condition: str) -> Row:
    return next(row for row in load_manifest(folder / "build").rows if row.condition == condition)


def rewrite(folder: Path, change) -> None:
    """Put another value into the manifest's first row (sorted again by writing)."""
    manifest = load_manifest(folder / "build")
    rows = [change(manifest.rows[0]), *manifest.rows[1:]]
    write_manifest(manifest.path, rows, manifest.info)


def test_a_sound_build_has_no_problem(folder, pristine):
    assert problems(folder) == ()
    report = verify(pristine / "build")
    assert (report.problems, report.rows) == ((), 48)


@pytest.fixture(scope="module")
def builds(pristine) -> dict[str, Path]:
    """A build by each recipe. Tests must not change them."""
    build(read_dataset("s4", pristine / "data"), load_recipe("extended"), 42, pristine / "extended")
    return {"standard": pristine / "build", "extended": pristine / "extended"}


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("recipe", ["standard", "extended"])
def test_progress_ends_at_the_number_of_files_their_blocks_and_sounds_to_be_made(builds, recipe, quick):
    folder, seen = builds[recipe], list[tuple[int, int]]()
    assert verify(folder, quick=quick, progress=lambda *entry: seen.append(entry)).problems == ()
    made = sum(row.audio.startswith(MADE_PREFIX) for row in load_manifest(folder).rows)
    assert seen == sorted(seen)
    assert seen[-1] == (seen[-1][0],) * 2
    files = read_checksums(folder).values()
    blocks = sum(entry.num_bytes // 65536 for entry in files)
    assert blocks > 0
    assert seen[-1][0] == len(files) + (0 if quick else blocks + made)


@pytest.mark.parametrize("condition", ["clean", "noise", "silence"])
@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_sounds(folder, condition, damage):
    row = first(folder, condition)
    path = load_manifest(folder / "build").audio_path(row, folder / "data")
    content = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    expected = "found sha256" if damage == "changed" else "cannot be read"
    remedy = "restore the data set" if condition == "clean" else "delete it and build again with the same command"
    found = [problem for problem in problems(folder) if problem.startswith(f"{path}: {expected}")]
    assert len(found) == 1
    assert found[0].endswith(remedy)


@pytest.mark.parametrize("kind", ["frames", "masks"])
def test_pictures(folder, kind):
    path = folder / "data" / getattr(first(folder, "clean"), kind)[0]
    path.unlink()
    found = problems(folder)
    assert f"{path}: not found; expected a frame or mask; restore the data set" in found
    assert any("not found, but" in problem for problem in found)  # the fingerprint cannot be taken


def test_the_fingerprint(folder):
    path = folder / "data" / first(folder, "clean").frames[0]
    with path.open("ab") as stream:
        stream.write(b"\0")
    assert any("names or sizes differ" in problem for problem in problems(folder))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path, array: path.unlink(), "cannot be read"),
        (lambda path, array: path.write_bytes(b""), "cannot be read"),
        (lambda path, array: path.write_bytes(path.read_bytes()[:-4]), "cannot be read"),
        (lambda path, array: np.save(path, array.astype(np.float64)), r"found float64 .*; expected float32"),
        (lambda path, array: np.save(path, array[:, :, :, :95]), r"found float32 \[.*95, 64\]; expected float32"),
        (lambda path, array: np.save(path, array[:-1]), "expects 5 frames in row"),
        (lambda path, array: np.save(path, array[:, :4]), "found 4 frames"),
        (
            lambda path, array: np.save(path, np.where(array == array.max(), np.nan, array)),
            "found NaN or infinity in row",
        ),
        (lambda path, array: np.save(path, np.full_like(array, np.inf)), "found NaN or infinity in row"),
        (lambda path, array: np.save(path, np.array([{}], dtype=object)), "cannot be read"),
    ],
)
def test_log_mels(folder, damage, message):
    path = load_manifest(folder / "build").log_mel_path(first(folder, "noise"))
    damage(path, np.load(path))
    found = [problem for problem in problems(folder) if problem.startswith(f"{path}: ")]
    assert found
    assert re.search(message, found[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: replace(row, seed=row.seed ^ 1), r"found seed \d+; expected \d+; build again"),
        (lambda row: replace(row, polarity="negative"), "found polarity negative; expected positive"),
        (lambda row: replace(row, condition="nose"), "found condition nose; expected one of clean, silence"),
        (lambda row: replace(row, condition="noise"), "is there 2 times; expected once"),
        (lambda row: replace(row, dataset="ms3"), "found data set ms3; expected s4"),
        (lambda row: replace(row, num_frames=4), "found 5 frames and 5 masks; expected 4 of each"),
        (lambda row: replace(row, source_clip_id=row.clip_id), "found its own clip as source; expected another"),
        (lambda row: replace(row, source_labels=row.labels), "found a source that shares the category"),
        (lambda row: replace(row, log_mel_row=99), "expects 5 frames in row 99"),
        (lambda row: replace(row, audio_sha256="0" * 64), "found sha256"),
    ],
)
def test_rows(folder, change, message):
    rewrite(folder, change)
    found = "\n".join(problems(folder))
    assert re.search(message, found)


def test_a_row_that_is_missing(folder):
    manifest = load_manifest(folder / "build")
    gone = first(folder, "silence")
    write_manifest(manifest.path, [row for row in manifest.rows if row != gone], manifest.info)
    assert problems(folder) == (f"clip {gone.split}/{gone.clip_id}: found 0 rows of silence; expected 1; build again",)


def test_rows_out_of_order(folder):
    import pyarrow.parquet as pq

    path = folder / "build" / "manifest.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take([*range(1, table.num_rows), 0]), path)
    assert problems(folder) == (f"{path}: rows are not sorted by split, clip_id, condition, level; build again",)


def test_a_manifest_without_rows(folder):
    manifest = load_manifest(folder / "build")
    write_manifest(manifest.path, [], manifest.info)
    assert problems(folder) == (f"{manifest.path}: found no rows; build again",)


def test_a_recipe_that_is_none(folder):
    manifest = load_manifest(folder / "build")
    write_manifest(
        manifest.path, manifest.rows, replace(manifest.info, recipe={"kind": "build", "conditions": {"nose": {}}})
    )
    assert [problem for problem in problems(folder) if "condition nose: not known" in problem]


def test_a_manifest_that_is_none_is_an_error(tmp_path):
    with pytest.raises(ManifestError, match="not found; expected a manifest made by 'avsrobust build'"):
        verify(tmp_path / "manifest.parquet")


def test_a_folder_of_builds_is_no_build_and_names_them(folder):
    with pytest.raises(
        ManifestError, match=rf"found a folder of builds; expected one of them; name {folder / 'build'}$"
    ):
        load_manifest(folder)
    for number in range(5):
        shutil.copytree(folder / "build", folder / f"build{number}")
    with pytest.raises(ManifestError, match=r"build3, \.\.$"):
        load_manifest(folder)


def test_data_that_has_moved_is_an_error_until_named(pristine, tmp_path, monkeypatch):
    monkeypatch.delenv("AVSROBUST_DATA", raising=False)
    shutil.copytree(pristine / "build", tmp_path / "build", ignore=lambda *_: ["data_root"])
    with pytest.raises(ManifestError, match="name the folder it lies in now with --data-root"):
        verify(tmp_path / "build")
    assert verify(tmp_path / "build", pristine / "data").problems == ()


def test_what_verify_advises_works(folder):
    path = load_manifest(folder / "build").audio_path(first(folder, "noise"), folder / "data")
    path.write_bytes(path.read_bytes()[:-2] + b"\1\1")
    assert len(problems(folder)) == 1
    path.unlink()
    report = build(read_dataset("s4", folder / "data"), load_recipe("standard"), 42, folder / "build")
    assert report.rendered == 1
    assert problems(folder) == ()
