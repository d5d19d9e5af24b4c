"""Settings of the process that adapters change: they hold in the adapter's calls and nowhere else."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avsrobust.adapters.lookup import find_adapter, load_adapter
from avsrobust.adapters.process_state import settings
from avsrobust.adapters.surroundings import surroundings
from avsrobust.errors import AdapterError
from avsrobust.evaluation.runner import evaluate
from avsrobust.manifest import Manifest
from avsrobust.reporting.loading import load_results

# What an adapter does, and how it sees that it holds.
CHANGES: dict[str, tuple[Callable[[], Any], Callable[[], bool]]] = {
    "device": (lambda: torch.set_default_device("meta"), lambda: torch.zeros(1).is_meta),
    "dtype": (lambda: torch.set_default_dtype(torch.float64), lambda: torch.zeros(1).dtype == torch.float64),
    "gradients": (lambda: torch.set_grad_enabled(False), lambda: not torch.is_grad_enabled()),
    "deterministic": (
        lambda: torch.use_deterministic_algorithms(True),
        torch.are_deterministic_algorithms_enabled,
    ),
    "autocast": (lambda: torch.set_autocast_enabled("cpu", True), lambda: torch.is_autocast_enabled("cpu")),
    "numpy": (lambda: np.seterr(divide="raise"), lambda: np.geterr()["divide"] == "raise"),
    "warnings": (
        lambda: warnings.simplefilter("error", category=ImportWarning),
        lambda: any(entry[0] == "error" and entry[2] is ImportWarning for entry in warnings.filters),
    ),
    "logging": (lambda: logging.disable(logging.CRITICAL), lambda: logging.root.manager.disable == logging.CRITICAL),
    "path": (lambda: sys.path.insert(0, "/theirs"), lambda: sys.path[0] == "/theirs"),
    "umask": (lambda: os.umask(0o7), lambda: settings()["umask"] == 0o7),
}


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def unchanged(before: dict[str, Any]) -> bool:
    """Return whether settings are as before; folders to import from may have come last."""
    now = settings()
    return {**now, "import path": now["import path"][: len(before["import path"])]} == before


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_is_found_again_and_does_not_leak(name: str) -> None:
    change, holds = CHANGES[name]
    adapter, other = type("Adapter", (), {}), type("Other", (), {})
    before = settings()
    with surroundings(adapter):
        change()
        assert holds()
    assert unchanged(before)
    with surroundings(other):
        assert not holds()
    with surroundings(adapter):
        assert holds()
    assert unchanged(before)


def test_warnings_that_are_no_errors_any_more_are_shown() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with surroundings(type("Adapter", (), {})):
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="once"):
                warnings.warn("once", UserWarning, stacklevel=1)
        warnings.warn("once", UserWarning, stacklevel=1)


def test_a_device_that_is_not_there_is_put_back() -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    adapter = type("Adapter", (), {})
    with surroundings(adapter):
        torch.set_default_device("cuda")
    assert torch.zeros(1).device.type == "cpu"
    with surroundings(adapter):
        pass
    assert torch.zeros(1).device.type == "cpu"


def test_interrupts_work_again_after_each_call() -> None:
    before = signal.getsignal(signal.SIGINT)
    adapter = type("Adapter", (), {})
    with surroundings(adapter):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is before
    with surroundings(adapter):
        assert signal.getsignal(signal.SIGINT) is before


def test_what_the_user_has_set_stays() -> None:
    with torch.no_grad():
        with surroundings(type("Adapter", (), {})):
            torch.zeros(1)
        assert not torch.is_grad_enabled()


# Everything that would lose results or messages, at once.
MODEL = """
import atexit, os, sys, threading, time, torch
from avsrobust.adapters.base import Adapter

def noise():
    while True:
        print("noise")
        time.sleep(0.01)

torch.set_default_device("meta")
atexit.register(print, "late")
threading.Thread(target=noise, daemon=True).start()
sys.path[:] = []

class Net(Adapter):
    def segment(self, frames, audio):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stdout.close()
        return frames.float().mean(2) / 255
"""


def test_results_and_messages_come_through_whatever_an_adapter_does(tiny_build: Manifest, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    command = [sys.executable, "-m", "avsrobust", "evaluate", "--manifest", str(tiny_build.folder)]
    done = subprocess.run(
        [*command, "--adapter", "model.py:Net"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "results/Net/s4-seed42/scores.parquet\n"
    assert "| Net " in done.stderr
    assert len(load_results([tmp_path / "results"])) == 1


RAISES = """
import os
from avsrobust.adapters.base import Adapter

class Mute(Exception):
    def __str__(self):
        return 1 / 0

def act():
    {statement}

{at_import}

class Net(Adapter):
    def segment(self, frames, audio):
        act()
"""


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("os._exit(0)", "raised SystemExit: it called exit, with the status 0"),
        ("raise BaseException('odd')", "raised BaseException: odd"),
        ("raise GeneratorExit", "raised GeneratorExit"),
        ("raise Mute", "raised Mute"),
    ],
)
def test_whatever_an_adapter_raises_is_an_error_of_ours(
    tiny_build: Manifest, tmp_path: Path, statement: str, message: str
) -> None:
    file = tmp_path / "model.py"
    file.write_text(RAISES.format(statement=statement, at_import="act()"))
    with pytest.raises(AdapterError, match=message):
        find_adapter(f"{file}:Net")
    file.write_text(RAISES.format(statement=statement, at_import=""))
    adapter = load_adapter(f"{file}:Net", checkpoint=None, device=torch.device("cpu"), options={})
    with pytest.raises(AdapterError, match=f"net: segment {message}"):
        evaluate(tiny_build, adapter, name="net", output=tmp_path / "out")


def test_a_fork_ends_as_it_asks(tmp_path: Path) -> None:
    with surroundings(type("Adapter", (), {})):
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_the_umask_of_files_that_threads_create_meanwhile_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    settings()
    taken: list[int] = []
    set_umask = os.umask
    monkeypatch.setattr(os, "umask", lambda value: taken.append(value) or set_umask(value))
    before = set_umask(0o027)
    set_umask(before)
    with surroundings(type("Adapter", (), {})):
        pass
    assert set(taken) == {before}


def test_an_import_under_way_in_another_thread_skips_no_folder() -> None:
    adapter = type("Adapter", (), {})
    with surroundings(adapter):
        sys.path.insert(0, "/theirs")
    before = list(sys.path)
    under_way = iter(sys.path)
    next(under_way)
    with surroundings(adapter):
        assert sys.path[0] == "/theirs"
        assert [before[0], *under_way] == before
