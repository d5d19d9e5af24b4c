"""The end of the command, in real processes: threads of an adapter's that do not end, Ctrl-C, crashes in C code."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and their statuses are those of POSIX")

RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from avsrobust.cli import ending, main
ending.GRACE_S, ending._TOLD_AFTER_S = {grace}, {told}
{more}
sys.argv = ["avsrobust", *sys.argv[1:]]
main.run()
"""

ADAPTER = """
import ctypes, threading, time
from avsrobust.adapters.base import Adapter

class Model(Adapter):
    def encode_frames(self, frames):
        return frames.float().mean(dim=2) / 255

    def segment(self, encoded, audio):
        {does}
        return encoded
"""


def started(
    folder: Path, *arguments: str, more: str = "", grace: float = 1.0, told: float = 0.5
) -> subprocess.Popen[str]:
    script = RUN.format(grace=grace, told=told, more=more)
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def evaluation(toy_builds: Path, folder: Path, does: str) -> list[str]:
    (folder / "mine.py").write_text(ADAPTER.format(does=does))
    manifest = toy_builds / "robust/ms3-seed42"
    return ["evaluate", "--adapter=mine.py:Model", f"--manifest={manifest}", "--output=results", "--limit=1"]


def test_a_thread_that_never_ends_does_not_keep_the_command(toy_builds: Path, tmp_path: Path) -> None:
    does = "threading.Thread(target=threading.Event().wait, name='loader').start()"
    process = started(tmp_path, *evaluation(toy_builds, tmp_path, does))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.endswith("scores.parquet\n")
    assert (tmp_path / out.strip()).is_file()
    last = err.splitlines()[-1]
    assert last.startswith("all is written; ")
    assert "of the adapter's code or a library's did not end (loader" in last
    assert last.endswith("the command waits 1 s, and ends")


def test_threads_that_end_are_waited_for(tmp_path: Path) -> None:
    more = """
import threading, time
from pathlib import Path
def late():
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    Path("late").touch()
threading.Thread(target=late).start()
"""
    process = started(tmp_path, "--version", more=more, grace=600, told=600)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("avsrobust, version ")
    assert (tmp_path / "late").exists()


def test_a_pool_of_processes_that_ends_slowly_is_not_told(tmp_path: Path) -> None:
    more = """
from avsrobust.processes import map_in_processes
assert list(map_in_processes(abs, [-1, -2], 2)) == [1, 2]
import threading, time
names = [thread.name for thread in threading.enumerate() if not thread.daemon]
assert "ExecutorManagerThread" in names, names
"""
    process = started(tmp_path, "--version", more=more, grace=600, told=0)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("avsrobust, version ")


def test_an_interrupted_command_has_its_status_wherever_it_was(tmp_path: Path) -> None:
    # As in a module that makes a dataclass: Python would end itself by the signal.
    more = """
import atexit
def interrupted():
    atexit.register(print, "tidied up", file=sys.stderr)
    exec("signal.raise_signal(signal.SIGINT)", {"signal": signal})
main.importlib.import_module = lambda _name: interrupted()
"""
    process = started(tmp_path, "adapters", more=more)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert (out, err.lstrip()) == ("", "interrupted; the same command continues where this one stopped\ntidied up\n")


def test_ctrl_c_while_threads_are_waited_for_ends_the_command(tmp_path: Path) -> None:
    more = """
import threading, atexit
threading.Thread(target=threading.Event().wait, name="loader").start()
"""
    process = started(tmp_path, "adapters", "--worker-file", more=more, grace=600)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("all is written; 1 thread of the adapter's code")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "import" in out


def test_a_crash_in_c_code_says_where(toy_builds: Path, tmp_path: Path) -> None:
    process = started(tmp_path, *evaluation(toy_builds, tmp_path, "ctypes.string_at(0)"))
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (-signal.SIGSEGV, "")
    assert "Fatal Python error: Segmentation fault" in err
    assert 'mine.py", line 10 in segment' in err
