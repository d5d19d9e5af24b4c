from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from commands import call
from safetensors.torch import load_file

from avsrobust.errors import OptionError, RecipeError
from avsrobust.manifest import load_manifest
from avsrobust.training.data import TrainingBuild
from avsrobust.training.engine import TrainOptions, TrainReport, train
from avsrobust.training.recipe import load_train_recipe

WriteRecipe = Callable[..., Path]


@pytest.fixture
def builds(toy_builds: Path) -> list[TrainingBuild]:
    return [TrainingBuild(load_manifest(toy_builds / f"robust/{name}-seed42"), toy_builds) for name in ("s4", "ms3")]


def run(recipe: Path, builds: list[TrainingBuild], output: Path, **options: object) -> TrainReport:
    chosen = load_train_recipe(str(recipe))
    chosen_options = TrainOptions(output, device="cpu", **options)  # type: ignore[arg-type]
    return train(chosen, builds, chosen_options, where=str(recipe))


def weights(output: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(output / f"checkpoints/step-{step:06d}/weights.safetensors")


def assert_equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def command(recipe: Path, builds: Path, output: Path, *more: str) -> list[str]:
    manifests = [f"--manifest={builds}/robust/{name}-seed42" for name in ("s4", "ms3")]
    return [sys.executable, "-m", "avsrobust", "train", f"--recipe={recipe}", f"--output={output}", *manifests, *more]


def kill_at(step: int, arguments: list[str], log: Path) -> None:
    """Start a training process and kill it, without warning, when its log has reached `step`."""
    process = subprocess.Popen(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not (log.is_file() and log.read_text().count("\n") > step):
            assert process.poll() is None, "the training ended before it was to be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as processes that are told by OMP_NUM_THREADS=1, with whose weights others are compared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_killed_at_step_17_and_resumed_ends_with_the_same_weights(
    toy_builds: Path, tiny_recipe: WriteRecipe, tmp_path: Path
) -> None:
    # validate_every 20: the kill comes before, the continued run passes it.
    recipe = tiny_recipe(
        run={"steps": 30, "batch_size": 4, "validate_every": 20, "validate_clips": 1, "checkpoint_every": 10}
    )
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    kill_at(17, command(recipe, toy_builds, broken, "--device=cpu"), broken / "log.csv")
    # What a kill may leave goes at the next run.
    (broken / ".parameters.csv.1.ab.avsrobust-tmp").write_text("half")
    (broken / "checkpoints" / ".step-000020.1.ab.avsrobust-tmp").mkdir()
    assert [path.name for path in (broken / "checkpoints").glob("[!.]*")] == ["step-000010"]
    for output in (broken, whole):
        done = call(tmp_path, *command(recipe, toy_builds, output, "--device=cpu")[3:])
        assert done.returncode == 0, done.stderr
        assert ("goes on after step 10" in done.stderr) == (output == broken)
    assert_equal_weights(weights(broken, 30), weights(whole, 30))
    for name in ("log.csv", "validation.csv", "parameters.csv"):
        assert (broken / name).read_text() == (whole / name).read_text()
    for name in ("best.safetensors", "final.safetensors"):
        assert_equal_weights(load_file(broken / name), load_file(whole / name))
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert len((whole / "log.csv").read_text().splitlines()) == 31
    assert not list(broken.rglob("*.avsrobust-tmp"))


def test_a_run_of_an_earlier_release_goes_on(
    builds: list[TrainingBuild], tiny_recipe: WriteRecipe, tmp_path: Path
) -> None:
    """Then `negatives.extra` was called beside."""
    recipe = tiny_recipe(run={"steps": 1})
    run(recipe, builds, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    key = json.loads(path.read_text())
    key["recipe"]["negatives"]["beside"] = key["recipe"]["negatives"].pop("extra")
    path.write_text(json.dumps(key))
    assert run(recipe, builds, tmp_path / "run").resumed_from == 1
    key["recipe"]["negatives"]["beside"] = 1
    path.write_text(json.dumps(key))
    with pytest.raises(OptionError, match="holds a run with another recipe"):
        run(recipe, builds, tmp_path / "run")


def test_workers_that_read_change_nothing(
    builds: list[TrainingBuild], tiny_recipe: WriteRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe()
    run(recipe, builds, tmp_path / "none")
    run(recipe, builds, tmp_path / "two", workers=2)
    assert_equal_weights(weights(tmp_path / "none", 4), weights(tmp_path / "two", 4))


def test_accumulated_parts_give_the_same_losses(
    builds: list[TrainingBuild], tiny_recipe: WriteRecipe, tmp_path: Path
) -> None:
    plain = {"steps": 2, "batch_size": 4, "validate_clips": 1}
    # Similarity counts the frames of each part by itself.
    loss = {"bce": 1.0, "dice": 1.0, "similarity": 0.0}
    run(tiny_recipe("whole", run=plain, loss=loss), builds, tmp_path / "whole")
    run(tiny_recipe("parts", run={**plain, "accumulate": 2}, loss=loss), builds, tmp_path / "parts")
    one, two = ((tmp_path / name / "log.csv").read_text().splitlines()[1:] for name in ("whole", "parts"))
    for left, right in zip(one, two, strict=True):
        numbers = [[float(cell) for cell in line.split(",")] for line in (left, right)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)


def test_only_what_the_recipe_names_is_trained(
    builds: list[TrainingBuild], tiny_recipe: WriteRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        model={"trainable": ["*.audio_proj.*", "*.adapter.*"]}, run={"steps": 2, "checkpoint_every": 1}
    )
    run(recipe, builds, tmp_path / "run")
    before, after = weights(tmp_path / "run", 1), weights(tmp_path / "run", 2)
    listed = dict(line.split(",")[::2] for line in (tmp_path / "run/parameters.csv").read_text().splitlines()[1:])
    assert {"yes", "no"} == set(listed.values())
    moved = {name for name in before if name.startswith("model.") and not torch.equal(before[name], after[name])}
    trained = {f"model.{name}" for name, answer in listed.items() if answer == "yes"}
    assert moved <= trained
    assert {name.split(".")[2] for name in moved} == {"audio_proj", "mask2former"}
    assert any(".adapter." in name for name in moved)


def test_training_lowers_the_loss(builds: list[TrainingBuild], tiny_recipe: WriteRecipe, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        run={"steps": 40, "validate_clips": 1},
        negatives={"share": 0.0},
        optimizer={"lr": 3.0e-3, "schedule": "constant"},
    )
    run(recipe, builds, tmp_path / "run")
    losses = [float(line.split(",")[1]) for line in (tmp_path / "run/log.csv").read_text().splitlines()[1:]]
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])


def test_bfloat16(builds: list[TrainingBuild], tiny_recipe: WriteRecipe, tmp_path: Path) -> None:
    run(tiny_recipe(run={"steps": 2, "precision": "bfloat16"}), builds, tmp_path / "run")
    stored = weights(tmp_path / "run", 2)
    assert all(tensor.dtype == torch.float32 for tensor in stored.values())
    assert all(torch.isfinite(tensor).all() for tensor in stored.values())


def test_a_finished_run_is_not_run_again(builds: list[TrainingBuild], tiny_recipe: WriteRecipe, tmp_path: Path) -> None:
    recipe = tiny_recipe()
    first = run(recipe, builds, tmp_path / "run")
    log = (tmp_path / "run/log.csv").read_text()
    again = run(recipe, builds, tmp_path / "run")
    assert (again.resumed_from, again.best_score) == (4, first.best_score)
    assert (tmp_path / "run/log.csv").read_text() == log


# tensorboard's thread says so for itself.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_whose_folder_goes_away_goes_on_when_it_is_back(
    builds: list[TrainingBuild], tiny_recipe: WriteRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe(run={"steps": 4, "checkpoint_every": 2})
    chosen, output = load_train_recipe(str(recipe)), tmp_path / "run"

    def unmount(done: int, _total: int) -> None:
        if done == 3 and output.exists():
            output.rename(tmp_path / "gone")

    options = TrainOptions(output, device="cpu", pictures=tmp_path / "pictures")
    with pytest.raises(OptionError, match=rf"{output}: is no more the folder that this command began to write to"):
        train(chosen, builds, options, where=str(recipe), progress=unmount)
    assert not output.exists()
    (tmp_path / "gone").rename(output)
    assert run(recipe, builds, output).resumed_from == 2
    run(recipe, builds, tmp_path / "whole")
    assert_equal_weights(weights(output, 4), weights(tmp_path / "whole", 4))


def test_another_run_in_the_same_folder_is_refused(
    builds: list[TrainingBuild], tiny_recipe: WriteRecipe, tmp_path: Path
) -> None:
    run(tiny_recipe(), builds, tmp_path / "run")
    with pytest.raises(OptionError, match="holds a run with another recipe"):
        run(tiny_recipe(optimizer={"lr": 0.1}), builds, tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run(
    builds: list[TrainingBuild], tiny_recipe: WriteRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe(optimizer={"lr": 1.0e30, "warmup_steps": 0}, run={"steps": 20})
    with pytest.raises(OptionError, match=r"step \d+: loss '\w+' is .* lower optimizer.lr"):
        run(recipe, builds, tmp_path / "run")


def test_losses_the_model_does_not_have(builds: list[TrainingBuild], tiny_recipe: WriteRecipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"key loss.extra.active: the model has no such loss"):
        run(tiny_recipe(loss={"extra": {"active": 1.0}}), builds, tmp_path / "run")


def test_two_processes_do_what_one_does_in_two_parts(
    toy_builds: Path, tiny_recipe: WriteRecipe, tmp_path: Path
) -> None:
    run_part = {"steps": 4, "batch_size": 4, "validate_every": 4, "validate_clips": 1, "checkpoint_every": 2}
    shared = tiny_recipe("shared", run=run_part)
    parts = tiny_recipe("parts", run={**run_part, "accumulate": 2})
    # On the CPU `accelerate launch` starts one process; what it uses for several GPUs is this.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    one, two = (command(recipe, toy_builds, tmp_path / recipe.stem, "--device=cpu") for recipe in (parts, shared))
    alone = call(tmp_path, *one[3:])
    done = subprocess.run(
        [*launch, *two[1:]],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    for ended in (alone, done):
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("best.safetensors") == 1
    assert "in 2 processes on cpu" in done.stderr
    mine, theirs = weights(tmp_path / "parts", 4), weights(tmp_path / "shared", 4)
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(theirs[name], mine[name], atol=1e-5, rtol=1e-4, msg=name)
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("parts", "shared")]
    assert len(logs[0]) == len(logs[1]) == 5
    for expected, found in zip(*(log[1:] for log in logs), strict=True):
        assert [float(value) for value in found.split(",")] == pytest.approx(
            [float(value) for value in expected.split(",")], rel=1e-3
        )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
