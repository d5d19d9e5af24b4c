"""The commands on S3, a server of moto: the bytes of local folders, continued, refused and read as these are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import avsrobust as ar
from avsrobust.cli.main import STATUS_INCOMPLETE, STATUS_USER, invoke
from avsrobust.evaluation.shards import Shard
from avsrobust.files import sha256_of_file
from avsrobust.locks import LOCK_NAME
from avsrobust.manifest import MANIFEST_NAME, load_manifest
from avsrobust.remote import local_copy
from avsrobust.toy.write import write_toy

BUILD, DATA, RESULTS = "s3://lab/robust/s4-seed42", "s3://lab/data", "s3://lab/results"
READ = ("--manifest", BUILD, "--data-root", DATA)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root, and a build of it on this machine."""
    root = tmp_path_factory.mktemp("toy")
    write_toy(root / "data", "s4", clips=14, seed=5)
    ar.build("s4", data_root=root / "data", output=root / "build")
    return root


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("AVSROBUST_DATA", raising=False)


@pytest.fixture
def data(s3: Any, toy: Path) -> Any:
    """The data on the server."""
    s3.put(f"{toy}/data/", "lab/data/", recursive=True)
    return s3


@pytest.fixture
def build(data: Any, toy: Path) -> Any:
    """Data and build on the server."""
    for path in (toy / "build").rglob("*"):
        if path.is_file() and path.name != LOCK_NAME and "data_root" not in path.parts:
            data.put(str(path), f"lab/robust/s4-seed42/{path.relative_to(toy / 'build')}")
    return data


def contents(system: Any, folder: str) -> dict[str, bytes]:
    system.invalidate_cache()
    return {path.removeprefix(f"{folder}/"): system.cat_file(path) for path in system.find(folder)}


def local_contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_NAME)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if "data_root" not in path.parts}


def run(*arguments: object, status: int = 0) -> None:
    assert invoke([str(argument) for argument in arguments]) == status


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str = "other") -> None:
    """From here on it is another machine: one with a cache of its own."""
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / name))


