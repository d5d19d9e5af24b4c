"""The Slurm script, run by plain bash with Slurm's variables; `srun` is a stand-in that starts the tasks on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import call

from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.results import read_run

SCRIPT = Path(__file__).parents[1] / "examples/slurm/evaluate.sbatch"
BIN = Path(sys.executable).parent
# As srun does: every task runs the command with its own number, and the status is the worst of theirs.
SRUN = """#!/bin/bash
echo "srun with ${SRUN_CPUS_PER_TASK:-1} cores per task" >&2
while [[ $1 == --* ]]; do shift; done
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_PROCID=$task "$@" &
    tasks+=($!)
done
status=0
for task in "${tasks[@]}"; do
    ended=0
    wait "$task" || ended=$?
    if ((ended > status)); then status=$ended; fi
done
exit $status
"""


@pytest.fixture
def build(make_build: Callable[..., Manifest]) -> Manifest:
    return make_build(clips=5)


def run_script(folder: Path, tasks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "bin").mkdir(exist_ok=True)
    srun = folder / "bin/srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{BIN}:{os.environ['PATH']}",
        "SLURM_NTASKS": str(tasks),
        # The script itself runs as the first task of the first node.
        "SLURM_PROCID": "0",
        "SLURM_CPUS_PER_TASK": "8",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_tasks_come_to_what_one_process_does(build: Manifest, tmp_path: Path) -> None:
    chosen = ("--adapter", "visual_prior", "--manifest", str(build.path))
    done = run_script(tmp_path, 2, *chosen)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "results/visual_prior/s4-seed42/scores.parquet"
    assert "srun with 8 cores per task" in done.stderr
    runs = read_run(tmp_path / "results/visual_prior/s4-seed42/run.json").details["runs"]
    assert [(entry["shard"], entry["clips_run"]) for entry in runs] == [("1/2", 3), ("2/2", 2)]
    one = call(tmp_path, "evaluate", *chosen, "--output", "one")
    assert one.returncode == 0, one.stderr
    assert sha256_of_file(tmp_path / "results/visual_prior/s4-seed42/scores.parquet") == sha256_of_file(
        tmp_path / "one/visual_prior/s4-seed42/scores.parquet"
    )


def test_a_task_that_fails_fails_the_job(build: Manifest, tmp_path: Path) -> None:
    done = run_script(tmp_path, 2, "--adapter", "orcale", "--manifest", str(build.path))
    assert done.returncode == 2
    assert "did you mean 'oracle'" in done.stderr
    assert done.stdout == ""


def test_clips_that_fail_are_merged_as_such(build: Manifest, tmp_path: Path) -> None:
    row = build.rows[0]
    picture = build.data_root() / row.frames[0].removeprefix("data:")
    picture.write_bytes(bytes(picture.stat().st_size))
    done = run_script(tmp_path, 2, "--adapter", "visual_prior", "--manifest", str(build.path))
    assert done.returncode == 1, done.stderr
    assert "1 of 5 clips could not be scored" in done.stderr
    assert done.stdout.splitlines()[-1] == "results/visual_prior/s4-seed42/scores.parquet"


def test_the_script_says_what_slurm_is_to_give() -> None:
    options = [line.split()[1] for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"--ntasks=4", "--gpus-per-task=1", "--requeue"} <= set(options)
