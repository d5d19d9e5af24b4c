from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from avsrobust.bundled import recipe_names, recipes_folder
from avsrobust.conditions.recipe import load_recipe
from avsrobust.errors import RecipeError
from avsrobust.training.recipe import load_train_recipe, parse_train_recipe
from avsrobust.training.sampler import Sampler, stages_of

SMALL: dict[str, Any] = {
    "kind": "train",
    "name": "small",
    "description": "A small one.",
    "model": {"family": "m2f", "trainable": ["*"]},
    "data": {"datasets": ["s4"]},
    "optimizer": {"lr": 0.001},
    "run": {"steps": 4, "batch_size": 2},
}


def with_key(path: str, value: object) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(yaml.safe_dump(SMALL))
    *parents, last = path.split(".")
    at = content
    for parent in parents:
        at = at.setdefault(parent, {})
    at[last] = value
    return content


def shipped() -> list[str]:
    kinds = {path.stem: yaml.safe_load(path.read_text())["kind"] for path in recipes_folder().glob("*.yaml")}
    return sorted(name for name, kind in kinds.items() if kind == "train")


def test_shipped_recipes_are_there() -> None:
    models = ("m2f", "m2f_debias", "m2f_robust")
    wanted = {f"{model}_{task}" for model in models for task in ("s4", "ms3", "avss", "toy")}
    assert wanted | {"m2f_sound_toy", "m2f_avss_toy", "m2f_debias_avss_toy"} <= set(shipped())


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_valid_and_read_back(name: str) -> None:
    recipe = load_train_recipe(name)
    assert recipe.name == name
    assert parse_train_recipe(recipe.as_dict(), "again") == recipe


def test_published_shares_of_negatives() -> None:
    assert load_train_recipe("m2f_robust_s4").negatives.share == 0.10
    assert load_train_recipe("m2f_robust_ms3").negatives.share == 0.20


def test_debiasing_starts_from_a_plain_run_at_a_smaller_rate() -> None:
    for task in ("s4", "ms3", "avss", "avss_toy"):
        plain, debias = load_train_recipe(f"m2f_{task}"), load_train_recipe(f"m2f_debias_{task}")
        assert debias.model.start_from == plain.name
        assert debias.optimizer.lr < plain.optimizer.lr


def test_bundled_models_start_alike_and_learn_as_long_from_the_same_data() -> None:
    plain, debias, robust = (load_train_recipe(f"{model}_toy") for model in ("m2f", "m2f_debias", "m2f_robust"))
    assert plain.data == debias.data == robust.data
    assert plain.model.start_from == debias.model.start_from == "m2f_sound_toy"
    assert (plain.run, plain.optimizer) == (debias.run, debias.optimizer)
    assert robust.model.start_from == plain.name
    assert robust.optimizer.lr < plain.optimizer.lr


def test_only_the_robust_models_learn_from_negatives() -> None:
    for name in shipped():
        assert load_train_recipe(name).negatives.any == ("robust" in name), name


def test_the_curriculum_adds_parts() -> None:
    stages = load_train_recipe("m2f_avss").curriculum
    assert [stage.parts for stage in stages] == [("v1s",), ("v1s", "v2"), ("v1s", "v2", "v1m")]


