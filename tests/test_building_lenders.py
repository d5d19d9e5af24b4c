"""Sounds from elsewhere: clips of other splits and data sets, and a user's recordings of any kind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avsrobust.audio.made import FileReader, render_row
from avsrobust.building.build import build
from avsrobust.building.lenders import key_of, read_lenders
from avsrobust.building.verify import verify
from avsrobust.cli.main import invoke
from avsrobust.conditions.recipe import load_recipe, parse_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.errors import RecipeError
from avsrobust.manifest import load_manifest


def recipe(conditions: dict, *, store_audio: bool = False):
    content = {"kind": "build", "name": "x", "description": "x", "store_audio": store_audio, "conditions": conditions}
    return parse_recipe(content, "test")


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Recordings that can be used, and others that cannot."""
    folder = tmp_path / "sounds"
    (folder / "sub").mkdir(parents=True)
    generator = np.random.default_rng(0)
    soundfile.write(folder / "thunder.wav", generator.uniform(-0.5, 0.5, 80_000), 11025)
    soundfile.write(folder / "sub/ocean.flac", generator.uniform(-0.5, 0.5, (30_000, 2)), 22050)
    soundfile.write(folder / "silence.wav", np.zeros(8000), 8000)
    soundfile.write(folder / "My-Dog.wav", generator.uniform(-0.5, 0.5, 80_000), 11025)
    (folder / "broken.wav").write_bytes(b"RIFF nothing at all")
    soundfile.write(folder / "constant.wav", np.full(8000, 0.25), 8000)
    soundfile.write(folder / "cancelled.wav", np.outer(generator.uniform(-0.5, 0.5, 8000), [1, -1]), 8000)
    Path(os.fsdecode(os.fsencode(folder) + b"/r\xe9c.wav")).write_bytes((folder / "thunder.wav").read_bytes())
    (folder / "empty.ogg").write_bytes(b"")
    (folder / "notes.txt").write_text("no sound")
    shutil.copy(folder / "thunder.wav", folder / "thunder_again.wav")
    return folder


def test_recordings_that_cannot_be_used_are_listed(s4_root, sounds: Path) -> None:
    lenders = read_lenders(read_dataset("s4", s4_root.root), recipe({"unseen": {"folder": str(sounds)}}))
    pool = lenders.recordings["unseen"]
    assert [entry.name for entry in pool.recordings] == ["My-Dog.wav", "sub/ocean.flac", "thunder.wav"]
    reasons = dict(pool.skipped)
    silent = {"silence.wav", "constant.wav", "cancelled.wav"}
    assert reasons.keys() == {"broken.wav", "empty.ogg", "r\\xe9c.wav", "thunder_again.wav", *silent}
    assert {reasons[name] for name in silent} == {"the recording is silent or nearly so"}
    assert reasons["r\\xe9c.wav"] == "its name is no text in UTF-8"
    assert reasons["thunder_again.wav"] == "the same recording is there under another name"
    assert all(f"unseen: {name} is not used: {reason}" in lenders.notes for name, reason in reasons.items())
    assert {entry.stored for entry in pool.recordings} == set(lenders.sounds)


def test_for_avss_names_of_categories_are_left_out_and_listed(avsbench, sounds: Path) -> None:
    avsbench.semantic([("a_0_0_5000", "dog", "test", "v2"), ("b_0_0_5000", "piano", "test", "v2")])
    lenders = read_lenders(read_dataset("avss", avsbench.root), recipe({"unseen": {"folder": str(sounds)}}))
    assert [entry.name for entry in lenders.recordings["unseen"].recordings] == ["sub/ocean.flac", "thunder.wav"]
    assert "unseen: My-Dog.wav is not used: its name says 'dog', a category of avss" in lenders.notes


