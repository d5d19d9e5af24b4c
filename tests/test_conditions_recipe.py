"""Recipes: what loads, what is refused and how it is said."""

from __future__ import annotations

import json
import os

import pytest

from avsrobust.bundled import recipe_names, recipes_folder
from avsrobust.conditions.base import options_of
from avsrobust.conditions.recipe import KIND, find_recipe, load_recipe, parse_recipe, read_yaml
from avsrobust.conditions.registry import CONDITIONS
from avsrobust.errors import RecipeError
from avsrobust.training.recipe import load_train_recipe

BUNDLED = sorted(path.stem for path in recipes_folder().glob("*.yaml") if read_yaml(path).get("kind") == KIND)
STANDARD = read_yaml(recipes_folder() / "standard.yaml")


def test_the_contracts_recipes_are_there():
    assert {"standard", "reference"} <= set(BUNDLED)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_recipe_says_its_name_and_survives_the_manifest(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert parse_recipe(json.loads(json.dumps(recipe.as_dict())), "x") == recipe


def test_standard_is_the_four_conditions_from_one_front_end():
    recipe = load_recipe("standard")
    assert recipe.condition_names == ("clean", "noise", "offscreen", "silence")
    assert {entry.front_end for entry in recipe.entries} == {"vggish"}
    assert [entry.condition.polarity for entry in recipe.entries] == ["positive", "negative", "negative", "negative"]


def test_every_condition_goes_by_its_name_and_shows_its_options():
    for name in CONDITIONS.names():
        condition = CONDITIONS.find(name)
        made = condition(folder="sounds") if name == "unseen" else condition()
        assert condition.name == name
        assert condition(**{key: tuple(v) if isinstance(v, list) else v for key, v in options_of(made).items()}) == made


def test_a_path_names_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("kind: build\nname: mine\ndescription: d\nconditions: {clean: , noise: {front_end: librosa}}\n")
    recipe = load_recipe(str(path))
    assert recipe.name == "mine"
    assert [entry.front_end for entry in recipe.entries] == ["vggish", "librosa"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "standrad",
            r"--recipe standrad: found no recipe of that name; did you mean 'standard'\?; expected one of .*standard",
        ),
        ("../recipes/standard", "found no recipe of that name"),
        ("nowhere.yaml", r"--recipe nowhere.yaml: found no such file; expected a YAML file"),
        ("", "found no recipe of that name"),
    ],
)
def test_unknown_recipes_are_refused(name, message):
    with pytest.raises(RecipeError, match=message):
        find_recipe(name)


def test_only_recipes_of_the_command_are_suggested():
    builds = "expected one of extended, reference, standard, or the path of a .yaml file"
    with pytest.raises(RecipeError, match=f"--recipe m2f_s5: found no recipe of that name; {builds}$"):
        load_recipe("m2f_s5")
    training = (
        r"did you mean 'm2f_s4'\?; expected one of m2f_avss, m2f_avss_toy, .*m2f_toy, or the path of a .yaml file$"
    )
    with pytest.raises(RecipeError, match=training) as refused:
        load_train_recipe("m2f_s5")
    assert "standard" not in str(refused.value)
    assert sorted([*recipe_names("build"), *recipe_names("train")]) == recipe_names()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: build\nkind: build\n", "the key 'kind' is given twice, line 1, column 1"),
        ("- 1\n", "found a list; expected a mapping"),
        ("", "found nothing; expected a mapping"),
        ("kind: [\n", "cannot be read as YAML"),
        ("kind: !!python/object/apply:os.system [true]\n", "cannot be read as YAML"),
        ("kind: train\n", r"key kind: found 'train'; expected 'build'; .*'avsrobust train'"),
    ],
)
def test_files_that_are_no_build_recipe_are_refused(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "..", ".x", "-x", "a b", "a\x1b[31m", "x" * 101, "nul"])
def test_a_name_that_is_a_path_is_refused(tmp_path, name):
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps({**STANDARD, "name": name}))
    with pytest.raises(RecipeError, match=r"key name: found .*; expected a name of at most 100 letters") as caught:
        load_recipe(str(path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: &a build\nname: *a\n", "an anchor or alias"),
        ("a: " + "[" * 5000, "more than 32 levels within each other"),
        ("a: 0x" + "f" * 6000, "a whole number of more than 64 bits"),
        ("3: a\n", "found the key 3, which is no text"),
        ("#" * 300_000, r"found 300,000 bytes; expected at most 262,144 .*--raise-limits 2"),
    ],
)
def test_yaml_that_takes_more_than_it_shows_is_refused(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(path))


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    for name, message in (
        ("pipe.yaml", "is a pipe, not a regular file; expected a YAML file; save the recipe to a file"),
        ("pipe", "found a pipe; expected a file; save the recipe to a .yaml file first"),
        ("zero.yaml", "is a device, not a regular file"),
        ("folder.yaml", "found no such file"),
    ):
        with pytest.raises(RecipeError, match=message):
            load_recipe(str(tmp_path / name))
    with pytest.raises(RecipeError, match="--recipe -: found a pipe"):
        load_recipe("-")


