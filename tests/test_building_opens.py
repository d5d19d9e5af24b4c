"""How often a build opens each recording of the data set: reading is what slow disks make expensive."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from avsrobust import api
from avsrobust.building.build import build
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import list_dataset
from avsrobust.files import TEMPORARY_SUFFIX
from avsrobust.manifest import load_manifest

COUNTERS: list[Counter[str]] = []


def count(event: str, arguments: tuple[Any, ...]) -> None:
    if COUNTERS and event == "open" and isinstance(arguments[0], str | Path) and str(arguments[0]).endswith(".wav"):
        COUNTERS[-1][str(Path(arguments[0]).resolve())] += 1


sys.addaudithook(count)


@contextmanager
def counting(root: Path) -> Iterator[Counter[str]]:
    """Count the times that each wav below `root` is opened in this process, whichever function opens it."""
    COUNTERS.append(Counter())
    found: Counter[str] = Counter()
    try:
        yield found
    finally:
        opened = COUNTERS.pop()
        found.update({path: times for path, times in opened.items() if Path(path).is_relative_to(root.resolve())})


def wavs_of(root: Path) -> set[str]:
    return {str(path.resolve()) for path in root.rglob("*.wav")}


@pytest.mark.parametrize("dataset", ["s4", "ms3", "avss"])
def test_a_build_opens_a_recording_twice(tmp_path: Path, toy_in: Callable[..., Path], dataset: str) -> None:
    """Once for its header and the survey (checksum and samples), and once for all log-mels made of it.

    AVSS has clips of 5 and of 10 frames, and a recording that is a source clip for both has a log-mel of either length.
    """
    root = tmp_path / "data"
    toy_in(root, **{dataset: 6}, seed=0)
    with counting(root) as opened:
        api.build(dataset, seed=1, data_root=root, output=tmp_path / "build", on_error="skip")
    assert set(opened) == wavs_of(root)
    assert max(opened.values()) <= 2
    log_mels: dict[str, set[int]] = {}
    for row in load_manifest(tmp_path / "build").rows:
        log_mels.setdefault(row.audio, set()).add(row.num_frames)
    assert max(map(len, log_mels.values())) == (2 if dataset == "avss" else 1)
    # What is handed from shard to shard is gone.
    assert not list((tmp_path / "build").rglob(f"*{TEMPORARY_SUFFIX}"))


def test_a_finished_build_opens_a_recording_for_its_header_and_for_what_is_missing(
    tmp_path: Path, toy_in: Callable[..., Path]
) -> None:
    root, output = tmp_path / "data", tmp_path / "build"
    toy_in(root, avss=6, seed=0)
    api.build("avss", data_root=root, output=output)
    before = {path.name: path.read_bytes() for path in output.rglob("*.npy")}
    with counting(root) as opened:
        assert api.build("avss", data_root=root, output=output).rendered == 0
    assert set(opened) == wavs_of(root)
    assert set(opened.values()) == {1}
    for path in output.rglob("*.npy"):
        path.unlink()
    with counting(root) as opened:
        assert api.build("avss", data_root=root, output=output).rendered > 0
    assert max(opened.values()) == 2
    assert {path.name: path.read_bytes() for path in output.rglob("*.npy")} == before


def test_sources_of_other_splits_are_opened_twice_too(tmp_path: Path, toy_in: Callable[..., Path]) -> None:
    root, recipe = tmp_path / "data", tmp_path / "pool.yaml"
    recipe.write_text(
        "kind: build\nname: pool\ndescription: x\nconditions:\n  clean: {}\n  offscreen: {pool: dataset}\n"
    )
    toy_in(root, avss=12, seed=1)
    with counting(root) as opened:
        report = api.build("avss", recipe=recipe, splits=["test"], data_root=root, output=tmp_path / "build")
    clips = {row.clip_id for row in load_manifest(report.manifest).rows}
    assert any(row.source_clip_id not in {None, *clips} for row in load_manifest(report.manifest).rows)
    assert set(opened) == wavs_of(root)
    assert max(opened.values()) <= 2


def test_a_recording_that_changes_after_its_reading_is_read_again(tmp_path: Path, toy_in: Callable[..., Path]) -> None:
    """The contents noted with the header are used only while the file's size and time are the same."""
    root = tmp_path / "data"
    toy_in(root, s4=6, seed=0)
    dataset = list_dataset("s4", root).checked(whole_sounds=True)
    muted, broken = (root / dataset.clips[index].audio for index in (0, 1))
    content = muted.read_bytes()
    muted.write_bytes(content[:44] + bytes(len(content) - 44))
    broken.write_bytes(broken.read_bytes()[:-1000])
    report = build(dataset, load_recipe("standard"), 1, tmp_path / "build", on_error="skip")
    assert report.muted == (dataset.clips[0].clip_id,)
    (skipped,) = [entry for entry in report.skipped if entry.condition is None]
    assert skipped.clip_id == dataset.clips[1].clip_id
    assert "truncated" in skipped.reason
