"""Evaluating what lies on S3 as it comes: the first clip before the rest is here, parts that outlive their machine, errors of
single objects. A server of moto, real processes, some of them killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import avsrobust as ar
from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.cli.main import STATUS_INCOMPLETE, STATUS_USER, invoke
from avsrobust.locks import LOCK_NAME
from avsrobust.manifest import MANIFEST_NAME, Manifest, load_manifest, used_files
from avsrobust.remote.addresses import COPIES
from avsrobust.remote.on_demand import OnDemand

BUILD, DATA = "s3://many/robust/s4-seed42", "s3://many/data"
RESULTS = "s3://lab/results"
READ = ("--manifest", BUILD, "--data-root", DATA, "--split", "train")
CLIPS = 15


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory, s3_server: dict[str, str], toy_in: Callable[..., Path]) -> Path:
    """A data root and a build of it, of 15 clips to train on, on this machine and on the server."""
    import fsspec

    root = tmp_path_factory.mktemp("toy")
    toy_in(root / "data", s4=26, seed=5)
    build = ar.build("s4", data_root=root / "data", output=root / "robust" / "s4-seed42", splits=["train"]).manifest
    assert len({row.clip_id for row in load_manifest(build).rows}) >= CLIPS
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.items():
            patch.setenv(name, value)
        system = fsspec.filesystem("s3", skip_instance_cache=True)
        system.mkdirs("many", exist_ok=True)
        for folder in ("data", "robust"):
            paths = [path for path in (root / folder).rglob("*") if path.is_file() and path.name != LOCK_NAME]
            paths = [path for path in paths if "data_root" not in path.parts]
            system.put([str(path) for path in paths], [f"many/{path.relative_to(root)}" for path in paths])
    return root


@pytest.fixture(autouse=True)
def near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("AVSROBUST_DATA", raising=False)
    monkeypatch.setattr("avsrobust.evaluation.arrivals._AHEAD", 2)


@pytest.fixture
def requests(s3: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The objects that this process reads, in order, without locks and markers."""
    found: list[str] = []
    call = type(s3)._call_s3

    async def counted(self: Any, method: str, *arguments: Any, **options: Any) -> Any:
        if method == "get_object" and options["Key"].startswith(("data/", "robust/")):
            found.append(options["Key"])
        return await call(self, method, *arguments, **options)

    monkeypatch.setattr(type(s3), "_call_s3", counted)
    return found


def contents(system: Any, folder: str) -> dict[str, bytes]:
    system.invalidate_cache()
    return {path.removeprefix(f"{folder}/"): system.cat_file(path) for path in system.find(folder)}


def copied(tmp_path: Path, cache: str = "cache") -> int:
    return sum(path.suffix in (".png", ".wav") for path in (tmp_path / cache / COPIES).glob("*many*/files/**/*"))


def run(*arguments: object, status: int = 0) -> None:
    assert invoke([str(argument) for argument in arguments]) == status


class Watching(Adapter):
    """Does something with the first clip that it is given."""

    def __init__(self, first: Callable[[], None]) -> None:
        self.first: Callable[[], None] | None = first

    def segment(self, encoded: Any, audio: Any) -> Any:
        if self.first is not None:
            self.first()
            self.first = None
        return encoded.float().mean(dim=2) / 255


def test_the_first_clip_is_scored_before_the_rest_is_here(toy: Path, requests: list[str], tmp_path: Path) -> None:
    before: list[str] = []
    adapter = Watching(lambda: before.extend(requests))
    choices: dict[str, Any] = {"name": "watching", "splits": ["train"], "limit": CLIPS, "check": False, "readers": 1}
    (report,) = ar.evaluate(adapter, BUILD, data_root=DATA, output=tmp_path / "there", **choices)
    # Those of this evaluation, each once, and nothing of other clips.
    build = load_manifest(toy / "robust" / "s4-seed42")
    needed = needed_files(build, CLIPS)
    assert sum(name.endswith(".npy") for name in needed) > 0
    small = {key for key in requests if key.startswith("robust/") and key.count("/") == 2}
    assert f"robust/s4-seed42/{MANIFEST_NAME}" in small
    assert Counter(requests) == Counter({name for name in needed if not name.endswith(".wav")} | small)
    # The reader is a few clips ahead of the model, and the requests two ahead of it.
    begun = {key.rsplit("/", 1)[0] for key in before if "/visual_frames/" in key}
    assert 1 <= len(begun) <= CLIPS // 2
    (local,) = ar.evaluate(adapter, build, data_root=toy / "data", output=tmp_path / "here", **choices)
    assert report.scores.read_bytes() == local.scores.read_bytes()


def needed_files(build: Manifest, clips: int) -> set[str]:
    """The objects of the first clips."""
    chosen = sorted({row.clip_id for row in build.rows})[:clips]
    return {file_name(name) for name in used_files(row for row in build.rows if row.clip_id in chosen)}


