"""Building: the same bytes whatever happens on the way, nothing half-written, clear refusals."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avsrobust.audio.front_ends import log_mel_of_file
from avsrobust.building import layout, render
from avsrobust.building.build import build
from avsrobust.building.verify import verify
from avsrobust.conditions.noise import white_noise
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.errors import OptionError
from avsrobust.files import TEMPORARY_SUFFIX, sha256_of_file
from avsrobust.manifest import Skipped, load_manifest

STANDARD = load_recipe("standard")
CLIPS = 12
FILES = CLIPS + 1 + 4  # noises, silence, a shard per split and one for silence


@pytest.fixture(scope="module")
def data(tmp_path_factory, toy_in) -> Path:
    """A toy of S4 and MS3. Tests must not change it."""
    return toy_in(tmp_path_factory.mktemp("toy"), s4=CLIPS, ms3=CLIPS, seed=3)


@pytest.fixture(scope="module")
def built(data, tmp_path_factory) -> Path:
    """The build that all others are compared with. Tests must not change it."""
    output = tmp_path_factory.mktemp("built") / "s4"
    report = build(read_dataset("s4", data), STANDARD, 42, output)
    assert (report.rows, report.rendered, report.reused, report.skipped) == (4 * CLIPS, FILES, 0, ())
    return output


@pytest.fixture
def own_data(data, tmp_path) -> Path:
    """A copy of the toy that a test may change."""
    return Path(shutil.copytree(data, tmp_path / "own"))


@pytest.fixture
def small_tasks(monkeypatch):
    """Many small tasks, so that several workers have something to do. Files stay what they are."""
    monkeypatch.setattr(render, "_INSPECTED_AT_ONCE", 2)
    monkeypatch.setattr(render, "_MADE_AT_ONCE", 2)


def checksums(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_row_has_its_sound_and_its_log_mel(built, data):
    manifest = load_manifest(built)
    assert Counter(row.condition for row in manifest.rows) == dict.fromkeys(STANDARD.condition_names, CLIPS)
    clips = {clip.clip_id: clip for clip in read_dataset("s4", data).clips}
    for row in manifest.rows:
        path = manifest.audio_path(row, data)
        log_mels = np.load(manifest.log_mel_path(row), mmap_mode="r")
        assert np.array_equal(log_mels[row.log_mel_row], log_mel_of_file("vggish", path, row.num_frames))
        assert row.audio_sha256 == sha256_of_file(path)
        samples, rate = soundfile.read(path, dtype="int16")
        clip = clips[row.clip_id]
        assert rate == row.sample_rate == clip.sound.sample_rate
        assert len(samples) / rate == row.duration_s
        if row.condition == "noise":
            assert np.array_equal(samples, white_noise(row.seed, clip.sound.num_samples))
        elif row.condition == "silence":
            assert len(samples) == clip.sound.num_samples
            assert not samples.any()
        else:
            source = clips[row.source_clip_id] if row.condition == "offscreen" else clip
            assert row.audio == f"data:{source.audio}"
    assert verify(built).problems == ()


def test_every_sound_is_on_disk_once(built):
    sounds = [path.read_bytes() for path in built.rglob("*.wav")]
    assert len(sounds) == len(set(sounds)) == CLIPS + 1


@pytest.mark.parametrize(("engine", "workers"), [("local", 1), ("local", 2), ("dask", 2)])
def test_engine_and_workers_do_not_change_a_byte(built, data, tmp_path, small_tasks, engine, workers, recwarn):
    seen = []
    build(
        read_dataset("s4", data),
        STANDARD,
        42,
        tmp_path / "b",
        engine=engine,
        workers=workers,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert checksums(tmp_path / "b") == checksums(built)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    # Also while the data set's files are looked at, it is not as good as done.
    assert all(done <= total / 2 for done, total in seen if done <= CLIPS)
    assert seen[-1][0] == seen[-1][1] == CLIPS + (CLIPS + 1) + (2 * CLIPS + 1)
    assert [str(warning.message) for warning in recwarn if "avsrobust" in str(warning.filename)] == []


@pytest.mark.parametrize("recipe", ["standard", "reference"])
@pytest.mark.parametrize("name", ["s4", "ms3"])
def test_the_order_of_listings_does_not_change_a_byte(data, tmp_path, monkeypatch, name, recipe):
    build(read_dataset(name, data), load_recipe(recipe), 42, tmp_path / "sorted")
    listdir, iterdir, shuffler = os.listdir, Path.iterdir, random.Random(0)

    def shuffled(entries):
        entries = list(entries)
        shuffler.shuffle(entries)
        return entries

    monkeypatch.setattr(os, "listdir", lambda *arguments: shuffled(listdir(*arguments)))
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(shuffled(iterdir(self))))
    dataset = read_dataset(name, data)
    dataset = replace(dataset, clips=tuple(shuffled(dataset.clips)))
    build(dataset, load_recipe(recipe), 42, tmp_path / "shuffled")
    assert checksums(tmp_path / "shuffled") == checksums(tmp_path / "sorted")


def test_the_place_of_the_data_does_not_change_a_byte(built, own_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build(read_dataset("s4", Path("own")), STANDARD, 42, tmp_path / "b")
    assert checksums(tmp_path / "b") == checksums(built)
    assert (tmp_path / "b" / "data_root").resolve() == own_data.resolve()


KILLED = """
import os, signal, sys
from pathlib import Path
from avsrobust.building import render
from avsrobust.building.build import build
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import read_dataset
data, output, workers, renames, progress = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
render._MADE_AT_ONCE = 2
rename, count = Path.replace, 0
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def counted(self, target):
    global count
    count += 1
    if count == renames:
        die()
    return rename(self, target)
