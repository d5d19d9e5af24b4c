"""`gaussian` and `pink`: noises of one level, each row its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avsrobust.audio.made import FileReader, render_row
from avsrobust.audio.mixing import power_db
from avsrobust.clips import Clip
from avsrobust.errors import RecipeError
from avsrobust.manifest import load_manifest


@pytest.mark.parametrize(("condition", "slope_db"), [("gaussian", 0.0), ("pink", -3.0)])
def test_level_and_slope_of_the_spectrum(extended_builds: Path, condition: str, slope_db: float) -> None:
    manifest = load_manifest(extended_builds / "extended/s4")
    read = FileReader(lambda name: manifest.file(name, extended_builds))
    seen = []
    for row in (row for row in manifest.rows if row.condition == condition):
        made, rate = render_row(row, read)
        samples = made.samples / 32768
        assert power_db(samples) == pytest.approx(-18.0, abs=0.1)
        power = np.abs(np.fft.rfft(samples)) ** 2
        hertz = np.fft.rfftfreq(samples.size, 1 / rate)
        octaves = [10 * np.log10(power[(hertz >= low) & (hertz < 2 * low)].mean()) for low in (500, 1000, 2000, 4000)]
        assert np.polyfit(range(4), octaves, 1)[0] == pytest.approx(slope_db, abs=0.4)
        seen.append(made.samples.tobytes())
    assert len(set(seen)) == len(seen) == 12


def test_the_level_is_an_option(s4_clips: list[Clip], plan_of: Callable) -> None:
    rows = plan_of(s4_clips[:2], {"gaussian": {"rms_db": -30.0}}).rows
    assert {row.sound.definition.rms_db for row in rows} == {-30.0}
    with pytest.raises(RecipeError, match=r"key conditions\.gaussian\.rms_db: found nan"):
        plan_of(s4_clips[:2], {"gaussian": {"rms_db": float("nan")}})
