"""What adapters do to the process they run in: the working folder and stdout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from weakref import WeakKeyDictionary

import pytest
import torch

from avsrobust.adapters import surroundings as module
from avsrobust.adapters.calling import AdapterCaller
from avsrobust.adapters.lookup import find_adapter, load_adapter
from avsrobust.adapters.surroundings import surroundings
from avsrobust.errors import AdapterError
from avsrobust.evaluation.runner import evaluate
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest, load_manifest
from avsrobust.testing import check_adapter

CPU = torch.device("cpu")
MODEL = """
import ctypes, logging, os, subprocess, sys
from avsrobust.adapters.base import Adapter

def say(where):
    print("python", where)
    sys.__stdout__.write(f"dunder {where}\\n")
    ctypes.CDLL(None).printf(b"printf\\n")
    os.write(1, b"descriptor\\n")
    subprocess.run(["echo", "child", where], check=True)
    logging.getLogger("theirs").warning("logger %s", where)

logging.basicConfig(stream=sys.stdout, level=logging.INFO)
say("import")

class Net(Adapter):
    @classmethod
    def load(cls, checkpoint, device, **options):
        say("load")
        os.chdir(options.get("folder", "."))
        return cls()

    def encode_frames(self, frames):
        say("encode")
        return frames

    def segment(self, frames, audio):
        say("segment")
        with open("weight.txt") as file:
            return frames.float().mean(2) / 255 * float(file.read())
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEFT", {})
    monkeypatch.setattr(module, "_IMPORTS", WeakKeyDictionary())
    monkeypatch.setattr(sys, "path", list(sys.path))


def write_model(folder: Path, content: str = MODEL) -> Path:
    (folder / "model.py").write_text(content)
    (folder / "theirs").mkdir()
    (folder / "theirs" / "weight.txt").write_text("0.5")
    return folder / "model.py"


