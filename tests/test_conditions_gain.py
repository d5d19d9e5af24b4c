"""`quiet` and `loud`: own sound at another level."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avsrobust.audio.io import read_samples
from avsrobust.audio.made import FileReader, render_row
from avsrobust.manifest import load_manifest


def test_the_gain_is_the_level_and_what_is_beyond_full_scale_is_clipped(extended_builds: Path) -> None:
    manifest = load_manifest(extended_builds / "extended/s4")
    read = FileReader(lambda name: manifest.file(name, extended_builds))
    clean = {row.clip_id: row for row in manifest.rows if row.condition == "clean"}
    clipped = 0
    rows = [row for row in manifest.rows if row.condition in ("quiet", "loud")]
    assert sorted({(row.condition, row.level) for row in rows}) == [("loud", 10.0), ("quiet", -20.0), ("quiet", -10.0)]
    for row in rows:
        made = render_row(row, read)[0]
        own = read_samples(manifest.audio_path(clean[row.clip_id], extended_builds))[0].mean(axis=1)
        expected = np.clip(own * 10 ** (row.level / 20), -32767 / 32768, 32767 / 32768)
        assert np.abs(made.samples / 32768 - expected).max() <= 0.51 / 32768
        assert made.gain_db == 0.0
        clipped += made.num_clipped
        assert row.masks == clean[row.clip_id].masks
    assert clipped > 0
