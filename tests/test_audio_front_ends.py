"""Front ends by name, those of others included; whatever one does wrong is one line and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avsrobust.audio.features import librosa_log_mel, vggish_log_mel
from avsrobust.audio.front_ends import FRONT_ENDS, log_mel_of, log_mel_of_file
from avsrobust.building.build import build
from avsrobust.building.verify import verify
from avsrobust.cli.main import invoke
from avsrobust.conditions.recipe import load_recipe, parse_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.errors import RecipeError
from avsrobust.manifest import load_manifest

GOOD = "import numpy as np\n\n\ndef flat(samples, sample_rate, num_frames):\n    BODY\n"
RETURN = "return np.full((num_frames, 1, 96, 64), samples.std(), np.float32)"


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Path]:
    """Write a front end and a recipe that names it; return the recipe's path."""

    def write(body: str = RETURN) -> Path:
        folder = tmp_path / "recipe"
        folder.mkdir(exist_ok=True)
        (folder / "own.py").write_text(GOOD.replace("BODY", body))
        path = folder / "mine.yaml"
        path.write_text(
            "kind: build\nname: mine\ndescription: d\nfront_end: own.py:flat\nstore_audio: false\n"
            "conditions: {clean: {}, noise: {}, mixture: {levels: [0.0]}, silence: {front_end: vggish}}\n"
        )
        return path

    return write


def test_built_in_ones_are_the_functions_of_their_names(tmp_path: Path) -> None:
    samples = np.round(np.random.default_rng(1).uniform(-0.5, 0.5, 32000) * 32768) / 32768
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="PCM_16")
    assert np.array_equal(log_mel_of("vggish", samples, 16000, 2, of="x"), vggish_log_mel(samples, 16000, 2))
    assert np.array_equal(log_mel_of_file("vggish", tmp_path / "a.wav", 2), vggish_log_mel(samples, 16000, 2))
    assert np.array_equal(log_mel_of_file("librosa", tmp_path / "a.wav", 2), librosa_log_mel(tmp_path / "a.wav", 2))
    assert set(FRONT_ENDS.built_in) == {"vggish", "librosa"}


def test_one_of_your_own(s4_root, recipe, tmp_path: Path) -> None:
    for workers in (1, 2):
        build(read_dataset("s4", s4_root.root), load_recipe(recipe()), 1, tmp_path / f"b{workers}", workers=workers)
    manifest = load_manifest(tmp_path / "b1")
    assert (tmp_path / "b2/manifest.parquet").read_bytes() == manifest.path.read_bytes()
    for row in manifest.rows:
        # Nobody but its author can make its log-mels again: they are stored, and so are the sounds.
        assert row.audio.startswith("made:") == (row.condition == "silence")
        if row.condition != "silence":
            array = np.load(manifest.log_mel_path(row))[row.log_mel_row]
            samples = soundfile.read(manifest.audio_path(row, s4_root.root))[0]
            assert array == pytest.approx(samples.std(), rel=1e-5)
    (tmp_path / "recipe/own.py").write_text("raise SystemExit('imported')")
    assert verify(tmp_path / "b1").problems == ()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_edited_one_is_that_of_the_next_build(workers, s4_root, recipe, tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        loaded = load_recipe(recipe(f"return np.full((num_frames, 1, 96, 64), {value}, np.float32)"))
        build(read_dataset("s4", s4_root.root), loaded, 1, tmp_path / f"b{value}", workers=workers)
        manifest = load_manifest(tmp_path / f"b{value}")
        row = next(row for row in manifest.rows if row.condition == "noise")
        assert (np.load(manifest.log_mel_path(row))[row.log_mel_row] == value).all()


def test_one_that_changed_after_the_recipe_was_read_is_refused(s4_root, recipe, tmp_path: Path) -> None:
    loaded = load_recipe(recipe())
    recipe("return np.zeros((num_frames, 1, 96, 64), np.float32)")
    with pytest.raises(RecipeError, match=r"own\.py: has changed since the recipe was read"):
        build(read_dataset("s4", s4_root.root), loaded, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


BAD = {
    "another shape": (
        "return np.zeros((num_frames, 96, 64), np.float32)",
        r"returned float32 \[5, 96, 64\]; expected float32 \[5, 1, 96, 64\]",
    ),
    "another dtype": ("return np.zeros((num_frames, 1, 96, 64))", r"returned float64"),
    "NaN": ("return np.full((num_frames, 1, 96, 64), np.nan, np.float32)", "returned NaN or infinity"),
    "an error": ("raise ValueError('no\\nlines')", "raised ValueError: no lines"),
    "nothing": ("return None", "returned NoneType"),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD)
def test_one_that_goes_wrong_writes_nothing(body, message, s4_root, recipe, tmp_path, capsys) -> None:
    output = tmp_path / "out"
    words = ["build", "--dataset", "s4", "--data-root", s4_root.root, "--recipe", recipe(body), "--output", output]
    assert invoke([str(word) for word in words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    with pytest.raises(RecipeError, match=message):
        raise RecipeError(lines[0])
    assert not output.exists()


@pytest.mark.parametrize(
    ("front_end", "message"),
    [
        ("vgish", r"expected one of vggish, librosa; did you mean 'vggish'\?"),
        ("nowhere.py:flat", "nowhere.py: not found"),
        ("own.py:flatt", r"own.py has no 'flatt'; did you mean 'flat'"),
        ("no_such_package:f", "found no module no_such_package"),
        ("math:pi", "expected a function"),
    ],
)
def test_unknown_ones_are_refused_with_the_recipe(front_end, message, recipe) -> None:
    path = recipe()
    path.write_text(path.read_text().replace("own.py:flat", front_end))
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_another_front_end_in_the_same_file_is_another_recipe(recipe) -> None:
    first = load_recipe(recipe())
    second = load_recipe(recipe("return np.zeros((num_frames, 1, 96, 64), np.float32)"))
    assert first.as_dict() != second.as_dict()


def test_a_package_registers_one(s4_root, tmp_path: Path, monkeypatch) -> None:
    info = tmp_path / "site/flats-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flats\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[avsrobust.front_ends]\nflat = flats_of_ours:flat\n")
    (tmp_path / "site/flats_of_ours.py").write_text(GOOD.replace("BODY", RETURN))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    content = {"kind": "build", "name": "x", "description": "x", "store_audio": False, "front_end": "flat"}
    recipe = parse_recipe({**content, "conditions": {"clean": {}, "noise": {}}}, "x")
    build(read_dataset("s4", s4_root.root), recipe, 42, tmp_path / "b")
    rows = load_manifest(tmp_path / "b").rows
    assert not any(row.log_mel.startswith("made:") for row in rows)
    assert verify(tmp_path / "b").problems == ()
