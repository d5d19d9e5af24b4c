"""Whatever a user gets wrong: exit status 2, one line that says what to do, and nothing half-written."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avsrobust.cli.main import invoke
from avsrobust.manifest import Manifest

WAV = "Single-source/s4_data/audio_wav/test/dog_barking/b_1.wav"
FRAME = "Single-source/s4_data/visual_frames/test/dog_barking/b_1/b_1_2.png"
MASK = "Single-source/s4_data/gt_masks/test/dog_barking/b_1/b_1_2.png"
CSV = "Single-source/s4_meta_data.csv"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("AVSROBUST_DATA", raising=False)


def refuse(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must be refused; return its last line on stderr."""
    status = invoke([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert status == 2, captured.err
    assert captured.out == ""
    assert lines[-1].startswith("error: "), captured.err
    assert "Traceback" not in captured.err
    assert sum(line.startswith("error: ") for line in lines) == 1
    return captured.err


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sound(samples: np.ndarray, subtype: str) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, samples, 8000, subtype=subtype, format="WAV")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def _nan(path: Path) -> None:
    samples = np.zeros(40_000, np.float32)
    samples[17] = np.nan
    _sound(samples, "FLOAT")(path)


SILENCE = np.zeros(40_000)
BAD_SOUNDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "zero bytes": (lambda path: path.write_bytes(b""), "0 bytes|zero bytes|empty"),
    "truncated": (_truncated, "truncated"),
    "no samples": (_sound(np.zeros(0), "PCM_16"), "0 samples|no samples"),
    "NaN": (_nan, "NaN"),
    "8 bit": (_sound(SILENCE, "PCM_U8"), "8-bit"),
    "24 bit": (_sound(SILENCE, "PCM_24"), "24-bit"),
    "6 channels": (_sound(np.zeros((40_000, 6)), "PCM_16"), "6 channels"),
    "missing": (lambda path: path.unlink(), "no file"),
    "no wav": (lambda path: path.write_bytes(b"ID3" + bytes(4000)), "RIFF|WAV"),
}


@pytest.mark.parametrize("damage", BAD_SOUNDS)
def test_bad_sounds(damage: str, s4_root, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, found = BAD_SOUNDS[damage]
    spoil(s4_root.root / WAV)
    message = refuse(capsys, "build", "--dataset", "s4", "--data-root", s4_root.root)
    assert WAV in message
    assert any(words in message for words in found.split("|")), message
    assert files_below(Path()) == []
    # Left out on demand: the others are built, the manifest and the end of stderr list this one.
    assert invoke(["build", "--dataset", "s4", "--data-root", str(s4_root.root), "--on-error", "skip"]) == 1
    captured = capsys.readouterr()
    assert "dog_barking/b_1" in captured.err
    assert captured.out.strip() == "robust/s4-seed42/manifest.parquet"
    from avsrobust import load_manifest

    manifest = load_manifest("robust/s4-seed42")
    assert "dog_barking/b_1" not in {row.clip_id for row in manifest.rows}
    assert any(entry.clip_id == "dog_barking/b_1" for entry in manifest.info.skipped)


@pytest.mark.parametrize(
    ("relative", "content", "found"),
    [
        (FRAME, b"", "0 bytes|zero bytes|empty"),
        (MASK, b"", "0 bytes|zero bytes|empty"),
        (FRAME, b"\x89PNG\r\n", "PNG|picture"),
    ],
)
def test_bad_pictures(relative: str, content: bytes, found: str, s4_root, capsys: pytest.CaptureFixture[str]) -> None:
    s4_root.write(relative, content)
    message = refuse(capsys, "build", "--dataset", "s4", "--data-root", s4_root.root)
    assert relative in message
    assert any(words in message for words in found.split("|")), message
    assert files_below(Path()) == []


def test_a_mask_of_another_size(s4_root, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    Image.new("L", (99, 7)).save(s4_root.root / MASK)
    message = refuse(capsys, "build", "--dataset", "s4", "--data-root", s4_root.root)
    assert "99x7" in message
    assert MASK in message


def test_all_findings_are_shown_together(s4_root, capsys: pytest.CaptureFixture[str]) -> None:
    for relative in (WAV, FRAME, MASK):
        s4_root.write(relative, b"")
    message = refuse(capsys, "build", "--dataset", "s4", "--data-root", s4_root.root)
    assert all(relative in message for relative in (WAV, FRAME, MASK))
    assert "--on-error skip" in message


def test_no_data_root(capsys: pytest.CaptureFixture[str]) -> None:
    message = refuse(capsys, "build", "--dataset", "s4")
    assert "data" in message
    assert "--data-root" in message


def test_a_tree_of_the_wrong_kind(avsbench, capsys: pytest.CaptureFixture[str]) -> None:
    avsbench.ms3([("x_1", "test")])
    assert "s4_meta_data.csv" in refuse(capsys, "build", "--dataset", "s4", "--data-root", avsbench.root)


def test_a_csv_without_a_needed_column(s4_root, capsys: pytest.CaptureFixture[str]) -> None:
    s4_root.csv(CSV, ("name", "start", "category"), [("b_1", 0, "dog_barking")])
    message = refuse(capsys, "build", "--dataset", "s4", "--data-root", s4_root.root)
    assert "split" in message
    assert "s4_meta_data.csv" in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--dataset", "s5"), "s4"),
        (("--recipe", "standrad"), "did you mean 'standard'"),
        (("--split", "tets"), "did you mean 'test'"),
        (("--split", "TEST"), "did you mean 'test'"),
        (("--split", "val,test"), "name several as --split val --split test"),
        (("--output", ""), "--output: found an empty text; expected a path"),
        (("--recordings", ""), "--recordings: found an empty text"),
        (("--seed", "-1"), "--seed"),
        (("--seed", str(2**64)), "--seed"),
        (("--seed", "many"), "--seed"),
        (("--engine", "spark"), "--engine"),
        (("--on-error", "ignore"), "--on-error"),
        (("--export", "csv"), "--export"),
        (("--workers", "0"), "--workers"),
        (("--sede", "4"), "--sede"),
    ],
)
def test_unknown_values_of_build_options(arguments, expected: str, s4_root, capsys: pytest.CaptureFixture[str]) -> None:
    message = refuse(capsys, "build", "--dataset", "s4", "--data-root", s4_root.root, *arguments)
    assert expected in message
    assert files_below(Path()) == []


