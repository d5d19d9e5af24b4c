"""Rows without files: the same samples and log-mels as stored ones, and nothing that a manifest names is run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avsrobust.audio.made import FileReader, log_mel_of_row, render_row
from avsrobust.building.build import build
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.errors import AudioError
from avsrobust.manifest import Manifest, load_manifest


@pytest.fixture(scope="module")
def both(extended_builds: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Manifest]:
    """The build of ms3 without files, and the same with all of them."""
    recipe = load_recipe("extended").adapted(store_audio=True, recordings=extended_builds / "recordings")
    output = tmp_path_factory.mktemp("stored") / "ms3"
    build(read_dataset("ms3", extended_builds), recipe, 42, output, on_error="skip")
    return load_manifest(extended_builds / "extended/ms3"), load_manifest(output)


def test_rows_without_files_are_what_stored_ones_are(both: tuple[Manifest, Manifest], extended_builds: Path) -> None:
    made, stored = both
    read = FileReader(lambda name: made.file(name, extended_builds))
    assert [row.key for row in made.rows] == [row.key for row in stored.rows]
    differing = 0
    for row, kept in zip(made.rows, stored.rows, strict=True):
        assert not kept.audio.startswith("made:")
        assert kept.sound is None
        if row.audio == kept.audio:
            continue
        differing += 1
        assert row.audio == f"made:{kept.audio}"
        samples, rate = render_row(row, read)
        path = stored.audio_path(kept, extended_builds)
        assert np.array_equal(samples.samples, soundfile.read(path, dtype="int16")[0])
        assert rate == kept.sample_rate == row.sample_rate
        log_mel = np.load(stored.log_mel_path(kept), mmap_mode="r")[kept.log_mel_row]
        if differing % 7 == 0:
            assert np.array_equal(log_mel_of_row(row, read), log_mel)
        same = replace(row, audio="", audio_sha256="", log_mel="", log_mel_row=0, sound=None)
        assert same == replace(kept, audio="", audio_sha256="", log_mel="", log_mel_row=0)
    assert differing > 200


def test_a_front_end_that_a_manifest_names_is_not_run(
    both: tuple[Manifest, Manifest], extended_builds: Path, tmp_path: Path
) -> None:
    made = both[0]
    row = next(row for row in made.rows if row.condition == "noise")
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    read = FileReader(lambda name: made.file(name, extended_builds))
    for name in (f"{tmp_path}/evil.py:f", "os:getcwd", ""):
        with pytest.raises(AudioError, match="expected one of vggish, librosa"):
            log_mel_of_row(replace(row, log_mel=f"made:{name}"), read)


def test_a_definition_of_another_length_than_the_row_is_refused(both: tuple[Manifest, Manifest]) -> None:
    row = next(row for row in both[0].rows if row.condition == "noise")
    for other in (
        replace(row, duration_s=4.9),
        replace(row, sample_rate=16000),
        replace(row, sound=None),
        replace(row, sound="{}"),
    ):
        with pytest.raises(AudioError, match="a definition"):
            render_row(other, lambda name, seconds: pytest.fail("reads"))


def test_a_reader_remembers_the_last_files_and_may_be_copied(tmp_path: Path) -> None:
    import pickle

    soundfile.write(tmp_path / "a.wav", np.full(8000, 0.25), 8000, subtype="PCM_16")
    reader = FileReader(_Locate(tmp_path))
    samples, rate = reader("a.wav", 1.0)
    assert rate == 8000
    assert reader("a.wav", 1.0)[0] is samples
    with pytest.raises(ValueError, match="read-only"):
        samples[0] = 1
    assert np.array_equal(pickle.loads(pickle.dumps(reader))("a.wav", 1.0)[0], samples)


class _Locate:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str) -> Path:
        return self._folder / name
