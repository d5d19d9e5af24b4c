"""`unseen`: a recording and an excerpt of it drawn per row; recordings whose names say what is in the picture are not used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avsrobust.audio.definitions import render
from avsrobust.audio.made import FileReader
from avsrobust.audio.recordings import read_recording
from avsrobust.building.lenders import read_lenders
from avsrobust.clips import Clip
from avsrobust.conditions.base import PlannedRecording, RecordingPool
from avsrobust.conditions.recipe import load_recipe
from avsrobust.conditions.unseen import Unseen
from avsrobust.datasets.read import read_dataset

REAL, UNSEEN = Path("/work/shared/real_avs"), Path("/work/shared/unseen_audio")


def pool(*names: str, seconds: float = 20.0) -> dict[str, RecordingPool]:
    entries = (
        PlannedRecording(name, f"audio/recordings/{index:032x}.wav", f"{index:064x}", 8000, round(8000 * seconds))
        for index, name in enumerate(names)
    )
    return {"unseen": RecordingPool(tuple(entries))}


@pytest.mark.parametrize(
    ("dataset", "name", "category"),
    [
        ("avss", "dog.wav", "dog"),
        ("avss", "my_Dog-2.mp3", "dog"),
        ("avss", "folder/emergency car.wav", "emergency-car"),
        ("avss", "hotdog.wav", None),
        ("avss", "cars.wav", None),
        ("avss", "dog/thunder.wav", None),
        ("s4", "dog.wav", None),
    ],
)
def test_names_that_say_a_category(dataset: str, name: str, category: str | None) -> None:
    found = Unseen("x").recording_obstacle(dataset, name)
    expected = None if category is None else "its name says "
    assert (found or "").startswith(expected or "")
    assert (found is None) == (category is None)


def test_on_s4_a_name_that_says_the_clips_label_is_not_used_for_it(planned_clip: Callable, plan_of: Callable) -> None:
    clips = [planned_clip("a", "dog_barking"), planned_clip("b", "helicopter")]
    planned = plan_of(clips, {"unseen": {"folder": "x"}}, recordings=pool("dog.wav"))
    assert [row.clip.clip_id for row in planned.rows] == ["helicopter/b"]
    assert planned.skipped[0].reason.startswith("too few recordings are left")


def test_recording_and_excerpt_are_drawn_per_row(s4_clips: list[Clip], plan_of: Callable) -> None:
    rows = plan_of(s4_clips, {"unseen": {"folder": "x", "draws": 2}}, recordings=pool("a.wav", "b.wav", "c.wav")).rows
    definitions = [row.sound.definition for row in rows]
    assert {definition.file for definition in definitions} == {
        f"audio/recordings/{index:032x}.wav" for index in range(3)
    }
    starts = [definition.start_s for definition in definitions]
    assert 0 <= min(starts) < 3
    assert 12 < max(starts) <= 15
    by_clip: dict[str, set[str]] = {}
    for row, definition in zip(rows, definitions, strict=True):
        by_clip.setdefault(row.clip.clip_id, set()).add(definition.file)
    assert all(len(files) == 2 for files in by_clip.values())


def test_a_short_recording_starts_at_its_beginning(s4_clips: list[Clip], plan_of: Callable) -> None:
    rows = plan_of(s4_clips[:3], {"unseen": {"folder": "x"}}, recordings=pool("a.wav", seconds=2.0)).rows
    assert {row.sound.definition.start_s for row in rows} == {0.0}


def test_one_more_recording_leaves_the_draws_that_it_does_not_win(s4_clips: list[Clip], plan_of: Callable) -> None:
    files = []
    for names in (("a.wav", "b.wav"), ("a.wav", "b.wav", "c.wav")):
        rows = plan_of(s4_clips, {"unseen": {"folder": "x"}}, recordings=pool(*names)).rows
        files.append([row.sound.definition for row in rows])
    new = f"audio/recordings/{2:032x}.wav"
    assert all(after == before or after.file == new for before, after in zip(*files, strict=True))
    assert any(after.file == new for after in files[1])


@pytest.mark.skipif(not (REAL.is_dir() and UNSEEN.is_dir()), reason="real recordings are not here")
def test_on_real_recordings() -> None:
    recipe = load_recipe("standard").adapted(recordings=UNSEEN)
    lenders = {name: read_lenders(read_dataset(name, REAL), recipe) for name in ("s4", "avss")}
    assert len(lenders["s4"].recordings["unseen"].recordings) == len(list(UNSEEN.glob("*.wav")))
    skipped = dict(lenders["avss"].recordings["unseen"].skipped)
    assert {"airplane.wav", "sheep_segment.wav", "spirit-cello.wav", "drum-roll-sound-effect.wav"} <= set(skipped)
    assert "ocean-waves.wav" not in skipped


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("suffix", ["mp3", "m4a", "mp4", "flac", "ogg"])
def test_any_format_makes_the_same_sound(suffix: str, s4_root, tmp_path: Path) -> None:
    import subprocess

    import soundfile

    time = np.arange(22050 * 6) / 22050
    soundfile.write(tmp_path / "hum.wav", 0.4 * np.sin(2 * np.pi * 440 * time), 22050)
    folder = tmp_path / "sounds"
    folder.mkdir()
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "hum.wav", folder / f"hum.{suffix}"], check=True)
    samples, rate = read_recording(folder / f"hum.{suffix}")
    assert abs(len(samples) / rate - 6) < 0.2
    from avsrobust.building.build import build
    from avsrobust.conditions.recipe import parse_recipe
    from avsrobust.manifest import load_manifest

    content = {"kind": "build", "name": "x", "description": "x", "store_audio": False}
    recipe = parse_recipe({**content, "conditions": {"clean": {}, "unseen": {"folder": str(folder)}}}, "x")
    build(read_dataset("s4", s4_root.root, splits=["val"]), recipe, 1, tmp_path / "b")
    manifest = load_manifest(tmp_path / "b")
    row = next(row for row in manifest.rows if row.condition == "unseen")
    from avsrobust.audio.definitions import parse_definition

    made = render(parse_definition(row.sound or ""), FileReader(lambda name: manifest.file(name, s4_root.root)))
    spectrum = np.abs(np.fft.rfft(made.samples[8000:32000]))
    assert np.argmax(spectrum) * 8000 / 24000 == pytest.approx(440, abs=1)
