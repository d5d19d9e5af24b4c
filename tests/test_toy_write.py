"""The toy on disk: AVSBench's layouts, the same bytes each time, and nobody else's files touched."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import wave
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avsrobust.datasets.masks import palette
from avsrobust.datasets.read import read_dataset
from avsrobust.datasets.taxonomy import AVSS_CLASSES, S4_CATEGORY, S4_SUPERCATEGORY
from avsrobust.errors import OptionError
from avsrobust.folders import ensure_output_dir
from avsrobust.toy.records import RECORD_NAME
from avsrobust.toy.scenes import plan_scene
from avsrobust.toy.write import write_toy

CLIPS = {"s4": 18, "ms3": 8, "avss": 5}


def write_all(out: Path, clips: dict[str, int], order: tuple[str, ...] | None = None) -> Path:
    for dataset in order or tuple(clips):
        write_toy(out, dataset, clips=clips[dataset])
    return out


def checksums(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("toy"), CLIPS)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_s4_has_the_layout_of_the_object_release(root: Path) -> None:
    tree = root / "Single-source"
    assert (tree / "s4_meta_data.csv").read_text().splitlines()[0] == "name,start_time,category,split"
    rows = table(tree / "s4_meta_data.csv")
    assert len(rows) == len({row["name"] for row in rows}) == 18
    for row in rows:
        name, place = row["name"], f"{row['split']}/{row['category']}"
        assert row["category"] in S4_SUPERCATEGORY
        data = tree / "s4_data"
        frames = [data / "visual_frames" / place / name / f"{name}_{k}.png" for k in range(1, 6)]
        assert sorted(frames[0].parent.iterdir()) == frames
        masked = [1] if row["split"] == "train" else [1, 2, 3, 4, 5]
        masks = [data / "gt_masks" / place / name / f"{name}_{k}.png" for k in masked]
        assert sorted(masks[0].parent.iterdir()) == masks
        assert {pixels(frame).shape for frame in frames} == {(224, 224, 3)}
        assert all(set(np.unique(pixels(mask))) == {0, 255} and pixels(mask).shape == (224, 224) for mask in masks)
        with wave.open(str(data / "audio_wav" / place / f"{name}.wav")) as sound:
            assert sound.getparams()[:3] == (1, 2, 44100)
            assert sound.getnframes() == 44100 * min(5, 10 - int(row["start_time"]))


def test_ms3_has_the_layout_of_the_object_release(root: Path) -> None:
    tree = root / "Multi-sources"
    assert (tree / "ms3_meta_data.csv").read_text().splitlines()[0] == "video_id,split"
    rows = table(tree / "ms3_meta_data.csv")
    assert len(rows) == 8
    empty = 0
    for row in rows:
        name = row["video_id"]
        data = tree / "ms3_data"
        frames = [data / "visual_frames" / name / f"{name}.mp4_{k}.png" for k in range(1, 6)]
        masks = [data / "gt_masks" / row["split"] / name / f"{name}_{k}.png" for k in range(1, 6)]
        assert sorted(frames[0].parent.iterdir()) == frames
        assert sorted(masks[0].parent.iterdir()) == masks
        empty += sum(not pixels(mask).any() for mask in masks)
        with wave.open(str(data / "audio_wav" / row["split"] / f"{name}.wav")) as sound:
            assert sound.getnframes() == 5 * 44100
    assert 0 < empty < 30


def test_avss_has_the_layout_of_the_semantic_release(root: Path) -> None:
    tree = root / "AVSBench_semantic"
    assert (tree / "metadata.csv").read_text().splitlines()[0] == "vid,uid,s_min,s_sec,a_obj,split,label"
    numbers = json.loads((tree / "label2idx.json").read_text())
    assert numbers == {name: number for number, name in enumerate(AVSS_CLASSES, start=1)}
    rows = table(tree / "metadata.csv")
    assert {row["label"] for row in rows} == {"v1s", "v1m", "v2"}
    for row in rows:
        folder = tree / row["label"] / row["uid"]
        count = 10 if row["label"] == "v2" else 5
        masked = 1 if (row["label"], row["split"]) == ("v1s", "train") else count
        allowed = {0, *(AVSS_CLASSES.index(name) for name in row["a_obj"].split("_"))}
        assert sorted(path.name for path in (folder / "frames").iterdir()) == [f"{k}.jpg" for k in range(count)]
        size = pixels(folder / "frames" / "0.jpg").shape[:2]
        for kind in ("labels_semantic", "labels_rgb"):
            assert sorted(path.name for path in (folder / kind).iterdir()) == [f"{k}.png" for k in range(masked)]
        seen = {0}
        for k in range(masked):
            classes = pixels(folder / "labels_semantic" / f"{k}.png")
            assert classes.shape == size
            assert np.array_equal(pixels(folder / "labels_rgb" / f"{k}.png"), palette()[classes][..., ::-1])
            seen |= set(np.unique(classes).tolist())
        assert seen == allowed
        with wave.open(str(folder / "audio.wav")) as sound:
            assert sound.getnframes() <= count * 44100
            assert row["label"] != "v2" or sound.getnframes() == 10 * 44100


def test_the_releases_share_their_clips_as_in_avsbench(root: Path) -> None:
    semantic = {row["vid"]: row for row in table(root / "AVSBench_semantic" / "metadata.csv")}
    s4 = {row["name"]: row for row in table(root / "Single-source" / "s4_meta_data.csv")}
    ms3 = {row["video_id"]: row for row in table(root / "Multi-sources" / "ms3_meta_data.csv")}
    shared = semantic.keys() & s4.keys()
    assert len(shared) == sum(row["label"] == "v1s" for row in semantic.values()) > 0
    for vid in shared:
        assert s4[vid]["category"] == S4_CATEGORY[semantic[vid]["a_obj"]]
        assert s4[vid]["split"] == semantic[vid]["split"]
    assert {vid for vid, row in semantic.items() if row["label"] == "v1m"} == ms3.keys()
    for vid, row in ms3.items():
        folder = root / "AVSBench_semantic" / "v1m" / semantic[vid]["uid"]
        data = root / "Multi-sources" / "ms3_data"
        assert row["split"] == semantic[vid]["split"]
        sound = data / "audio_wav" / row["split"] / f"{vid}.wav"
        assert sound.read_bytes() == (folder / "audio.wav").read_bytes()
        for k in range(5):
            mask = pixels(data / "gt_masks" / row["split"] / vid / f"{vid}_{k + 1}.png")
            assert np.array_equal(mask > 0, pixels(folder / "labels_semantic" / f"{k}.png") > 0)


@pytest.mark.parametrize("dataset", CLIPS)
def test_the_reader_finds_no_fault(root: Path, dataset: str) -> None:
    found = read_dataset(dataset, root)
    assert found.findings == ()
    assert found.off_screen_obstacle is None
    expected = {"s4": 18, "ms3": 8, "avss": 2 + 8 + 2}
    assert len(found.clips) == expected[dataset]
    assert all(clip.labels and clip.broad for clip in found.clips)


def test_ms3_alone_has_its_categories(root: Path, tmp_path: Path) -> None:
    write_toy(tmp_path, "ms3", clips=8)
    assert sorted(path.name for path in (tmp_path / "AVSBench_semantic").iterdir()) == ["metadata.csv"]
    alone, beside = read_dataset("ms3", tmp_path), read_dataset("ms3", root)
    assert alone.findings == ()
    assert alone.off_screen_obstacle is None
    assert alone.clips == beside.clips
    labels = {f"mix0_{index:05d}": set(plan_scene("multi", 0, index).labels) for index in range(8)}
    assert {clip.clip_id: set(clip.labels) for clip in alone.clips} == labels


@pytest.mark.parametrize("clips", [{"s4": 1, "ms3": 3, "avss": 3}, {"ms3": 1, "avss": 8}], ids=["more-ms3", "more-v1m"])
def test_the_order_of_writing_does_not_matter(tmp_path: Path, clips: dict[str, int]) -> None:
    trees = [checksums(write_all(tmp_path / "-".join(order), clips, order)) for order in permutations(clips)]
    assert len(trees) > 1
    assert all(tree == trees[0] for tree in trees)


def test_the_same_call_again_completes_the_tree(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "toy"
    shutil.copytree(root, out)
    victims = ["Multi-sources/ms3_meta_data.csv", *sorted(checksums(out / "Multi-sources/ms3_data"))[:7]]
    (out / victims[0]).unlink()
    for victim in victims[1:]:
        (out / "Multi-sources/ms3_data" / victim).unlink()
    write_toy(out, "ms3", clips=8)
    assert checksums(out) == checksums(root)


def test_more_clips_leave_the_earlier_ones_as_they_were(root: Path, tmp_path: Path) -> None:
    write_toy(tmp_path, "avss", clips=10)
    more, fewer = checksums(tmp_path / "AVSBench_semantic"), checksums(root / "AVSBench_semantic")
    shared = {name for name in more.keys() & fewer.keys() if name.startswith("v")}
    assert len({name.split("/")[1] for name in shared}) == 6
    assert all(more[name] == fewer[name] for name in shared)
    shared_labels = [row for row in table(root / "AVSBench_semantic/metadata.csv") if row["label"] in ("v1s", "v2")]
    assert all(row in table(tmp_path / "AVSBench_semantic/metadata.csv") for row in shared_labels)


def test_another_seed_gives_other_clips(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_toy(tmp_path / str(seed), "s4", clips=1, seed=seed)
    assert not set(checksums(tmp_path / "0").values()) & set(checksums(tmp_path / "1").values())


def test_progress_is_reported(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    assert write_toy(tmp_path, "ms3", clips=2, progress=lambda done, total: calls.append((done, total))) == tmp_path
    assert calls == [(0, 2), (1, 2), (2, 2)]


def test_a_tree_made_with_other_arguments_is_refused(tmp_path: Path) -> None:
    write_toy(tmp_path, "ms3", clips=1)
    before = checksums(tmp_path)
    with pytest.raises(OptionError, match=r"found the toy of 1 clip of ms3 with seed 0; expected 2 clips of ms3"):
        write_toy(tmp_path, "ms3", clips=2)
    with pytest.raises(
        OptionError, match=r"found the toy of 1 clip of ms3 with seed 0; expected 1 clip of avss with seed 1"
    ):
        write_toy(tmp_path, "avss", clips=1, seed=1)
    assert checksums(tmp_path) == before


@pytest.mark.parametrize(
    ("dataset", "there"),
    [
        ("s4", "Single-source/s4_meta_data.csv"),
        ("ms3", "Multi-sources/x"),
        ("ms3", "AVSBench_semantic/metadata.csv"),
        ("avss", "AVSBench_semantic/metadata.csv"),
        ("avss", "AVSS/metadata.csv"),
        ("ms3", "metadata.csv"),
    ],
)
def test_foreign_trees_are_left_alone(tmp_path: Path, dataset: str, there: str) -> None:
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text("somebody's")
    with pytest.raises(OptionError, match=r"is there already, and 'avsrobust toy' did not make it"):
        write_toy(tmp_path, dataset, clips=1)
    assert list(checksums(tmp_path)) == [there]


def test_other_files_beside_the_toy_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "Single-source").mkdir()
    write_toy(tmp_path, "s4", clips=1)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "Single-source" / RECORD_NAME).is_file()


@pytest.mark.parametrize("text", ["", "[]", '{"clips": 3}'])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    write_toy(tmp_path, "s4", clips=1)
    (tmp_path / "Single-source" / RECORD_NAME).write_text(text)
    with pytest.raises(OptionError, match=r"toy\.json: cannot be read as the toy's record"):
        write_toy(tmp_path, "s4", clips=1)


def test_unusable_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--dataset: found 'ms4'; expected s4, ms3 or avss; did you mean"):
        write_toy(tmp_path / "out", "ms4")
    with pytest.raises(OptionError, match=r"--clips: found 0; expected at least 1"):
        write_toy(tmp_path / "out", "s4", clips=0)
    with pytest.raises(OptionError, match=r"--seed: found -1; expected an integer from 0"):
        write_toy(tmp_path / "out", "s4", seed=-1)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=r"cannot be made a folder"):
        write_toy(tmp_path / "file", "s4", clips=1)


def test_several_processes_write_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avsrobust.toy.write._MANY", 2)
    steps: list[tuple[int, int]] = []
    write_toy(tmp_path / "two", "s4", clips=3, workers=2, progress=lambda *done: steps.append(done))
    write_toy(tmp_path / "one", "s4", clips=3)
    assert checksums(tmp_path / "two") == checksums(tmp_path / "one")
    assert steps[-1] == (3, 3)


def test_a_build_holds_no_toy(tmp_path: Path) -> None:
    build = tmp_path / "robust" / "s4-seed42"
    ensure_output_dir(build, "build", 2)
    before = sorted(build.iterdir())
    with pytest.raises(
        OptionError, match=r"s4-seed42: holds a build; expected a folder that 'avsrobust toy' may write"
    ):
        write_toy(build, "s4", clips=1)
    assert sorted(build.iterdir()) == before
    write_toy(tmp_path / "robust", "s4", clips=1)
