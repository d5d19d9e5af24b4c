"""Local processes: order, Ctrl-C, and an end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avsrobust.processes import map_in_processes


def slow_at_first(number: int) -> int:
    time.sleep(0.2 if number == 0 else 0)
    return number * number


def ignores_interrupts(_number: int) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_results_come_in_the_order_of_the_tasks() -> None:
    assert list(map_in_processes(slow_at_first, range(9), 2)) == [number * number for number in range(9)]
    assert list(map_in_processes(slow_at_first, [], 2)) == []


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="there are no signal masks here")
def test_ctrl_c_is_the_commands_alone() -> None:
    assert list(map_in_processes(ignores_interrupts, [1, 2, 3], 2)) == [True] * 3
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_only_the_command_itself_is_interrupted(tmp_path: Path) -> None:
    """As a terminal does it: every process of the group gets the signal, here while the pool's are starting.

    One that has not started when its parent goes may still say so: joblib's own lines, which name no interrupt.
    """
    (tmp_path / "tasks.py").write_text("import time\ndef wait(seconds):\n    time.sleep(seconds)\n")
    (tmp_path / "command.py").write_text(
        "import os, threading, time\n"
        "from avsrobust.processes import map_in_processes\n"
        "from tasks import wait\n"
        "def children():\n"
        "    return [pid for pid in os.listdir('/proc') if pid.isdigit() and parent(pid) == os.getpid()]\n"
        "def parent(pid):\n"
        "    try:\n"
        "        return int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])\n"
        "    except OSError:\n"
        "        return 0\n"
        "def tell():\n"
        "    while len(children()) < 2:\n"
        "        time.sleep(0.001)\n"
        "    print('started', flush=True)\n"
        "threading.Thread(target=tell, daemon=True).start()\n"
        "try:\n"
        "    list(map_in_processes(wait, [60.0] * 4, 2))\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are found in /proc")
    started = subprocess.Popen(
        [sys.executable, "command.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "started\n"
    os.killpg(started.pid, signal.SIGINT)
    out, err = started.communicate(timeout=120)
    assert "interrupted\n" in out
    assert "KeyboardInterrupt" not in out + err
