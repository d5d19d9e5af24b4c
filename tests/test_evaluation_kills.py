"""Evaluations that are killed at any moment, or run twice at once: the results are those of one that nobody disturbed.

The long run: ``AVSROBUST_KILLS=200 pytest tests/test_evaluation_kills.py``.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import call

from avsrobust.errors import ResultsError
from avsrobust.files import TEMPORARY_SUFFIX, sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.reporting.loading import load_results
from avsrobust.results import read_scores

KILLS = int(os.environ.get("AVSROBUST_KILLS", "12"))
AVSROBUST = str(Path(sys.executable).with_name("avsrobust"))
MODEL = """
import torch
from avsrobust.adapters.base import Adapter

class Model(Adapter):
    def segment(self, encoded, audio):
        self.seen = [audio.mean(dim=(2, 3, 4))]
        grey = encoded.float().mean(dim=2) / 255
        return torch.sigmoid(8 * (grey - 0.5) + self.seen[0][..., None, None] * 20)

    def extras(self):
        return {"loudness": self.seen[0]}

class Other(Model):
    def segment(self, encoded, audio):
        return 1 - super().segment(encoded, audio)
"""
# Forks, so that each evaluation costs no start of Python; each child dies by SIGKILL at its nth renaming of a file, which is
# where files come into being and results are published, or lives to the end.
EVALUATE = """
import os, signal, sys, json
from pathlib import Path
from avsrobust.evaluation import parts
from avsrobust.evaluation.runner import evaluate
from avsrobust.manifest import load_manifest
sys.path.insert(0, sys.argv[1])
from model import Model
manifest, jobs = load_manifest(sys.argv[2]), json.loads(sys.argv[3])
parts.CLIPS_PER_PART = 1
rename = Path.replace
def run(output, kill, choices):
    count = 0
    def counted(self, target):
        nonlocal count
        count += 1
        if count == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)
    Path.replace = counted
    evaluate(manifest, Model(), name="model", output=Path(output), **choices)
    return count
for job in jobs:
    child = os.fork()
    if child == 0:
        print("renamings", run(*job), flush=True)
        os._exit(0)
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
NEVER = 10**6


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, make_build_in: Callable[..., Manifest]) -> Manifest:
    folder = tmp_path_factory.mktemp("kills")
    (folder / "model.py").write_text(MODEL)
    (folder / "evaluate.py").write_text(EVALUATE)
    return make_build_in(folder, clips=4, split=("test", "val"))


Job = tuple[str, int, dict[str, object]]


def evaluate(build: Manifest, jobs: list[Job]) -> list[str]:
    """Run evaluations, each (output, renaming at which it is killed, choices), one after the other; return what is told."""
    folder = build.folder.parent
    done = subprocess.run(
        [sys.executable, str(folder / "evaluate.py"), str(folder), str(build.path), json.dumps(jobs)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.stdout.splitlines()


def checksums(folder: Path) -> dict[str, str]:
    """All files of a results folder but run.json, which tells times, and the lock."""
    names = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): sha256_of_file(path)
        for path in names
        if path.name not in ("run.json", ".avsrobust.lock", ".avsrobust.owner")
    }


EVERYTHING: dict[str, object] = {"splits": ["test", "val"], "save_masks": True}


@pytest.fixture(scope="module")
def whole(build: Manifest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int]:
    """Checksums of the results that nobody disturbed, and how many renamings they took."""
    output = tmp_path_factory.mktemp("whole") / "out"
    told = evaluate(build, [(str(output), NEVER, EVERYTHING)])
    return checksums(output), int(told[0].split()[1])


