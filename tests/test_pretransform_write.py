"""Class files of every row: where they lie, what they come from, and what is refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from avsrobust.adapters.base import AudioInput
from avsrobust.cli.main import invoke
from avsrobust.errors import AvsRobustError, ManifestError, OptionError
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest, load_manifest, write_manifest
from avsrobust.pretransform import write as module
from avsrobust.pretransform.base import Encoder, Encoding, encoding_of
from avsrobust.pretransform.layout import read_layout
from avsrobust.pretransform.write import Choices, condition_folder, pretransform
from model_adapters.m2f.queries import ClassFiles

CHOICES = Choices("log_mel", clusters=4, fit_splits=("test",))


class Loudness(Encoder):
    """Hears how loud a second is, and three classes that follow from where its samples begin."""

    audio = AudioInput.waveform(4000)
    labels = ("a", "b", "c")
    checksum = "1" * 64

    def __init__(self) -> None:
        self.sounds: list[bytes] = []

    def encode(self, sound: Tensor) -> Encoding:
        self.sounds.append(sound.numpy().tobytes())
        seconds = sound.reshape(-1, 4000)
        scores = torch.stack([seconds[:, 0] > 0, seconds[:, 1] > 0, torch.zeros(len(seconds))], dim=1) * 0.6
        return encoding_of(torch.stack([seconds.std(dim=1), seconds[:, 2]], dim=1), scores)


@pytest.fixture
def loudness(monkeypatch: pytest.MonkeyPatch) -> Loudness:
    encoder = Loudness()
    monkeypatch.setattr(module, "load_encoder", lambda *_, **__: encoder)
    return encoder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_for_every_row(tmp_path: Path, tiny_build: Manifest) -> None:
    report = pretransform(tiny_build, tmp_path / "out", CHOICES)
    assert (report.files, report.sounds) == (16, 16)
    written = {name for name in contents(tmp_path / "out") if not name.startswith(".avsrobust.")}
    expected = {f"{row.condition}/{row.clip_id}.pth" for row in tiny_build.rows}
    assert written == expected | {"clusters.safetensors", "classes.json"}
    for row in tiny_build.rows:
        stored = torch.load(tmp_path / "out" / row.condition / f"{row.clip_id}.pth", weights_only=True)
        assert isinstance(stored, list)
        assert [frame.dtype for frame in stored] == [torch.int64] * row.num_frames
        gate = ClassFiles(tmp_path / "out").gate(row.clip_id, row.condition, row.level, row.num_frames, 4)
        assert gate.sum(dim=1).tolist() == [1] * row.num_frames
    assert json.loads((tmp_path / "out" / "classes.json").read_text()) == {}


def test_the_nearest_centre_of_the_rows_own_sound(tmp_path: Path, tiny_build: Manifest) -> None:
    layout = pretransform(tiny_build, tmp_path, CHOICES).layout
    log_mels = np.load(tiny_build.folder / "features.npy")
    for row in tiny_build.rows:
        bands = log_mels[row.log_mel_row][:, 0].astype(np.float64)
        embeddings = np.concatenate([bands.mean(1), bands.std(1)], axis=1)
        expected = [int(np.argmin([((e - c) ** 2).sum() for c in layout.centers])) for e in embeddings]
        stored = torch.load(tmp_path / row.condition / f"{row.clip_id}.pth", weights_only=True)
        assert [frame.tolist() for frame in stored] == [[cluster] for cluster in expected]


def test_levels_have_folders_of_their_own(tmp_path: Path, make_build: Callable[..., Manifest]) -> None:
    build = make_build(clips=2, conditions=("clean",), levels=(-5.0, 2.5))
    pretransform(build, tmp_path / "out", replace(CHOICES, clusters=2))
    files = ClassFiles(tmp_path / "out")
    assert {condition_folder(row) for row in build.rows} == {"clean", "mixture-5dB", "mixture+2.5dB"}
    for row in build.rows:
        assert files.gate(row.clip_id, row.condition, row.level, 5, 2).sum() == 5


def test_same_bytes_again_whatever_was_drawn_before(tmp_path: Path, tiny_build: Manifest) -> None:
    for name in ("first", "second"):
        random.seed(name)
        torch.manual_seed(len(name))
        pretransform(tiny_build, tmp_path / name, CHOICES)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    pretransform(tiny_build, tmp_path / "first", CHOICES)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    pretransform(tiny_build, tmp_path / "third", replace(CHOICES, seed=7))
    third = contents(tmp_path / "third")
    assert third["clusters.safetensors"] != contents(tmp_path / "first")["clusters.safetensors"]


def test_labels_and_pictures_have_no_say(tmp_path: Path, make_build: Callable[..., Manifest]) -> None:
    build = make_build(clips=2)
    pretransform(build, tmp_path / "before", CHOICES)
    write_manifest(build.path, [replace(row, labels=("cat",), broad=("music",)) for row in build.rows], build.info)
    for row in build.rows:
        (tmp_path / "data" / row.frames[0]).unlink(missing_ok=True)
    pretransform(load_manifest(build.path), tmp_path / "after", CHOICES)
    assert contents(tmp_path / "before") == contents(tmp_path / "after")


def test_classes_of_the_sound(tmp_path: Path, tiny_build: Manifest, loudness: Loudness) -> None:
    report = pretransform(tiny_build, tmp_path, replace(CHOICES, encoder="ast", queries=8))
    # "c" is never heard, so the clusters follow behind "b".
    assert report.layout.class_map == {"a": 0, "b": 1}
    assert json.loads((tmp_path / "classes.json").read_text()) == {"a": 0, "b": 1}
    for row in tiny_build.rows:
        samples = loudness_samples(tiny_build, row.audio)
        stored = torch.load(tmp_path / row.condition / f"{row.clip_id}.pth", weights_only=True)
        for second, frame in zip(samples.reshape(5, -1), stored, strict=True):
            assert frame.tolist()[:-1] == [number for number in (0, 1) if second[number] > 0]
            assert 2 <= frame.tolist()[-1] < 6


def loudness_samples(build: Manifest, audio: str) -> np.ndarray:
    import soundfile

    root = build.data_root() if audio.startswith("data:") else build.folder
    samples: np.ndarray = soundfile.read(root / audio.removeprefix("data:"))[0]
    return samples


def test_a_sound_is_encoded_once(tmp_path: Path, make_build: Callable[..., Manifest], loudness: Loudness) -> None:
    """Fitting and writing, and rows that share a file: each different sound goes through the encoder once."""
    build = make_build(clips=3)
    silence = next(row for row in build.rows if row.condition == "silence")
    rows = [
        replace(row, audio=silence.audio, audio_sha256=silence.audio_sha256) if row.condition == "silence" else row
        for row in build.rows
    ]
    write_manifest(build.path, rows, build.info)
    steps: list[tuple[int, int]] = []
    report = pretransform(
        load_manifest(build.path),
        tmp_path / "out",
        replace(CHOICES, encoder="ast"),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert report.sounds == len(loudness.sounds) == len(set(loudness.sounds)) == 10
    assert steps == [(number, 15) for number in range(1, 16)]


def test_rarest_classes_are_left_out_and_named(tmp_path: Path, tiny_build: Manifest, loudness: Loudness) -> None:
    report = pretransform(tiny_build, tmp_path, replace(CHOICES, encoder="ast", queries=5))
    counts = np.zeros(2, int)
    for row in tiny_build.rows:
        if row.condition == "clean":
            counts += (loudness_samples(tiny_build, row.audio).reshape(5, -1)[:, :2] > 0).sum(axis=0)
    assert counts[0] != counts[1]
    often, rare = ("a", "b") if counts[0] > counts[1] else ("b", "a")
    assert (report.layout.class_map, report.skipped) == ({often: 0}, (rare,))
    assert report.layout.highest_query == 4


def test_class_map_of_the_user(tmp_path: Path, tiny_build: Manifest, loudness: Loudness) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("b: 1\n")
    choices = replace(CHOICES, encoder="ast", queries=6, class_map=path)
    assert pretransform(tiny_build, tmp_path / "out", choices).layout.first_cluster == 2
    path.write_text("b: 2\n")
    with pytest.raises(OptionError, match=r"--class-map .*map\.yaml: found query indices up to 6, .*expected 0 to 5"):
        pretransform(tiny_build, tmp_path / "other", choices)
    assert not (tmp_path / "other").exists()


def test_other_builds_use_the_same_clusters(
    tmp_path: Path, tiny_build: Manifest, make_build: Callable[..., Manifest]
) -> None:
    first = tmp_path / "first"
    pretransform(tiny_build, first, CHOICES)
    again = Choices("log_mel", clusters_from=first / "clusters.safetensors", queries=4)
    pretransform(tiny_build, tmp_path / "second", again)
    assert contents(tmp_path / "second") == contents(first)
    other = make_build(clips=2, dataset="ms3", split="val")
    pretransform(other, tmp_path / "third", again)
    assert sha256_of_file(tmp_path / "third" / "clusters.safetensors") == sha256_of_file(first / "clusters.safetensors")
    assert read_layout(first / "clusters.safetensors").fitted_on == {
        "dataset": "s4",
        "splits": ["test"],
        "clips": 4,
        "seed": 42,
    }
    with safe_open(first / "clusters.safetensors", framework="numpy") as stored:
        assert list(stored.keys()) == ["centers"]


def test_clusters_of_another_encoder(tmp_path: Path, tiny_build: Manifest, loudness: Loudness) -> None:
    pretransform(tiny_build, tmp_path, replace(CHOICES, encoder="ast"))
    stored = tmp_path / "clusters.safetensors"
    with pytest.raises(
        OptionError, match=r"--encoder clap: --clusters-from .* holds clusters of ast; take --encoder ast"
    ):
        pretransform(tiny_build, tmp_path / "out", Choices("clap", clusters_from=stored))
    loudness.checksum = "2" * 64
    with pytest.raises(
        OptionError, match=r"is not the one that --clusters-from .* \(SHA-256 2{12}\.\. here, 1{12}\.\."
    ):
        pretransform(tiny_build, tmp_path / "out", Choices("ast", clusters_from=stored))


def test_files_of_two_layouts_are_not_mixed(tmp_path: Path, tiny_build: Manifest) -> None:
    pretransform(tiny_build, tmp_path, CHOICES)
    before = contents(tmp_path)
    with pytest.raises(OptionError, match="holds class files of other clusters or classes; expected an empty folder"):
        pretransform(tiny_build, tmp_path, replace(CHOICES, clusters=5))
    assert contents(tmp_path) == before


def test_answers_that_are_no_numbers(tmp_path: Path, tiny_build: Manifest, loudness: Loudness) -> None:
    loudness.encode = lambda _: Encoding(np.full((5, 2), np.nan, np.float32), np.zeros((5, 3), np.float32))  # type: ignore[method-assign]
    with pytest.raises(OptionError, match="the encoder returns NaN or infinity for group/clip0 under clean"):
        pretransform(tiny_build, tmp_path / "out", replace(CHOICES, encoder="ast"))
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clusters": 21}, r"--clusters 21: found 20 different sounds of one second to fit them on"),
        ({"clusters": 0}, r"--clusters 0: expected at least 1"),
        (
            {"clusters": 4, "queries": 3},
            r"--clusters 4: found 3 queries \(--queries\); expected room for the clusters;",
        ),
        ({"fit_splits": ()}, r"--fit-split train: .* has clean sounds of test only"),
        ({"fit_splits": ("tset",)}, r"--fit-split tset: .*; did you mean 'test'\?"),
        ({"class_threshold": 0.3}, r"--class-threshold 0\.3: has no part without classes"),
        ({"class_map": Path("m.yaml")}, r"--class-map m\.yaml: has no part without classes"),
        ({"classes": True}, r"--classes: log_mel names no classes"),
        ({"encoder": "melody"}, r"--encoder melody: unknown"),
        ({"seed": -3}, r"--seed: found -3"),
        ({"clusters_from": Path("c")}, r"--clusters: has no part with --clusters-from c, which settles it"),
        ({"clusters_from": Path("c"), "clusters": None}, r"--fit-split: has no part with --clusters-from c"),
        ({"clusters_from": Path("c"), "clusters": None, "fit_splits": ()}, r"--clusters-from c: cannot be read"),
    ],
)
def test_choices_that_do_not_fit(
    tmp_path: Path, tiny_build: Manifest, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(AvsRobustError, match=message) as caught:
        pretransform(tiny_build, tmp_path / "out", replace(CHOICES, **changes))
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": 4}, r"--clusters 4: found 4 queries .*room for the clusters and one class; .*, or --no-classes"),
        ({"class_threshold": 1.0}, r"--class-threshold 1: expected a number between 0 and 1"),
        ({"class_threshold": 0.0}, r"--class-threshold 0: expected a number between 0 and 1"),
    ],
)
@pytest.mark.usefixtures("loudness")
def test_choices_that_do_not_fit_classes(
    tmp_path: Path, tiny_build: Manifest, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        pretransform(tiny_build, tmp_path / "out", replace(CHOICES, encoder="ast", **changes))


def test_no_clean_sound_to_fit_on(tmp_path: Path, make_build: Callable[..., Manifest]) -> None:
    with pytest.raises(ManifestError, match="has no clean sound to fit clusters on"):
        pretransform(make_build(conditions=("noise",)), tmp_path / "out", CHOICES)


def test_a_sound_that_has_changed(tmp_path: Path, make_build: Callable[..., Manifest], loudness: Loudness) -> None:
    build = make_build(clips=2)
    path = build.folder / next(row.audio for row in build.rows if row.condition == "noise")
    path.write_bytes(path.read_bytes()[:-2] + b"\x01\x01")
    with pytest.raises(ManifestError, match="restore the file or build again"):
        pretransform(build, tmp_path / "out", replace(CHOICES, encoder="ast"))


def test_command(
    tmp_path: Path, tiny_build: Manifest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["pretransform", "--manifest", str(tiny_build.folder), "--encoder", "log_mel", "--device", "cpu"]
    assert invoke([*command, "--fit-split", "test", "--clusters", "4"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "classes/s4-seed42-log_mel\n"
    assert captured.err == "16 class files of 16 sounds; queries 0 to 3 are clusters\n"
    pretransform(tiny_build, tmp_path / "library", CHOICES)
    assert contents(tmp_path / captured.out.strip()) == contents(tmp_path / "library")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "log_mel"], "error: --fit-split train: "),
        (["--encoder", "logmel"], "error: --encoder logmel: unknown"),
        (["--encoder", "vggish", "--fit-split", "test"], "error: --checkpoint: found none"),
        (
            ["--encoder", "log_mel", "--fit-split", "test", "--clusters", "99"],
            "error: --clusters 99: found 20 different",
        ),
        (["--encoder", "log_mel", "--queries", "0"], "error: Invalid value for '--queries'"),
        (["--encoder", "log_mel", "--device", "gpu"], "error: --device gpu: expected auto, cpu"),
        ([], "error: Missing option '--encoder'"),
    ],
)
def test_command_refuses(
    tmp_path: Path,
    tiny_build: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(["pretransform", "--manifest", str(tiny_build.folder), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert contents(tmp_path) == {}
