"""Conditions of others: named in a recipe or registered by a package; whatever one does wrong is one line and writes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from avsrobust.audio.io import read_samples
from avsrobust.building.build import build
from avsrobust.building.verify import verify
from avsrobust.cli.main import invoke
from avsrobust.conditions.recipe import load_recipe, parse_recipe
from avsrobust.conditions.registry import CONDITIONS
from avsrobust.datasets.read import read_dataset
from avsrobust.errors import RecipeError
from avsrobust.manifest import load_manifest

EXAMPLES = Path(__file__).parents[1] / "examples"
FADE = """
from dataclasses import dataclass

import numpy as np

from avsrobust.conditions.signal_condition import SignalCondition


@dataclass(frozen=True)
class Fade(SignalCondition):
    name = "fade"
    polarity = "positive"
    level_unit = "s"
    levels: tuple[float, ...] = (1.0, 2.0)

    def make(self, samples, sample_rate, level, generator):
        BODY
"""
GOOD = "return samples * np.minimum(1, np.arange(len(samples)) / (level * sample_rate)) * generator.uniform(0.5, 1)"


@pytest.fixture
def data(avsbench):
    names = ("dog_barking", "playing_piano", "helicopter", "male_speech", "cat_meowing", "ambulance_siren")
    avsbench.s4([(f"x_{number}", name, "test") for number, name in enumerate(names)])
    return avsbench.root


@pytest.fixture
def recipe(tmp_path):
    """Write a plug-in and a recipe that names it; return the recipe's path."""

    def write(body=GOOD, options="{}", text=FADE):
        folder = tmp_path / "recipe"
        folder.mkdir(exist_ok=True)
        (folder / "fade.py").write_text(text.replace("BODY", body))
        path = folder / "mine.yaml"
        options = f"{{condition: fade.py:Fade, {options.strip('{}')}}}"
        path.write_text(f"kind: build\nname: mine\ndescription: d\nconditions:\n  clean: {{}}\n  fade: {options}\n")
        return path

    return write


def test_fifteen_lines_make_a_condition(data, recipe, tmp_path):
    report = build(read_dataset("s4", data), load_recipe(recipe()), 42, tmp_path / "b", workers=2)
    assert report.rows == 6 * 3
    manifest = load_manifest(tmp_path / "b")
    assert manifest.facts("fade") == {"polarity": "positive", "levels": [1.0, 2.0], "level_unit": "s", "draws": 1}
    for row in (row for row in manifest.rows if row.condition == "fade"):
        own = next(r for r in manifest.rows if r.clip_id == row.clip_id and r.condition == "clean")
        samples, rate = read_samples(manifest.audio_path(own, data))
        generator = np.random.Generator(np.random.PCG64(row.seed))
        expected = (
            samples[:, 0] * np.minimum(1, np.arange(len(samples)) / (row.level * rate)) * generator.uniform(0.5, 1)
        )
        made = read_samples(manifest.audio_path(row, data))[0][:, 0]
        assert np.abs(made - expected).max() <= 0.51 / 32768
    assert verify(tmp_path / "b").problems == ()


def test_a_recipe_with_a_plugin_survives_the_manifest(recipe, monkeypatch):
    path = recipe()
    loaded = load_recipe(path)
    again = parse_recipe(loaded.as_dict(), "x", path.parent)
    assert again == loaded or again.as_dict() == loaded.as_dict()
    (path.parent / "fade.py").write_text(FADE.replace("BODY", "return samples"))
    with pytest.raises(RecipeError, match=r"key conditions\.fade\.sha256: found '[0-9a-f]{64}'; expected [0-9a-f]{64}"):
        parse_recipe(loaded.as_dict(), "x", path.parent)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_edited_condition_is_that_of_the_next_build(workers, data, recipe, tmp_path):
    """In the session's own process, and in those that are kept from the build before."""
    for number, body in enumerate(("return samples * 0.5", "return samples * HALF", "return samples * HALF")):
        # The last one differs by a file beside it alone.
        (tmp_path / "recipe").mkdir(exist_ok=True)
        (tmp_path / "recipe/fade_part.py").write_text(f"HALF = 0.{number}")
        text = FADE if number == 0 else f"from fade_part import HALF\n{FADE}"
        output = tmp_path / str(number)
        build(read_dataset("s4", data), load_recipe(recipe(body, text=text)), 42, output, workers=workers)
        manifest = load_manifest(output)
        row = next(row for row in manifest.rows if row.condition == "fade")
        own = next(r for r in manifest.rows if r.clip_id == row.clip_id and r.condition == "clean")
        samples, made = (read_samples(manifest.audio_path(entry, data))[0][:, 0] for entry in (own, row))
        assert np.abs(made - samples * (0.5, 0.1, 0.2)[number]).max() <= 0.51 / 32768, (number, made[0], samples[0])


def test_a_recipe_that_was_read_before_its_condition_changed_is_refused(data, recipe, tmp_path):
    loaded = load_recipe(recipe())
    recipe("return samples")
    with pytest.raises(RecipeError, match=r"fade\.py: has changed since the recipe was read.*; read the recipe again"):
        build(read_dataset("s4", data), loaded, 42, tmp_path / "out")
    assert not (tmp_path / "out").exists()


BAD_RESULTS = {
    "another length": (
        "return samples[:-1]",
        r"make\(\) returned float64 \[39999\]; expected float64 \[40000\], finite",
    ),
    "NaN": ("return samples * np.nan", r"returned NaN or infinity"),
    "another dtype": ("return samples.astype(np.int16)", r"returned int16 \[40000\]"),
    "nothing": ("return None", r"returned NoneType"),
    "an error": ("raise ValueError('first line\\nsecond')", r"make\(\) raised ValueError: first line second"),
    "quit": ("raise SystemExit(0)", r"raised SystemExit"),
}