def test_a_build_with_recordings_needs_the_folder_no_more(s4_root, sounds: Path, tmp_path: Path) -> None:
    build(read_dataset("s4", s4_root.root), recipe({"clean": {}, "unseen": {"folder": str(sounds)}}), 3, tmp_path / "b")
    shutil.rmtree(sounds)
    manifest = load_manifest(tmp_path / "b")
    read = FileReader(lambda name: manifest.file(name, s4_root.root))
    rows = [row for row in manifest.rows if row.condition == "unseen"]
    assert len(rows) == 4
    for row in rows:
        made, rate = render_row(row, read)
        assert (rate, made.samples.size) == (8000, 40_000)
        assert made.samples.any()
    assert verify(tmp_path / "b").problems == ()
    assert sorted((tmp_path / "b/audio/recordings").iterdir())
    assert any("is not used" in note for note in manifest.info.notes)


@pytest.mark.parametrize("make", ["missing", "empty", "unusable", "a file"])
def test_a_folder_without_recordings_is_one_line(make: str, s4_root, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "none"
    if make == "a file":
        folder.write_text("x")
    elif make != "missing":
        folder.mkdir()
    if make == "unusable":
        (folder / "x.wav").write_bytes(b"RIFFxxxxWAVE")
    words = [
        "build",
        "--dataset",
        "s4",
        "--data-root",
        s4_root.root,
        "--recordings",
        folder,
        "--output",
        tmp_path / "b",
    ]
    assert invoke([str(word) for word in words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert str(folder) in lines[0]
    assert not (tmp_path / "b").exists()


def test_the_pool_decides_who_lends(s4_root) -> None:
    s4_root.ms3([("m_1", "train"), ("m_2", "test")])
    s4_root.metadata([("m", "m_1_0_5000", "piano", "train", "v1m"), ("m", "m_2_0_5000", "dog_piano", "test", "v1m")])
    test = read_dataset("s4", s4_root.root, splits=["test"])
    of = {
        pool: [key_of(clip) for clip in read_lenders(test, recipe({"offscreen": {"pool": pool}})).clips]
        for pool in ("split", "dataset", "release")
    }
    assert of["split"] == []
    assert of["dataset"] == ["s4:male_speech/d_1", "s4:helicopter/c_1"]
    assert {name.partition(":")[0] for name in of["release"]} <= {"s4", "ms3"}
    assert set(of["dataset"]) < set(of["release"]) or any(
        "ms3 lends none" in note for note in read_lenders(test, recipe({"offscreen": {"pool": "release"}})).notes
    )


def test_a_lender_that_cannot_be_read_lends_nothing(s4_root, tmp_path: Path) -> None:
    val = next(s4_root.root.rglob("audio_wav/val/**/*.wav"))
    val.write_bytes(b"RIFF broken")
    recipe_ = recipe({"clean": {}, "offscreen": {"pool": "dataset", "draws": 1}})
    build(read_dataset("s4", s4_root.root, splits=["test"]), recipe_, 3, tmp_path / "b", on_error="skip")
    manifest = load_manifest(tmp_path / "b")
    assert "helicopter/c_1" not in {row.source_clip_id for row in manifest.rows}


def test_recordings_of_the_option_keep_the_recipes_other_options(sounds: Path) -> None:
    written = recipe({"clean": {}, "unseen": {"folder": "elsewhere", "draws": 2, "front_end": "librosa"}})
    entry = next(entry for entry in written.adapted(recordings=sounds).entries if entry.name == "unseen")
    assert (entry.condition.folder, entry.condition.draws, entry.front_end) == (str(sounds), 2, "librosa")
    added = load_recipe("standard").adapted(recordings=sounds)
    assert added.condition_names == ("clean", "noise", "offscreen", "silence", "unseen")
    with pytest.raises(RecipeError, match=r"conditions\.unseen"):
        recipe({"unseen": {}})


def test_a_dry_run_says_which_recordings_are_not_used_and_what_is_kept(
    s4_root, sounds: Path, tmp_path: Path, capsys
) -> None:
    words = ["build", "--dataset", "s4", "--data-root", s4_root.root, "--recordings", sounds, "--dry-run"]
    assert invoke([str(word) for word in words]) == 0
    printed = capsys.readouterr().out
    assert "note: unseen: silence.wav is not used: the recording is silent" in printed
    build(read_dataset("s4", s4_root.root), load_recipe("standard").adapted(recordings=sounds), 42, tmp_path / "b")
    count = len(list((tmp_path / "b").rglob("*.wav")))
    assert f"would write: {count} sounds" in printed
