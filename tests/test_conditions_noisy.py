"""`noisy`: own sound in noise at a signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from avsrobust.audio.definitions import Mix, parse_definition, render_samples
from avsrobust.audio.made import FileReader, render_row
from avsrobust.audio.mixing import power_db
from avsrobust.clips import Clip
from avsrobust.manifest import load_manifest

LEVELS = [0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0]
REAL = Path("/work/shared/real_avs")


@pytest.mark.parametrize(
    ("condition", "color"), [("noisy", "white"), ("noisy_gaussian", "gaussian"), ("noisy_pink", "pink")]
)
def test_the_ratio_is_the_level(extended_builds: Path, condition: str, color: str) -> None:
    manifest = load_manifest(extended_builds / "extended/s4")
    read = FileReader(lambda name: manifest.file(name, extended_builds))
    rows = [row for row in manifest.rows if row.condition == condition][:14]
    assert sorted({row.level for row in rows}) == LEVELS
    for row in rows:
        definition = parse_definition(row.sound or "")
        assert isinstance(definition, Mix)
        assert definition.added.color == color
        made = render_row(row, read)[0]
        own = render_samples(definition.base, read) * 10 ** (made.gain_db / 20)
        assert power_db(own) - power_db(made.samples / 32768 - own) == pytest.approx(row.level, abs=0.1)


def test_the_noise_of_a_clip_is_the_same_at_every_level(s4_clips: list[Clip], plan_of: Callable) -> None:
    rows = plan_of(s4_clips, {"noisy": {"levels": [0.0, 20.0]}}).rows
    seeds: dict[str, set[int]] = {}
    for row in rows:
        seeds.setdefault(row.clip.clip_id, set()).add(row.sound.definition.added.seed)
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set.union(*seeds.values())) == len(s4_clips)


def test_a_muted_clip_has_no_ratio(planned_clip: Callable, plan_of: Callable) -> None:
    planned = plan_of([planned_clip("a", "helicopter", is_muted=True)], {"noisy": {}, "clean": {}})
    assert [row.condition for row in planned.rows] == ["clean"]
    assert len(planned.skipped) == 1


@pytest.mark.skipif(not REAL.is_dir(), reason="real recordings are not here")
def test_the_ratio_on_real_recordings(plan_of: Callable) -> None:
    from avsrobust.datasets.read import read_dataset

    data = read_dataset("s4", REAL, splits=["test"])
    planned = plan_of(
        data.clips[:4], {"noisy": {"levels": [0.0, 20.0]}, "noisy_pink": {"condition": "noisy", "color": "pink"}}
    )
    read = FileReader(lambda name: REAL / name.removeprefix("data:"))
    from avsrobust.audio.definitions import render

    for row in planned.rows:
        definition = row.sound.definition
        made = render(definition, read)
        own = render_samples(definition.base, read) * 10 ** (made.gain_db / 20)
        # At 40 dB rounding to 16 bits adds its own noise to a faint recording.
        tolerance = 0.1 if power_db(own) - row.level > -70 else 1.0
        assert power_db(own) - power_db(made.samples / 32768 - own) == pytest.approx(row.level, abs=tolerance)
