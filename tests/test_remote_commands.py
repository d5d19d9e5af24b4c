"""The commands on S3, a server of moto: the bytes of local folders, continued, refused and read as these are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import avsrobust as ar
from avsrobust.cli.main import STATUS_INCOMPLETE, STATUS_USER, invoke
from avsrobust.evaluation.shards import Shard
from avsrobust.locks import LOCK_NAME
from avsrobust.manifest import MANIFEST_NAME, load_manifest
from avsrobust.remote import local_copy
from avsrobust.remote.addresses import COPIES, local_home
from avsrobust.remote.store import Store
from avsrobust.toy.write import write_toy

# In the bucket "toy", which no test changes, and in "lab", which each test finds empty.
BUILD, DATA = "s3://toy/robust/s4-seed42", "s3://toy/data"
OUTPUT, RESULTS = "s3://lab/robust/s4-seed42", "s3://lab/results"
READ = ("--manifest", BUILD, "--data-root", DATA)
Elsewhere = Callable[[str], None]


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


@pytest.fixture(scope="module")
def copies(toy: Path, s3_server: dict[str, str]) -> Path:
    """Data and build are put to the server; the folder of their copies, which caches of tests begin with."""
    import fsspec

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**s3_server, "AVSROBUST_CACHE": str(toy / "cache")}.items():
            patch.setenv(name, value)
        system = fsspec.filesystem("s3", skip_instance_cache=True)
        system.mkdirs("toy", exist_ok=True)
        put(system, toy, "toy")
        local_copy(DATA)
        local_copy(BUILD)
    return toy / "cache"


def put(system: Any, toy: Path, bucket: str) -> None:
    system.put(f"{toy}/data/", f"{bucket}/data/", recursive=True)
    files = [path for path in (toy / "build").rglob("*") if path.is_file() and path.name != LOCK_NAME]
    files = [path for path in files if "data_root" not in path.parts]
    names = [f"{bucket}/robust/s4-seed42/{path.relative_to(toy / 'build')}" for path in files]
    system.put([str(path) for path in files], names)


@pytest.fixture
def elsewhere(copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """Makes this another machine, by a name: one with a cache of its own, in which copies of data and build are."""

    def elsewhere(name: str) -> None:
        monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / name))
        (tmp_path / name / COPIES).mkdir(parents=True, exist_ok=True)
        for url in (DATA, BUILD):
            home = local_home(COPIES, url)
            if not home.exists():
                shutil.copytree(copies / COPIES / home.name, home, copy_function=os.link)

    return elsewhere


@pytest.fixture
def server(s3: Any, elsewhere: Elsewhere) -> Any:
    """The server; this machine has copies of data and build."""
    elsewhere("cache")
    return s3


def contents(system: Any, folder: str) -> dict[str, bytes]:
    system.invalidate_cache()
    return {path.removeprefix(f"{folder}/"): system.cat_file(path) for path in system.find(folder)}


def local_contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_NAME)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if "data_root" not in path.parts}


def run(*arguments: object, status: int = 0) -> None:
    assert invoke([str(argument) for argument in arguments]) == status


def test_a_build_from_s3_to_s3_has_the_bytes_of_a_local_one(
    s3: Any, copies: Path, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], elsewhere: Elsewhere
) -> None:
    run("build", "--dataset", "s4", "--data-root", DATA, "--dry-run")
    assert contents(s3, "lab") == {}
    capsys.readouterr()
    run("build", "--dataset", "s4", "--data-root", DATA, "--output", OUTPUT, "--workers", "2")
    told = capsys.readouterr()
    assert told.out == f"{OUTPUT}/{MANIFEST_NAME}\n"
    assert str(tmp_path / "cache") not in told.err
    # Checksums, seal, manifest and all other files.
    assert contents(s3, "lab/robust/s4-seed42") == local_contents(toy / "build")
    # Done again, by another machine that continues it, it stays as it is.
    times = {path: entry["LastModified"] for path, entry in s3.find("lab/robust", detail=True).items()}
    elsewhere("other")
    report = ar.build("s4", data_root=DATA, output=OUTPUT)
    assert (report.rendered, report.reused > 0) == (0, True)
    assert load_manifest(report.manifest).info.dataset == "s4"
    s3.invalidate_cache()
    assert {path: entry["LastModified"] for path, entry in s3.find("lab/robust", detail=True).items()} == times


@pytest.mark.usefixtures("s3", "copies")
def test_only_the_splits_that_are_built_are_copied(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVSROBUST_DATA", DATA)
    run("build", "--dataset", "s4", "--split", "test", "--output", "here")
    copied = {path.parts[-3] for path in (tmp_path / "cache").rglob("*.wav")}
    assert copied == {"test"}
    # Sounds of other splits are copied for conditions that draw from them.
    for recipe in ("extended", "reference"):
        choices = ("--dataset", "s4", "--recipe", recipe, "--split", "test")
        invoke(["build", *choices, "--output", f"{recipe}/s3"])
        invoke(["build", *choices, "--output", f"{recipe}/local", "--data-root", str(toy / "data")])
        # The notes of an extended build name the data root.
        there, here = local_contents(Path(recipe, "s3")), local_contents(Path(recipe, "local"))
        assert there.keys() == here.keys()
        assert there["checksums.parquet"] == here["checksums.parquet"]


def test_a_build_that_is_another_is_refused(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = server.find("toy", detail=True)
    arguments = ("build", "--dataset", "s4", "--data-root", DATA, "--output")
    run(*arguments, BUILD, "--seed", "7", status=STATUS_USER)
    assert f"error: --output {BUILD}: holds a build of another seed" in capsys.readouterr().err
    run(*arguments, DATA, status=STATUS_USER)
    assert f"error: {DATA}: holds Single-source, which avsrobust did not write there" in capsys.readouterr().err
    run(*arguments, "s3://no-such-bucket/x", status=STATUS_USER)
    assert "s3://no-such-bucket/x: cannot be listed (there is no such bucket)" in capsys.readouterr().err
    run("build", "--dataset", "ms3", "--data-root", DATA, status=STATUS_USER)
    assert f"{DATA}: found Single-source/, which serves s4" in capsys.readouterr().err
    server.invalidate_cache()
    assert server.find("toy", detail=True) == before


def test_without_keys(s3: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    type(s3).clear_instance_cache()
    run("report", RESULTS, status=STATUS_USER)
    expected = f"error: {RESULTS}: cannot be listed (found no keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert expected in capsys.readouterr().err


def test_an_evaluation_from_s3_to_s3_has_the_bytes_of_a_local_one(
    server: Any, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], elsewhere: Elsewhere
) -> None:
    to = f"{RESULTS}/visual_prior/s4-seed42"
    run("evaluate", "--adapter", "visual_prior", *READ, "--output", RESULTS, "--save-masks")
    told = capsys.readouterr()
    assert told.out == f"{to}/scores.parquet\n"
    assert "| _visual_prior_" in told.err
    (local,) = ar.evaluate("visual_prior", toy / "build", output=tmp_path / "local", save_masks=True)
    there = contents(server, to.removeprefix("s3://"))
    assert there["scores.parquet"] == local.scores.read_bytes()
    assert there["masks.parquet"] == local.masks.read_bytes()  # type: ignore[union-attr]
    details = json.loads(there["run.json"])
    assert details["manifest"]["path"] == f"{BUILD}/{MANIFEST_NAME}"
    assert details["data_root"] == DATA
    # Another machine adds a split, and both are one.
    elsewhere("other")
    (report,) = ar.evaluate("visual_prior", BUILD, data_root=DATA, output=RESULTS, splits=["val"])
    assert report.rows_kept > 0
    (both,) = ar.evaluate("visual_prior", toy / "build", output=tmp_path / "local", splits=["val"])
    assert report.scores.read_bytes() == both.scores.read_bytes()
    assert contents(server, to.removeprefix("s3://"))["scores.parquet"] == both.scores.read_bytes()
    # Another model under the name is refused.
    run("evaluate", "--adapter", "empty", "--name", "visual_prior", *READ, "--output", RESULTS, status=STATUS_USER)
    assert f"error: {to}: holds results of another model or build" in capsys.readouterr().err


def test_a_build_lists_its_data_once(s3: Any, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    listing = Store.listing

    def counted(store: Store) -> Any:
        listed.append(store.url)
        return listing(store)

    monkeypatch.setattr(Store, "listing", counted)
    # A second time after all was copied: what changed meanwhile is copied again.
    for expected in (2, 1):
        run("build", "--dataset", "s4", "--data-root", DATA, "--split", "val", "--output", "here")
        assert listed.count(DATA) == expected
        listed.clear()


def test_each_object_is_read_once(
    s3: Any, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: Path
) -> None:
    """Requests do not grow with the clips, but for one per file."""
    # Those that come with time.
    monkeypatch.setattr("avsrobust.remote.lease.LEASE_S", 3600.0)
    monkeypatch.setattr("avsrobust.remote.upload.PUT_EVERY_S", 3600.0)
    requests: list[tuple[str, str]] = []
    call = type(s3)._call_s3

    async def counted(self: Any, method: str, *arguments: Any, **options: Any) -> Any:
        requests.append((method, str(options.get("Key", ""))))
        return await call(self, method, *arguments, **options)

    monkeypatch.setattr(type(s3), "_call_s3", counted)
    seen: dict[str, list[Counter[str]]] = {"val": [], "train": []}
    for split, found in seen.items():
        monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / split))
        for adapter in ("visual_prior", "oracle"):
            requests.clear()
            run("evaluate", "--adapter", adapter, *READ, "--output", f"{RESULTS}/{split}", "--split", split)
            read = Counter(key for method, key in requests if method == "get_object" and not key.endswith(LOCK_NAME))
            assert set(read.values()) <= {1}
            there = [path for path in (tmp_path / split / COPIES).glob("*toy*/files/**/*") if path.is_file()]
            assert len(read) == (0 if found else len(there))
            found.append(Counter(method for method, _ in requests))
    for methods in zip(*seen.values(), strict=True):
        val, train = methods
        del val["get_object"], train["get_object"]
        assert val == train
        # Of the data, the build, and of the results before and after they are written.
        assert val["list_objects_v2"] <= 10


def test_results_are_read_from_s3(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], elsewhere: Elsewhere
) -> None:
    for adapter in ("visual_prior", "oracle"):
        run("evaluate", "--adapter", adapter, *READ, "--output", RESULTS, "--save-masks")
    elsewhere("other")
    capsys.readouterr()
    run("report", RESULTS, "--format", "json", "--intervals")
    told = capsys.readouterr()
    assert f'"source": "{RESULTS}/oracle/s4-seed42/scores.parquet"' in told.out
    assert "warning" not in told.err
    # Masks are not needed.
    copied = [path.name for path in (tmp_path / "other").glob("remote/*results*/**/*.parquet")]
    assert sorted(copied) == ["scores.parquet", "scores.parquet"]
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
    server.rm("lab/results/oracle", recursive=True)
    assert [scores.info.model for scores in ar.load_results(RESULTS)] == ["visual_prior"]


def test_verify_reads_what_is_there(s3: Any, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(s3, toy, "lab")
    verify = ("verify", OUTPUT, "--data-root", "s3://lab/data")
    run(*verify)
    assert capsys.readouterr().out.endswith(f"{OUTPUT}: 56 rows, all in order\n")
    sound = min(path for path in s3.find("lab/robust") if path.endswith(".wav"))
    frame = min(path for path in s3.find("lab/data") if path.endswith(".png"))
    # What the copy holds is of no account: verify asks the server.
    copied = local_copy(OUTPUT) / sound.removeprefix("lab/robust/s4-seed42/")
    copied.write_bytes(copied.read_bytes()[:-1] + b"?")
    run(*verify)
    s3.pipe_file(sound, s3.cat_file(sound)[:-1] + b"?")
    s3.rm_file(frame)
    capsys.readouterr()
    run(*verify, status=STATUS_INCOMPLETE)
    out = capsys.readouterr().out
    assert f"s3://{sound}: found sha256" in out
    assert f"s3://{frame}: not found" in out


def test_a_wrong_address_is_told_before_anything_is_copied(
    s3: Any, copies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, expected in (
        (("verify", DATA), f"{DATA}: found no manifest.parquet in it; expected the folder of a build"),
        (("verify", "s3://toy/robust"), "s3://toy/robust: found no manifest.parquet in it"),
        (("evaluate", "--adapter", "oracle", "--manifest", DATA), f"{DATA}: found no manifest.parquet in it"),
        (("report", DATA), f"{DATA}: found no scores.parquet in it; expected results made by 'avsrobust evaluate'"),
        (("compare", BUILD, BUILD), f"{BUILD}: found no scores.parquet in it"),
        (("report", "s3://toy/none"), "s3://toy/none: found no scores.parquet in it"),
    ):
        run(*arguments, status=STATUS_USER)
        assert f"error: {expected}" in capsys.readouterr().err
    copied = [path for path in (tmp_path / "cache" / COPIES).glob("*/files/**/*") if path.is_file()]
    assert {path.name for path in copied} <= {".avsrobust.json"}


SHORT_LEASE = """
import os, signal, sys
from avsrobust.remote import lease
from avsrobust.remote.store import Store
from avsrobust.cli.main import invoke
lease.LEASE_S = 3.0
# Processes that a script starts in the background inherit that it is passed over.
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


