"""Every public function that takes a path takes it as text too, relative ones included."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from avsrobust import RobustDataset, load_manifest
from avsrobust.adapters.baselines import Oracle
from avsrobust.adapters.lookup import load_adapter
from avsrobust.adapters.predictions import Predictions
from avsrobust.audio.io import read_waveform
from avsrobust.building.build import build
from avsrobust.building.verify import verify
from avsrobust.bundled import recipes_folder
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.masks import read_mask
from avsrobust.datasets.read import read_dataset
from avsrobust.demo import run_demo
from avsrobust.evaluation.robust_dataset import iterate_clips
from avsrobust.evaluation.runner import evaluate
from avsrobust.manifest import Manifest
from avsrobust.pretransform.write import Choices, pretransform
from avsrobust.reporting.loading import load_result, load_results
from avsrobust.results import read_run, read_scores, write_run, write_scores
from avsrobust.testing import check_adapter
from avsrobust.toy.write import write_toy
from avsrobust.training.engine import TrainOptions, train
from avsrobust.training.inputs import find_start, open_builds
from avsrobust.training.recipe import default_output, load_train_recipe

CPU = torch.device("cpu")


@pytest.fixture
def work(toy_builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a link ``root`` to toy data and its builds."""
    (tmp_path / "root").symlink_to(toy_builds)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_building_and_verifying(work: Path) -> None:
    dataset = read_dataset("s4", "root", splits=["test"])
    report = build(dataset, load_recipe("standard"), 7, "robust/s4")
    assert report.manifest == Path("robust/s4/manifest.parquet")
    assert verify("robust/s4", "root").problems == ()
    recipe = recipes_folder() / "standard.yaml"
    assert load_recipe(recipe) == load_recipe(str(recipe))


def test_reading_a_build(work: Path) -> None:
    manifest = load_manifest("root/robust/s4-seed42")
    assert manifest.data_root("root") == (work / "root").resolve()
    assert len(RobustDataset("root/robust/s4-seed42", split="test", data_root="root")) > 0
    assert next(iterate_clips("root/robust/s4-seed42", split="test", data_root="root")).split == "test"
    row = manifest.select(["test"]).rows[0]
    assert read_mask(f"root/{row.masks[0]}", "s4").any()
    sound = manifest.audio_path(row, work / "root")
    assert len(read_waveform(str(sound), 16000, 16000)) == 16000


def test_evaluating_and_reporting(work: Path) -> None:
    manifest = load_manifest("root/robust/s4-seed42")
    adapter = load_adapter("oracle", checkpoint=None, device=CPU, options={})
    report = evaluate(manifest, adapter, name="oracle", output="results/oracle/s4", data_root="root", save_masks=True)
    assert report.scores == Path("results/oracle/s4/scores.parquet")
    again = Predictions.load(None, CPU, masks=str(report.masks))
    evaluate(manifest, again, name="again", output="results/again/s4")
    assert [scores.info.model for scores in load_results(["results"])] == ["again", "oracle"]
    assert len(load_results(results_root="results")) == 2
    scores = load_result("results/oracle")
    write_scores("copy.parquet", scores)
    assert read_scores("copy.parquet").info == scores.info
    run = read_run("results/oracle/s4/run.json")
    write_run("run.json", run)
    assert read_run("run.json") == run


def test_checkpoints(work: Path) -> None:
    class Net(Oracle):
        needs_rows = False

        @classmethod
        def load(cls, checkpoint: Path | None, device: torch.device, **options: str) -> Net:
            assert isinstance(checkpoint, Path)
            assert checkpoint.read_text() == "weights"
            return cls()

        def segment(self, encoded: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
            return encoded.float().mean(2) / 255

    (work / "w.pt").write_text("weights")
    assert check_adapter(Net, checkpoint="w.pt").passed
    adapter = load_adapter(Net, checkpoint="w.pt", device=CPU, options={})
    manifest = load_manifest("root/robust/ms3-seed42")
    assert evaluate(manifest, adapter, name="net", output="out", checkpoint="w.pt").failed == ()


def test_toy_and_demo(work: Path) -> None:
    assert write_toy("toy", "ms3", clips=6) == Path("toy")
    assert run_demo("demo", ["oracle"], {"ms3": 6}).page.is_file()


def test_training(work: Path, tiny_recipe: Callable[..., Path]) -> None:
    path = tiny_recipe(data={"datasets": ["s4"], "mix": {"s4": 1.0}}, run={"steps": 1})
    recipe = load_train_recipe(path)
    assert recipe == load_train_recipe(str(path))
    assert default_output(recipe, "runs") == Path("runs/tiny")
    sources = open_builds(recipe, ["root/robust/s4-seed42"], "root", "robust")
    assert find_start(recipe, str(path)) == path
    report = train(recipe, sources, TrainOptions(output="runs/tiny"), where="tiny")  # type: ignore[arg-type]
    assert report.steps == 1
    assert (work / "runs" / "tiny" / "log.csv").is_file()


def test_pretransform(work: Path) -> None:
    manifest: Manifest = load_manifest("root/robust/ms3-seed42").select(["val"])
    choices = Choices("log_mel", clusters=2, fit_splits=("val",))
    report = pretransform(manifest, "classes", choices, data_root="root")
    assert report.files == len(manifest.rows)
    again = dataclasses.replace(choices, clusters=None, fit_splits=(), clusters_from="classes/clusters.safetensors")  # type: ignore[arg-type]
    repeated = pretransform(manifest, "again", again, data_root="root")
    assert (repeated.layout.centers == report.layout.centers).all()
