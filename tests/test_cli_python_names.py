"""Python's own names that an adapter's code has replaced: they are put back and named, and nothing waits for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import sys
from avsrobust.cli import main
sys.argv = ["avsrobust", *sys.argv[1:]]
main.run()
"""

ADAPTER = """
import builtins, json, sys
from avsrobust.adapters.base import Adapter

class Model(Adapter):
    def segment(self, frames, audio):
        {does}
        return frames.float().mean(dim=2) / 255
"""


def evaluated(toy_builds: Path, folder: Path, does: str) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(ADAPTER.format(does=does))
    manifest = toy_builds / "robust/ms3-seed42"
    arguments = ["evaluate", "--adapter=mine.py:Model", f"--manifest={manifest}", "--output=results", "--limit=1"]
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize(
    ("does", "named"),
    [
        ("sys.excepthook = None", "sys.excepthook"),
        ("builtins.isinstance = lambda *_: True", "builtins.isinstance"),
        ("builtins.__import__ = None", "builtins.__import__"),
    ],
)
def test_an_error_names_what_was_replaced(does: str, named: str, toy_builds: Path, tmp_path: Path) -> None:
    done = evaluated(toy_builds, tmp_path, does)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert f"found {named} replaced by code of an adapter or of a library that it imports" in last


def test_counting_goes_on_where_its_threads_cannot_be_limited(toy_builds: Path, tmp_path: Path) -> None:
    done = evaluated(toy_builds, tmp_path, "sys.modules['threadpoolctl'].ThreadpoolController.limit = None")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("scores.parquet\n")


# In a process of its own: the tests' own machinery needs these names too.
PUT_BACK = """
import builtins, json, sys, types, wave
import numpy.linalg
from avsrobust.cli import python_names, streams

before = dict(vars(builtins))
assert python_names.put_back() == []
builtins.callable = None
builtins.translate = print  # New names are others' own affair.
sys.excepthook = 3
sys.modules.update({"json": None, "numpy.linalg": 3, "somebodys.module": object(), "wave": types.ModuleType("wave")})
del sys.modules["click"], builtins.zip
found = python_names.put_back()
assert found == [
    "builtins.callable", "builtins.zip", "sys.excepthook", "sys.modules['json']", "sys.modules['numpy.linalg']", "sys.modules"
], found
assert {name: vars(builtins)[name] for name in before} == before
assert callable(sys.excepthook)
assert "click" in sys.modules
"""


def test_names_are_put_back() -> None:
    subprocess.run([sys.executable, "-c", f"import click\n{PUT_BACK}"], check=True, timeout=120)


def test_modules_that_were_taken_away_are_there_again_for_the_message(toy_builds: Path, tmp_path: Path) -> None:
    done = evaluated(toy_builds, tmp_path, "sys.modules.clear()")
    assert done.returncode == 2, done.stderr
    assert "found sys.modules replaced by code of an adapter" in done.stderr.splitlines()[-1]
