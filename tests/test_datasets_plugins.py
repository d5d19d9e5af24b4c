"""A data set from outside the package: one file of a user's, or a package's module, and every command takes it.

Its module is all that a data set needs, and manifests say its name: with a test and a changelog line, three files in a
repository. A build is verified, evaluated and reported where the plug-in is not.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pandas as pd
import pytest
import torch
from commands import call as call_here

import avsrobust as ar
from avsrobust import plugins
from avsrobust.datasets.clip_rows import ClipFiles, ClipRow
from avsrobust.datasets.masks import read_mask
from avsrobust.datasets.read import read_dataset
from avsrobust.datasets.registry import GROUP, dataset_names, find_dataset
from avsrobust.datasets.tables import TableRow
from avsrobust.errors import DataSetError, OptionError, RecipeError
from avsrobust.manifest import load_manifest

AVSROBUST = str(Path(sys.executable).with_name("avsrobust"))
EXAMPLE = Path(__file__).parents[1] / "examples/my_dataset.py"
ROOMS = f"{EXAMPLE}:Rooms"
CLIPS = 24
WIDE = """
name: wide
kind: build
description: Off-screen sounds of all splits.
front_end: vggish
conditions:
  clean: {}
  offscreen: {draws: 5, pool: release}
"""
SOUNDS = ("piano", "voice", "dog", "phone")


def run(folder: Path, *arguments: str, path: Path | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {} if path is None else {"PYTHONPATH": str(path)}
    done = subprocess.run([AVSROBUST, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def call(folder: Path, *arguments: str) -> str:
    """Run a command in this process, where nothing is registered."""
    done = call_here(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def toy(toys: Callable[..., Path]) -> Path:
    return toys("s4", clips=CLIPS, seed=1) / "Single-source"


@pytest.fixture
def data(toy: Path, tmp_path: Path) -> Path:
    """The toy in the layout of the example."""
    table = []
    with (toy / "s4_meta_data.csv").open() as stream:
        for number, row in enumerate(csv.DictReader(stream)):
            name, place = row["name"], f"{row['split']}/{row['category']}/{row['name']}"
            clip = tmp_path / "data/rooms" / name
            for kind, source in (("frames", "visual_frames"), ("masks", "gt_masks")):
                (clip / kind).mkdir(parents=True)
                for file in (toy / "s4_data" / source / place).iterdir():
                    shutil.copy(file, clip / kind / f"{int(file.stem.rpartition('_')[2]) - 1}.png")
            shutil.copy(toy / "s4_data/audio_wav" / f"{place}.wav", clip / "sound.wav")
            table.append(f"{name},{SOUNDS[number % 4]},{row['split']}")
    (tmp_path / "data/rooms/clips.csv").write_text("\n".join(["clip,sounds,split", *table]))
    return tmp_path / "data"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder as pip makes it: a package that registers the example's class."""
    folder = tmp_path / "site"
    info = folder / "room_sounds-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(EXAMPLE, folder / "room_sounds.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: room-sounds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nrooms = room_sounds:Rooms\n")
    return folder


@pytest.mark.parametrize("way", ["file", "entry point"])
def test_a_data_set_from_outside_goes_through_every_command(
    way: str, data: Path, package: Path, tmp_path: Path
) -> None:
    registered = way == "entry point"
    spec, path = ("rooms", package) if registered else (ROOMS, None)
    out = run(tmp_path, "build", "--dataset", spec, path=path)
    assert out == "robust/rooms-seed42/manifest.parquet\n"
    modules = [EXAMPLE] if not registered else list(package.glob("*.py"))
    # From here on nobody knows the plug-in.
    shutil.rmtree(package)
    assert "in order" in call(tmp_path, "verify", "robust/rooms-seed42")
    scores = call(tmp_path, "evaluate", "--adapter", "oracle", "--dataset", "rooms")
    assert scores == "results/oracle/rooms-seed42/scores.parquet\n"
    # Its module was the only file of Python.
    assert len(modules) == 1
    call(tmp_path, "report", "--format", "csv", "--output", "table.csv")
    line = pd.read_csv(tmp_path / "table.csv").iloc[0]
    assert (line["dataset"], line["split"], line["mIoU"], line["noise_FPR"]) == ("rooms", "test", 1, 0)
    manifest = load_manifest(tmp_path / "robust/rooms-seed42")
    assert {row.condition for row in manifest.rows} == {"clean", "silence", "noise", "offscreen"}
    assert {row.dataset for row in manifest.rows} == {"rooms"}
    items = ar.RobustDataset(manifest, split="test", conditions="offscreen")
    assert len(items) == len([row for row in manifest.rows if (row.split, row.condition) == ("test", "offscreen")]) > 0
    assert items[0]["mask"].dtype == torch.bool
    for name in ("md", "latex", "json", "html"):
        assert "rooms" in str(ar.report(tmp_path / "results", format=name).content)