@pytest.mark.parametrize(("body", "message"), BAD_RESULTS.values(), ids=BAD_RESULTS)
def test_a_plugin_that_goes_wrong_writes_nothing(body, message, data, recipe, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = [
        "build",
        "--dataset",
        "s4",
        "--data-root",
        str(data),
        "--recipe",
        str(recipe(body)),
        "--output",
        str(output),
    ]
    assert invoke(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]
    assert not output.exists()


def test_a_later_failure_leaves_a_build_that_can_be_continued(data, recipe, tmp_path):
    body = "import os\n        assert level < 2 or not os.environ.get('FADE_FAILS')\n        " + GOOD
    path = recipe(body)
    dataset = read_dataset("s4", data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FADE_FAILS", "1")
        with pytest.raises(RecipeError, match="raised AssertionError"):
            build(dataset, load_recipe(path), 42, tmp_path / "b")
    assert not (tmp_path / "b/manifest.parquet").exists()
    build(dataset, load_recipe(path), 42, tmp_path / "b")
    build(dataset, load_recipe(path), 42, tmp_path / "c")
    assert (tmp_path / "b/manifest.parquet").read_bytes() == (tmp_path / "c/manifest.parquet").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("levels: [one]", r"conditions\.fade\.levels"),
        ("levels: [1.0, 1.0]", "levels: found one twice"),
        ("levels: [1.0, 1.00000001]", "levels: found one twice"),
        ("levels: []", r"levels: found \(\); expected a tuple of 1 to 100 levels"),
        ("levels: [.nan]", "found the number nan"),
        ("levels: 3.0", r"conditions\.fade\.levels"),
        ("length: 3", "length: not known"),
    ],
)
def test_options_of_a_plugin_are_checked(options, message, recipe):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(recipe(options=options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('polarity = "neutral"', "its polarity is 'neutral'"),
        ("draws = 0", r"draws: found 0; expected a whole number from 1 to 100"),
        ("levels = (1.0, None, 'a')", r"levels: found 'a'"),
        ("level_unit = 'a b'", "level_unit: found 'a b'"),
        ("pool = 'world'", "pool: found 'world'"),
        ("levels = property(lambda self: 1 / 0)", "raised ZeroDivisionError"),
        ("1 / 0", "raised ZeroDivisionError"),
        ("name = '../up'", "its name is '../up'"),
    ],
)
def test_facts_of_a_plugin_are_checked(line, message, recipe):
    text = FADE.replace('polarity = "positive"', f'polarity = "positive"\n    {line}')
    if line.startswith("level_unit"):
        text = text.replace('    level_unit = "s"\n', "")
    if line.startswith("levels"):
        text = text.replace("    levels: tuple[float, ...] = (1.0, 2.0)\n", "")
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(recipe(text=text))
    assert "\n" not in str(caught.value)


def test_a_choosing_function_that_goes_wrong_is_one_line(data, recipe, tmp_path):
    for body, message in (
        ("return lambda request: 1 / 0", "raised ZeroDivisionError"),
        ("return lambda request: 3", "found int; expected a Choice"),
    ):
        text = FADE.replace(
            "    def make(self, samples, sample_rate, level, generator):", "    def prepare(self, planned):"
        )
        with pytest.raises(RecipeError, match=message):
            build(read_dataset("s4", data), load_recipe(recipe(body, text=text)), 42, tmp_path / "b")
        assert not (tmp_path / "b").exists()


def test_a_package_registers_one(data, tmp_path, monkeypatch):
    info = tmp_path / "site/fades-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fades\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[avsrobust.conditions]\nfade = fades_of_ours:Fade\n")
    (tmp_path / "site/fades_of_ours.py").write_text(FADE.replace("BODY", GOOD))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert "fade" in CONDITIONS.names()
    recipe = parse_recipe(
        {"kind": "build", "name": "x", "description": "x", "conditions": {"clean": {}, "fade": {"levels": [3.0]}}}, "x"
    )
    report = build(read_dataset("s4", data), recipe, 42, tmp_path / "b")
    assert report.rows == 12


def test_verifying_and_reading_a_build_import_no_plugin(data, recipe, tmp_path):
    path = recipe()
    build(read_dataset("s4", data), load_recipe(path), 42, tmp_path / "b")
    (path.parent / "fade.py").write_text("raise SystemExit('imported')")
    assert verify(tmp_path / "b").problems == ()
    code = (
        "import sys; from avsrobust.building.verify import verify; from avsrobust.audit import audit; "
        f"from avsrobust.manifest import load_manifest; assert not verify({str(tmp_path / 'b')!r}).problems; "
        "assert not [name for name in sys.modules if 'fade' in name]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_example(data, tmp_path):
    recipe = load_recipe(EXAMPLES / "my_recipe.yaml")
    build(read_dataset("s4", data), recipe, 42, tmp_path / "b")
    manifest = load_manifest(tmp_path / "b")
    rows = {(row.clip_id, row.condition): row for row in manifest.rows}
    for (clip_id, condition), row in rows.items():
        if condition == "reversed":
            own = read_samples(manifest.audio_path(rows[clip_id, "clean"], data))[0]
            assert np.array_equal(read_samples(manifest.audio_path(row, data))[0], own[::-1])
    assert verify(tmp_path / "b").problems == ()
    code = (EXAMPLES / "reversed_condition.py").read_text().splitlines()
    assert sum(bool(line.strip()) for line in code) <= 15