@pytest.mark.parametrize(
    ("audio", "is_told", "left"),
    [
        ("log_mel", False, ".wav"),
        (AudioInput.waveform(16000), False, ".npy"),
        (AudioInput.native(), False, ".npy"),
        ("log_mel", True, "nothing"),
        (AudioInput.waveform(16000), True, ".npy"),
    ],
)
def test_only_the_sounds_that_are_read_are_fetched(
    toy: Path, requests: list[str], tmp_path: Path, audio: Any, is_told: bool, left: str
) -> None:
    class Net(Adapter):
        needs_clips = is_told

        def segment(self, encoded: Any, audio: Any, *_: Any) -> Any:
            return encoded.float().mean(dim=2) / 255

        def encode_frames(self, frames: Any, *_: Any) -> Any:
            return frames

    net = Net()
    net.audio = audio
    choices: dict[str, Any] = {"name": "net", "splits": ["train"], "limit": 3, "check": False}
    ar.evaluate(net, BUILD, data_root=DATA, output=tmp_path / "there", **choices)
    needed = needed_files(load_manifest(toy / "robust" / "s4-seed42"), 3)
    assert any(name.endswith(left) for name in needed) or left == "nothing"
    fetched = [key for key in requests if key.startswith("data/") or key.count("/") > 2]
    assert Counter(fetched) == Counter(name for name in needed if not name.endswith(left))


