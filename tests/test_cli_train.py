from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from avsrobust.cli.main import STATUS_USER, invoke
from avsrobust.results import read_run, read_scores

WriteRecipe = Callable[..., Path]


def arguments(recipe: Path | str, builds: Path, output: Path, *more: str) -> list[str]:
    manifests = [f"--manifest={builds}/robust/{name}-seed42" for name in ("s4", "ms3")]
    return ["train", f"--recipe={recipe}", f"--output={output}", *manifests, "--device=cpu", *more]


def test_train_then_evaluate(
    toy_builds: Path, tiny_recipe: WriteRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert invoke(arguments(tiny_recipe(), toy_builds, output)) == 0
    told = capsys.readouterr()
    assert told.out == f"{output}/best.safetensors\n"
    assert "starts from nothing" in told.err
    assert "parameters.csv" in told.err
    checkpoint, manifest = output / "best.safetensors", toy_builds / "robust/s4-seed42"
    scores = tmp_path / "results"
    evaluation = [
        "evaluate",
        "--adapter=model_adapters.m2f.adapter:M2F",
        "--name=mine",
        f"--checkpoint={checkpoint}",
        f"--manifest={manifest}",
        f"--output={scores}",
    ]
    assert invoke(evaluation) == 0
    told = capsys.readouterr()
    assert told.out == f"{scores}/mine/s4-seed42/scores.parquet\n"
    assert "warning" not in told.err
    folder = scores / "mine" / "s4-seed42"
    assert len(read_scores(folder).index) > 0
    assert read_run(folder / "run.json").model == "mine"


def test_a_run_starts_from_another(
    toy_builds: Path, tiny_recipe: WriteRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(arguments(tiny_recipe(), toy_builds, tmp_path / "plain", "--steps=1")) == 0
    second = tiny_recipe("second", optimizer={"lr": 1.0e-4})
    assert invoke(arguments(second, toy_builds, tmp_path / "second", "--steps=1", f"--init={tmp_path / 'plain'}")) == 0
    assert f"starts from {tmp_path / 'plain'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({"optimiser": {}}, [], "tiny.yaml: key optimiser: not known; did you mean 'optimizer'?"),
        ({"run": {"steps": "many"}}, [], "tiny.yaml: key run.steps: found 'many'; expected a whole number"),
        ({"model": {"trainable": ["audio_projavs_adapt"]}}, [], "matches no parameter of the network"),
        ({"data": {"datasets": ["s4"], "mix": {}}}, [], "--manifest: found a build of ms3; recipe 'tiny' is for s4"),
        (
            {"data": {"datasets": ["s4", "ms3", "avss"], "mix": {}}},
            [],
            "found builds of ms3, s4; recipe 'tiny' also needs avss",
        ),
        ({"model": {"start_from": "m2f_nothing"}}, [], "--init: not given, and training/m2f_nothing/best.safetensors"),
        ({}, ["--init=nowhere"], "--init nowhere: not found"),
        ({}, ["--device=tpu"], "--device tpu: expected auto, cpu or cuda"),
        ({"model": {"family": "m9"}}, [], "key model.family: found 'm9'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    toy_builds: Path,
    tiny_recipe: WriteRecipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    more: list[str],
    message: str,
) -> None:
    assert invoke(arguments(tiny_recipe(**changes), toy_builds, tmp_path / "run", *more)) == STATUS_USER
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert [line for line in told.err.splitlines() if line.startswith("error: ")] == [told.err.splitlines()[-1]]


def test_a_recipe_that_builds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["train", "--recipe=standard"]) == STATUS_USER
    assert "key kind: found 'build'; expected 'train'" in capsys.readouterr().err


def test_a_pickle_is_no_start(
    toy_builds: Path, tiny_recipe: WriteRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pickle

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return Path.write_text, (Path(tmp_path / "ran"), "x")  # type: ignore[return-value]

    (tmp_path / "start.pth").write_bytes(pickle.dumps({"weight": Harmful()}))
    start = tmp_path / "start.pth"
    assert invoke(arguments(tiny_recipe(), toy_builds, tmp_path / "run", f"--init={start}")) == STATUS_USER
    assert "was not run" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_builds_are_found_in_the_working_folder(
    toy_builds: Path, tiny_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy_builds)
    assert invoke(["train", f"--recipe={tiny_recipe()}", f"--output={tmp_path / 'run'}", "--steps=1"]) == 0


def test_no_build_anywhere(
    tiny_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe()
    monkeypatch.chdir(tmp_path)
    assert invoke(["train", f"--recipe={recipe}"]) == STATUS_USER
    assert "found no build of s4; expected one; run 'avsrobust build --dataset s4 --seed 42'" in capsys.readouterr().err


def test_a_recipe_with_a_toy_makes_it_once(
    tiny_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = {"datasets": ["s4"], "mix": {}, "toy": {"clips": {"s4": 12}, "seed": 3}}
    recipe = tiny_recipe(data=toy)
    monkeypatch.chdir(tmp_path)
    assert invoke(["train", f"--recipe={recipe}", "--steps=1", "--output=one"]) == 0
    assert "making 12 toy clips of s4 in data/toy-seed3" in capsys.readouterr().err
    assert invoke(["train", f"--recipe={recipe}", "--steps=1", "--output=two"]) == 0
    assert "making" not in capsys.readouterr().err


def test_a_smoke_run_says_in_two_steps_whether_all_fits_and_leaves_nothing(
    toy_builds: Path,
    tiny_recipe: WriteRecipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe, work = tiny_recipe(run={"steps": 5000, "batch_size": 4, "validate_clips": 0}), tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    given = [line for line in arguments(recipe, toy_builds, work) if not line.startswith("--output")]
    assert invoke([*given, "--smoke"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "step 2: strict G-mIoU" in told.err
    assert "smoke run of tiny: 2 steps and a validation done; data, weights and memory fit" in told.err
    assert list(work.iterdir()) == []


def test_a_smoke_run_of_a_recipe_whose_start_is_not_trained_yet_says_so(
    toy_builds: Path,
    tiny_recipe: WriteRecipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe, work = tiny_recipe(model={"start_from": "earlier"}), tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    given = [line for line in arguments(recipe, toy_builds, work) if not line.startswith("--output")]
    assert invoke([*given, "--smoke"]) == 0
    told = capsys.readouterr().err
    assert (
        "data and memory fit; it ran on random weights, as the run that it starts from, 'earlier', is not there" in told
    )
    assert invoke(given) == STATUS_USER
    assert "--init: not given, and training/earlier/best.safetensors is not there" in capsys.readouterr().err
    # A start that is named must be there.
    assert invoke([*given, "--smoke", "--init=nowhere"]) == STATUS_USER
    assert "--init nowhere: not found" in capsys.readouterr().err


def test_a_cuda_graph_needs_a_gpu(
    toy_builds: Path, tiny_recipe: WriteRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(arguments(tiny_recipe(), toy_builds, tmp_path / "run", "--cuda-graph")) == STATUS_USER
    assert "--cuda-graph: trains on cpu; expected a GPU; leave it out" in capsys.readouterr().err


def test_a_model_that_cannot_be_compiled_is_refused(
    toy_builds: Path,
    tiny_recipe: WriteRecipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from model_adapters.m2f.training import M2FTraining

    monkeypatch.delattr(M2FTraining, "compile")
    assert invoke(arguments(tiny_recipe(), toy_builds, tmp_path / "run", "--compile")) == STATUS_USER
    assert "--compile: model family 'm2f' cannot be compiled" in capsys.readouterr().err