Path.replace = counted
if __name__ == "__main__":
    build(read_dataset("s4", data), load_recipe("standard"), 42, output, workers=workers,
          progress=lambda done, total: die() if done >= progress else None)
"""
NEVER = 10**6


@pytest.mark.parametrize(
    ("workers", "renames", "progress", "least", "most"),
    [
        pytest.param(1, 1, NEVER, 0, 0, id="before-the-marker"),
        pytest.param(1, 2, NEVER, 0, 0, id="before-build-json"),
        pytest.param(1, 7, NEVER, 4, 4, id="inside-a-sound"),
        pytest.param(1, 2 + CLIPS + 1 + 2, NEVER, CLIPS + 2, CLIPS + 2, id="inside-a-shard"),
        pytest.param(1, 2 + FILES + 1, NEVER, FILES, FILES, id="inside-the-manifest"),
        pytest.param(2, NEVER, CLIPS + 4, 4, FILES - 1, id="two-workers"),
    ],
)
def test_killed_and_continued(built, data, tmp_path, workers, renames, progress, least, most):
    output = tmp_path / "b"
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), *map(str, (data, output, workers, renames, progress))]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert not (output / "manifest.parquet").exists()
    if workers == 1:
        assert any(output.rglob(f"*{TEMPORARY_SUFFIX}"))
    report = build(read_dataset("s4", data), STANDARD, 42, output)
    assert least <= report.reused <= most
    assert report.reused + report.rendered == FILES
    assert checksums(output) == checksums(built)


def test_a_finished_build_is_left_as_it_is(built, data, tmp_path):
    output = Path(shutil.copytree(built, tmp_path / "b", symlinks=True))
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    report = build(read_dataset("s4", data), STANDARD, 42, output)
    assert (report.rendered, report.reused, report.rows) == (0, FILES, 4 * CLIPS)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("damage", ["deleted", "shortened"])
def test_a_finished_build_gets_back_what_it_lost(built, data, tmp_path, damage):
    output = Path(shutil.copytree(built, tmp_path / "b", symlinks=True))
    for path in (next(output.rglob("noise/**/*.wav")), next(output.rglob("val/**/*.npy")), output / "manifest.parquet"):
        if damage == "deleted":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-100])
    report = build(read_dataset("s4", data), STANDARD, 42, output)
    assert (report.rendered, report.reused) == (2, FILES - 2)
    assert checksums(output) == checksums(built)


def test_one_split_has_the_rows_it_has_in_the_whole(built, data, tmp_path):
    build(read_dataset("s4", data, splits=("val",)), STANDARD, 42, tmp_path / "b")
    alone, whole = load_manifest(tmp_path / "b"), load_manifest(built).select(["val"])
    assert alone.rows == whole.rows
    assert alone.info.fingerprints == {"val": whole.info.fingerprints["val"]}
    with pytest.raises(OptionError, match="holds a build of other splits"):
        build(read_dataset("s4", data), STANDARD, 42, tmp_path / "b")


def test_removing_a_clip_leaves_the_other_sounds(built, data, tmp_path):
    dataset = read_dataset("s4", data)
    source_clips = Counter(row.source_clip_id for row in load_manifest(built).rows if row.source_clip_id)
    gone = source_clips.most_common(1)[0][0]
    build(replace(dataset, clips=tuple(c for c in dataset.clips if c.clip_id != gone)), STANDARD, 42, tmp_path / "b")
    before = {row.key: row for row in load_manifest(built).rows}
    after = load_manifest(tmp_path / "b").rows
    assert {row.key for row in before.values()} - {row.key for row in after} >= {
        key for key, row in before.items() if row.clip_id == gone
    }
    for row in after:
        old = before[row.key]
        assert row.audio_sha256 == old.audio_sha256 or old.source_clip_id == gone


def test_ms3_without_categories_is_built_but_for_off_screen_sounds(own_data, tmp_path):
    next(own_data.rglob("metadata.csv")).unlink()
    report = build(read_dataset("ms3", own_data), STANDARD, 42, tmp_path / "b")
    rows = load_manifest(tmp_path / "b").rows
    assert Counter(row.condition for row in rows) == {"clean": CLIPS, "noise": CLIPS, "silence": CLIPS}
    assert [(entry.clip_id, entry.condition) for entry in report.skipped] == [("*", "offscreen")]
    assert "metadata.csv" in report.skipped[0].reason
    assert str(own_data) not in report.skipped[0].reason
    assert verify(tmp_path / "b").problems == ()


def test_awkward_names_are_names(avsbench, tmp_path):
    names = ["-x 1", "ü ß", "a.b%20", "x'\"$(y)", "日本"]
    avsbench.s4([(name, "dog_barking", "test") for name in names] + [("p", "playing_piano", "test")])
    report = build(read_dataset("s4", avsbench.root), STANDARD, 42, tmp_path / "o ü", export="avsbench")
    assert report.rows == 24
    assert verify(tmp_path / "o ü").problems == ()
    assert {path.stem for path in (tmp_path / "o ü").glob("audio/noise/test/dog_barking/*.wav")} == set(names)
    loaded = {row.clip_id for row in load_manifest(tmp_path / "o ü").rows}
    assert loaded == {f"dog_barking/{name}" for name in names} | {"playing_piano/p"}


def test_avss_clips_of_two_lengths_are_built_side_by_side(avsbench, tmp_path):
    clips = [
        ("a_0_5000", "dog", "test", "v1s"),
        ("b_0_5000", "piano_man", "test", "v1m"),
        ("c_0_10000", "car", "test", "v2"),
        ("d_0_10000", "flute", "test", "v2"),
    ]
    avsbench.semantic(clips)
    report = build(read_dataset("avss", avsbench.root), STANDARD, 42, tmp_path / "b")
    manifest = load_manifest(tmp_path / "b")
    assert report.rows == 16
    assert verify(tmp_path / "b").problems == ()
    for row in manifest.rows:
        log_mel = np.load(manifest.log_mel_path(row))[row.log_mel_row]
        assert log_mel.shape == (10 if row.clip_id.startswith("v2/") else 5, 1, 96, 64)


def test_the_reference_recipe_on_a_real_tree(data, tmp_path):
    recipe = load_recipe("reference")
    dataset = read_dataset("s4", data)
    build(dataset, recipe, 42, tmp_path / "b")
    manifest = load_manifest(tmp_path / "b")
    generator = np.random.RandomState(42)
    draws = {}
    for split in ("test", "train", "val"):
        for key in sorted(clip.clip_id for clip in dataset.clips if clip.split == split):
            draws[key] = generator.uniform(-1, 1, 220500).view("<i2")
    for row in manifest.rows:
        path = manifest.audio_path(row, data)
        front_end = "vggish" if row.condition == "clean" else "librosa"
        log_mel = np.load(manifest.log_mel_path(row))[row.log_mel_row]
        assert np.array_equal(log_mel, log_mel_of_file(front_end, path, 5))
        if row.condition == "noise":
            samples, rate = soundfile.read(path, dtype="int16")
            assert (rate, row.sample_rate, row.duration_s) == (44100, 44100, 20.0)
            assert np.array_equal(samples, draws[row.clip_id])
        elif row.condition == "silence":
            assert (row.sample_rate, row.duration_s) == (11025, 5.0)
    assert any("noise: as the released AVSBench-Robust generator" in note for note in manifest.info.notes)
    assert verify(tmp_path / "b").problems == ()


def test_the_reference_recipe_sees_sounds_that_no_table_names(own_data, tmp_path):
    dataset, recipe = read_dataset("s4", own_data), load_recipe("reference")
    build(dataset, recipe, 42, tmp_path / "before")
    first = min((clip for clip in dataset.clips if clip.split == "test"), key=lambda clip: clip.clip_id)
    extra = own_data / first.audio
    shutil.copy(extra, extra.with_name("!first.wav"))
    build(dataset, recipe, 42, tmp_path / "after")
    noises = []
    for name in ("before", "after"):
        rows = load_manifest(tmp_path / name).rows
        noises.append({row.clip_id: row.audio_sha256 for row in rows if row.condition == "noise"})
    # The unnamed sound takes the first draw, so every clip has another one than before.
    assert set(noises[0]) == set(noises[1])
    assert all(noises[0][clip_id] != noises[1][clip_id] for clip_id in noises[0])
    assert noises[0][first.clip_id] not in noises[1].values()


def test_shard_size_is_part_of_the_files():
    # Changing it changes the bytes of builds: a new version of the manifest is due then.
    assert layout.SHARD_SOUNDS == 64


def test_build_json_says_what_lies_there(built):
    content = json.loads((built / "build.json").read_text())
    assert (content["dataset"], content["seed"], content["splits"]) == ("s4", 42, ["test", "train", "val"])
    assert content["recipe"] == STANDARD.as_dict()


def test_left_out_rows_are_reported(avsbench, tmp_path):
    avsbench.s4([("a", "dog_barking", "test"), ("b", "dog_barking", "test")])
    report = build(read_dataset("s4", avsbench.root), STANDARD, 42, tmp_path / "b")
    assert report.rows == 6
    reason = "no clip of split 'test' is free of its categories (dog_barking)"
    assert report.skipped == tuple(Skipped(f"dog_barking/{name}", "offscreen", reason) for name in "ab")
    assert verify(tmp_path / "b").problems == ()