def test_an_evaluation_larger_than_the_bound_stays_within_it(
    toy: Path, requests: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("avsrobust.evaluation.arrivals._AHEAD", 24)
    build = load_manifest(toy / "robust" / "s4-seed42")
    everything = sum((toy / name).stat().st_size for name in needed_files(build, 99) if not name.endswith(".npy"))
    limit = everything // 2
    monkeypatch.setenv("AVSROBUST_CACHE_GB", str(limit / 1e9))
    Path("model.py").write_text(WAVEFORM_MODEL)
    taken: list[int] = []

    def look() -> int:
        size = 0
        for path in (tmp_path / "cache" / COPIES).glob("*/files/**/*"):
            # Some go meanwhile.
            with suppress(FileNotFoundError):
                size += path.stat().st_size * path.is_file()
        return size

    bring = OnDemand.bring

    def watched(self: OnDemand, names: Any) -> dict[str, str]:
        failed = bring(self, names)
        taken.append(look())
        return failed

    monkeypatch.setattr(OnDemand, "bring", watched)
    evaluation = ("evaluate", "--adapter", "model.py:Net", "--no-check", "--batch-size", "1", "--readers", "1")
    run(*evaluation, *READ, "--output", "there")
    told = capsys.readouterr().err
    assert "files of finished ones go as others come" in told
    assert "all else is in use" not in told
    assert limit // 2 < max(taken) <= limit
    # Pictures once, all the same; a sound that several clips have may have gone in between.
    assert {count for name, count in Counter(requests).items() if name.endswith(".png")} == {1}
    run(*evaluation, "--manifest", build.path, "--data-root", toy / "data", "--split", "train", "--output", "here")
    there, here = (Path(folder, "Net/s4-seed42/scores.parquet").read_bytes() for folder in ("there", "here"))
    assert there == here
    # One that is smaller than the clips in work is gone over, and says so: those alone are here then.
    monkeypatch.setenv("AVSROBUST_CACHE_GB", "1e-6")
    taken.clear()
    run(*evaluation, *READ, "--output", "again")
    assert "over the 0.0 MB of AVSROBUST_CACHE_GB: all else is in use" in capsys.readouterr().err
    assert max(taken) < limit
    assert Path("again/Net/s4-seed42/scores.parquet").read_bytes() == here


WAVEFORM_MODEL = """
from avsrobust.adapters.base import Adapter, AudioInput
class Net(Adapter):
    audio = AudioInput.waveform(16000)
    def segment(self, encoded, audio):
        return encoded.float().mean(dim=2) / 255
"""


def file_name(name: str) -> str:
    return f"data/{name.removeprefix('data:')}" if name.startswith("data:") else f"robust/s4-seed42/{name}"


MODEL = """
import os, signal
from pathlib import Path
from avsrobust.adapters.base import Adapter
class Net(Adapter):
    def segment(self, encoded, audio):
        calls = Path("calls")
        with calls.open("a") as stream:
            stream.write("x")
        if os.environ.get("KILLED_AT") == str(calls.stat().st_size):
            os.kill(os.getpid(), signal.SIGKILL)
        return encoded.float().mean(dim=2) / 255
    def extras(self):
        import torch
        return {"one": torch.ones(1, 5)}
"""
# Parts of two clips, each put there before the next clip.
AT_ONCE = """
import os, signal, sys, threading
from avsrobust.cli.main import invoke
from avsrobust.evaluation import arrivals, parts
from avsrobust.remote import lease, upload
from avsrobust.remote.store import Store
lease.LEASE_S = 3.0
arrivals._AHEAD = 2
upload.PUT_EVERY_S = 0.0
parts.CLIPS_PER_PART = int(os.environ.get("CLIPS_PER_PART", "2"))
class Joined(threading.Thread):
    def start(self):
        super().start()
        self.join()
upload.Thread = Joined
# Or killed before a part is put there that is written here.
left, put = int(os.environ.get("PUTS", "1000")), Store.put
def counted(self, files, *known):
    global left
    left -= any(name.endswith(".extras.parquet") for name in files)
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    put(self, files, *known)
Store.put = counted
# One after the other, so that it is known what was written when the process is killed.
class Same:
    def __init__(self, *_, **__): pass
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def submit(self, function, *arguments):
        done = parts.Future()
        done.set_result(function(*arguments))
        return done
parts.ThreadPoolExecutor = Same
sys.exit(invoke(sys.argv[1:]))
"""


def calls() -> int:
    return Path("calls").stat().st_size


def test_an_evaluation_that_is_killed_goes_on_on_another_machine(
    toy: Path, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model.py").write_text(MODEL)
    conditions = ("--condition", "clean", "--condition", "silence")
    choices = ("--adapter", "model.py:Net", "--no-check", "--batch-size", "1", "--limit", CLIPS, *conditions)
    evaluation = ("evaluate", *choices, "--save-masks", "--readers", "1")
    command = [sys.executable, "-c", AT_ONCE, *map(str, (*evaluation, *READ, "--output", RESULTS))]
    # In the middle of the eleventh clip.
    killed = subprocess.run(command, check=False, capture_output=True, env={**os.environ, "KILLED_AT": "21"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = "lab/results/Net/s4-seed42"
    there = contents(s3, folder)
    numbers = {name.split("/")[1].split(".")[0] for name in there if name.endswith(".scores.parquet")}
    assert 3 <= len(numbers) <= 5
    assert there.keys() >= {"parts/identity.json", LOCK_NAME, *(f"parts/{number}.extras.parquet" for number in numbers)}
    assert not {"run.json", "scores.parquet"} & there.keys()
    # Nobody takes it for results, and not everything was copied.
    run("report", RESULTS, status=STATUS_USER)
    assert "found no scores.parquet in it" in capsys.readouterr().err
    first = copied(tmp_path)
    # Another machine goes on: it runs what is not there alone.
    done = calls()
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "other"))
    run(*evaluation, *READ, "--output", RESULTS)
    assert calls() - done == 2 * (CLIPS - 2 * len(numbers))
    local = ("--manifest", toy / "robust" / "s4-seed42", "--data-root", toy / "data", "--split", "train")
    run(*evaluation, *local, "--output", "local")
    there = contents(s3, folder)
    here = Path("local/Net/s4-seed42")
    for name in ("scores.parquet", "masks.parquet", "extras.parquet"):
        assert there[name] == (here / name).read_bytes(), name
    assert not [name for name in there if name.startswith("parts/") or name == LOCK_NAME]
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "third"))
    run(*evaluation, *READ, "--output", "third")
    assert 0 < first < copied(tmp_path, "third")
    assert copied(tmp_path, "other") < copied(tmp_path, "third")


def test_machines_that_die_in_turn_lose_no_more_than_the_last_part(
    toy: Path, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model.py").write_text(MODEL)
    choices = ("--adapter", "model.py:Net", "--no-check", "--batch-size", "1", "--limit", CLIPS, "--readers", "1")
    evaluation = ("evaluate", *choices, "--condition", "clean", *READ, "--output", RESULTS)
    command = [sys.executable, "-c", AT_ONCE, *map(str, evaluation)]
    folder = "lab/results/Net/s4-seed42"

    def die(machine: str, puts: int, clips_per_part: int) -> set[str]:
        choices = {"PUTS": str(puts), "CLIPS_PER_PART": str(clips_per_part)}
        environment = {**os.environ, "AVSROBUST_CACHE": str(tmp_path / machine), **choices}
        killed = subprocess.run(command, check=False, capture_output=True, env=environment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        return {name for name in contents(s3, folder) if name.endswith(".scores.parquet")}

    def staged(machine: str) -> set[str]:
        found = (tmp_path / machine / "staging").rglob("parts/*.scores.parquet")
        return {f"parts/{path.name}" for path in found}

    one = die("one", 2, 2)
    assert len(one) == 2
    assert len(staged("one")) == 3
    two = die("two", 3, 3)
    assert len(two) == 5
    assert two >= one
    # The first machine again, whose third part has other clips than the third one there.
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "one"))
    done = calls()
    run(*evaluation)
    assert "was continued elsewhere; 2 files of parts that were here alone give way" in capsys.readouterr().err
    assert calls() - done == CLIPS - (2 * 2 + 3 * 3)
    local = ("--manifest", toy / "robust" / "s4-seed42", "--data-root", toy / "data", "--split", "train")
    run("evaluate", *choices, "--condition", "clean", *local, "--output", "local")
    there = contents(s3, folder)
    for name in ("scores.parquet", "extras.parquet"):
        assert there[name] == Path("local/Net/s4-seed42", name).read_bytes(), name
    # The second one, which has a part left over, finds all done.
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "two"))
    done = calls()
    run(*evaluation)
    assert calls() == done
    assert contents(s3, folder) == there