def test_a_build_from_s3_to_s3_has_the_bytes_of_a_local_one(
    data: Any, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("build", "--dataset", "s4", "--data-root", DATA, "--dry-run")
    assert "lab" not in " ".join(data.ls("lab/robust") if data.exists("lab/robust") else [])
    capsys.readouterr()
    run("build", "--dataset", "s4", "--data-root", DATA, "--output", BUILD, "--workers", "2")
    told = capsys.readouterr()
    assert told.out == f"{BUILD}/{MANIFEST_NAME}\n"
    assert str(tmp_path / "cache") not in told.err.replace(f"to {tmp_path}/cache/remote/", "")
    # Checksums, seal, manifest and all other files.
    assert contents(data, "lab/robust/s4-seed42") == local_contents(toy / "build")
    # Done again, by another machine that continues it, it stays as it is.
    times = {path: entry["LastModified"] for path, entry in data.find("lab/robust", detail=True).items()}
    elsewhere(monkeypatch, tmp_path)
    report = ar.build("s4", data_root=DATA, output=BUILD)
    assert (report.rendered, report.reused > 0) == (0, True)
    assert load_manifest(report.manifest).info.dataset == "s4"
    data.invalidate_cache()
    assert {path: entry["LastModified"] for path, entry in data.find("lab/robust", detail=True).items()} == times


def test_only_the_splits_that_are_built_are_copied(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSROBUST_DATA", DATA)
    run("build", "--dataset", "s4", "--split", "test", "--output", "here")
    copied = {path.parts[-3] for path in (tmp_path / "cache").rglob("*.wav")}
    assert copied == {"test"}
    # Sounds of other splits are copied for conditions that draw from them.
    run("build", "--dataset", "s4", "--split", "test", "--output", "extended", "--recipe", "extended")
    local = ar.build(
        "s4", recipe="extended", splits=["test"], data_root=_whole(tmp_path), output=tmp_path / "local"
    ).manifest
    assert sha256_of_file(Path("extended") / MANIFEST_NAME) == sha256_of_file(local)


def _whole(tmp_path: Path) -> Path:
    """The data on this machine, all of them."""
    write_toy(tmp_path / "whole", "s4", clips=14, seed=5)
    return tmp_path / "whole"


def test_a_build_that_is_another_is_refused(build: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(build, "lab/robust")
    arguments = ("build", "--dataset", "s4", "--data-root", DATA, "--output")
    run(*arguments, BUILD, "--seed", "7", status=STATUS_USER)
    assert f"error: --output {BUILD}: holds a build of another seed" in capsys.readouterr().err
    run(*arguments, DATA, status=STATUS_USER)
    assert f"error: {DATA}: holds Single-source, which avsrobust did not write there" in capsys.readouterr().err
    run(*arguments, "s3://no-such-bucket/x", status=STATUS_USER)
    assert "s3://no-such-bucket/x: cannot be listed (there is no such bucket)" in capsys.readouterr().err
    run("build", "--dataset", "ms3", "--data-root", DATA, status=STATUS_USER)
    assert f"{DATA}: found Single-source/, which serves s4" in capsys.readouterr().err
    assert contents(build, "lab/robust") == before


def test_without_keys(data: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    type(data).clear_instance_cache()
    run("report", RESULTS, status=STATUS_USER)
    expected = f"error: {RESULTS}: cannot be listed (found no keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert expected in capsys.readouterr().err


def test_an_evaluation_from_s3_to_s3_has_the_bytes_of_a_local_one(
    build: Any, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    to = f"{RESULTS}/visual_prior/s4-seed42"
    run("evaluate", "--adapter", "visual_prior", *READ, "--output", RESULTS, "--save-masks")
    told = capsys.readouterr()
    assert told.out == f"{to}/scores.parquet\n"
    assert "| _visual_prior_" in told.err
    (local,) = ar.evaluate("visual_prior", toy / "build", output=tmp_path / "local", save_masks=True)
    there = contents(build, to.removeprefix("s3://"))
    assert there["scores.parquet"] == local.scores.read_bytes()
    assert there["masks.parquet"] == local.masks.read_bytes()  # type: ignore[union-attr]
    details = json.loads(there["run.json"])
    assert details["manifest"]["path"] == f"{BUILD}/{MANIFEST_NAME}"
    assert details["data_root"] == DATA
    # Another machine adds a split, and both are one.
    elsewhere(monkeypatch, tmp_path)
    (report,) = ar.evaluate("visual_prior", BUILD, data_root=DATA, output=RESULTS, splits=["val"])
    assert report.rows_kept > 0
    (both,) = ar.evaluate("visual_prior", toy / "build", output=tmp_path / "local", splits=["val"])
    assert report.scores.read_bytes() == both.scores.read_bytes()
    assert contents(build, to.removeprefix("s3://"))["scores.parquet"] == both.scores.read_bytes()
    # Another model under the name is refused.
    run("evaluate", "--adapter", "empty", "--name", "visual_prior", *READ, "--output", RESULTS, status=STATUS_USER)
    assert f"error: {to}: holds results of another model or build" in capsys.readouterr().err


def test_results_are_read_from_s3(
    build: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for adapter in ("visual_prior", "oracle"):
        run("evaluate", "--adapter", adapter, *READ, "--output", RESULTS, "--save-masks")
    elsewhere(monkeypatch, tmp_path)
    capsys.readouterr()
    run("report", RESULTS, "--format", "json", "--intervals")
    told = capsys.readouterr()
    assert f'"source": "{RESULTS}/oracle/s4-seed42/scores.parquet"' in told.out
    assert "warning" not in told.err
    copied = [path.name for path in (tmp_path / "other").rglob("*.parquet")]
    # The manifest tells the sources of borrowed sounds; masks are not needed.
    assert sorted(copied) == [MANIFEST_NAME, "scores.parquet", "scores.parquet"]
    run(
        "compare", f"{RESULTS}/oracle/s4-seed42", f"{RESULTS}/visual_prior/s4-seed42/scores.parquet", "--samples", "100"
    )
    assert "A: oracle" in capsys.readouterr().out
    run("masks", f"{RESULTS}/oracle/s4-seed42", "--overlay", "overlays", "--data-root", DATA, "--condition", "clean")
    assert list(Path("overlays").rglob("*.png"))
    page = ("report", RESULTS, "--format", "html", "--output", "page.html", "--data-root", DATA)
    run(*page, "--gallery", "1")
    assert f"{RESULTS}/oracle/s4-seed42" in Path("page.html").read_text()
    assert str(tmp_path / "other") not in Path("page.html").read_text()
    run(*page, "--gallery", "1", "--rerun")
    # Results that are gone there are no longer reported.
    build.rm("lab/results/oracle", recursive=True)
    assert [scores.info.model for scores in ar.load_results(RESULTS)] == ["visual_prior"]


def test_verify_reads_what_is_there(build: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run("verify", BUILD, "--data-root", DATA)
    assert capsys.readouterr().out.endswith(f"{BUILD}: 56 rows, all in order\n")
    sound = sorted(path for path in build.find("lab/robust") if path.endswith(".wav"))[0]
    frame = sorted(path for path in build.find("lab/data") if path.endswith(".png"))[0]
    build.pipe_file(sound, build.cat_file(sound)[:-1] + b"?")
    build.rm_file(frame)
    # What lies in the copy is as it was: verify asks the server.
    run("verify", BUILD, "--data-root", DATA, status=STATUS_INCOMPLETE)
    out = capsys.readouterr().out
    assert f"s3://{sound}: found sha256" in out
    assert f"s3://{frame}: not found" in out


@pytest.fixture
def another_writer(build: Any, tmp_path: Path) -> Iterator[None]:
    """A process of another machine that evaluates into the same folder, slowly."""
    Path("slow.py").write_text(
        "import time, torch\nfrom pathlib import Path\nfrom avsrobust.adapters.base import Adapter\n"
        "class Slow(Adapter):\n    def segment(self, encoded, audio):\n        Path('begun').touch()\n"
        "        time.sleep(600)\n"
    )
    command = [
        "evaluate",
        "--adapter",
        "slow.py:Slow",
        "--name",
        "visual_prior",
        *READ,
        "--output",
        RESULTS,
        "--no-check",
    ]
    environment = {**os.environ, "AVSROBUST_CACHE": str(tmp_path / "its")}
    process = subprocess.Popen([sys.executable, "-m", "avsrobust", *command], env=environment, stderr=subprocess.PIPE)
    try:
        while not Path("begun").exists():
            assert process.poll() is None
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        yield
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("another_writer")
def test_two_machines_do_not_write_at_once(build: Any, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = ("evaluate", "--adapter", "visual_prior", *READ, "--output", RESULTS)
    run(*evaluation, status=STATUS_USER)
    message = capsys.readouterr().err
    assert f"error: {RESULTS}/visual_prior/s4-seed42: is in use by avsrobust evaluate (process" in message
    # Other folders are free.
    run("evaluate", "--adapter", "oracle", *READ, "--output", RESULTS)


KILLED = """
import os, signal, sys
from avsrobust.remote.store import Store
from avsrobust.cli.main import invoke
put, limit = Store.put, int(sys.argv[1])
def counted(self, files):
    global limit
    limit -= 1
    if limit < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, files)
Store.put = counted
sys.exit(invoke(sys.argv[2:]))
"""


@pytest.mark.parametrize("puts", [0, 2])
def test_a_build_that_was_killed_while_it_was_put_there_is_finished(
    puts: int, data: Any, toy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = ["build", "--dataset", "s4", "--data-root", DATA, "--output", BUILD]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(puts), *command], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    half = contents(data, "lab/robust/s4-seed42")
    assert LOCK_NAME in half
    assert MANIFEST_NAME not in half
    # Another machine finds no build, and does not write over it.
    with monkeypatch.context() as other:
        elsewhere(other, tmp_path)
        run("evaluate", "--adapter", "oracle", *READ, status=STATUS_USER)
        run(*command, status=STATUS_USER)
        assert f"delete {BUILD}/{LOCK_NAME}" in capsys.readouterr().err
    run(*command)
    assert " 0 files made" in capsys.readouterr().err
    assert contents(data, "lab/robust/s4-seed42") == local_contents(toy / "build")


def test_an_interrupted_evaluation_goes_on(
    build: Any, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avsrobust.evaluation.parts.CLIPS_PER_PART", 1)
    Path("model.py").write_text(
        "import torch\nfrom pathlib import Path\nfrom avsrobust.adapters.base import Adapter\n"
        "class Net(Adapter):\n    def segment(self, encoded, audio):\n        count = len(list(Path().glob('call*')))\n"
        "        if count == 4 and not Path('again').exists():\n            raise KeyboardInterrupt\n"
        "        Path(f'call{count}').touch()\n        return encoded.float().mean(dim=2) / 255\n"
    )
    evaluation = ("evaluate", "--adapter", "model.py:Net", "--no-check", "--batch-size", "1")
    run(*evaluation, *READ, "--output", RESULTS, status=130)
    home = next((tmp_path / "cache" / "staging").glob("*results*"))
    assert f"{RESULTS}/Net/s4-seed42: what is finished is kept in {home}" in capsys.readouterr().err
    assert contents(build, "lab/results") == {}
    Path("again").touch()
    run(*evaluation, *READ, "--output", RESULTS)
    calls = len(list(Path().glob("call*")))
    run(*evaluation, "--manifest", toy / "build", "--output", "local")
    # One clip was scored before, and so were not all of them twice.
    assert len(list(Path().glob("call*"))) - calls > calls - 4
    there = contents(build, "lab/results/Net/s4-seed42")
    assert there["scores.parquet"] == Path("local/Net/s4-seed42/scores.parquet").read_bytes()
    assert not (home / "files").exists()


def test_shards_of_two_machines_are_merged(
    build: Any, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        elsewhere(monkeypatch, tmp_path, str(number))
        run("evaluate", "--adapter", "visual_prior", *READ, "--output", RESULTS, "--shard", f"{number}/2")
    assert f"avsrobust merge {RESULTS}/visual_prior/s4-seed42" in capsys.readouterr().err
    elsewhere(monkeypatch, tmp_path)
    run("merge", RESULTS)
    assert capsys.readouterr().out == f"{RESULTS}/visual_prior/s4-seed42/scores.parquet\n"
    (local,) = ar.evaluate("visual_prior", toy / "build", output=tmp_path / "local")
    there = contents(build, "lab/results/visual_prior/s4-seed42")
    assert there["scores.parquet"] == local.scores.read_bytes()
    assert f"{Shard.parse('1/2').folder(Path())}/scores.parquet" in there
    run("merge", f"{RESULTS}/visual_prior/s4-seed42/shards/1-of-2")
    run("merge", "s3://lab/data", status=STATUS_USER)
    assert "s3://lab/data: found no shards in it" in capsys.readouterr().err


def test_a_run_of_training_from_s3_to_s3(
    build: Any, toy: Path, tiny_recipe: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("accelerate")
    recipe = tiny_recipe(data={"datasets": ["s4"], "mix": {}})
    train = ("train", "--recipe", recipe, *READ, "--device", "cpu", "--steps", "1")
    run(*train, "--output", "s3://lab/runs/one")
    assert capsys.readouterr().out == "s3://lab/runs/one/best.safetensors\n"
    assert "best.safetensors" in contents(build, "lab/runs/one")
    for start in ("s3://lab/runs/one", "s3://lab/runs/one/best.safetensors"):
        run(*train, "--output", f"run{len(start)}", "--init", start)
        assert f"starts from {start}" in capsys.readouterr().err
    checkpoint = ("--checkpoint", "s3://lab/runs/one/best.safetensors")
    run("evaluate", "--adapter", "model_adapters.m2f.adapter:M2F", *READ, *checkpoint, "--limit", "1")
    details = json.loads(Path("results/M2F/s4-seed42/run.json").read_text())
    assert details["checkpoint"]["path"] == checkpoint[1]


def test_other_commands_read_builds_from_s3(
    build: Any, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("audit", BUILD, "--data-root", DATA)
    run("export", "hf", BUILD, "hf", "--data-root", DATA, "--split", "test")
    run("export", "croissant", BUILD)
    run("pretransform", *READ, "--encoder", "log_mel", "--clusters", "2", "--output", "s3://lab/classes")
    assert capsys.readouterr().out.endswith("s3://lab/classes\n")
    run("pretransform", "--manifest", toy / "build", "--encoder", "log_mel", "--clusters", "2", "--output", "classes")
    assert contents(build, "lab/classes") == local_contents(Path("classes"))
    assert len(ar.RobustDataset(BUILD, "test", data_root=DATA)) > 0
    assert ar.read_dataset("s4", DATA).clips == ar.read_dataset("s4", toy / "data").clips


@pytest.mark.parametrize(
    "arguments",
    [
        ("toy", "s3://lab/toy", "--dataset", "s4"),
        ("masks", "results", "--overlay", "s3://lab/x"),
        ("report", "--output", "s3://lab/report.html"),
        ("export", "hf", "robust/x", "s3://lab/x"),
        ("build", "--dataset", "s4", "--recordings", "s3://lab/x"),
    ],
)
def test_what_is_for_paths_of_this_machine_refuses_addresses(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run(*arguments, status=STATUS_USER)
    assert "is an address; expected a path of this machine" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_a_file_of_results_cannot_make_the_machine_call_others(
    build: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("evaluate", "--adapter", "visual_prior", *READ)
    run_json = Path("results/visual_prior/s4-seed42/run.json")
    for sent in (f"{BUILD}/{MANIFEST_NAME}", "s3://elsewhere/x/manifest.parquet", "http://127.0.0.1:9/x"):
        details = json.loads(run_json.read_text())
        details["manifest"]["path"] = sent
        from avsrobust.reporting.build_files import manifest_file

        folder = run_json.parent.absolute()
        if sent.startswith(BUILD):
            # The copy that the evaluation made.
            assert manifest_file(folder, details) == local_copy(BUILD) / MANIFEST_NAME
        else:
            with pytest.raises(ar.AvsRobustError, match="found no manifest"):
                manifest_file(folder, details)
