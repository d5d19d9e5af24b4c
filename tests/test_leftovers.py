"""Nothing stays behind a command in a process that goes on: files, threads, processes, temporary folders, settings."""

from __future__ import annotations

import gc
import locale
import logging
import os
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsrobust.cli.main import invoke

if not Path("/proc/self/fd").is_dir():
    pytest.skip("the system does not tell which files are open", allow_module_level=True)

FAILS = """
import torch

class Net:
    audio = "log_mel"

    @classmethod
    def load(cls, checkpoint, device):
        return cls()

    def encode_frames(self, frames):
        return frames

    def segment(self, encoded, audio):
        raise RAISED
"""


def open_files() -> Counter[str]:
    """What the descriptors of this process are of, but for pipes and sockets of pytest and libraries."""
    found: Counter[str] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[str(entry.readlink())] += 1
        except OSError:
            # That of the listing itself.
            continue
    return found


def state(temporary: Path) -> dict[str, Any]:
    umask = os.umask(0o022)
    os.umask(umask)
    torch = sys.modules.get("torch")
    return {
        "files": open_files(),
        "threads": Counter(thread.name for thread in threading.enumerate()),
        "temporary files": sorted(path.name for path in temporary.iterdir()),
        "shared memory": sorted(path.name for path in Path("/dev/shm").glob(f"*avsrobust*{os.getpid()}*")),
        "folder": Path.cwd(),
        "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "umask": umask,
        "import path": list(sys.path),
        "handlers of signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
        "hooks": (sys.excepthook, threading.excepthook, sys.stdout, sys.stderr, os._exit),
        "logging": (logging.root.level, logging.root.manager.disable, list(logging.root.handlers)),
        "warnings": [entry for entry in warnings.filters if entry[0] == "error"],
        "locale": locale.setlocale(locale.LC_ALL),
        "numpy": (np.geterr(), np.random.get_state()[1].tolist()),  # noqa: NPY002
        "torch": None
        if torch is None
        else (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            torch.initial_seed(),
            torch.backends.cudnn.benchmark,
            torch.get_float32_matmul_precision(),
        ),
    }


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, of this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@pytest.fixture
def without_collection() -> Iterator[None]:
    """Whatever is only freed when Python looks for cycles stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, toy_builds: Path) -> Path:
    folder = tmp_path_factory.mktemp("leftovers") / "results"
    for adapter in ("oracle", "visual_prior"):
        manifest = str(toy_builds / "robust/s4-seed42")
        assert (
            invoke(["evaluate", "--adapter", adapter, "--manifest", manifest, "--save-masks", "--output", str(folder)])
            == 0
        )
    return folder


Words = Callable[[Path, Path, Path, int], list[object]]
COMMANDS: dict[str, tuple[int, Words]] = {
    "build": (
        0,
        lambda data, results, out, turn: [
            "build",
            "--dataset",
            "s4",
            "--data-root",
            data,
            "--output",
            out / f"b{turn}",
        ],
    ),
    "build of no data": (
        2,
        lambda data, results, out, turn: ["build", "--dataset", "avss", "--data-root", data, "--output", out / "none"],
    ),
    "verify": (0, lambda data, results, out, turn: ["verify", data / "robust/s4-seed42"]),
    "evaluate": (
        0,
        lambda data, results, out, turn: [
            *("evaluate", "--adapter", "oracle", "--manifest", data / "robust/s4-seed42", "--save-masks"),
            *("--output", out / f"results{turn}"),
        ],
    ),
    "evaluate what fails": (
        2,
        lambda data, results, out, turn: [
            *("evaluate", "--adapter", f"{out / 'fails.py'}:Net", "--manifest", data / "robust/s4-seed42"),
            *("--output", out / f"failed{turn}"),
        ],
    ),
    "evaluate, interrupted": (
        130,
        lambda data, results, out, turn: [
            *(
                "evaluate",
                "--adapter",
                f"{out / 'interrupts.py'}:Net",
                "--manifest",
                data / "robust/s4-seed42",
                "--no-check",
            ),
            *("--output", out / f"interrupted{turn}"),
        ],
    ),
    "report": (
        0,
        lambda data, results, out, turn: [
            *(
                "report",
                results,
                "--format",
                "html",
                "--gallery",
                "1",
                "--output",
                out / f"page{turn}.html",
            ),
        ],
    ),
    "report of a damaged file": (2, lambda data, results, out, turn: ["report", out / "damaged"]),
    "compare": (
        0,
        lambda data, results, out, turn: [
            *("compare", results / "oracle/s4-seed42", results / "visual_prior/s4-seed42", "--samples", "100"),
        ],
    ),
    "masks": (
        0,
        lambda data, results, out, turn: [
            *("masks", results / "oracle/s4-seed42", "--overlay", out / f"masks{turn}", "--condition", "clean"),
        ],
    ),
    "audit": (0, lambda data, results, out, turn: ["audit", data / "robust/s4-seed42"]),
}


@pytest.mark.usefixtures("without_collection")
@pytest.mark.parametrize(("status", "words"), COMMANDS.values(), ids=COMMANDS)
def test_nothing_stays_behind_a_command(
    status: int,
    words: Words,
    toy_builds: Path,
    results: Path,
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "fails.py").write_text(FAILS.replace("RAISED", "ValueError('no')"))
    (tmp_path / "interrupts.py").write_text(FAILS.replace("RAISED", "KeyboardInterrupt"))
    (tmp_path / "damaged").mkdir()
    content = (results / "oracle/s4-seed42/scores.parquet").read_bytes()
    (tmp_path / "damaged/scores.parquet").write_bytes(content[: len(content) // 2])
    monkeypatch.chdir(tmp_path)
    found = []
    # The first one imports, and may leave what is kept for good, once.
    for turn in range(4):
        assert invoke([str(word) for word in words(toy_builds, results, tmp_path, turn)]) == status
        found.append(state(temporary))
    for name, value in found[0].items():
        assert found[-1][name] == value, name
    assert not [path for path in found[-1]["files"] if str(tmp_path) in path or str(toy_builds) in path]
    assert not found[-1]["temporary files"]