def test_an_object_that_goes_meanwhile_fails_its_clip_alone(
    toy: Path, s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load_manifest(toy / "robust" / "s4-seed42")
    clips = sorted({row.clip_id for row in manifest.rows})
    frame = next(row.frames[0] for row in manifest.rows if row.clip_id == clips[-1])
    content = s3.cat_file(f"many/data/{frame}")
    adapter = Watching(lambda: s3.rm_file(f"many/data/{frame}"))
    choices: dict[str, Any] = {"name": "watching", "splits": ["train"], "check": False}
    try:
        (report,) = ar.evaluate(adapter, BUILD, data_root=DATA, output=RESULTS, readers=1, **choices)
    finally:
        s3.pipe_file(f"many/data/{frame}", content)
    (failed,) = report.failed
    assert (failed.split, failed.clip_id) == ("train", clips[-1])
    assert failed.error.startswith(f"{DATA}/{frame}: cannot be had (FileNotFoundError: ")
    assert report.clips == len(clips) - 1
    # Restored, the same command runs that clip alone.
    (whole,) = ar.evaluate(Watching(lambda: None), BUILD, data_root=DATA, output=RESULTS, **choices)
    assert (whole.reused, whole.failed) == (len(clips) - 1, ())
    (local,) = ar.evaluate(adapter, manifest, data_root=toy / "data", output=tmp_path / "local", **choices)
    assert whole.scores.read_bytes() == local.scores.read_bytes()


def test_what_is_missing_from_the_start_is_said_before_anything_runs(
    toy: Path, s3: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = min(path for path in s3.find("many/data") if path.endswith(".png") and "/train/" in path)
    content = s3.cat_file(frame)
    evaluation = ("evaluate", "--adapter", "visual_prior", *READ, "--output", "results")
    try:
        s3.rm_file(frame)
        run(*evaluation, status=STATUS_USER)
        assert f"error: {DATA}: lacks {frame.removeprefix('many/data/')} and 0 more" in capsys.readouterr().err
        s3.pipe_file(frame, content + b"?")
        run(*evaluation, status=STATUS_USER)
        assert f"error: {DATA}: the files of split 'train' are not those that" in capsys.readouterr().err
        # As large, and another: the checksum tells, of that clip alone.
        s3.pipe_file(frame, content[:-1] + b"?")
        run(*evaluation, status=STATUS_INCOMPLETE)
        told = capsys.readouterr().err
        assert f"s3://{frame}: found sha256" in told
        assert "1 of " in told
        failed = json.loads(Path("results/visual_prior/s4-seed42/run.json").read_text())["failed"]
        assert len(failed) == 1
    finally:
        s3.pipe_file(frame, content)


def test_a_store_that_does_not_answer_ends_the_evaluation(
    toy: Path, s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from avsrobust.remote.store import Store

    monkeypatch.setattr("avsrobust.remote.store.PAUSES_S", ())

    def silent(self: Store, *_: object) -> None:
        raise OSError("EndpointConnectionError: no route")

    def cut_off() -> None:
        monkeypatch.setattr(Store, "fetch", silent)

    choices: dict[str, Any] = {"name": "watching", "splits": ["train"], "check": False, "output": tmp_path / "results"}
    with pytest.raises(ar.AvsRobustError, match=r"s3://many/\S+: cannot be read \(EndpointConnectionError"):
        ar.evaluate(Watching(cut_off), BUILD, data_root=DATA, readers=1, **choices)
    monkeypatch.undo()


def test_a_shard_copies_its_own_clips(toy: Path, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for number in (1, 2, 3):
        monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / str(number)))
        ar.evaluate(
            "visual_prior", BUILD, data_root=DATA, output="results", splits=["train"], check=False, shard=f"{number}/3"
        )
        counts.append(len(list((tmp_path / str(number)).rglob("visual_frames/*/*/*/*.png"))))
    whole = sum(
        len(set(row.frames)) for row in load_manifest(toy / "robust" / "s4-seed42").rows if row.condition == "clean"
    )
    assert sum(counts) == whole
