"""Evaluating on a real dask cluster: a scheduler and workers that are processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from commands import call

import avsrobust as ar
from avsrobust.adapters.baselines import VisualPrior
from avsrobust.dask_client import connect
from avsrobust.errors import AdapterError, ManifestError, OptionError
from avsrobust.evaluation import cluster as cluster_module
from avsrobust.evaluation.cluster import ClusterAdapter, ClusterScorer
from avsrobust.evaluation.cluster_worker import Job, Outcome
from avsrobust.evaluation.gpus import claim
from avsrobust.evaluation.runner import EvaluationReport, evaluate
from avsrobust.evaluation.scorer import AdapterFacts
from avsrobust.files import sha256_of_file
from avsrobust.locks import LOCK_NAME
from avsrobust.manifest import Manifest
from avsrobust.results import read_run

BIN = Path(sys.executable).parent
SECONDS = 120
MODEL = """
import os, time, torch
from pathlib import Path
from avsrobust.adapters.base import Adapter
from avsrobust.errors import ClipError

class Model(Adapter):
    # Each call leaves its process' number; where a test holds a process, it waits.
    def encode_frames(self, frames):
        folder = Path(__file__).parent
        with (folder / "calls").open("a") as calls:
            calls.write(f"{os.getpid()}\\n")
        while (folder / f"hold-{os.getpid()}").exists():
            time.sleep(0.01)
        return frames.float().mean(dim=2) / 255

    def segment(self, encoded, audio):
        self.seen = [audio.mean(dim=(2, 3, 4))]
        return torch.sigmoid(8 * (encoded - 0.5) + self.seen[0][..., None, None] * 20)

    def extras(self):
        return {"loudness": self.seen[0]}

class Broken(Model):
    def segment(self, encoded, audio):
        raise ValueError("no more")

class Picky(Model):
    def segment(self, encoded, audio):
        if int(encoded[0, 0, 0, 0] * 255) % 3 == 0:
            raise ClipError("not this one")
        return super().segment(encoded, audio)

class Moody(Model):
    def segment(self, encoded, audio):
        # Not on the first clip.
        if int(encoded[0, 0, 0, 0] * 255) % 3 == 1:
            raise ValueError("a mood")
        return super().segment(encoded, audio)

class Deadly(Model):
    def segment(self, encoded, audio):
        os._exit(3)

class Drifts(Model):
    drift = [0.0]
    def segment(self, encoded, audio):
        self.drift[0] += 0.1
        return (super().segment(encoded, audio) + self.drift[0]) % 1

class Unequal(Model):
    # Not the same in every process.
    def __init__(self):
        self.bias = os.getpid()
"""


@dataclass
class Cluster:
    """A scheduler and its workers."""

    address: str
    folder: Path
    workers: list[subprocess.Popen[bytes]]
    scheduler: subprocess.Popen[bytes]

    def start_worker(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        # Without a nanny, so that the number of the process is that of the worker.
        place = self.folder / name
        place.mkdir()
        log = (place / "log").open("wb")
        command = [str(BIN / "dask"), "worker", self.address, "--no-nanny", "--nthreads", "2", "--name", name]
        command += ["--no-dashboard", "--local-directory", str(place), *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        # In a folder of its own: relative paths must not depend on it.
        worker = subprocess.Popen(command, cwd=place, stdout=log, stderr=log, env=environment)
        self.workers.append(worker)
        return worker

    def wait_for(self, workers: int) -> None:
        with connect(self.address) as client:
            wait_until(lambda: len(client.nthreads()) == workers)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@contextmanager
def started(folder: Path, workers: int, **environment: str) -> Iterator[Cluster]:
    folder.mkdir()
    file = folder / "scheduler.json"
    command = [str(BIN / "dask"), "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    log = (folder / "log").open("wb")
    scheduler = subprocess.Popen(
        [*command, "--scheduler-file", str(file)], cwd=folder, stdout=log, stderr=log, env={**os.environ, **environment}
    )
    found = Cluster("", folder, [], scheduler)
    try:
        wait_until(lambda: file.exists() and file.read_text().rstrip().endswith("}"))
        import json

        found.address = json.loads(file.read_text())["address"]
        for number in range(workers):
            found.start_worker(f"worker{number}")
        found.wait_for(workers)
        yield found
    finally:
        for process in (*found.workers, scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers, which tests leave alive."""
    with started(tmp_path_factory.mktemp("dask") / "cluster", 2) as found:
        yield found


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, make_build_in: Callable[..., Manifest]) -> Manifest:
    folder = tmp_path_factory.mktemp("build")
    (folder / "model.py").write_text(MODEL)
    return make_build_in(folder, clips=24, split=("test", "val"))