def test_kinds_refuse_each_other() -> None:
    with pytest.raises(RecipeError, match=r"standard.yaml: key kind: found 'build'; expected 'train'"):
        load_train_recipe("standard")
    with pytest.raises(RecipeError, match=r"m2f_toy.yaml: key kind: found 'train'; expected 'build'"):
        load_recipe("m2f_toy")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("optimiser", {}, r"x.yaml: key optimiser: not known; did you mean 'optimizer'\?"),
        ("run.stepz", 3, r"x.yaml: key run.stepz: not known; did you mean 'steps'\?"),
        ("run.steps", "3", "x.yaml: key run.steps: found '3'; expected a whole number"),
        ("run.steps", 0, "x.yaml: key run.steps: found 0; expected a whole number of at least 1"),
        ("run.steps", True, "x.yaml: key run.steps: found True; expected a whole number"),
        ("optimizer.lr", "6e-4", "key optimizer.lr: found '6e-4'; expected a number .*6.0e-4"),
        ("optimizer.lr", float("nan"), "key optimizer.lr: found nan"),
        (
            "run.precision",
            "bf16",
            r"key run.precision: found 'bf16'; expected float32 or bfloat16; did you mean 'bfloat16'",
        ),
        ("run.accumulate", 3, "key run.accumulate: found 3; expected a divisor of batch_size, 2"),
        ("data.datasets", "s4", "key data.datasets: found 's4'; expected a list"),
        ("data.datasets", ["s5"], "key data.datasets: found 's5'; expected one of s4, ms3, avss"),
        ("data.mix", {"ms3": 1.0}, "key data.mix: found 'ms3'; expected one of s4"),
        ("data.toy", {"clips": {"s4": 2}}, "key data.toy.seed: not given; expected a whole number"),
        ("negatives", {"share": 1.5}, "key negatives.share: found 1.5; expected a number from 0 to 1"),
        (
            "negatives",
            {"kinds": ["rain"]},
            "key negatives.kinds: found 'rain'; expected one of silence, noise, offscreen",
        ),
        ("name", "../../x", "key name: found '../../x'; expected a name of at most 100 letters"),
        ("name", ".", r"key name: found '\.'; expected a name"),
        (
            "model.start_from",
            "../x",
            "key model.start_from: found '../x'; expected a recipe's name: a name of at most 100",
        ),
        ("run.steps", 10**12, "key run.steps: found 1000000000000; expected at most 10000000"),
        ("run.batch_size", 10**12, "key run.batch_size: found 1000000000000; expected at most 65536"),
        ("data.toy", {"clips": {"s4": 10**12}, "seed": 0}, "key data.toy.clips: .*expected from 1 to 100000 of each"),
        ("data.toy", {"clips": {"s4": -1}, "seed": 0}, "key data.toy.clips: .*expected from 1 to 100000 of each"),
        ("model.trainable", [], "key model.trainable: .* expected one pattern at least"),
        ("model", ["m2f"], r"key model: found \['m2f'\]; expected a mapping"),
        ("curriculum", [{"until": 1.0, "parts": ["v1s"]}], r"key curriculum: .* expected data.datasets \[avss\]"),
    ],
)
def test_bad_keys_are_named(path: str, value: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_train_recipe(with_key(path, value), "x.yaml")


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"until": 0.5, "parts": ["v1s"]}], "stages whose 'until' rise up to 1"),
        ([{"until": 1.0, "parts": ["v3"]}], r"key curriculum\[0\].parts: found 'v3'"),
        ([{"until": 1.0}], r"key curriculum\[0\].parts: .* one part at least"),
    ],
)
def test_bad_curricula(stages: object, message: str) -> None:
    content = with_key("data.datasets", ["avss"]) | {"curriculum": stages}
    with pytest.raises(RecipeError, match=message):
        parse_train_recipe(content, "x.yaml")


def test_a_missing_key(tmp_path: Path) -> None:
    content = {key: value for key, value in SMALL.items() if key != "run"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(RecipeError, match=r"mine.yaml: key run: not given"):
        load_train_recipe(str(path))


def test_extra_negatives_by_their_old_name() -> None:
    old, new = (with_key("negatives", {key: 2, "weight": 0.5}) for key in ("beside", "extra"))
    assert parse_train_recipe(old, "x") == parse_train_recipe(new, "x")
    assert parse_train_recipe(new, "x").negatives.extra == 2


def test_other_steps() -> None:
    recipe = parse_train_recipe(SMALL, "x")
    assert recipe.with_steps(None) is recipe
    assert recipe.with_steps(9).run.steps == 9


@pytest.mark.parametrize("name", sorted(recipe_names("train")))
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_trial_on_a_cpu_has_a_sample_of_each_data_set_and_process(name: str, processes: int) -> None:
    recipe = load_train_recipe(name)
    on_gpu, on_cpu = recipe.for_smoke(), recipe.for_smoke(3, on_cpu=True, processes=processes)
    assert (on_gpu.run.batch_size, on_gpu.run.precision) == (recipe.run.batch_size, recipe.run.precision)
    assert (on_gpu.run.steps, on_cpu.run.steps, on_cpu.run.precision) == (2, 3, "float32")
    assert on_cpu.run.validate_clips == on_gpu.run.validate_clips == 1
    count = len(recipe.data.datasets)
    assert count <= on_cpu.run.batch_size < count + processes
    assert on_cpu.run.batch_size % (processes * on_cpu.run.accumulate) == 0
    # A recipe still.
    assert parse_train_recipe(on_cpu.as_dict(), "smoke") == on_cpu
    datasets = [dataset for dataset in recipe.data.datasets for _ in range(100)]
    parts = ["v1s", "v1m", "v2", "v2"] * 25 * count
    stages = stages_of(on_cpu, datasets, parts)
    for step in range(3):
        batch = Sampler(0, on_cpu.run.batch_size, stages).batch(step)
        assert {datasets[index.sample] for index in batch} == set(recipe.data.datasets)