def test_source_clips_come_from_its_other_splits_too(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "wide.yaml"
    recipe.write_text(WIDE)
    built = ar.build(ROOMS, data_root=data, recipe=recipe, splits=["test"], output=tmp_path / "wide", workers=2)
    rows = load_manifest(built.manifest).rows
    own = {row.clip_id for row in rows}
    assert {row.source_clip_id for row in rows if row.condition == "offscreen"} - own
    assert {row.source_dataset for row in rows} == {None}


def test_the_released_generator_does_not_know_it(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="rooms"):
        ar.build(ROOMS, data_root=data, recipe="reference", output=tmp_path / "reference")


def test_a_file_of_the_users_is_all_it_takes(data: Path) -> None:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line.strip()]
    assert len(lines) <= 45
    assert EXAMPLE.read_text().rstrip() in (EXAMPLE.parents[1] / "docs/data_sets.md").read_text()
    read = ar.read_dataset(ROOMS, data)
    assert (read.name, len(read.clips), read.findings, read.release) == ("rooms", CLIPS, (), "")
    assert read.clips[0].broad in {("music",), ("human",), ("animal",), ("device",)}
    assert [mask is None for mask in next(clip for clip in read.clips if clip.split == "train").masks] == [
        False,
        *[True] * 4,
    ]
    assert ar.read_dataset(read.spec, data) == read


def test_rows_of_its_table_that_are_wrong_are_findings(data: Path) -> None:
    table = data / "rooms/clips.csv"
    table.write_text(table.read_text() + "\n../x,dog,test\ny,dgo,test\nz,dog,tset\n")
    found = {str(finding) for finding in ar.read_dataset(ROOMS, data).findings}
    assert len(found) == 3
    assert any("the category 'dgo'" in finding and "did you mean 'dog'" in finding for finding in found)
    table.unlink()
    with pytest.raises(DataSetError, match=r"rooms/clips.csv: cannot be read .* comes with the rooms"):
        ar.read_dataset(ROOMS, data)


MINE = f"""
import sys
sys.path.append({str(EXAMPLE.parent)!r})
from my_dataset import Categories, DataSetSpec, DeclaredDataSet, Rooms
from avsrobust.clips import DeclaredClip

class Named(Rooms):
    name = NAME

class Released(Rooms):
    releases = ("full", "small")

class Unfinished(DataSetSpec):
    name = "unfinished"
    categories = Categories({{}})

class Broken(Rooms):
    def declare(self, root, splits, release):
        raise KeyError("clips")

class Nothing(Rooms):
    def declare(self, root, splits, release):
        return None

class Careless(Rooms):
    def declare(self, root, splits, release):
        clips = (
            ("a", "test", ("dog",), ("a.png",), ("../a.png",), "a.wav"),
            ("b", "test", ("dgo",), ("b.png",), ("b.png",), "b.wav"),
            ("c", "test", ("dog",), ("c.png", "d.png"), ("c.png",), "c.wav"),
            ("d", "exam", ("dog",), ("c.png",), ("c.png",), "c.wav"),
            ("e", "test", ("dog",), ("c.png",), (None,), "c.wav"),
            ("f", "test", ("dog",), ("c.png",), ("c.png",), "c.wav"),
            ("f", "test", ("dog",), ("c.png",), ("c.png",), "c.wav"),
        )
        declared = (DeclaredClip("rooms", s, c, l, ("animal",), f, m, a) for c, s, l, f, m, a in clips)
        return DeclaredDataSet("rooms/", tuple(declared))
"""


@pytest.fixture
def mine(tmp_path: Path):
    def spec(attribute: str, name: object = "mine") -> str:
        (tmp_path / "mine.py").write_text(MINE.replace("NAME", repr(name)))
        return f"{tmp_path / 'mine.py'}:{attribute}"

    return spec


@pytest.mark.parametrize("name", ["s4", "S4", "avss", "v1m", "V2", "../x", "a b", "", None, 3])
def test_a_name_is_safe_and_shadows_no_other(mine, name: object) -> None:
    with pytest.raises(
        OptionError, match=r"its name is .*; expected a name of .* and none of s4, ms3, avss, v1s, v1m, v2"
    ):
        find_dataset(mine("Named", name))