def test_a_link_to_a_recipe_is_followed(tmp_path):
    (tmp_path / "link.yaml").symlink_to(recipes_folder() / "standard.yaml")
    assert load_recipe(str(tmp_path / "link.yaml")) == load_recipe("standard")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(RecipeError, match="cannot be read as YAML"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conditons": {}}, r"f: key conditons: not known; did you mean 'conditions'\?; expected one of kind, name"),
        (
            {"conditions": {}},
            "f: key conditions: found an empty mapping; expected a mapping with one condition or more",
        ),
        ({"conditions": None}, "f: key conditions: found nothing"),
        ({"conditions": {"nose": {}}}, r"f: condition nose: not known; did you mean 'noise'\?"),
        ({"conditions": {1: {}}}, "f: condition 1: not known"),
        ({"conditions": {"noise": 3}}, "f: key conditions.noise: found 3; expected a mapping of options"),
        (
            {"conditions": {"noise": {"levle": 3}}},
            r"f: key conditions.noise.levle: not known; expected one of front_end",
        ),
        (
            {"conditions": {"noise": {"generator": "mine"}}},
            "f: key conditions.noise.generator: found 'mine'; expected one of standard, released",
        ),
        ({"conditions": {"noise": {"generator": ["standard"]}}}, r"found \['standard'\]; expected one of"),
        (
            {"front_end": "vgish"},
            r"f: key front_end: found 'vgish'; expected one of vggish, librosa; did you mean 'vggish'\?",
        ),
        ({"conditions": {"clean": {"front_end": 1}}}, "f: key conditions.clean.front_end: found 1"),
        ({"name": 3}, "f: key name: found 3; expected a text"),
        ({"description": " "}, "f: key description: found an empty text; expected a text"),
    ],
)
def test_wrong_keys_are_named(change, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe({**STANDARD, **change}, "f")


GRADED = ("mixture", "noisy", "shifted", "lowpass", "quiet", "loud", "distractor", "distractor_swapped")


@pytest.mark.parametrize("condition", GRADED)
@pytest.mark.parametrize(
    "levels",
    [
        [],
        ["loud"],
        [None],
        [True],
        [1.0, 1.0],
        [1.0, 1.00000001],
        [float("nan")],
        [float("inf")],
        1.0,
        "1",
        {},
        [[1.0]],
        [1e12],
    ],
    ids=repr,
)
def test_levels_that_are_none_are_one_line(condition, levels):
    content = {"kind": "build", "name": "x", "description": "x", "conditions": {condition: {"levels": levels}}}
    with pytest.raises(RecipeError, match=rf"^here: key conditions\.{condition}[.:].*levels") as caught:
        parse_recipe(content, "here")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("levels", [[0.0, -0.0], [1, 1.0]])
def test_levels_that_are_the_same_number_are_twice_there(levels):
    content = {"kind": "build", "name": "x", "description": "x", "conditions": {"mixture": {"levels": levels}}}
    with pytest.raises(RecipeError, match="found one twice"):
        parse_recipe(content, "here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offscreen": {"draws": 0}}, r"conditions\.offscreen\.draws: found 0"),
        ({"offscreen": {"draws": 101}}, r"conditions\.offscreen\.draws: found 101"),
        ({"offscreen": {"draws": 1.5}}, r"conditions\.offscreen\.draws: found 1\.5"),
        ({"offscreen": {"pool": "world"}}, r"conditions\.offscreen\.pool: found 'world'"),
        ({"noisy": {"color": "brown"}}, r"conditions\.noisy\.color: found 'brown'"),
        ({"clean": {"levels": [1.0]}}, r"conditions\.clean\.levels: not known"),
        ({"mine": {"condition": "noizy"}}, r"key conditions\.mine: condition noizy: unknown.*did you mean 'noisy'"),
        ({"a b": {"condition": "noisy"}}, "under a key that is"),
        ({"mine": {"condition": 3}}, "found the condition 3"),
        ({"mine": {"condition": "nowhere.py:X"}}, "not found|cannot be read"),
        ({"mine": {"condition": "no_such_package:X"}}, "found no module no_such_package"),
        ({"mine": {"condition": "math:pi"}}, "expected a class derived from avsrobust's Condition"),
    ],
)
def test_options_of_conditions_are_checked(options, message):
    content = {"kind": "build", "name": "x", "description": "x", "conditions": options}
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe(content, "here")
    assert "\n" not in str(caught.value)
