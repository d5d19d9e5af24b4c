"""Where a run trains, and whether the device computes the recipe's precision itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from avsrobust.errors import OptionError
from avsrobust.training import engine
from avsrobust.training.data import TrainingBuild
from avsrobust.training.devices import computes, open_accelerator, trains_on_cpu
from avsrobust.training.engine import TrainOptions, train
from avsrobust.training.inputs import open_builds
from avsrobust.training.recipe import load_train_recipe

WriteRecipe = Callable[..., Path]


@pytest.mark.parametrize("is_there", [False, True])
def test_auto_is_the_cpu_where_no_accelerator_is(is_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: is_there)
    assert [trains_on_cpu(device) for device in ("cpu", "auto", "cuda")] == [True, not is_there, False]


def test_other_devices_are_refused() -> None:
    with pytest.raises(OptionError, match="--device tpu: expected auto, cpu or cuda"):
        open_accelerator("float32", "tpu")


def test_a_second_run_has_its_own_device_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    first = open_accelerator("bfloat16", "cpu")
    assert (first.state._cpu, first.mixed_precision) == (True, "bf16")
    # That it may take a GPU shows here without one.
    second = open_accelerator("float32", "auto")
    assert (second.state._cpu, second.mixed_precision) == (False, "no")
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == "fp16"


def test_a_precision_is_computed_by_the_device_or_not() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert computes("float32", cpu)
    assert computes("bfloat16", gpu)
    # AVX2 alone, as on many machines of tests, has no instructions for it.
    if torch.backends.cpu.get_cpu_capability() == "AVX2" and not torch.cpu._is_avx512_bf16_supported():
        assert not computes("bfloat16", cpu)


@pytest.mark.parametrize("is_computed", [False, True])
def test_a_precision_that_the_cpu_lacks_is_told(
    toy_builds: Path, tiny_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_computed: bool
) -> None:
    monkeypatch.setattr(engine, "computes", lambda _precision, _device: is_computed)
    recipe = load_train_recipe(tiny_recipe(run={"steps": 1, "precision": "bfloat16"}))
    manifests = [toy_builds / "robust" / f"{name}-seed42" for name in recipe.data.datasets]
    builds: list[TrainingBuild] = open_builds(recipe, manifests, None, tmp_path)
    lines: list[str] = []
    train(recipe, builds, TrainOptions(tmp_path / "run", device="cpu"), where="tiny", on_message=lines.append)
    expected = (
        "run.precision bfloat16: this CPU has no instructions for it, and is ten times as slow as in float32 or worse"
    )
    assert (expected in lines) is not is_computed
