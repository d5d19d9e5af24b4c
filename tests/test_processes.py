"""Local processes: order, Ctrl-C, and an end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from avsrobust.processes import map_in_processes, usable_cores


def slow_at_first(number: int) -> int:
    time.sleep(0.2 if number == 0 else 0)
    return number * number


def ignores_interrupts(_number: int) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be kept from a process here")
def test_the_cores_of_a_job_count_not_those_of_the_node() -> None:
    before = os.sched_getaffinity(0)
    assert usable_cores() == len(before)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_results_come_in_the_order_of_the_tasks() -> None:
    assert list(map_in_processes(slow_at_first, range(9), 2)) == [number * number for number in range(9)]
    assert list(map_in_processes(slow_at_first, [], 2)) == []


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="there are no signal masks here")
def test_ctrl_c_is_the_commands_alone() -> None:
    assert list(map_in_processes(ignores_interrupts, [1, 2, 3], 2)) == [True] * 3
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


COMMAND = """
import os, sys, threading, time
from avsrobust.processes import map_in_processes, usable_cores
from tasks import wait

def parent(pid):
    try:
        return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    except OSError:
        return 0

def tell():
    while sum(parent(pid) == os.getpid() for pid in os.listdir("/proc") if pid.isdigit()) < int(sys.argv[1]):
        time.sleep(0.001)
    print("started", flush=True)

try:
    # A thread that holds nothing back: the system may give it the signal.
    threading.Thread(target=tell, daemon=True).start()
    list(map_in_processes(wait, [0.2] * 400, 2))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


# Processes that are there, those that keep account of resources among them, and how long after that it is interrupted.
@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.1, 0.3])
@pytest.mark.parametrize("processes", [0, 2, 3, 4])
def test_only_the_command_itself_is_interrupted(tmp_path: Path, processes: int, after_s: float) -> None:
    """As a terminal does it: every process of the group gets the signal, here while the pool is starting."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are found in /proc")
    (tmp_path / "tasks.py").write_text("import time\ndef wait(seconds):\n    time.sleep(seconds)\n")
    (tmp_path / "command.py").write_text(COMMAND)
    started = subprocess.Popen(
        [sys.executable, "command.py", str(processes)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "started\n"
    time.sleep(after_s)
    os.killpg(started.pid, signal.SIGINT)
    out, err = started.communicate(timeout=120)
    assert (out, err) == ("interrupted\n", "")


def test_what_is_given_up_ends_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    before = threading.excepthook
    results = map_in_processes(slow_at_first, range(400), 2)
    assert next(results) == 0
    del results
    assert threading.excepthook is before
    assert not [str(one.message) for one in recwarn.list]
    # The next one has processes again.
    assert list(map_in_processes(slow_at_first, [2, 3], 2)) == [4, 9]


def place_and_word(_number: int) -> tuple[str, str | None, bool]:
    return os.getcwd(), os.environ.get("AVSROBUST_TEST_WORD"), "added-folder" in sys.path  # noqa: PTH109


def own_process(_number: int) -> int:
    time.sleep(0.1)
    return os.getpid()


def test_processes_are_kept_only_while_they_are_what_new_ones_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = set(map_in_processes(own_process, range(4), 2))
    assert first & set(map_in_processes(own_process, range(4), 2))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVSROBUST_TEST_WORD", "here")
    monkeypatch.setattr(sys, "path", [*sys.path, "added-folder"])
    assert set(map_in_processes(place_and_word, range(4), 2)) == {(str(tmp_path), "here", True)}
    monkeypatch.delenv("AVSROBUST_TEST_WORD")
    assert set(map_in_processes(place_and_word, range(4), 2)) == {(str(tmp_path), None, True)}