def test_a_recipe_with_an_unknown_key(s4_root, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("kind: build\nname: mine\nconditions: {clean: {}}\nconditoins: {}\n")
    message = refuse(capsys, "build", "--dataset", "s4", "--data-root", s4_root.root, "--recipe", "mine.yaml")
    assert "conditoins" in message
    assert "mine.yaml" in message


def test_an_output_that_cannot_be_written(s4_root, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    message = refuse(capsys, "build", "--dataset", "s4", "--data-root", s4_root.root, "--output", "file/robust")
    assert "file/robust" in message


def test_a_manifest_of_another_version(
    tiny_build: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(tiny_build.path)
    metadata = {**table.schema.metadata, b"avsrobust.build_format": b"7"}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "old.parquet")
    for command in (("evaluate", "--adapter", "oracle", "--manifest"), ("verify",), ("audit",)):
        assert "format 7" in refuse(capsys, *command, tmp_path / "old.parquet")


ADAPTERS = """
import torch
from avsrobust.adapters.base import Adapter

def make(result):
    class Broken(Adapter):
        def segment(self, encoded, audio):
            return result(encoded)
    return Broken

Shape = make(lambda frames: torch.zeros(3, 4))
NotANumber = make(lambda frames: torch.full((*frames.shape[:2], 4, 4), float("nan")))
Range = make(lambda frames: torch.full((*frames.shape[:2], 4, 4), 1.5))
Logits = make(lambda frames: torch.full((*frames.shape[:2], 4, 4), -7.0))
Nothing = make(lambda frames: None)
Raises = make(lambda frames: 1 / 0)

class NoSegment:
    audio = "log_mel"
    @classmethod
    def load(cls, checkpoint, device): return cls()
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Shape", "[B=1, T=5, h, w]"),
        ("NotANumber", "NaN"),
        ("Range", "[0, 1]"),
        ("Logits", "[0, 1]"),
        ("Nothing", "NoneType|None"),
        ("Raises", "ZeroDivisionError"),
        ("NoSegment", "segment"),
        ("Missing", "Missing"),
    ],
)
def test_adapters_that_break_their_contract(
    name: str, expected: str, tiny_build: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("broken.py").write_text(ADAPTERS)
    arguments = ("evaluate", "--adapter", f"broken.py:{name}", "--manifest", tiny_build.path, "--output", "out")
    message = refuse(capsys, *arguments)
    assert any(words in message for words in expected.split("|")), message
    assert files_below(Path("out")) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--adapter", "orcale"), "did you mean 'oracle'"),
        (("--adapter", "nowhere.module:Class"), "nowhere"),
        (("--adapter", "nowhere.py:Class"), "nowhere.py"),
        (("--adapter", "oracle", "--split", "train"), "test"),
        (("--adapter", "oracle", "--condition", "silense"), "did you mean 'silence'"),
        (("--adapter", "oracle", "--dataset", "ms3"), "s4"),
        (("--adapter", "oracle", "--device", "gpu"), "--device"),
        (("--adapter", "oracle", "--option", "novalue"), "key=value"),
        (("--adapter", "oracle", "--option", "a=1"), "option"),
        (("--adapter", "oracle", "--checkpoint", "nowhere.pth"), "nowhere.pth"),
        (("--adapter", "oracle", "--data-root", "nowhere"), "nowhere"),
        (("--adapter", "predictions"), "masks"),
        (("--adapter", "worker"), "command"),
    ],
)
def test_unknown_values_of_evaluate_options(
    arguments, expected: str, tiny_build: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refuse(capsys, "evaluate", "--manifest", tiny_build.path, *arguments)
    assert files_below(Path()) == []


def test_nothing_to_evaluate_or_to_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert "avsrobust build" in refuse(capsys, "evaluate", "--adapter", "oracle")
    assert "avsrobust evaluate" in refuse(capsys, "report")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--format", "xslx"), "csv"),
        (("--format", "cvs"), "did you mean 'csv'"),
        (("--protocol", "strcit"), "did you mean 'strict'"),
        (("--by", "colour"), "category"),
        (("nowhere",), "nowhere"),
    ],
)
def test_unknown_values_of_report_options(
    arguments, expected: str, tiny_build: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["evaluate", "--adapter", "oracle", "--manifest", str(tiny_build.path)]) == 0
    capsys.readouterr()
    assert expected in refuse(capsys, "report", *arguments)


@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        ("--format", "report nowhere"),
        ("--protocol", "report nowhere"),
        ("--scores", "report nowhere"),
        ("--aggregate", "report nowhere"),
        ("--compare is for html", "report nowhere --compare --format md"),
        ("--gallery is for html", "report nowhere --gallery 1 --format md"),
        ("--rerun needs a gallery", "report nowhere --rerun"),
        ("--layout has no csv", "report nowhere --layout wide --format csv"),
        ("--protocol", "compare nowhere elsewhere"),
        ("--to", "export results nowhere --output out"),
        ("--protocol", "export results nowhere --output out --to tensorboard"),
        ("--protocol", "export model out --adapter m2f --results nowhere"),
        ("--engine", "build --dataset s4 --data-root nowhere"),
        ("--on-error", "build --dataset s4 --data-root nowhere"),
        ("--export", "build --dataset s4 --data-root nowhere"),
        ("--on-error", "build --dataset s4 --data-root nowhere --dry-run"),
        ("--device", "evaluate --adapter oracle --manifest nowhere"),
        ("--engine", "evaluate --adapter oracle --manifest nowhere"),
        ("--score-size", "evaluate --adapter oracle --manifest nowhere"),
        ("--shard", "evaluate --adapter oracle --manifest nowhere"),
        ("--adapter", "evaluate --manifest nowhere"),
        ("--encoder", "pretransform --manifest nowhere"),
        ("--device", "pretransform --manifest nowhere --encoder ast"),
        ("--device", "train --recipe m2f_s4 --manifest nowhere"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_read(
    option: str, arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refuse(capsys, *arguments.split(), *([] if " " in option else [option, "foo"]))
    assert told.startswith(f"error: {option.split()[0]}"), told
    assert "nowhere" not in told


@pytest.mark.parametrize("arguments", ["verify", "audit", "toy --dataset s4", "export croissant", "export hf build"])
def test_an_empty_path_is_not_the_folder_one_is_in(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ": found an empty text; expected a path; write '.'" in refuse(capsys, *arguments.split(), "")
    assert files_below(Path()) == []


@pytest.mark.parametrize(
    "arguments", ["build --dataset s4 --output", "build --dataset s4 --data-root", "verify", "toy --dataset s4"]
)
def test_a_path_of_bytes_that_are_no_text(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = refuse(capsys, *arguments.split(), os.fsdecode(b"m\xe4rz"))
    assert "m\\udce4rz', whose name holds bytes that are no text here; expected a name in UTF-8" in message
    assert files_below(Path()) == []


def test_a_data_root_of_the_environment_that_is_no_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVSROBUST_DATA", os.fsdecode(b"m\xe4rz"))
    assert "AVSROBUST_DATA: found 'm\\udce4rz', whose name holds bytes" in refuse(capsys, "build", "--dataset", "s4")


def test_a_folder_of_somebody_else_is_refused_before_the_data_set_is_read(
    s4_root, capsys: pytest.CaptureFixture[str]
) -> None:
    (s4_root.root / FRAME).unlink()
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("")
    message = refuse(capsys, "build", "--dataset", "s4", "--data-root", s4_root.root, "--output", "mine")
    assert "mine: holds thesis.txt, which avsrobust did not write there" in message
    assert "problem" not in message


def test_a_misspelt_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'build'" in refuse(capsys, "biuld")


def test_verbose_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["build", "--dataset", "s4", "--verbose"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_the_installed_command_exits_with_the_status() -> None:
    command = [str(Path(sys.executable).with_name("avsrobust")), "build", "--dataset", "s4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


def test_a_streamed_wav_header_is_no_crash(s4_root) -> None:
    path = s4_root.root / WAV
    content = bytearray(path.read_bytes())
    # ffmpeg writes this size where it cannot seek back: the data reach to the end of the file.
    content[40:44] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert invoke(["build", "--dataset", "s4", "--data-root", str(s4_root.root), "--split", "test"]) == 0
