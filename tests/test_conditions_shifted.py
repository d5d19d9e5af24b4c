"""`shifted`: own sound, later or earlier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from avsrobust.audio.definitions import parse_definition
from avsrobust.audio.io import read_samples
from avsrobust.audio.made import FileReader, render_row
from avsrobust.clips import Clip
from avsrobust.manifest import load_manifest


def test_the_samples_are_moved_and_none_is_changed(extended_builds: Path) -> None:
    manifest = load_manifest(extended_builds / "extended/s4")
    read = FileReader(lambda name: manifest.file(name, extended_builds))
    clean = {row.clip_id: row for row in manifest.rows if row.condition == "clean"}
    for row in (row for row in manifest.rows if row.condition == "shifted"):
        own = read_samples(manifest.audio_path(clean[row.clip_id], extended_builds))[0].mean(axis=1)
        by_s = parse_definition(row.sound or "").by_s
        assert abs(by_s) == row.level
        assert np.array_equal(render_row(row, read)[0].samples, np.roll(np.round(own * 32768), round(by_s * 44100)))


def test_both_directions_occur(s4_clips: list[Clip], plan_of: Callable) -> None:
    counts = Counter(row.sound.definition.by_s for row in plan_of(s4_clips, {"shifted": {}}).rows)
    assert set(counts) == {-2.0, -1.0, 1.0, 2.0}
    assert min(counts.values()) > len(s4_clips) / 4


def test_a_sound_no_longer_than_the_shift_has_no_row(planned_clip: Callable, plan_of: Callable) -> None:
    planned = plan_of([planned_clip("a", "helicopter", seconds=2.0)], {"shifted": {}})
    assert [row.level for row in planned.rows] == [1.0]
    assert [entry.reason for entry in planned.skipped] == ["its sound is no longer than the shift of 2 s"]
