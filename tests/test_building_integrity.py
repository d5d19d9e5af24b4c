"""Bits that flip in any file of a build or of its data: verify names that file, in one line, and no other."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from avsrobust.building.build import build
from avsrobust.building.verify import verify
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.errors import ManifestError, OptionError
from avsrobust.manifest import data_files, load_manifest
from avsrobust.toy.write import write_toy

# AVSROBUST_FLIPS=400 is the long run (CONTRIBUTING.md).
FLIPS = int(os.environ.get("AVSROBUST_FLIPS", "40"))
SMALL = ("manifest.parquet", "checksums.parquet", "seal.json", "build.json")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of MS3 and a build of it. Tests put back what they change."""
    folder = tmp_path_factory.mktemp("flips")
    write_toy(folder / "data", "ms3", clips=4, seed=5)
    build(read_dataset("ms3", folder / "data"), load_recipe("standard"), 42, folder / "build", on_error="skip")
    return folder


def files_of(place: Path) -> list[Path]:
    """Every file that evaluating or verifying reads: of the data set and of the build."""
    data = [place / "data" / relative for relative in data_files(load_manifest(place / "build").rows)]
    return sorted([*data, *(path for path in (place / "build").rglob("*") if path.is_file() and not path.is_symlink())])


def named(place: Path, **options: bool) -> list[str]:
    """The lines of verify, or the one of its error."""
    try:
        return list(verify(place / "build", **options).problems)
    except ManifestError as error:
        return [str(error)]


def flip(path: Path, position: int, bit: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(position)
        value = stream.read(1)[0]
        stream.seek(position)
        stream.write(bytes([value ^ (1 << bit)]))


@pytest.mark.parametrize("number", range(FLIPS))
def test_a_flipped_bit_is_named_and_nothing_else(place: Path, number: int) -> None:
    draw = random.Random(number)
    files = files_of(place)
    # Every other one in the few files that vouch for the rest.
    path = place / "build" / draw.choice(SMALL) if number % 2 else draw.choice(files)
    position, bit = draw.randrange(path.stat().st_size), draw.randrange(8)
    flip(path, position, bit)
    try:
        lines = named(place)
    finally:
        flip(path, position, bit)
    assert len(lines) == 1, (path, position, bit)
    assert lines[0].startswith(f"{path}: ")


def test_nothing_is_named_where_nothing_changed(place: Path) -> None:
    assert named(place) == named(place, quick=True) == []
    assert {path.name for path in files_of(place)} >= set(SMALL)


@pytest.mark.parametrize("kind", ["gone", "pipe", "device", "folder"])
@pytest.mark.parametrize("quick", [False, True])
def test_a_file_that_is_none_is_named_and_not_waited_for(place: Path, kind: str, quick: bool) -> None:
    row = load_manifest(place / "build").rows[0]
    paths = [
        place / "data" / row.frames[0],
        place / "build" / row.log_mel,
        place / "data" / row.audio.removeprefix("data:"),
    ]
    for path in paths:
        kept = path.with_name("kept")
        path.rename(kept)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "folder":
            path.mkdir()
        try:
            lines = [line for line in named(place, quick=quick) if line.startswith(f"{path}: ")]
        finally:
            if kind == "folder":
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            kept.rename(path)
        assert lines


def test_quick_says_nothing_about_bytes_but_about_sizes(place: Path) -> None:
    path = place / "build" / load_manifest(place / "build").rows[0].log_mel
    flip(path, path.stat().st_size - 1, 3)
    try:
        assert named(place, quick=True) == []
        assert len(named(place)) == 1
    finally:
        flip(path, path.stat().st_size - 1, 3)
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    try:
        assert [line.split(": ")[0] for line in named(place, quick=True)] == [str(path)]
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["manifest.parquet", "checksums.parquet", "seal.json"])
def test_what_verify_advises_puts_it_right(place: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(place / "build", tmp_path / "build", symlinks=True))
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    flip(copy / name, (copy / name).stat().st_size // 2, 0)
    [line] = named(tmp_path)
    assert line.startswith(f"{copy / name}: ")
    assert line.endswith("delete it and build again with the same command")
    (copy / name).unlink()
    report = build(read_dataset("ms3", place / "data"), load_recipe("standard"), 42, copy, on_error="skip")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    # What was made is vouched for by the checksums; without them it is made again.
    assert (report.rendered == 0) == (name != "checksums.parquet")


def test_a_build_whose_folder_goes_away_is_ended_and_goes_on_when_it_is_back(place: Path, tmp_path: Path) -> None:
    output, gone = tmp_path / "build", tmp_path / "gone"

    def unmount(_done: int, _total: int) -> None:
        if next(output.rglob("*.wav"), None) is not None:
            output.rename(gone)

    arguments = (read_dataset("ms3", place / "data"), load_recipe("standard"), 42, output)
    with pytest.raises(OptionError, match=rf"{output}: is no more the folder that this command began to write to"):
        build(*arguments, on_error="skip", progress=unmount)
    assert next(gone.rglob("*.wav"))
    if output.exists():
        shutil.rmtree(output)
    gone.rename(output)
    build(*arguments, on_error="skip")
    for name in SMALL:
        assert (output / name).read_bytes() == (place / "build" / name).read_bytes()