def run(build: Path, work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avsrobust", "evaluate", "--manifest", str(build), "--no-check", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=work, capture_output=True, text=True, env=environment)


def test_what_adapters_print_goes_to_stderr(tiny_build: Manifest, tmp_path: Path) -> None:
    write_model(tmp_path)
    done = run(tiny_build.folder, tmp_path, "--adapter", "model.py:Net", "--option", "folder=theirs")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "results/Net/s4-seed42/scores.parquet\n"
    for line in (
        "python import",
        "dunder load",
        "printf",
        "descriptor",
        "child encode",
        "logger segment",
        "python segment",
    ):
        assert line in done.stderr


def test_paths_given_before_hold_where_an_adapter_changes_the_folder(tiny_build: Manifest, tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "build").symlink_to(tiny_build.folder)
    (tmp_path / "data").symlink_to(tiny_build.data_root())
    options = ("--option", "folder=theirs", "--data-root", "data", "--output", "out")
    # The second adapter's file and folder are relative too.
    done = run(Path("build"), tmp_path, "--adapter", "model.py:Net", "--adapter", "oracle", *options[2:])
    assert done.returncode == 2
    assert "weight.txt" in done.stderr
    done = run(Path("build"), tmp_path, "--adapter", "model.py:Net", *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.strip()).is_file()
    assert not (tmp_path / "theirs" / "out").exists()


def test_an_adapter_finds_its_own_folder_at_every_call(tiny_build: Manifest, tmp_path: Path, monkeypatch) -> None:
    write_model(tmp_path)
    monkeypatch.chdir(tmp_path)
    adapter = load_adapter("model.py:Net", checkpoint=None, device=CPU, options={"folder": "theirs"})
    assert Path.cwd() == tmp_path
    (tmp_path / "build").symlink_to(tiny_build.folder)
    report = evaluate(load_manifest("build"), adapter, name="net", output="out")
    assert report.failed == ()
    assert Path.cwd() == tmp_path
    assert (tmp_path / "out" / "scores.parquet").is_file()
    assert check_adapter(adapter).passed


CHANGES_BOTH = """
import os
import torch

class Net:
    audio = "log_mel"

    @classmethod
    def load(cls, checkpoint, device, folder, dtype):
        net = cls()
        net.began = os.getcwd(), torch.get_default_dtype()
        os.chdir(folder)
        torch.set_default_dtype(getattr(torch, dtype))
        return net

    def encode_frames(self, frames):
        return os.getcwd(), torch.get_default_dtype()

    def segment(self, encoded, audio): ...
"""


@pytest.mark.parametrize("holder", ["", "    __slots__ = ('began', '__weakref__')\n"])
def test_adapters_of_one_class_have_a_folder_and_settings_each(holder: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "model.py").write_text(CHANGES_BOTH.replace("class Net:\n", f"class Net:\n{holder}"))
    net = find_adapter("model.py:Net")
    first, second = (
        load_adapter(net, checkpoint=None, device=CPU, options={"folder": folder, "dtype": dtype})
        for folder, dtype in (("a", "float64"), ("b", "float32"))
    )
    # A load begins where the user is, not where an earlier one went.
    assert first.began == second.began == (str(tmp_path), torch.float32)  # type: ignore[attr-defined]
    frames = torch.zeros(1, 1, 3, 2, 2, dtype=torch.uint8)
    found = [AdapterCaller(adapter, "net", CPU).encode(frames) for adapter in (first, second, first)]
    assert found == [
        (str(tmp_path / folder), getattr(torch, dtype))
        for folder, dtype in (("a", "float64"), ("b", "float32"), ("a", "float64"))
    ]
    assert (Path.cwd(), torch.get_default_dtype()) == (tmp_path, torch.float32)


def test_a_folder_changed_at_import_is_kept_for_the_calls(tmp_path: Path, monkeypatch) -> None:
    write_model(tmp_path, MODEL + f"\nos.chdir({str(tmp_path / 'theirs')!r})\n")
    monkeypatch.chdir(tmp_path)
    assert check_adapter("model.py:Net").passed
    assert Path.cwd() == tmp_path


def test_relative_checkpoints_reach_an_adapter_as_absolute_paths(tmp_path: Path, monkeypatch) -> None:
    write_model(tmp_path, MODEL.replace("return cls()", "return open(checkpoint).read() and cls()"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").write_text("x")
    load_adapter("model.py:Net", checkpoint="weights.pt", device=CPU, options={"folder": "/"})


def test_results_do_not_depend_on_the_folder(tiny_build: Manifest, tmp_path: Path, monkeypatch) -> None:
    write_model(tmp_path)
    monkeypatch.chdir(tmp_path / "theirs")
    still = load_adapter("../model.py:Net", checkpoint=None, device=CPU, options={})
    monkeypatch.chdir(tmp_path)
    digests = set()
    for name, adapter in (
        ("moved", load_adapter("model.py:Net", checkpoint=None, device=CPU, options={"folder": "theirs"})),
        ("still", still),
    ):
        if name == "still":
            monkeypatch.chdir(tmp_path / "theirs")
        digests.add(sha256_of_file(evaluate(tiny_build, adapter, name="net", output=tmp_path / name).scores))
    assert len(digests) == 1


def test_an_error_restores_both(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    def leave() -> None:
        with surroundings(int):
            os.chdir("/")
            raise ValueError("theirs")

    with pytest.raises(ValueError, match="theirs"):
        leave()
    sys.stdout.write("ours\n")
    assert Path.cwd() == tmp_path
    assert capfd.readouterr().out == "ours\n"


def test_a_closed_stdout_is_no_obstacle(tmp_path: Path) -> None:
    code = "from avsrobust.adapters.surroundings import surroundings\nwith surroundings():\n  print('x')\n"
    done = subprocess.run(f"'{sys.executable}' -c \"{code}\" >&-", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "x\n")


def test_a_deleted_working_folder_is_no_obstacle(tmp_path: Path) -> None:
    code = (
        "import os, sys; from avsrobust.adapters.surroundings import surroundings; os.mkdir('gone'); os.chdir('gone'); "
        "os.rmdir('../gone')\nwith surroundings(int): print('x')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "x\n")


def test_an_error_of_the_adapters_names_its_line(tmp_path: Path, monkeypatch) -> None:
    write_model(tmp_path, MODEL.replace("return cls()", "raise OSError('no such thing')"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        AdapterError, match=r"model\.py:Net: load raised OSError: no such thing \(.*model\.py, line \d+\)"
    ):
        load_adapter("model.py:Net", checkpoint=None, device=CPU, options={})


FORKS = """
import os, sys, torch
from avsrobust.adapters.calling import AdapterCaller
from avsrobust.adapters.base import Adapter
class Forks(Adapter):
    def __init__(self, ends):
        self.ends = ends
    def segment(self, frames, audio):
        self.child = os.fork()
        if self.child == 0:
            exec(self.ends)
        return torch.zeros(1, 1, 2, 2)
for ends in sys.argv[1:]:
    adapter = Forks(ends)
    try:
        with AdapterCaller(adapter, "m", torch.device("cpu")).encoded(torch.zeros(1, 1, 3, 2, 2).byte()) as clips:
            clips.segment(torch.zeros(1, 1, 1, 96, 64), lambda: [])
    finally:
        print("went on", flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(adapter.child, 0)[1]))
    print("of", ends, file=sys.stderr)
"""


def test_a_process_that_an_adapter_forks_ends_with_the_adapters_code(tmp_path: Path) -> None:
    """It would go on with the evaluation, and fork at the next call again."""
    (tmp_path / "forks.py").write_text(FORKS)
    ends = {"sys.exit(3)": 3, "sys.exit()": 0, "raise ValueError('broken')": 1, "pass": 0}
    done = subprocess.run(
        [sys.executable, "forks.py", *ends], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == [line for status in ends.values() for line in ("went on", str(status))], done
    told = dict(zip(ends, re.split(r"^of .*$", done.stderr, flags=re.MULTILINE), strict=False))
    for text, status in ends.items():
        assert ("in a forked process: ValueError: broken" in told[text]) == (status == 1), done.stderr