@pytest.fixture
def another_writer(server: Any, tmp_path: Path) -> Iterator[None]:
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
    script = [sys.executable, "-c", SHORT_LEASE + "sys.exit(invoke(sys.argv[1:]))"]
    process = subprocess.Popen([*script, *command], env=environment, stderr=subprocess.PIPE)
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
def test_two_machines_do_not_write_at_once(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = ("evaluate", "--adapter", "visual_prior", *READ, "--output", RESULTS)
    run(*evaluation, status=STATUS_USER)
    message = capsys.readouterr().err
    assert f"error: {RESULTS}/visual_prior/s4-seed42: is in use by avsrobust evaluate (process" in message
    # Other folders are free.
    run("evaluate", "--adapter", "oracle", *READ, "--output", RESULTS)


KILLED = f"""{SHORT_LEASE}
put, limit = Store.put, int(sys.argv[1])
def counted(self, *files):
    global limit
    limit -= 1
    if limit < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, *files)
Store.put = counted
sys.exit(invoke(sys.argv[2:]))
"""


@pytest.mark.parametrize("machine", ["cache", "other"])
def test_a_build_that_was_killed_while_it_was_put_there_is_finished(
    server: Any, toy: Path, capsys: pytest.CaptureFixture[str], elsewhere: Elsewhere, machine: str
) -> None:
    command = ["build", "--dataset", "s4", "--data-root", DATA, "--output", OUTPUT]
    killed = subprocess.run([sys.executable, "-c", KILLED, "2", *command], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    half = contents(server, "lab/robust/s4-seed42")
    assert LOCK_NAME in half
    assert MANIFEST_NAME not in half
    # Another machine finds no build.
    elsewhere("other")
    run("evaluate", "--adapter", "oracle", "--manifest", OUTPUT, "--data-root", DATA, status=STATUS_USER)
    elsewhere(machine)
    capsys.readouterr()
    run(*command)
    told = capsys.readouterr().err
    # The same machine knows that the process is dead, and what it had made; another one waits, and finds what is there.
    assert (" 0 files made" in told) == (machine == "cache")
    assert ("free if that gives no sign of life for 3 s" in told) == (machine == "other")
    assert contents(server, "lab/robust/s4-seed42") == local_contents(toy / "build")
    elsewhere("cache")
    run(*command)
    assert contents(server, "lab/robust/s4-seed42") == local_contents(toy / "build")


# What is put in the background is put before the command goes on.
JOINED = """
import threading
from avsrobust.remote import upload
class Joined(threading.Thread):
    def start(self):
        super().start()
        self.join()
upload.Thread = Joined
"""
KILLED_BUILD = f"""{SHORT_LEASE}{JOINED}
upload.PUT_EVERY_S = 0.0
put = Store.put
def watched(self, files, *known):
    if any(name.endswith(".npy") for name in files):
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, files, *known)
Store.put = watched
sys.exit(invoke(sys.argv[1:]))
"""


def test_a_build_of_a_machine_that_vanishes_goes_on_elsewhere(
    server: Any, toy: Path, capsys: pytest.CaptureFixture[str], elsewhere: Elsewhere
) -> None:
    command = ["build", "--dataset", "s4", "--data-root", DATA, "--output", OUTPUT]
    killed = subprocess.run([sys.executable, "-c", KILLED_BUILD, *command], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    half = contents(server, "lab/robust/s4-seed42")
    sounds = [name for name in half if name.endswith(".wav")]
    assert sounds
    assert {"build.json", LOCK_NAME} <= half.keys()
    # It is unfinished: nobody takes it for a build.
    assert not {MANIFEST_NAME, "checksums.parquet", "seal.json"} & half.keys()
    elsewhere("other")
    run("evaluate", "--adapter", "oracle", "--manifest", OUTPUT, "--data-root", DATA, status=STATUS_USER)
    capsys.readouterr()
    run(*command)
    assert f", {len(sounds)} found\n" in capsys.readouterr().err
    assert contents(server, "lab/robust/s4-seed42") == local_contents(toy / "build")


@pytest.mark.parametrize("puts", [1, 2])
def test_results_of_a_machine_that_died_while_they_were_put_there_are_made_whole(
    server: Any, toy: Path, tmp_path: Path, elsewhere: Elsewhere, puts: int
) -> None:
    command = ["evaluate", "--adapter", "visual_prior", *READ, "--output", RESULTS]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(puts), *command], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = "lab/results/visual_prior/s4-seed42"
    assert ("scores.parquet" in contents(server, folder)) == (puts == 2)
    assert "run.json" not in contents(server, folder)
    elsewhere("other")
    run(*command)
    (local,) = ar.evaluate("visual_prior", toy / "build", output=tmp_path / "local")
    there = contents(server, folder)
    assert there["scores.parquet"] == local.scores.read_bytes()
    assert "run.json" in there
    assert LOCK_NAME not in there


def test_an_interrupted_evaluation_goes_on(
    server: Any, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
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
    assert contents(server, "lab/results") == {}
    Path("again").touch()
    run(*evaluation, *READ, "--output", RESULTS)
    calls = len(list(Path().glob("call*")))
    run(*evaluation, "--manifest", toy / "build", "--output", "local")
    # One clip was scored before, and so were not all of them twice.
    assert len(list(Path().glob("call*"))) - calls > calls - 4
    there = contents(server, "lab/results/Net/s4-seed42")
    assert there["scores.parquet"] == Path("local/Net/s4-seed42/scores.parquet").read_bytes()
    assert not (home / "files").exists()


def test_shards_of_two_machines_are_merged(
    server: Any, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], elsewhere: Elsewhere
) -> None:
    for number in (1, 2):
        elsewhere(str(number))
        run("evaluate", "--adapter", "visual_prior", *READ, "--output", RESULTS, "--shard", f"{number}/2")
    assert f"avsrobust merge {RESULTS}/visual_prior/s4-seed42" in capsys.readouterr().err
    elsewhere("other")
    run("merge", RESULTS)
    assert capsys.readouterr().out == f"{RESULTS}/visual_prior/s4-seed42/scores.parquet\n"
    (local,) = ar.evaluate("visual_prior", toy / "build", output=tmp_path / "local")
    there = contents(server, "lab/results/visual_prior/s4-seed42")
    assert there["scores.parquet"] == local.scores.read_bytes()
    assert f"{Shard.parse('1/2').folder(Path())}/scores.parquet" in there
    run("merge", f"{RESULTS}/visual_prior/s4-seed42/shards/1-of-2")
    run("merge", DATA, status=STATUS_USER)
    assert f"{DATA}: found no shards in it" in capsys.readouterr().err


def test_a_run_of_training_from_s3_to_s3(
    server: Any, toy: Path, tiny_recipe: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("accelerate")
    recipe = tiny_recipe(data={"datasets": ["s4"], "mix": {}})
    train = ("train", "--recipe", recipe, *READ, "--device", "cpu", "--steps", "1")
    run(*train, "--output", "s3://lab/runs/one")
    assert capsys.readouterr().out == "s3://lab/runs/one/best.safetensors\n"
    assert "best.safetensors" in contents(server, "lab/runs/one")
    run(*train, "--output", "second", "--init", "s3://lab/runs/one")
    assert "starts from s3://lab/runs/one" in capsys.readouterr().err
    checkpoint = ("--checkpoint", "s3://lab/runs/one/best.safetensors")
    run("evaluate", "--adapter", "model_adapters.m2f.adapter:M2F", *READ, *checkpoint, "--limit", "1")
    details = json.loads(Path("results/M2F/s4-seed42/run.json").read_text())
    assert details["checkpoint"]["path"] == checkpoint[1]


def test_training_copies_what_it_reads(
    s3: Any,
    copies: Path,
    toy: Path,
    tmp_path: Path,
    tiny_recipe: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("accelerate")
    recipe = tiny_recipe(data={"datasets": ["s4"], "mix": {}}, run={"steps": 3})
    arguments = ("train", "--recipe", recipe, "--device", "cpu", "--workers", "1")
    run(*arguments, *READ, "--output", "there")
    rows = load_manifest(toy / "build").rows
    copied = {path.relative_to(tmp_path) for path in tmp_path.glob("cache/remote/*/files/**/*") if path.is_file()}
    pictures = {path.parts[-2] for path in copied if path.suffix == ".png"}
    # All samples, and one clip of the split that is scored.
    assert 1 < len(pictures) < len({row.clip_id for row in rows if row.split in ("train", "val")})
    assert "as they are read" in capsys.readouterr().err
    run(*arguments, "--manifest", toy / "build", "--output", "here")
    there, here = local_contents(Path("there")), local_contents(Path("here"))
    for name in here.keys() | there.keys():
        assert name.startswith("tensorboard/") or there[name] == here[name], name


KILLED_TRAINING = f"""{SHORT_LEASE}
import threading
put, when = Store.put, sys.argv[1]
def watched(self, files, *known):
    half = when == "half" and "checkpoints/step-000004/state.json" in files
    if half or "checkpoints/step-000006/weights.safetensors" in files:
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, files, *known)
Store.put = watched
from avsrobust.remote import upload
started = upload.Thread.start
def start(self):
    # One after the other: what is there when the process is killed is then known.
    started(self)
    self.join()
upload.Thread = type("Joined", (threading.Thread,), dict(start=start))
sys.exit(invoke(sys.argv[2:]))
"""


@pytest.mark.parametrize(("when", "resumed"), [("whole", 4), ("half", 2)])
def test_training_on_a_machine_that_vanishes_goes_on_elsewhere(
    server: Any,
    toy: Path,
    tiny_recipe: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    elsewhere: Elsewhere,
    when: str,
    resumed: int,
) -> None:
    pytest.importorskip("accelerate")
    recipe = tiny_recipe(
        data={"datasets": ["s4"], "mix": {}}, run={"steps": 7, "validate_every": 2, "checkpoint_every": 2}
    )
    train = ["train", "--recipe", str(recipe), *READ, "--device", "cpu", "--output"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_TRAINING, when, *train, "s3://lab/runs/one"], check=False, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    there = contents(server, "lab/runs/one")
    assert {"run.json", "best.safetensors", "log.csv", "validation.csv", LOCK_NAME} <= there.keys()
    weights = {name.split("/")[1] for name in there if name.endswith("weights.safetensors")}
    assert weights == {"step-000002", "step-000004"}
    assert there["log.csv"].count(b"\n") == 1 + 4
    elsewhere("other")
    capsys.readouterr()
    run(*train, "s3://lab/runs/one")
    assert f"goes on after step {resumed}\n" in capsys.readouterr().err
    run(*train, "local")
    there = contents(server, "lab/runs/one")
    mine = local_contents(Path("local"))
    assert LOCK_NAME not in there
    # Events have times.
    for name in mine.keys() | there.keys():
        assert name.startswith(("tensorboard/", "pictures/")) or there[name] == mine[name], name


KILLED_BEFORE = f"""{SHORT_LEASE}{JOINED}
put, name = Store.put, sys.argv[1]
def watched(self, files, *known):
    if name in files:
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, files, *known)
Store.put = watched
sys.exit(invoke(sys.argv[2:]))
"""


class Runs:
    """A run of training that processes of several machines are killed in, each before it puts a file there."""

    def __init__(self, recipe: Path, elsewhere: Elsewhere) -> None:
        self.elsewhere = elsewhere
        self.command = ["train", "--recipe", str(recipe), *READ, "--device", "cpu", "--output"]

    def killed(self, machine: str, before: str) -> None:
        self.elsewhere(machine)
        script = [sys.executable, "-c", KILLED_BEFORE, before, *self.command, "s3://lab/runs/one"]
        killed = subprocess.run(script, check=False, capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr

    def on(self, machine: str, status: int = 0) -> None:
        self.elsewhere(machine)
        run(*self.command, "s3://lab/runs/one", status=status)


@pytest.fixture
def runs(server: Any, tiny_recipe: Callable[..., Path], elsewhere: Elsewhere) -> Runs:
    pytest.importorskip("accelerate")
    schedule = {"steps": 9, "validate_every": 4, "checkpoint_every": 2}
    return Runs(tiny_recipe(data={"datasets": ["s4"], "mix": {}}, run=schedule), elsewhere)


@pytest.mark.parametrize(
    ("machine_b", "resumed"), [("final.safetensors", 8), ("checkpoints/step-000006/weights.safetensors", 6)]
)
def test_a_machine_comes_back_to_a_run_that_another_continued(
    server: Any, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str], machine_b: str, resumed: int
) -> None:
    # It has the checkpoint after step 6, which never came there, and the other one comes further, or less far.
    runs.killed("a", "checkpoints/step-000006/weights.safetensors")
    runs.killed("b", machine_b)
    capsys.readouterr()
    runs.on("a")
    told = capsys.readouterr().err
    assert f"goes on after step {resumed}\n" in told
    stale = list((tmp_path / "a" / "staging").glob("*/stale-*"))
    if resumed == 8:
        (folder,) = stale
        assert (
            "s3://lab/runs/one: was continued elsewhere, to the checkpoint after step 8 (here: 6); goes on from there"
            in told
        )
        assert f"moved to {folder}; delete that folder" in told
        assert folder.joinpath("log.csv").read_text().count("\n") == 1 + 6
    else:
        assert not stale
    run(*runs.command, "local")
    there, mine = contents(server, "lab/runs/one"), local_contents(Path("local"))
    assert LOCK_NAME not in there
    for name in mine.keys() | there.keys():
        assert name.startswith(("tensorboard/", "pictures/")) or there[name] == mine[name], name


def test_two_histories_of_a_run_are_refused(
    server: Any, runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs.killed("a", "checkpoints/step-000006/weights.safetensors")
    runs.killed("b", "final.safetensors")
    log = server.cat_file("lab/runs/one/log.csv").decode().splitlines(keepends=True)
    log[2] = "2,0.5" + log[2][log[2].index(",", 2) :]
    server.pipe_file("lab/runs/one/log.csv", "".join(log).encode())
    before = contents(server, "lab/runs/one")
    kept = {path: path.read_bytes() for path in (tmp_path / "a" / "staging").rglob("checkpoints/*/*")}
    capsys.readouterr()
    runs.on("a", status=STATUS_USER)
    told = capsys.readouterr().err
    assert "two histories of this run whose losses differ from step 2 on" in told
    assert "Traceback" not in told
    after = contents(server, "lab/runs/one")
    assert {name: after[name] for name in before if name != LOCK_NAME} == {
        name: content for name, content in before.items() if name != LOCK_NAME
    }
    assert kept
    assert {path: path.read_bytes() for path in (tmp_path / "a" / "staging").rglob("checkpoints/*/*")} == kept


def test_other_commands_read_builds_from_s3(server: Any, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("audit", BUILD, "--data-root", DATA)
    run("export", "hf", BUILD, "hf", "--data-root", DATA, "--split", "test")
    run("export", "croissant", BUILD)
    run("pretransform", *READ, "--encoder", "log_mel", "--clusters", "2", "--output", "s3://lab/classes")
    assert capsys.readouterr().out.endswith("s3://lab/classes\n")
    run("pretransform", "--manifest", toy / "build", "--encoder", "log_mel", "--clusters", "2", "--output", "classes")
    assert contents(server, "lab/classes") == local_contents(Path("classes"))
    assert len(ar.RobustDataset(BUILD, split="test", data_root=DATA)) > 0
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


def test_a_file_of_results_cannot_make_the_machine_call_others(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
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
