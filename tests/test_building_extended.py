"""A build of `extended`: the same bytes whatever happens on the way; what is damaged is named."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from avsrobust.building import render
from avsrobust.building.build import build
from avsrobust.building.describe import describe
from avsrobust.building.plan import plan
from avsrobust.building.verify import verify
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.files import sha256_of_file
from avsrobust.manifest import MANIFEST_NAME, Manifest, Row, load_manifest, write_manifest

EXTENDED = load_recipe("extended")
NAMES = ("dog_barking", "playing_piano", "helicopter", "male_speech", "cat_meowing", "race_car", "baby_laughter")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, avsbench_in) -> Path:
    """Seven small clips of S4. Tests must not change them."""
    root = tmp_path_factory.mktemp("data")
    avsbench_in(root).s4([(f"x_{number}", name, "test") for number, name in enumerate(NAMES)])
    return root


@pytest.fixture(scope="module")
def built(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build that others are compared with. Tests must not change it."""
    output = tmp_path_factory.mktemp("built") / "b"
    build(read_dataset("s4", data), EXTENDED, 42, output)
    return output


def checksums(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_rows_per_condition_and_level_are_those_of_the_plan(built: Path, data: Path) -> None:
    manifest = load_manifest(built)
    counts = Counter((row.condition, row.level) for row in manifest.rows)
    for entry in EXTENDED.entries:
        for level in entry.condition.levels:
            skipped = {found.clip_id for found in manifest.info.skipped if found.condition == entry.name}
            expected = len(NAMES) * entry.condition.draws
            assert counts[entry.name, level] == expected or skipped
    assert counts["mixture", -6.0] == counts["noisy", 0.0] == counts["clean", None] == len(NAMES)
    assert verify(built).problems == ()
    assert not list(built.rglob("*.wav"))


@pytest.mark.parametrize(("engine", "workers"), [("local", 1), ("local", 2), ("dask", 2)])
def test_engine_and_workers_do_not_change_a_byte(built, data, tmp_path, monkeypatch, engine, workers) -> None:
    monkeypatch.setattr(render, "_MADE_AT_ONCE", 3)
    build(read_dataset("s4", data), EXTENDED, 42, tmp_path / "b", engine=engine, workers=workers)
    assert checksums(tmp_path / "b") == checksums(built)


def test_an_interrupted_build_is_completed(built: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    made = render.make_pictures
    calls = []

    def interrupted(task: render.PictureTask) -> list:
        calls.append(task)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return made(task)

    monkeypatch.setattr("avsrobust.building.build.make_pictures", interrupted)
    monkeypatch.setattr(render, "_MADE_AT_ONCE", 20)
    with pytest.raises(KeyboardInterrupt):
        build(read_dataset("s4", data), EXTENDED, 42, tmp_path / "b")
    assert not (tmp_path / "b" / MANIFEST_NAME).exists()
    report = build(read_dataset("s4", data), EXTENDED, 42, tmp_path / "b")
    assert report.reused >= 20
    assert checksums(tmp_path / "b") == checksums(built)


def test_what_is_deleted_or_changed_is_made_again(built: Path, data: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(built, tmp_path / "b", symlinks=True))
    pictures = sorted((own / "pictures").rglob("*.*"))
    pictures[0].unlink()
    pictures[1].write_bytes(b"changed")
    problems = verify(own).problems
    assert len(problems) == 2
    assert all("build again" in problem or "avsrobust build" in problem for problem in problems)
    report = build(read_dataset("s4", data), EXTENDED, 42, own)
    assert report.rendered == 2
    assert checksums(own) == checksums(built)


def test_rows_depend_on_no_other_clip_and_no_order(data: Path) -> None:
    clips = list(read_dataset("s4", data).clips)
    everything = plan(clips, EXTENDED, 42).rows
    random.Random(1).shuffle(clips)
    assert plan(clips, EXTENDED, 42).rows == everything
    alone = {row.key: row for row in plan(clips[:1], EXTENDED, 42).rows}
    for row in everything:
        if row.key in alone:
            assert row == alone[row.key]
    own = {"clean", "noise", "silence", "gaussian", "pink", "matched_noise", "noisy", "partial", "shifted", "lowpass"}
    assert own <= {row.condition for row in alone.values()}
    assert plan(clips, EXTENDED, 43).rows != everything


def test_the_export_with_unstored_noise_is_that_of_stored(data: Path, tmp_path: Path) -> None:
    trees = []
    for store_audio in (False, True):
        recipe = load_recipe("standard").adapted(store_audio=store_audio)
        build(read_dataset("s4", data), recipe, 42, tmp_path / f"b{store_audio}", export="avsbench")
        trees.append(checksums(tmp_path / f"b{store_audio}/avsbench"))
    assert trees[0] == trees[1]
    assert len(trees[0]) == 2 * (2 * len(NAMES) + 1)


def test_a_dry_run_says_rows_files_and_distinct_sources(built: Path, data: Path) -> None:
    dataset = read_dataset("s4", data)
    summary = describe(dataset, plan(dataset.clips, EXTENDED, 42))
    assert sum(summary.rows.values()) == len(load_manifest(built).rows)
    files = [path for path in (built / "pictures").rglob("*") if path.is_file()]
    assert summary.num_pictures == len(files)
    assert any("distinct clips; the most used one serves" in note for note in summary.notes)


# Verify


def tampered(built: Path, folder: Path, condition: str, change) -> Path:
    """Write a copy of the build whose first row of a condition is changed, sealed again as if nothing had happened."""
    own = Path(shutil.copytree(built, folder / "b", symlinks=True))
    manifest = load_manifest(own)
    rows = list(manifest.rows)
    index = next(index for index, row in enumerate(rows) if row.condition == condition)
    rows[index] = change(rows[index])
    write_manifest(own / MANIFEST_NAME, rows, manifest.info)
    return own


def changed_definition(**more: object):
    def change(row: Row) -> Row:
        return replace(row, sound=json.dumps({**json.loads(row.sound or ""), **more}, separators=(",", ":")))

    return change


def deep(row: Row) -> Row:
    return replace(row, sound='{"op":"gain","gain_db":0.0,"base":' * 100 + (row.sound or "") + "}" * 100)


HOSTILE = {
    "another ratio": (changed_definition(ratio_db=3.5), "audio_sha256"),
    "another checksum": (lambda row: replace(row, audio_sha256="0" * 64), "audio_sha256"),
    "unknown op": (changed_definition(op="system"), "its sound cannot be made"),
    "unknown key": (changed_definition(command="ls"), "its sound cannot be made"),
    "no json": (lambda row: replace(row, sound="{"), "its sound is no definition"),
    "no number": (changed_definition(ratio_db="loud"), "its sound cannot be made"),
    "deep": (deep, "its sound cannot be made|audio_sha256|no definition"),
    "too long": (
        lambda row: replace(row, sound=(row.sound or "").replace("40000", "90000000")),
        "its sound cannot be made",
    ),
    "longer": (lambda row: replace(row, sound=(row.sound or "").replace("40000", "50000")), "its sound cannot be made"),
    "another file": (
        lambda row: replace(row, sound=(row.sound or "").replace("data:", "data:../")),
        "not a path inside|leaves its root",
    ),
    "a code's name": (
        lambda row: replace(row, log_mel="made:evil"),
        "found the log-mel made:evil; expected made:vggish",
    ),
    "one file of two": (lambda row: replace(row, audio=row.audio.removeprefix("made:")), "a file of both or of none"),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE)
def test_verify_names_a_tampered_sound(built: Path, tmp_path: Path, change, message: str) -> None:
    import re

    from avsrobust.errors import AvsRobustError

    own = tampered(built, tmp_path, "mixture", change)
    try:
        problems = verify(own).problems
    except AvsRobustError as error:
        problems = (str(error),)
    assert problems
    assert any(re.search(message, problem) for problem in problems), problems
    assert all("\n" not in problem and len(problem) < 1500 for problem in problems)


def test_verify_names_a_changed_input(built: Path, data: Path, tmp_path: Path) -> None:
    own_data = Path(shutil.copytree(data, tmp_path / "data"))
    sound = next(own_data.rglob("*.wav"))
    content = bytearray(sound.read_bytes())
    content[1000] ^= 1
    sound.write_bytes(bytes(content))
    problems = verify(built, own_data).problems
    assert len(problems) == 1
    assert str(sound) in problems[0]


def test_a_manifest_is_never_read_as_code(built: Path, data: Path) -> None:
    manifest: Manifest = load_manifest(built)
    assert {row.log_mel for row in manifest.rows if row.audio.startswith("made:")} == {"made:vggish"}