def test_killed_again_and_again(build: Manifest, whole: tuple[dict[str, str], int], tmp_path: Path) -> None:
    generator = random.Random(7)
    outputs = [tmp_path / f"out{number}" for number in range(max(1, KILLS // 12))]
    jobs: list[Job] = []
    for output in map(str, outputs):
        # The first split is there before: it must outlive every kill.
        jobs.append((output, NEVER, {"splits": ["test"]}))
        # A clip is three renamings: masks, further values, scores.
        jobs += [(output, generator.randint(1, 6), EVERYTHING) for _ in range(12)]
        jobs.append((output, NEVER, EVERYTHING))
    told = evaluate(build, jobs)
    assert told.count("status -9") >= 6 * len(outputs)
    assert told[-1] == "status 0"
    for output in outputs:
        assert checksums(output) == whole[0]
        assert not list(output.rglob(f"*{TEMPORARY_SUFFIX}"))


def test_killed_while_results_are_put_in_place(
    build: Manifest, whole: tuple[dict[str, str], int], tmp_path: Path
) -> None:
    # The last four renamings: scores, masks, further values, run.json.
    outputs = [tmp_path / f"out{before_the_end}" for before_the_end in range(4)]
    told = evaluate(build, [(str(path), whole[1] - number, EVERYTHING) for number, path in enumerate(outputs)])
    assert told == ["status -9"] * 4
    unfinished = [path for path in outputs if (path / "scores.parquet").exists()]
    assert len(unfinished) == 3
    for path in unfinished:
        with pytest.raises(ResultsError, match=r"is not finished or was cut off.*run the same 'evaluate' again"):
            read_scores(path)
    # The last one was killed before anything was moved: what is on its way is no result.
    assert (outputs[3] / "parts/next/scores.parquet").exists()
    with pytest.raises(ResultsError, match=r"found no scores\.parquet in it"):
        load_results([outputs[3]])
    evaluate(build, [(str(path), NEVER, EVERYTHING) for path in outputs])
    for path in outputs:
        assert checksums(path) == whole[0]


def start(folder: Path, build: Manifest, *arguments: str) -> subprocess.Popen[str]:
    command = [AVSROBUST, "evaluate", "--manifest", str(build.path), "--name", "model", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def here(folder: Path, build: Manifest, *arguments: str) -> None:
    done = call(folder, "evaluate", "--manifest", build.path, "--name", "model", *arguments)
    assert done.returncode == 0, done.stderr


def test_two_at_once_come_to_what_one_does(build: Manifest, tmp_path: Path) -> None:
    model = f"{build.folder.parent / 'model.py'}:Model"
    pieces = (("--split", "test"), ("--split", "val", "--save-masks"))
    both = [start(tmp_path, build, "--adapter", model, "--wait", *piece) for piece in pieces]
    for process in both:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told
    alone = tmp_path / "alone"
    alone.mkdir()
    for piece in pieces:
        here(alone, build, "--adapter", model, *piece)
    place = "results/model/s4-seed42/scores.parquet"
    assert sha256_of_file(tmp_path / place) == sha256_of_file(alone / place)


def test_two_models_at_once_in_one_folder_never_mix(build: Manifest, tmp_path: Path) -> None:
    file = build.folder.parent / "model.py"
    both = {name: start(tmp_path, build, "--adapter", f"{file}:{name}", "--wait") for name in ("Model", "Other")}
    ends = {name: (process.communicate(timeout=300)[1], process.returncode) for name, process in both.items()}
    assert sorted(status for _, status in ends.values()) == [0, 2], ends
    (winner,) = (name for name, (_, status) in ends.items() if status == 0)
    (refused,) = (told for told, status in ends.values() if status == 2)
    assert "holds results of another model or build" in refused
    alone = tmp_path / "alone"
    alone.mkdir()
    here(alone, build, "--adapter", f"{file}:{winner}")
    place = "results/model/s4-seed42/scores.parquet"
    assert sha256_of_file(tmp_path / place) == sha256_of_file(alone / place)


def test_who_holds_the_folder_is_told_to_the_second(build: Manifest, tmp_path: Path) -> None:
    from avsrobust.folders import hold_output_dir

    model = f"{build.folder.parent / 'model.py'}:Model"
    folder = tmp_path / "results/model/s4-seed42"
    with hold_output_dir(folder, "results", 2, "avsrobust evaluate"):
        process = start(tmp_path, build, "--adapter", model)
        _, told = process.communicate(timeout=300)
        assert process.returncode == 2
        assert f"results/model/s4-seed42: is in use by avsrobust evaluate (process {os.getpid()} on " in told
        assert told.count("\n") == 1
        assert [path.name for path in folder.iterdir() if not path.name.startswith(".avsrobust.")] == []