def spec(build: Manifest, name: str = "Model") -> str:
    return f"{build.folder.parent / 'model.py'}:{name}"


def calls(build: Manifest) -> list[int]:
    path = build.folder.parent / "calls"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def forget_calls(build: Manifest) -> None:
    (build.folder.parent / "calls").unlink(missing_ok=True)


def digests(output: Path) -> dict[str, str]:
    return {path.name: sha256_of_file(path) for path in sorted(output.glob("*.parquet"))}


def run(build: Manifest, output: Path, address: str | None, name: str = "Model", **choices: Any) -> EvaluationReport:
    """Evaluate on the cluster at `address`, or in this process."""
    usual = {"save_masks": True, "splits": ("test", "val"), "check": False, "name": "model", "device": "cpu"}
    engine = {} if address is None else {"engine": "dask", "scheduler": address}
    (report,) = ar.evaluate(spec(build, name), build, output=output, **{**usual, **engine, **choices})
    return report


@pytest.fixture(scope="module")
def whole(build: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    report = run(build, tmp_path_factory.mktemp("whole"), None)
    found = digests(report.scores.parent)
    assert sorted(found) == ["extras.parquet", "masks.parquet", "scores.parquet"]
    return found


def test_a_cluster_writes_the_same_bytes(
    cluster: Cluster, build: Manifest, whole: dict[str, str], tmp_path: Path
) -> None:
    forget_calls(build)
    report = run(build, tmp_path, cluster.address, check=True, batch_size=2)
    assert digests(report.scores.parent) == whole
    assert report.clips == 24
    assert set(calls(build)) == {worker.pid for worker in cluster.workers}
    details = read_run(report.scores.with_name("run.json")).details
    assert (details["device"], details["batch_size"], details["clips_run"]) == ("cpu", 2, 24)
    assert details["adapter"]["spec"] == spec(build)
    # What is there is not run again, here or there, and a split can be added anywhere.
    forget_calls(build)
    assert run(build, tmp_path, None).reused == 24
    assert calls(build) == []


def test_a_cluster_adds_to_what_is_there(
    cluster: Cluster, build: Manifest, whole: dict[str, str], tmp_path: Path
) -> None:
    run(build, tmp_path, None, splits=["val"], conditions=["noise"])
    run(build, tmp_path, cluster.address, splits=["test"])
    report = run(build, tmp_path, cluster.address)
    assert digests(report.scores.parent) == whole


def test_a_worker_that_is_killed_loses_nothing(build: Manifest, whole: dict[str, str], tmp_path: Path) -> None:
    forget_calls(build)
    with started(tmp_path / "cluster", 2) as found:
        victim, survivor = found.workers
        hold = build.folder.parent / f"hold-{victim.pid}"
        hold.touch()
        command = [str(BIN / "avsrobust"), "evaluate", "--adapter", spec(build), "--manifest", str(build.path)]
        command += ["--engine", "dask", "--scheduler", found.address, "--split", "test", "--split", "val"]
        command += ["--save-masks", "--no-check", "--name", "model", "--device", "cpu"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        # It is in the middle of a piece, and the other one has done all that it was given.
        wait_until(lambda: victim.pid in calls(build) and calls(build).count(survivor.pid) > 3)
        victim.send_signal(signal.SIGKILL)
        told, errors = process.communicate(timeout=SECONDS)
        hold.unlink()
        assert process.returncode == 0, errors
    assert victim.wait() == -signal.SIGKILL
    assert survivor.pid in calls(build)
    assert digests((tmp_path / told.strip()).parent) == whole


def test_workers_copy_what_they_read_from_s3(
    s3: Any, build: Manifest, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_calls(build)
    root = build.folder.parent
    files = [path for folder in ("build", "data") for path in (root / folder).rglob("*") if path.is_file()]
    files = [path for path in files if "data_root" not in path.parts and path.name != LOCK_NAME]
    s3.put([str(path) for path in files], [f"lab/{path.relative_to(root)}" for path in files])
    # The copies of a worker are on its machine.
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "workers"))
    with started(tmp_path / "cluster", 2) as found:
        monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "here"))
        victim, survivor = found.workers
        hold = root / f"hold-{victim.pid}"
        hold.touch()
        command = [str(BIN / "avsrobust"), "evaluate", "--adapter", spec(build), "--manifest", "s3://lab/build"]
        command += ["--data-root", "s3://lab/data", "--engine", "dask", "--scheduler", found.address]
        command += ["--split", "test", "--split", "val", "--save-masks", "--no-check", "--name", "model"]
        process = subprocess.Popen([*command, "--device", "cpu"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        wait_until(lambda: victim.pid in calls(build) and calls(build).count(survivor.pid) > 3)
        victim.send_signal(signal.SIGKILL)
        told, _ = process.communicate(timeout=SECONDS)
        hold.unlink()
    assert process.returncode == 0
    assert digests((tmp_path / told.strip()).parent) == whole
    pictures = [path for path in files if path.suffix == ".png"]
    assert len(list((tmp_path / "workers").rglob("*.png"))) == len(pictures)
    assert list((tmp_path / "here").rglob("*.png")) == []


def test_workers_may_come_later_and_all_may_go(
    build: Manifest, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_PATIENCE_SECONDS", 3.0)
    with started(tmp_path / "cluster", 0) as found:
        with pytest.raises(OptionError, match=r"the cluster has had no worker for 3 s; start 'dask worker' processes"):
            run(build, tmp_path / "out", found.address)
        assert not list((tmp_path / "out").rglob("*.parquet"))
        monkeypatch.setattr(cluster_module, "_PATIENCE_SECONDS", 120.0)
        found.start_worker("late")
        report = run(build, tmp_path / "out", found.address)
    assert digests(report.scores.parent) == whole


def test_a_scheduler_that_dies_ends_the_evaluation_in_one_line(
    build: Manifest, whole: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    forget_calls(build)
    with started(tmp_path / "cluster", 1) as found:
        # The worker waits in its first clip.
        hold = build.folder.parent / f"hold-{found.workers[0].pid}"
        hold.touch()

        def end() -> None:
            wait_until(lambda: bool(calls(build)))
            found.scheduler.kill()

        killer = threading.Thread(target=end)
        killer.start()
        try:
            with pytest.raises(OptionError, match=r"the cluster gave the work up .*run the same 'evaluate' again"):
                run(build, tmp_path / "out", found.address)
        finally:
            killer.join()
            hold.unlink()
    assert "Traceback" not in capfd.readouterr().err
    # Nothing half-written: the same command does the rest here.
    assert digests(run(build, tmp_path / "out", None).scores.parent) == whole


def test_workers_without_avsrobust_are_told_of(
    build: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_PATIENCE_SECONDS", 2.0)
    (tmp_path / "hidden/avsrobust").mkdir(parents=True)
    (tmp_path / "hidden/avsrobust/__init__.py").write_text("raise ModuleNotFoundError('avsrobust')")
    with started(tmp_path / "cluster", 0) as found:
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
            found.start_worker("bare")
            found.wait_for(1)
        with pytest.raises(
            OptionError, match=r"has had no worker for 2 s \(1 before: see their logs; one without this version"
        ):
            run(build, tmp_path / "out", found.address)


def test_a_worker_that_sees_other_data_is_refused(
    cluster: Cluster, build: Manifest, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = build.data_root() / build.rows[-1].frames[0]
    hidden = picture.with_suffix(".hidden")
    picture.rename(hidden)
    try:
        # The command's own machine has all of them.
        monkeypatch.setattr("avsrobust.evaluation.runner.check_data", lambda *_: None)
        with pytest.raises(ManifestError, match=r"worker tcp://.*: sees other data than the command \(.*not found"):
            run(build, tmp_path / "out", cluster.address)
    finally:
        hidden.rename(picture)
    assert digests(run(build, tmp_path / "out", cluster.address).scores.parent) == whole


def test_a_model_that_ends_its_workers_is_named(build: Manifest, tmp_path: Path) -> None:
    # By default four deaths; each worker takes a while to start.
    with started(tmp_path / "cluster", 3, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1") as found:
        with pytest.raises(AdapterError, match=r"model: a piece of \d+ clips ended every worker that tried it"):
            run(build, tmp_path / "out", found.address, "Deadly")
        wait_until(lambda: [worker.poll() for worker in found.workers].count(3) >= 2)


@pytest.mark.parametrize("name", ["Broken", "Drifts"])
def test_errors_of_an_adapter_are_those_of_one_process(
    cluster: Cluster, build: Manifest, tmp_path: Path, name: str
) -> None:
    told = []
    for address in (None, cluster.address):
        with pytest.raises(AdapterError) as caught:
            run(build, tmp_path / "out", address, name, check=name == "Drifts")
        told.append(str(caught.value))
        assert not list((tmp_path / "out").rglob("*.parquet"))
    assert told[0] == told[1]
    assert ("no more" if name == "Broken" else "--no-check") in told[0]


@pytest.mark.parametrize("name", ["Picky", "Moody"])
def test_clips_that_fail_are_listed_as_by_one_process(
    cluster: Cluster, build: Manifest, tmp_path: Path, name: str
) -> None:
    one = run(build, tmp_path / "one", None, name)
    report = run(build, tmp_path / "out", cluster.address, name)
    assert report.failed == one.failed != ()
    assert digests(report.scores.parent) == digests(one.scores.parent)


def test_an_adapter_that_is_not_there_is_named(cluster: Cluster, build: Manifest, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"has no class 'Modell'; did you mean 'Model'\?"):
        run(build, tmp_path, cluster.address, "Modell")
    with pytest.raises(AdapterError, match=r"--checkpoint .*/none.pth: not found; expected the weights of"):
        run(build, tmp_path, cluster.address, checkpoint=tmp_path / "none.pth")
    with pytest.raises(OptionError, match="--device tpu: expected auto, cpu, cuda"):
        run(build, tmp_path, cluster.address, device="tpu")


def test_workers_with_unequal_adapters_are_refused(cluster: Cluster, build: Manifest, tmp_path: Path) -> None:
    with pytest.raises(
        AdapterError,
        match=r"worker tcp://.*: has another adapter, .*different are: setting bias in memory; expected the same",
    ):
        run(build, tmp_path, cluster.address, "Unequal")


def test_a_worker_with_another_version_of_a_package_is_refused(build: Manifest) -> None:
    job = Job(build.path, build.data_root(), Path(), "model", "model", "cpu", None, None, None, {}, None)
    scorer = ClusterScorer(ClusterAdapter(None, "model"), job)
    key: dict[str, Any] = {"options": {}, "option_files": {}, "states": {}}
    facts = AdapterFacts(key, "cpu", "a CPU", {"numpy": "2.3.1", "python": "3.11.7"}, None, sees_targets=False)
    scorer._facts = facts
    scorer._take(Outcome("tcp://a:1", replace(facts, versions={"numpy": "2.3.1", "python": "3.12.1"})))
    with pytest.raises(AdapterError, match=r"worker tcp://b:2: .*version of numpy \(2.3.1 there, 2.2.0 here\)"):
        scorer._take(Outcome("tcp://b:2", replace(facts, versions={"numpy": "2.2.0", "python": "3.11.7"})))


def test_a_model_that_is_edited_is_not_mixed_with_its_old_self(
    cluster: Cluster, build: Manifest, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MODEL)
    choices: dict[str, Any] = {"engine": "dask", "scheduler": cluster.address, "device": "cpu", "check": False}
    ar.evaluate(f"{path}:Model", build, output=tmp_path / "out", **choices)
    path.write_text(MODEL + "\n# mended\n")
    with pytest.raises(AdapterError, match=r"mine.py:Model: its source has changed since .*; restart the workers"):
        ar.evaluate(f"{path}:Model", build, output=tmp_path / "other", **choices)


def test_relative_paths_are_those_of_whoever_starts_it(
    cluster: Cluster, build: Manifest, whole: dict[str, str], tmp_path: Path
) -> None:
    command = ["evaluate", "--adapter", "model.py:Model", "--manifest", "build", "--engine", "dask"]
    command += ["--scheduler", cluster.address, "--split", "test", "--split", "val", "--device", "cpu"]
    command += ["--save-masks", "--name", "model", "--output", str(tmp_path)]
    done = call(build.folder.parent, *command)
    assert done.returncode == 0, done.stderr
    assert "## s4, test: protocol avsbench" in done.stderr
    assert digests(Path(done.stdout.strip()).parent) == whole


def test_options_that_do_not_fit_are_refused(build: Manifest, tmp_path: Path) -> None:
    usual: dict[str, Any] = {"output": tmp_path}
    with pytest.raises(OptionError, match="--engine dask: needs --scheduler ADDRESS"):
        ar.evaluate("oracle", build, engine="dask", **usual)
    with pytest.raises(OptionError, match="--engine dusk: expected one of local, dask; did you mean 'dask'"):
        ar.evaluate("oracle", build, engine="dusk", **usual)
    with pytest.raises(OptionError, match="--scheduler tcp://a:1: only --engine dask uses one"):
        ar.evaluate("oracle", build, scheduler="tcp://a:1", **usual)
    with pytest.raises(OptionError, match="is a loaded VisualPrior, which cannot be sent"):
        ar.evaluate(VisualPrior.load(None, "cpu"), build, engine="dask", scheduler="tcp://127.0.0.1:9", **usual)


def test_a_plan_of_a_cluster_runs_in_shards_too(
    cluster: Cluster, build: Manifest, whole: dict[str, str], tmp_path: Path
) -> None:
    from avsrobust.evaluation.merging import merge_shards

    with connect(cluster.address) as client:
        for shard in ("1/2", "2/2"):
            evaluate(
                build,
                ClusterAdapter(client, spec(build), "cpu"),
                name="model",
                output=tmp_path / "out",
                splits=("test", "val"),
                save_masks=True,
                check=False,
                shard=shard,
            )
    merge_shards(tmp_path / "out")
    # The evaluation's key holds the adapter's name and source, which are the same.
    assert digests(tmp_path / "out") == whole


CLAIM = """
import sys, time
from pathlib import Path
from avsrobust.evaluation.gpus import claim
print(claim(["a", "b"], Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def test_each_process_claims_a_gpu_of_its_own(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(tmp_path / "gpus")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    processes: list[subprocess.Popen[str]] = []
    try:
        claimed = []
        for _ in range(3):
            processes.append(start())
            assert processes[-1].stdout is not None
            claimed.append(int(processes[-1].stdout.readline()))
        assert claimed == [0, 1, 0]
        # A process that dies gives its GPU back.
        processes[1].kill()
        processes[1].wait()
        assert claim(["a", "b"], tmp_path / "gpus") == 1
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_folder_of_locks_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "gpus").write_text("a file")
    with pytest.raises(OptionError, match=r"gpus: cannot be used to share the GPUs of this machine"):
        claim(["a"], tmp_path / "gpus")
