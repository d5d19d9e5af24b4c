from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Condition

import pytest

from avsrobust.cli.main import STATUS_USER, invoke
from avsrobust.folders import hold_output_dir
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


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--init=evil.pt", "evil.pt"),
        ("--vggish=nowhere.pt", "--vggish nowhere.pt: found no such file"),
        ("--vggish=evil.pt", "evil.pt: found a pickle that holds more than tensors, or is damaged"),
        ("--output=evil.pt", "evil.pt"),
        ("--output=theirs", "theirs: holds notes.txt"),
        ("--device=tpu", "--device tpu: expected auto, cpu or cuda"),
    ],
)
def test_options_are_read_before_a_toy_is_made(
    tiny_recipe: WriteRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    message: str,
) -> None:
    toy = {"datasets": ["s4"], "mix": {}, "toy": {"clips": {"s4": 12}, "seed": 3}}
    recipe = tiny_recipe(config={"audio": "embedding"} if "vggish" in option else None, data=toy)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pt").write_bytes(b"no weights")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    assert invoke(["train", f"--recipe={recipe}", "--steps=1", option]) == STATUS_USER
    told = capsys.readouterr().err
    assert message in told
    assert "making" not in told
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_in_use_is_noticed_before_the_model_is_made(
    toy_builds: Path, tiny_recipe: WriteRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hold_output_dir(tmp_path / "run", "training", 1, "another"):
        # No network has so many heads, which is found as it is made.
        recipe = tiny_recipe(config={"num_attention_heads": 7})
        assert invoke(arguments(recipe, toy_builds, tmp_path / "run")) == STATUS_USER
    assert f"{tmp_path / 'run'}: is in use by another (process " in capsys.readouterr().err


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
    assert (
        "on a CPU a smoke run has steps of 2 samples in float32; the recipe's, of 4 in float32, "
        "are tried with --full-batch or on a GPU"
    ) in told.err
    assert "smoke run of tiny: 2 steps and a validation done; data and weights fit; memory was not tried" in told.err
    assert invoke([*given, "--smoke", "--full-batch"]) == 0
    told = capsys.readouterr()
    assert "smoke run of tiny: 2 steps and a validation done; data, weights and memory fit\n" in told.err
    assert "on a CPU a smoke run" not in told.err
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(("more", "per_step"), [([], {"s4": 1, "ms3": 1}), (["--full-batch"], {"s4": 3, "ms3": 1})])
def test_a_smoke_run_reads_no_more_clips_than_its_steps_and_validation_need(
    toy_builds: Path, tiny_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: list[str],
    per_step: dict[str, int],
) -> None:  # fmt: skip
    from avsrobust.evaluation import batches
    from avsrobust.training import data

    recipe = tiny_recipe(data={"datasets": ["s4", "ms3"], "mix": {"s4": 0.75, "ms3": 0.25}})
    trained, validated = [], []
    read, load = data.Picture.read, batches.load_clip

    def counting_read(picture: data.Picture, *arguments: object) -> object:
        trained.append(picture.dataset)
        return read(picture, *arguments)  # type: ignore[arg-type]

    def counting_load(clip: object, *arguments: object, **options: object) -> object:
        validated.append(clip[0].dataset)  # type: ignore[index]
        return load(clip, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(data.Picture, "read", counting_read)
    monkeypatch.setattr(batches, "load_clip", counting_load)
    given = [line for line in arguments(recipe, toy_builds, tmp_path) if not line.startswith("--output")]
    assert invoke([*given, "--smoke", *more]) == 0
    assert Counter(trained) == {name: 2 * count for name, count in per_step.items()}
    assert Counter(validated) == {"s4": 1, "ms3": 1}


def test_a_full_batch_goes_with_a_smoke_run(
    toy_builds: Path, tiny_recipe: WriteRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(arguments(tiny_recipe(), toy_builds, tmp_path / "run", "--full-batch")) == STATUS_USER
    assert "--full-batch: goes with --smoke" in capsys.readouterr().err


def test_progress_is_told_while_a_step_and_a_validation_are_under_way(
    toy_builds: Path, tiny_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both wait for the line that tells of them: none comes, and the test fails, where lines need an end first."""
    from avsrobust.cli import progress
    from avsrobust.training import step, validation

    lines, told, missed = [], Condition(), []

    def take(line: object) -> None:
        with told:
            lines.append(str(line))
            told.notify_all()

    def await_line(text: str) -> None:
        with told:
            if not told.wait_for(lambda: any(text in line for line in lines), timeout=60):
                missed.append(text)

    forward, score = step.Losses.forward, validation.score_clips

    def slow_forward(module: step.Losses, batch: object) -> object:
        await_line("step 1 of 1: forward and backward pass of 2 samples")
        return forward(module, batch)  # type: ignore[arg-type]

    def slow_score(*arguments: object, **options: object) -> Iterator[object]:
        await_line("validation after step 1: s4, 1 clip to score")
        await_line("train tiny: 0 of 1 in all")
        yield from score(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(progress, "note", take)
    monkeypatch.setattr(progress, "EVERY_S", 0.02)
    monkeypatch.setattr(step.Losses, "forward", slow_forward)
    monkeypatch.setattr(validation, "score_clips", slow_score)
    recipe = tiny_recipe(run={"batch_size": 2})
    assert invoke(arguments(recipe, toy_builds, tmp_path / "run", "--steps=1")) == 0
    assert missed == []


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
    assert "data fits; memory was not tried with the recipe's batch; it ran on random weights, as the run that" in told
    assert "it starts from, 'earlier', is not there" in told
    assert invoke([*given, "--smoke", "--full-batch"]) == 0
    assert "data and memory fit; it ran on random weights, as the run that it starts from" in capsys.readouterr().err
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
