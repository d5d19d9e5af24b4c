"""A gallery of results without stored masks: models run again on the clips shown; others than before are refused in words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import avsrobust
from avsrobust.api import make_gallery
from avsrobust.cli.main import invoke
from avsrobust.errors import AdapterError, ManifestError, OptionError, ResultsError
from avsrobust.reporting.loading import load_results

ADAPTER = """
import torch
from avsrobust.adapters.base import Segmentation

class Bright:
    audio = "log_mel"
    @classmethod
    def load(cls, checkpoint, device, above="90"):
        self = cls()
        self.level = float(checkpoint.read_text()) * float(above)
        return self
    def encode_frames(self, frames):
        return (frames.float().mean(2) > self.level).float()
    def segment(self, encoding, audio):
        loud = (audio.flatten(1).amax(1) > -3).float().view(-1, 1, 1, 1)
        masks = encoding * loud
        return Segmentation(masks, readouts={"dark": 1 - encoding})
"""

EVALUATE = [
    "evaluate",
    "--adapter",
    "bright.py:Bright",
    "--checkpoint",
    "weights.txt",
    "--option",
    "above=110",
    "--no-check",
]


@pytest.fixture
def here(toy_builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a build, and an evaluation in it that stored no masks."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(toy_builds / "robust/s4-seed42", tmp_path / "robust/s4-seed42", symlinks=True)
    (tmp_path / "bright.py").write_text(ADAPTER)
    (tmp_path / "weights.txt").write_text("1.0")
    assert invoke(EVALUATE) == 0
    return tmp_path


def test_a_rerun_gives_the_masks_that_would_have_been_stored(here: Path) -> None:
    results = load_results(None)
    (plain,) = (str(scores.source) for scores in results if not scores.info.readout)
    assert len(results) == 2
    again = make_gallery(results, 3, rerun=True)
    assert again.notes == ()
    assert invoke([*EVALUATE, "--save-masks"]) == 0
    stored = make_gallery(load_results(None), 3)
    assert stored.notes == (
        "The gallery lacks Bright [dark] on s4: its masks were not stored (report --rerun makes them).",
    )
    # The readout has a say in their order.
    clips = {clip.clip_id: clip for clip in again.clips}
    assert len(clips) == len(stored.clips) == 3
    for other in stored.clips:
        one = clips[other.clip_id]
        for mine, theirs in zip(one.rows, other.rows, strict=True):
            assert [entry for entry in mine.masks if entry.source == plain] == list(theirs.masks)


def test_named_readouts_are_in_the_gallery(here: Path) -> None:
    gallery = make_gallery(load_results(None), 1, rerun=True)
    (clip,) = gallery.clips
    for row in clip.rows:
        dark, plain = row.masks
        assert (Path(dark.source).name, Path(plain.source).name) == ("readout-dark.parquet", "scores.parquet")
        assert plain.mask != dark.mask
    silence = clip.rows[1]
    assert silence.condition == "silence"
    assert silence.masks[1].area == 0
    assert (silence.masks[0].area or 0) > 0


def test_the_option_rerun(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["report", "--format", "html", "--output", "page.html"]
    assert invoke([*command, "--rerun"]) == 2
    assert "--rerun: found no --gallery" in capfd.readouterr().err
    assert invoke([*command, "--gallery", "1"]) == 2
    assert "--rerun" in capfd.readouterr().err
    assert invoke([*command, "--gallery", "1", "--rerun"]) == 0
    assert "run again: Bright on 1 clip of s4" in capfd.readouterr().err
    assert (here / "page.html").read_text(encoding="utf-8").count("<audio ") == 4
    page = avsrobust.report(format="html", gallery=1, rerun=True).content
    assert str(page).count("<audio ") == 4


def test_another_model_is_refused(here: Path) -> None:
    (here / "weights.txt").write_text("2.0")
    with pytest.raises(
        ResultsError, match=r"results/Bright.*: cannot be run again: it is another model now: checkpoint"
    ):
        make_gallery(load_results(None), 1, rerun=True)


def test_a_checkpoint_that_is_gone_is_refused(here: Path) -> None:
    (here / "weights.txt").unlink()
    with pytest.raises(AdapterError, match=r"cannot be run again: found no checkpoint .*weights\.txt"):
        make_gallery(load_results(None), 1, rerun=True)


def test_an_adapter_that_is_gone_is_refused(here: Path) -> None:
    (here / "bright.py").unlink()
    with pytest.raises(AdapterError, match=r"cannot be run again: found no file bright\.py of its adapter"):
        make_gallery(load_results(None), 1, rerun=True)


def test_data_that_is_gone_is_refused(here: Path) -> None:
    link = here / "robust/s4-seed42/data_root"
    link.unlink()
    link.symlink_to(here / "nowhere")
    with pytest.raises((ManifestError, OptionError), match="data"):
        make_gallery(load_results(None), 1, rerun=True)


def test_files_are_found_above_the_results(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    gallery = make_gallery(load_results([here / "results"]), 1, rerun=True)
    assert len(gallery.clips) == 1
