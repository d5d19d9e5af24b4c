"""`mixture`: own sound and an off-screen one, the same at every level."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from avsrobust.audio.definitions import Mix, parse_definition, render_samples
from avsrobust.audio.made import FileReader, render_row
from avsrobust.audio.mixing import power_db
from avsrobust.clips import Clip
from avsrobust.conditions.source_clips import is_eligible
from avsrobust.manifest import Skipped, load_manifest

LEVELS = [-6.0, -3.0, 0.0, 3.0, 6.0]


@pytest.mark.parametrize("dataset", ["s4", "ms3", "avss"])
def test_the_ratio_of_the_two_sounds_is_the_level(extended_builds: Path, dataset: str) -> None:
    manifest = load_manifest(extended_builds / "extended" / dataset)
    read = FileReader(lambda name: manifest.file(name, extended_builds))
    rows = [row for row in manifest.rows if row.condition == "mixture"][:20]
    assert {row.level for row in rows} == set(LEVELS)
    for row in rows:
        definition = parse_definition(row.sound or "")
        assert isinstance(definition, Mix)
        made = render_row(row, read)[0]
        own = render_samples(definition.base, read) * 10 ** (made.gain_db / 20)
        ratio_db = power_db(own) - power_db(made.samples / 32768 - own)
        assert ratio_db == pytest.approx(row.level, abs=0.1)
        assert definition.base.file == f"data:{next(r for r in manifest.rows if r.clip_id == row.clip_id).audio[5:]}"
        assert row.polarity == "positive"
        assert row.masks == next(r.masks for r in manifest.rows if r.clip_id == row.clip_id and r.condition == "clean")


def test_every_level_of_a_clip_has_the_same_other_sound(s4_clips: list[Clip], plan_of: Callable) -> None:
    rows = plan_of(s4_clips, {"mixture": {}}).rows
    by_clip: dict[str, set[str]] = {}
    for row in rows:
        assert is_eligible(row.clip, row.source)
        by_clip.setdefault(row.clip.clip_id, set()).add(row.source.clip_id)
    assert all(len(sources) == 1 for sources in by_clip.values())
    assert len(rows) == len(LEVELS) * len(s4_clips)
    assert sorted({row.level for row in rows}) == LEVELS


def test_a_muted_clip_has_no_mixture(planned_clip: Callable, plan_of: Callable) -> None:
    clips = [planned_clip("a", "helicopter", is_muted=True), planned_clip("b", "playing_piano")]
    planned = plan_of(clips, {"mixture": {"levels": [0.0, 3.0]}})
    assert planned.skipped[0].reason.startswith("its own recording is silent")
    assert (
        Skipped(
            "playing_piano/b",
            "mixture",
            "no clip of split 'test' that is not muted is free of its categories (playing_piano)",
        )
        in planned.skipped
    )
    assert planned.rows == ()


def test_a_wider_pool_lends_more(planned_clip: Callable, plan_of: Callable) -> None:
    clips = [planned_clip("a", "helicopter")]
    others = [planned_clip(f"t{number}", "playing_piano", split="train") for number in range(3)]
    assert plan_of(clips, {"mixture": {}}, pool=others).rows == ()
    rows = plan_of(clips, {"mixture": {"pool": "dataset"}}, pool=others).rows
    assert {row.source.split for row in rows} == {"train"}
