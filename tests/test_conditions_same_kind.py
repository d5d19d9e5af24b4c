"""`same_kind`: of the same supercategory, of another category."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from avsrobust.clips import Clip
from avsrobust.manifest import load_manifest


@pytest.mark.parametrize("dataset", ["s4", "ms3", "avss"])
def test_every_source_is_a_hard_negative(extended_builds: Path, dataset: str) -> None:
    manifest = load_manifest(extended_builds / "extended" / dataset)
    clips = {row.clip_id: row for row in manifest.rows if row.condition == "clean"}
    rows = [row for row in manifest.rows if row.condition == "same_kind"]
    assert rows
    for row in rows:
        source = clips[row.source_clip_id or ""]
        assert row.audio == source.audio
        assert set(source.broad) & set(row.broad)
        assert not set(source.labels) & set(row.labels)
        assert row.polarity == "negative"


def test_draws_differ(s4_clips: list[Clip], plan_of: Callable) -> None:
    planned = plan_of(s4_clips, {"same_kind": {"draws": 3}})
    sources: dict[str, list[str]] = {}
    for row in planned.rows:
        sources.setdefault(row.clip.clip_id, []).append(row.source.clip_id)
    assert all(len(found) == len(set(found)) == 3 for found in sources.values())
    assert planned.skipped == ()
    assert len(sources) == len(s4_clips)


def test_why_a_clip_has_none(planned_clip: Callable, plan_of: Callable) -> None:
    clips = [
        planned_clip("a", "dog", dataset="avss"),
        planned_clip("b", "piano", dataset="avss"),
        planned_clip("c", dataset="avss", has_no_label=True),
    ]
    assert {entry.clip_id: entry.reason for entry in plan_of(clips, {"same_kind": {}}).skipped} == {
        "a": "too few clips of the same supercategory (animal) have none of its categories",
        "b": "too few clips of the same supercategory (music) have none of its categories",
        "c": "it has no on-screen label",
    }
