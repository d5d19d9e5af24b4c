"""The cache of resized pictures: the same samples as without it, from files that are checked, bounded and ours."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avsrobust.adapters.base import AudioInput
from avsrobust.errors import DataSetError, OptionError
from avsrobust.manifest import load_manifest
from avsrobust.training import pictures as pictures_module
from avsrobust.training.data import TrainingBuild, TrainingSet
from avsrobust.training.pictures import Picture, open_cache
from avsrobust.training.recipe import DataPart, NegativesPart
from avsrobust.training.sampler import SampleIndex

SIZE = 32
EACH = 4 * SIZE * SIZE


@pytest.fixture(scope="module")
def builds(toy_builds: Path) -> list[TrainingBuild]:
    return [TrainingBuild(load_manifest(toy_builds / f"robust/{name}-seed42"), toy_builds) for name in ("s4", "ms3")]


def samples_of(builds: list[TrainingBuild], *, sees: bool = True, cache_mib: int = 2048) -> TrainingSet:
    data = DataPart(("s4", "ms3"), mirror=0.5, cache_mib=cache_mib)
    negatives = NegativesPart(0.3, ("offscreen", "silence"), 1)
    return TrainingSet(builds, data, negatives, audio=AudioInput.log_mel(), image_size=SIZE, sees=sees)


def files(builds: list[TrainingBuild], count: int) -> list[Picture]:
    rows = [row for row in builds[1].manifest.select(["train"], ["clean"]).rows for _ in row.frames]
    seconds = [second for row in rows for second in range(row.num_frames)]
    locate = builds[1].manifest.picture_path
    chosen = [
        Picture(
            locate(row.frames[second], builds[1].data_root),
            None if row.masks[second] is None else locate(row.masks[second] or "", builds[1].data_root),
            row.dataset,
            row.labels,
            row.foreground,
        )
        for row, second in zip(rows, seconds, strict=False)
    ]
    return chosen[:count]


def same(one: TrainingSet, other: TrainingSet) -> bool:
    pairs = [(one[index], other[index]) for index in (SampleIndex(n, 0, (n,)) for n in range(len(one)))]
    flat = [((a.frames, *a.queries[0], *a.queries[1]), (b.frames, *b.queries[0], *b.queries[1])) for a, b in pairs]
    return all(
        torch.equal(torch.as_tensor(x), torch.as_tensor(y))
        for first, second in flat
        for x, y in zip(first, second, strict=True)
    )


def test_samples_are_those_without_a_cache(builds: list[TrainingBuild], tmp_path: Path) -> None:
    plain, cached, again = (samples_of(builds) for _ in range(3))
    lines: list[str] = []
    steps: list[tuple[int, int]] = []
    cached.decode_once(tmp_path / "pictures", progress=lambda *done: steps.append(done), on_message=lines.append)
    assert len(lines) == 2
    assert steps[-1][0] == steps[-1][1] > 0
    assert same(plain, cached)
    again.decode_once(tmp_path / "pictures", on_message=lines.append)
    assert len(lines) == 2
    assert same(plain, again)
    assert same(plain, pickle.loads(pickle.dumps(again)))


def test_pictures_are_not_opened_again(
    builds: list[TrainingBuild], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = samples_of(builds)
    cached.decode_once(tmp_path / "pictures")
    again = samples_of(builds)

    def refuse(*_args: object) -> None:
        raise AssertionError("decoded twice")

    monkeypatch.setattr(pictures_module, "read_frame", refuse)
    monkeypatch.setattr(pictures_module, "read_mask", refuse)
    again.decode_once(tmp_path / "pictures")
    assert same(cached, again)


def test_a_bounded_cache_leaves_the_rest_to_the_files(builds: list[TrainingBuild], tmp_path: Path) -> None:
    plain, cached = samples_of(builds), samples_of(builds)
    cached._most_bytes = 3 * EACH
    cached.decode_once(tmp_path / "pictures")
    arrays = list((tmp_path / "pictures").glob("*/frames.npy"))
    assert [len(np.load(path)) for path in arrays] == [3]
    assert same(plain, cached)


def test_a_model_that_sees_nothing_gets_a_pixel_that_says_whether_anything_sounds(
    builds: list[TrainingBuild], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeing, blind = samples_of(builds), samples_of(builds, sees=False)
    monkeypatch.setattr(pictures_module, "read_frame", None)
    blind.decode_once(tmp_path / "pictures")
    monkeypatch.undo()
    for index in (SampleIndex(n, 0, (n,)) for n in range(len(seeing))):
        one, other = seeing[index], blind[index]
        assert other.frames.shape == (1, 3, 1, 1)
        for first, second in zip(one.queries, other.queries, strict=True):
            assert torch.equal(first.audio_labels, second.audio_labels)
            assert torch.equal(first.audio, second.audio)
            assert bool(first.target.any()) == bool(second.target.any())


@pytest.mark.parametrize("damage", ["array", "record", "missing"])
def test_a_damaged_cache_is_made_anew(builds: list[TrainingBuild], tmp_path: Path, damage: str) -> None:
    pictures, key = files(builds, 5), {"build": "x"}
    first = open_cache(tmp_path / "own", key, "pictures", SIZE, pictures, 1 << 20)
    assert first is not None
    whole = [first.read(number) for number in range(5)]
    path = first.folder / {"array": "frames.npy", "record": "cache.json", "missing": "masks.npy"}[damage]
    if damage == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[-2] ^= 1
        path.write_bytes(content)
    lines: list[str] = []
    second = open_cache(tmp_path / "own", key, "pictures", SIZE, pictures, 1 << 20, on_message=lines.append)
    assert second is not None
    assert len(lines) == 1
    for number, parts in enumerate(whole):
        assert all(torch.equal(one, other) for one, other in zip(parts, second.read(number), strict=True))


def test_another_build_or_size_has_a_cache_of_its_own(builds: list[TrainingBuild], tmp_path: Path) -> None:
    pictures = files(builds, 2)
    folders = set()
    for key, size in (({"build": "x"}, SIZE), ({"build": "y"}, SIZE), ({"build": "x"}, 16)):
        cache = open_cache(tmp_path / "own", key, "pictures", size, pictures, 1 << 20)
        assert cache is not None
        folders.add(cache.folder)
    assert len(folders) == 3


def test_nothing_is_left_of_a_cache_that_fails(builds: list[TrainingBuild], tmp_path: Path) -> None:
    pictures = files(builds, 3)
    pictures[2] = replace(pictures[2], frame=tmp_path / "absent.png")
    with pytest.raises(DataSetError, match=r"absent\.png"):
        open_cache(tmp_path / "own", {}, "pictures", SIZE, pictures, 1 << 20)
    assert not list((tmp_path / "own").glob("*/"))


def test_a_folder_that_is_not_ours_is_left_alone(builds: list[TrainingBuild], tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("x", encoding="utf-8")
    with pytest.raises(OptionError, match=r"holds theirs\.txt, which avsrobust did not write"):
        open_cache(tmp_path, {}, "pictures", SIZE, files(builds, 2), 1 << 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs.txt"]


def test_no_room_no_cache(builds: list[TrainingBuild], tmp_path: Path) -> None:
    assert open_cache(tmp_path / "own", {}, "pictures", SIZE, files(builds, 2), EACH - 1) is None


def test_all_cores_write_the_same(builds: list[TrainingBuild], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = files(builds, 8)
    here = open_cache(tmp_path / "here", {}, "pictures", SIZE, pictures, 1 << 20)
    monkeypatch.setattr(pictures_module, "_FEW", 2)
    monkeypatch.setattr(pictures_module, "_CHUNK", 3)
    there = open_cache(tmp_path / "there", {}, "pictures", SIZE, pictures, 1 << 20)
    assert here is not None
    assert there is not None
    sums = [json.loads((cache.folder / "cache.json").read_text(encoding="utf-8"))["sha256"] for cache in (here, there)]
    assert sums[0] == sums[1]


def test_a_full_disk_is_said_before_pictures_are_decoded(
    builds: list[TrainingBuild], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    monkeypatch.setattr(pictures_module, "read_frame", None)
    with pytest.raises(OptionError, match=r"cannot be written \(No space left on device\)"):
        open_cache(tmp_path / "own", {}, "pictures", SIZE, files(builds, 3), 1 << 20)
    assert not list((tmp_path / "own").glob("*/"))
