"""Evaluating a build whose files changed: nothing that is not what was built becomes a number."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.adapters.baselines import Oracle
from avsrobust.building.build import build
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.errors import AvsRobustError, ManifestError, OptionError
from avsrobust.evaluation.runner import EvaluationReport, evaluate
from avsrobust.evaluation.sound import SoundReader
from avsrobust.manifest import load_manifest


class Listener(Oracle):
    """The oracle, hearing log-mels."""

    audio = AudioInput.log_mel()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, toy_in: Callable[..., Path]) -> Path:
    """A folder with data of MS3 and a build of it. Tests must not change it."""
    folder = tmp_path_factory.mktemp("pristine")
    toy_in(folder / "data", ms3=8, seed=5)
    build(read_dataset("ms3", folder / "data"), load_recipe("standard"), 42, folder / "build", on_error="skip")
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(pristine / "data", tmp_path / "data")
    shutil.copytree(pristine / "build", tmp_path / "build", ignore=lambda *_: ["data_root"])
    return tmp_path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def run(folder: Path) -> EvaluationReport:
    manifest = load_manifest(folder / "build")
    return evaluate(
        manifest, Listener(), name="oracle", output=folder / "results", splits=("train",), data_root=folder / "data"
    )


def test_a_build_as_it_was_is_evaluated(folder: Path) -> None:
    report = run(folder)
    assert report.failed == ()
    assert report.clips > 1


@pytest.mark.parametrize("kind", ["frames", "masks"])
def test_a_picture_that_changed_costs_its_clip(folder: Path, kind: str) -> None:
    row = next(row for row in load_manifest(folder / "build").rows if row.split == "train")
    # Behind the end of the picture: it decodes to the same pixels, but it is not the file that was built from.
    path = folder / "data" / getattr(row, kind)[0]
    flip(path)
    [failed] = run(folder).failed
    assert failed.clip_id == row.clip_id
    assert failed.error.startswith(f"{path}: found sha256 ")
    assert failed.error.endswith("restore the data set")


def test_an_array_that_changed_is_no_number(folder: Path) -> None:
    manifest = load_manifest(folder / "build")
    row = next(row for row in manifest.rows if row.split == "train" and row.condition == "noise")
    path = manifest.log_mel_path(row)
    flip(path)
    with pytest.raises(AvsRobustError, match=r"train/T5/00000.npy: found sha256 .*; delete it and build again"):
        run(folder)
    reader = SoundReader(manifest, folder / "data", AudioInput.log_mel())
    for copy in (reader, pickle.loads(pickle.dumps(reader))):
        with pytest.raises(ManifestError, match=r"00000\.npy: found sha256"):
            copy.read(row)
    path.unlink()
    with pytest.raises(ManifestError, match=r"00000\.npy: cannot be read"):
        reader.read(row)


@pytest.mark.parametrize("name", ["manifest.parquet", "checksums.parquet", "seal.json"])
def test_what_vouches_for_the_files_must_be_whole(folder: Path, name: str) -> None:
    manifest = load_manifest(folder / "build")
    flip(folder / "build" / name)
    with pytest.raises(ManifestError, match=f"{name}: "):
        evaluate(
            manifest, Listener(), name="oracle", output=folder / "results", splits=("train",), data_root=folder / "data"
        )


# Folders that a model moves away, each before one of its calls.
UNMOUNTED: dict[int, Path] = {}
CALLS = count()


class Unmounts(Adapter):
    """A model that moves a folder away in the middle of an evaluation, as a share that is unmounted."""

    audio = AudioInput.log_mel()

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        if (folder := UNMOUNTED.get(next(CALLS))) is not None:
            folder.rename(folder.with_name("gone"))
        return (encoded.float().mean(dim=2) / 255 + audio.mean(dim=(2, 3, 4))[..., None, None].sigmoid()) / 2


def evaluated(folder: Path, output: Path) -> EvaluationReport:
    chosen: dict[str, Any] = {"splits": ("train",), "data_root": folder / "data", "check": False, "batch_size": 1}
    return evaluate(load_manifest(folder / "build"), Unmounts(), name="model", output=output, **chosen)


def test_results_whose_folder_goes_away_are_not_taken_for_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avsrobust.evaluation.parts.CLIPS_PER_PART", 1)
    monkeypatch.setattr("avsrobust.evaluation.parts._FEW_CLIPS", 1)
    results = folder / "results"
    expected = evaluated(folder, folder / "whole").scores.read_bytes()
    # In the middle of the second clip.
    UNMOUNTED[next(CALLS) + 6] = results
    with pytest.raises(OptionError, match="is no more the folder that this command began to write to"):
        evaluated(folder, results)
    # Nothing is written to the path, where it would be a part of the results alone.
    assert not results.exists()
    (folder / "gone").rename(results)
    assert evaluated(folder, results).scores.read_bytes() == expected


def test_data_that_go_away_end_the_evaluation(folder: Path) -> None:
    results = folder / "results"
    expected = evaluated(folder, folder / "whole").scores.read_bytes()
    UNMOUNTED[next(CALLS) + 1] = folder / "data"
    with pytest.raises(OptionError, match=rf"{folder}/data: is gone, or empty, since the evaluation began"):
        evaluated(folder, results)
    (folder / "gone").rename(folder / "data")
    assert evaluated(folder, results).scores.read_bytes() == expected
