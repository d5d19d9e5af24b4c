"""`partial`: own sound in one half of the seconds, empty targets in the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avsrobust.audio.io import read_samples
from avsrobust.audio.made import FileReader, render_row
from avsrobust.clips import Clip
from avsrobust.manifest import load_manifest


@pytest.mark.parametrize("dataset", ["s4", "ms3", "avss"])
def test_silent_seconds_are_those_with_empty_masks(extended_builds: Path, dataset: str) -> None:
    manifest = load_manifest(extended_builds / "extended" / dataset)
    read = FileReader(lambda name: manifest.file(name, extended_builds))
    clean = {row.clip_id: row for row in manifest.rows if row.condition == "clean"}
    rows = [row for row in manifest.rows if row.condition == "partial"]
    assert len(rows) == len(clean)
    for row in rows:
        own_row = clean[row.clip_id]
        made, rate = render_row(row, read)
        own = np.round(read_samples(manifest.audio_path(own_row, extended_builds))[0].mean(axis=1) * 32768)
        seconds = range(row.num_frames)
        silent = [second for second in seconds if not made.samples[second * rate : (second + 1) * rate].any()]
        half = row.num_frames // 2
        assert silent in (list(seconds[:half]), list(seconds[-half:]))
        for second in set(seconds) - set(silent):
            part = slice(second * rate, (second + 1) * rate)
            assert np.array_equal(made.samples[part], own[part])
        assert row.frames == own_row.frames
        assert row.annotated == own_row.masks
        for second, (mask, own_mask) in enumerate(zip(row.masks, own_row.masks, strict=True)):
            if second in silent and own_mask is not None:
                with Image.open(manifest.picture_path(mask or "", extended_builds)) as picture:
                    assert not np.asarray(picture).any()
                    with Image.open(manifest.picture_path(row.frames[second], extended_builds)) as frame:
                        assert picture.size == frame.size
            else:
                assert mask == own_mask


def test_both_halves_occur(s4_clips: list[Clip], plan_of: Callable) -> None:
    rows = plan_of(s4_clips, {"partial": {}}).rows
    counts = Counter((row.sound.definition.from_s, row.sound.definition.to_s) for row in rows)
    assert set(counts) == {(2.0, 5.0), (0.0, 3.0)}
    assert min(counts.values()) > len(s4_clips) / 4


def test_a_clip_of_one_frame_has_no_half(planned_clip: Callable, plan_of: Callable) -> None:
    planned = plan_of([planned_clip("a", "helicopter", frames=1, seconds=1.0)], {"partial": {}})
    assert planned.rows == ()
    assert planned.skipped[0].reason == "it has one frame, so no half of it can be silent"
    unknown = plan_of([planned_clip("a", "helicopter", picture_size=None)], {"partial": {}})
    assert unknown.skipped[0].reason == "the size of its pictures is not known"