def test_a_class_is_checked_as_a_name_is() -> None:
    assert find_dataset(type(find_dataset("s4"))).name == "s4"

    class Shadow(type(find_dataset(ROOMS))):  # type: ignore[misc]
        name = "s4"

    with pytest.raises(OptionError, match="its name is 's4'"):
        find_dataset(Shadow)


def test_what_is_no_data_set_is_refused_in_one_line(mine) -> None:
    for attribute, message in (
        ("Categories", "expected a class derived from avsrobust's DataSetSpec"),
        ("Unfinished", r"cannot be made \(.*declare.*\)"),
        ("Roms", "has no class 'Roms'"),
    ):
        with pytest.raises(OptionError, match=message):
            find_dataset(mine(attribute))
    with pytest.raises(OptionError, match=r"names no class; expected file\.py:Class"):
        find_dataset(str(EXAMPLE))


def test_what_its_code_raises_or_returns_becomes_one_line(mine, tmp_path: Path) -> None:
    with pytest.raises(
        DataSetError, match=r"data set rooms: declare\(\) raised KeyError: 'clips' \(.*mine.py, line \d+\)"
    ):
        read_dataset(mine("Broken"), tmp_path)
    with pytest.raises(DataSetError, match=r"declare\(\) returned NoneType; expected a DeclaredDataSet"):
        read_dataset(mine("Nothing"), tmp_path)


def test_clips_that_cannot_be_are_findings_and_no_path_of_theirs_is_opened(mine, tmp_path: Path) -> None:
    read = read_dataset(mine("Careless"), tmp_path)
    assert read.clips == ()
    assert [finding.found for finding in read.findings] == [
        "the path '../a.png'",
        "the category 'dgo'",
        "2 frames and 1 masks in 1 places",
        "the split 'exam'",
        "1 frames and 0 masks in 1 places",
        "its id 2 times",
        "its id 2 times",
    ]


def test_a_release_of_its_own(mine, data: Path) -> None:
    with pytest.raises(OptionError, match="--release: found 'smal'; expected full or small; did you mean 'small'"):
        read_dataset(mine("Released"), data, release="smal")
    with pytest.raises(DataSetError, match=r"declare\(\) returned the release ''; expected one of its `releases`"):
        read_dataset(mine("Released"), data, release="small")
    with pytest.raises(OptionError, match="found 'object'; expected no --release, since rooms has one form only"):
        read_dataset(ROOMS, data, release="object")


def test_registered_names(monkeypatch: pytest.MonkeyPatch, package: Path) -> None:
    points = tuple(EntryPoint(name, "room_sounds:Rooms", GROUP) for name in ("rooms", "halls", "s4", "v1s", "not safe"))
    monkeypatch.setattr(plugins, "_entry_points", lambda group, _: points if group == GROUP else ())
    monkeypatch.syspath_prepend(package)
    assert dataset_names() == ("s4", "ms3", "avss", "halls", "rooms")
    assert find_dataset("rooms").name == "rooms"
    assert type(find_dataset("s4")).__module__ == "avsrobust.datasets.s4"
    assert type(find_dataset("V1S")).__module__ == "avsrobust.datasets.s4"
    with pytest.raises(OptionError, match=r"found 'room'; expected s4, ms3, avss, halls, rooms .*did you mean 'rooms'"):
        find_dataset("room")
    with pytest.raises(OptionError, match="halls: is registered under this name, but its class is named 'rooms'"):
        find_dataset("halls")


def test_masks_of_any_other_data_set_are_binary(data: Path) -> None:
    mask = next(path for path in (data / "rooms").glob("*/masks/0.png"))
    assert read_mask(mask, "rooms").dtype == bool
    for name in ("S4", "v1s", "../x"):
        with pytest.raises(OptionError, match="the name of a plug-in's data set"):
            read_mask(mask, name)


def test_patterns_of_files() -> None:
    files = ClipFiles("{clip_id}/{number}.png", "m/{split}/{clip_id}_{number}.png", "{clip_id}.wav", 2, first=3)
    spec = find_dataset(ROOMS)
    row = ClipRow(TableRow(2, ()), "x", "val", {}, ("dog", "piano"))
    clip = files.declare(spec, "", row)
    assert (clip.frames, clip.masks, clip.audio) == (
        ("x/3.png", "x/4.png"),
        ("m/val/x_3.png", "m/val/x_4.png"),
        "x.wav",
    )
    assert clip.broad == ("music", "animal")
    assert files.declare(spec, "f", row, only_first_mask=True).masks == ("f/m/val/x_3.png", None)
