"""`lowpass`: own sound without its high frequencies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avsrobust.audio.io import read_samples
from avsrobust.audio.made import FileReader, render_row
from avsrobust.manifest import load_manifest


def test_the_level_is_where_6_db_are_gone(extended_builds: Path) -> None:
    manifest = load_manifest(extended_builds / "extended/s4")
    read = FileReader(lambda name: manifest.file(name, extended_builds))
    clean = {row.clip_id: row for row in manifest.rows if row.condition == "clean"}
    rows = [row for row in manifest.rows if row.condition == "lowpass"][:30]
    assert sorted({row.level for row in rows}) == [1000.0, 2000.0, 4000.0, 6000.0, 8000.0]
    checked = 0
    for row in rows:
        made, rate = render_row(row, read)
        own = read_samples(manifest.audio_path(clean[row.clip_id], extended_builds))[0].mean(axis=1)
        spectra = [np.abs(np.fft.rfft(samples)) for samples in (own * 10 ** (made.gain_db / 20), made.samples / 32768)]
        assert gain_db(spectra, rate, 100, row.level / 2) == pytest.approx(0.0, abs=0.05)
        for low, high, least, most in ((0.999, 1.001, -7.0, -5.0), (2.0, 2.5, -np.inf, -25.0)):
            band = (row.level * low, row.level * high)
            if is_above_rounding(spectra[0], rate, *band):
                checked += 1
                assert least <= gain_db(spectra, rate, *band) <= most
    assert checked > 10


def is_above_rounding(spectrum: np.ndarray, rate: int, low: float, high: float) -> bool:
    """Return whether a band of a clean sound is 35 dB above the noise that rounding to 16 bits adds."""
    hertz = np.linspace(0, rate / 2, spectrum.size)
    rounding = 2 * spectrum.size / 12 / 32768**2
    return bool((spectrum[(hertz >= low) & (hertz < high)] ** 2).mean() > 3000 * rounding)


def gain_db(spectra: list[np.ndarray], rate: int, low: float, high: float) -> float:
    """Power of the second spectrum over that of the first, in a band, in dB."""
    hertz = np.linspace(0, rate / 2, spectra[0].size)
    band = (hertz >= low) & (hertz < high)
    before, after = ((spectrum[band] ** 2).sum() for spectrum in spectra)
    return float(10 * np.log10(after / before))
