"""How often a build opens each recording of the data set: reading is what slow disks make expensive."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from avsrobust.building.build import build
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.toy.write import write_toy

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


@pytest.mark.parametrize("dataset", ["s4", "ms3", "avss"])
def test_a_build_opens_a_recording_twice(tmp_path: Path, dataset: str) -> None:
    """Once for the survey (checksum, header and samples) and once for each log-mel made of it.

    AVSS has clips of 5 and of 10 frames, and a recording that is a source clip for both has a log-mel of either length.
    Reading the data set, before the build, looks at the header.
    """
    root = tmp_path / "data"
    write_toy(root, dataset, clips=6)
    with counting(root) as read:
        clips = read_dataset(dataset, root)
    with counting(root) as built:
        build(clips, load_recipe("standard"), 1, tmp_path / "build", on_error="skip")
    wavs = {str(path.resolve()) for path in root.rglob("*.wav")}
    assert set(read) == set(built) == wavs
    assert set(read.values()) == {1}
    lengths = len({clip.num_frames for clip in clips.clips})
    assert lengths == (2 if dataset == "avss" else 1)
    assert max(built.values()) <= 1 + lengths
