"""`matched_noise` and `matched_offscreen`: as loud as the clip's own sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from avsrobust.audio.definitions import Match, parse_definition, render, render_samples
from avsrobust.audio.loudness import integrated_loudness
from avsrobust.audio.made import FileReader, render_row
from avsrobust.manifest import load_manifest

REAL = Path("/work/shared/real_avs")


@pytest.mark.parametrize("condition", ["matched_noise", "matched_offscreen"])
def test_loudness_is_the_clips_own(extended_builds: Path, condition: str) -> None:
    manifest = load_manifest(extended_builds / "extended/s4")
    read = FileReader(lambda name: manifest.file(name, extended_builds))
    rows = [row for row in manifest.rows if row.condition == condition]
    assert len(rows) == 12
    for row in rows:
        definition = parse_definition(row.sound or "")
        assert isinstance(definition, Match)
        made, rate = render_row(row, read)
        own = integrated_loudness(render_samples(definition.reference, read), rate)
        assert integrated_loudness(made.samples / 32768, rate) == pytest.approx(own, abs=0.1)
        assert row.polarity == "negative"
        assert (row.source_clip_id is None) == (condition == "matched_noise")


@pytest.mark.skipif(not REAL.is_dir(), reason="real recordings are not here")
def test_loudness_on_real_recordings_that_have_to_be_clipped(plan_of: Callable) -> None:
    from avsrobust.datasets.read import read_dataset

    data = read_dataset("s4", REAL, splits=["test"])
    read = FileReader(lambda name: REAL / name.removeprefix("data:"))
    clipped = 0
    for row in plan_of(data.clips, {"matched_offscreen": {}}).rows:
        made = render(row.sound.definition, read)
        own = render_samples(row.sound.definition.reference, read)
        assert integrated_loudness(made.samples / 32768, 44100) == pytest.approx(
            integrated_loudness(own, 44100), abs=0.1
        )
        clipped += made.num_clipped > 0
    assert clipped > 0


def test_a_muted_clip_has_no_loudness(planned_clip: Callable, plan_of: Callable) -> None:
    clips = [planned_clip("a", "helicopter", is_muted=True)]
    planned = plan_of(clips, {"matched_noise": {}, "matched_offscreen": {}})
    assert planned.rows == ()
    assert [entry.condition for entry in planned.skipped] == ["matched_noise", "matched_offscreen"]
