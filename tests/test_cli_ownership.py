"""Nothing of the user's is destroyed, through the installed command: whose a folder is, two names in one, a new release."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import call

import avsrobust as ar
from avsrobust import __version__
from avsrobust.cli.main import invoke
from avsrobust.errors import OptionError
from avsrobust.folders import hold_any_dir, hold_output_dir
from avsrobust.manifest import Manifest, load_manifest
from avsrobust.results import read_scores

AVSROBUST = str(Path(sys.executable).with_name("avsrobust"))
NET = """
import torch
from avsrobust.adapters.base import Adapter

class Net(Adapter):
    def segment(self, encoded, audio):
        return torch.full((*encoded.shape[:2], 4, 4), {value})
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("AVSROBUST_DATA", raising=False)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, make_build_in: Callable[..., Manifest]) -> Manifest:
    return make_build_in(tmp_path_factory.mktemp("owned"), clips=2, split=("test", "val"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, toy_in: Callable[..., Path]) -> Path:
    return toy_in(tmp_path_factory.mktemp("toy") / "data", s4=12, seed=5)


def contents(folder: Path = Path()) -> dict[str, str]:
    """Checksums of all files, the empty locks aside."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".avsrobust.lock"
    }


def refuse(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must be refused in one line and change no file; return the line."""
    before = contents()
    capsys.readouterr()
    assert invoke([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert contents() == before
    return captured.err


def evaluate(build: Manifest, *arguments: object) -> tuple[object, ...]:
    return ("evaluate", "--manifest", build.path, *arguments)


def done(*arguments: object) -> None:
    assert invoke([str(argument) for argument in arguments]) == 0


@pytest.mark.parametrize("name", ["parts/mine.txt", "masks.parquet", "scores.parquet", "run.json", "notes.txt"])
def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(
    name: str, build: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("project/oracle/s4-seed42")
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("years of work")
    for more in ((), ("--replace",), ("--save-masks", "--replace")):
        told = refuse(capsys, *evaluate(build, "--adapter", "oracle", "--output", "project", *more))
        assert f"holds {name.split('/')[0]}, which avsrobust did not write there" in told
    assert sorted(path.name for path in folder.iterdir()) == [name.split("/")[0]]


def test_results_do_not_lie_below_a_build(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = ar.build("s4", data_root=data, splits=["test"], output="build")
    build = load_manifest(built.manifest)
    before = contents(build.folder)
    told = refuse(capsys, *evaluate(build, "--adapter", "oracle", "--output", str(build.folder)))
    assert (
        f"--output {build.folder}: holds a build; expected a folder below which results may lie; choose another one"
        in told
    )
    with pytest.raises(OptionError, match="holds a build"):
        ar.evaluate("oracle", build, output=build.folder)
    assert contents(build.folder) == before


def test_output_is_the_root_and_what_lies_in_it_is_not_touched(build: Manifest) -> None:
    Path("project/parts").mkdir(parents=True)
    for name in ("project/parts/mine.txt", "project/masks.parquet", "project/run.json"):
        Path(name).write_text("years of work")
    before = contents()
    done(*evaluate(build, "--adapter", "oracle", "--output", "project", "--save-masks"))
    assert len(read_scores(Path("project/oracle/s4-seed42")).index) == 20
    assert contents().items() >= before.items()


@pytest.mark.parametrize("name", ["masks.parquet", "extras.parquet"])
def test_a_file_of_somebody_elses_in_our_folder_is_not_taken_for_ours(
    name: str, build: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    done(*evaluate(build, "--adapter", "oracle"))
    Path("results/oracle/s4-seed42", name).write_text("years of work")
    for more in (("--save-masks",), ("--split", "val"), ("--split", "val", "--replace")):
        told = refuse(capsys, *evaluate(build, "--adapter", "oracle", *more))
        assert f"{name}: was not written by avsrobust" in told
    Path("results/oracle/s4-seed42", name).unlink()
    os.mkfifo(Path("results/oracle/s4-seed42", name))
    assert f"{name}: was not written by avsrobust" in refuse(capsys, *evaluate(build, "--adapter", "oracle"))


def test_other_files_in_our_folder_stay(build: Manifest) -> None:
    done(*evaluate(build, "--adapter", "oracle", "--save-masks"))
    mine = [Path("results/oracle/s4-seed42", name) for name in ("plot.png", "parts/notes.txt")]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("years of work")
    done(*evaluate(build, "--adapter", "oracle", "--split", "val"))
    done(*evaluate(build, "--adapter", "empty", "--name", "oracle", "--replace"))
    assert [path.read_text() for path in mine] == ["years of work"] * 2
    assert read_scores(Path("results/oracle/s4-seed42")).info.model == "oracle"
    assert not Path("results/oracle/s4-seed42/masks.parquet").exists()


def test_names_that_fall_on_one_folder_are_refused_before_anything_runs(
    build: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        Path(f"v{number}").mkdir()
        Path(f"v{number}/model.py").write_text(NET.format(value=number / 3))
    Path("lower.py").write_text(NET.format(value=0.9).replace("Net", "net"))
    for second in ("v2/model.py:Net", "lower.py:net"):
        told = refuse(capsys, *evaluate(build, "--adapter", "v1/model.py:Net", "--adapter", second))
        assert f"--adapter {second}" in told
        assert "as those of --adapter v1/model.py:Net" in told
        assert not Path("results").exists()
    copy = Path("copy")
    done(*evaluate(build, "--adapter", "v1/model.py:Net"))
    told = refuse(capsys, *evaluate(build, "--adapter", "v2/model.py:Net"))
    assert "results/Net/s4-seed42: holds results of another model or build; different are: adapter's source" in told
    done(*evaluate(build, "--adapter", "v2/model.py:Net", "--name", "second"))
    copy.write_bytes(build.path.read_bytes())
    told = refuse(capsys, *evaluate(build, "--adapter", "oracle", "--manifest", copy))
    assert "as those of --adapter oracle on" in told


def test_names_are_kept_apart_and_safe(build: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["a/b", "a_b", "..", "../../x", "TPAVI (ours)", "é", "CON"]
    for name in names:
        done(*evaluate(build, "--adapter", "oracle", "--name", name))
    found = sorted(Path("results").rglob("scores.parquet"))
    assert {read_scores(path).info.model for path in found} == set(names)
    assert [path.name for path in Path("..").iterdir()] == ["work"]
    for name in ("", " ", "a\nb", "\x1b[31m"):
        assert "--name" in refuse(capsys, *evaluate(build, "--adapter", "oracle", "--name", name))


def test_a_second_process_is_told_who_holds_a_folder(
    build: Manifest, data: Path, tiny_recipe: Callable[..., Path], toy_builds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifests = [f"--manifest={toy_builds}/robust/{name}-seed42" for name in ("s4", "ms3")]
    log_mel = ("--encoder", "log_mel", "--fit-split", "test", "--clusters", 2, "--queries", 4)
    commands: dict[tuple[str, str, int], tuple[object, ...]] = {
        ("robust/s4-seed42", "build", 2): ("build", "--dataset", "s4", "--data-root", data),
        ("results/oracle/s4-seed42", "results", 2): evaluate(build, "--adapter", "oracle"),
        ("training/tiny", "training", 1): ("train", "--recipe", tiny_recipe(), "--steps", 1, *manifests),
        ("made", "classes", 1): ("pretransform", "--manifest", build.path, "--output", "made", *log_mel),
    }
    for (folder, kind, version), arguments in commands.items():
        with hold_output_dir(Path(folder), kind, version, "avsrobust something"):
            told = refuse(capsys, *arguments)
            assert f"{folder}: is in use by avsrobust something (process {os.getpid()} on" in told
            assert "--wait" in told
        assert not Path(folder).exists()
    with hold_any_dir(Path("toy"), "avsrobust something"):
        assert "toy: is in use by" in refuse(capsys, "toy", "toy", "--dataset", "s4", "--clips", 2)
    for arguments in (*commands.values(), ("toy", "toy", "--dataset", "s4", "--clips", 2)):
        done(*arguments, "--wait")
    assert not Path("toy/.avsrobust.lock").exists()


@pytest.mark.parametrize("command", ["build", "train", "pretransform"])
def test_no_command_takes_a_folder_of_somebody_else(
    command: str,
    build: Manifest,
    data: Path,
    tiny_recipe: Callable[..., Path],
    toy_builds: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("mine").mkdir()
    Path("mine/log.csv").write_text("step,loss\n1,0.5\n")
    manifests = [f"--manifest={toy_builds}/robust/{name}-seed42" for name in ("s4", "ms3")]
    arguments: dict[str, tuple[object, ...]] = {
        "build": ("build", "--dataset", "s4", "--data-root", data),
        "train": ("train", "--recipe", tiny_recipe(), "--steps", 1, *manifests),
        "pretransform": ("pretransform", "--manifest", build.path, "--encoder", "log_mel", "--fit-split", "test"),
    }
    told = refuse(capsys, *arguments[command], "--output", "mine")
    assert "mine: holds log.csv, which avsrobust did not write there" in told


SITE = "import avsrobust; avsrobust.__version__ = '9.9.9'\n"


def test_a_new_release_of_the_same_formats_goes_on_with_what_an_older_one_wrote(data: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    newer = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([AVSROBUST, *arguments], capture_output=True, text=True, env=newer)
        assert done.returncode == 0, done.stderr
        return done

    chain = (
        ("build", "--dataset", "s4", "--data-root", str(data)),
        ("evaluate", "--adapter", "visual_prior", "--save-masks"),
        ("report", "--format", "csv"),
    )
    older = [call(Path(), *arguments) for arguments in chain]
    assert [done.returncode for done in older] == [0, 0, 0], older
    before = contents()
    assert "9.9.9" in run("--version").stdout
    assert "0 files made" in run(*chain[0]).stderr
    assert "already evaluated; nothing was run again" in run(*chain[1]).stderr
    # The signature of a score names the version that computed it.
    assert run(*chain[2]).stdout.replace("version:9.9.9", f"version:{__version__}") == older[2].stdout
    run("verify", "robust/s4-seed42/manifest.parquet")
    assert contents() == before
    # It continues them, too: what was deleted from the build, and another split.
    noise = next(Path("robust/s4-seed42/audio/noise").rglob("*.wav"))
    Path("robust/s4-seed42/manifest.parquet").unlink()
    noise.unlink()
    assert "1 file made" in run(*chain[0]).stderr
    assert contents() == before
    assert load_manifest("robust/s4-seed42").info.version != "9.9.9"
    assert "were there and are kept" in run(*chain[1], "--split", "val").stderr


def test_a_report_takes_the_place_of_no_results(build: Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["evaluate", "--adapter", "oracle", "--manifest", str(build.path), "--output", "out"]) == 0
    folder = Path("out/oracle/s4-seed42")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, form in (("scores.parquet", "parquet"), ("run.json", "json")):
        assert invoke(["report", "out", "--format", form, "--output", str(folder / name)]) == 2
        assert f"--output {folder / name}: is there already, in a folder that holds results" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for _ in range(2):
        assert invoke(["report", "out", "--output", str(folder / "table.csv")]) == 0
        assert invoke(["report", "out", "--output", "table.json"]) == 0
