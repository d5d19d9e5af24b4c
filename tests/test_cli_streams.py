"""Standard streams that are full, closed or gone: an exit status and at most one line, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avsrobust.cli.main import invoke
from avsrobust.cli.progress import note, print_result, warn
from avsrobust.limits import ENVIRONMENT

AVSROBUST = str(Path(sys.executable).with_name("avsrobust"))
SHORT = "adapters --worker-file"
FAILS = "verify nowhere"


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``avsrobust`` in the shell's `line`; what it says on stderr goes to stdout where the line sends it there."""
    command = line.replace("avsrobust", f"'{AVSROBUST}'", 1)
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=folder, timeout=120)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", [SHORT, "--help", "--version", "verify --help"])
def test_results_that_find_no_room_are_an_error(command: str, tmp_path: Path) -> None:
    done = shell(f"avsrobust {command} > /dev/full", tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: standard output: No space left on device; check the path, its rights and the free space\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_messages_that_find_no_room_change_nothing(tmp_path: Path) -> None:
    assert shell(f"avsrobust {FAILS} 2> /dev/full", tmp_path).returncode == 2
    done = shell(f"avsrobust {SHORT} 2> /dev/full", tmp_path)
    assert (done.returncode, "import" in done.stdout) == (0, True)
    assert shell(f"avsrobust {SHORT} > /dev/full 2>&1", tmp_path).returncode == 2


def test_a_closed_stdout_is_an_error_before_anything_is_done(tmp_path: Path) -> None:
    done = shell("avsrobust toy out --dataset s4 >&-", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output: found it closed; expected a place for results")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert shell(f"avsrobust {SHORT} >&- 2>&-", tmp_path).returncode == 2


def test_a_closed_stderr_or_stdin_changes_nothing(tmp_path: Path) -> None:
    done = shell(f"avsrobust {SHORT} 2>&- <&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "import" in done.stdout
    done = shell(f"avsrobust {FAILS} 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    """Its end is closed before the command starts to write."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([AVSROBUST, *SHORT.split()], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """A file opened as number 2 would hold whatever a library prints there."""
    done = shell("avsrobust toy out --dataset s4 --clips 4 2>&-", tmp_path)
    assert done.returncode == 0
    table = (tmp_path / "out" / "Single-source" / "s4_meta_data.csv").read_text()
    assert table.count("\n") == 5


HOSTILE = "a\x1b]0;owned\x07b\u202ec\nd"


def test_lines_are_inert(capsys: pytest.CaptureFixture[str]) -> None:
    for say in (note, warn, print_result):
        say(HOSTILE)
    captured = capsys.readouterr()
    line = r"a\x1b]0;owned\x07b\u202ec d"
    assert captured.err == f"{line}\nwarning: {line}\n"
    assert captured.out == f"{line}\n"


def test_endless_messages_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    note("x" * 100_000)
    assert capsys.readouterr().err == f"{'x' * 8000} .. and 92,000 characters more\n"


@pytest.mark.parametrize("verbose", [(), ("--verbose",)])
def test_errors_that_quote_a_file_or_an_argument_are_inert(
    verbose: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("verify", HOSTILE), ("build", "--dataset", HOSTILE), ("build", f"--{HOSTILE}"), (HOSTILE,)):
        assert invoke([*arguments, *verbose]) == 2
        said = capsys.readouterr().err
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert r"\x1b]0;owned" in said


@pytest.mark.parametrize("place", ["before", "after"])
def test_limits_are_raised_by_an_option_before_or_after_the_command(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    path = tmp_path / "r.yaml"
    path.write_text("kind: build\nname: mine\n" + "#" * 300_000)
    build = ["build", "--dataset", "s4", "--recipe", str(path)]
    assert invoke(build) == 2
    assert "--raise-limits 2" in capsys.readouterr().err
    raised = ["--raise-limits", "2", *build] if place == "before" else [*build, "--raise-limits", "2"]
    assert invoke(raised) == 2
    assert "key conditions" in capsys.readouterr().err
    assert ENVIRONMENT not in os.environ


@pytest.mark.parametrize("factor", ["0.5", "x", "nan", "inf", "-2", "1e9", ""])
def test_other_factors_are_refused(factor: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["adapters", "--raise-limits", factor]) == 2
    assert capsys.readouterr().err.startswith(f"error: --raise-limits {factor}: expected a factor from 1 to 1000000")
    assert ENVIRONMENT not in os.environ


def test_a_bad_factor_in_the_environment_is_refused_before_any_file_is_met(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, "much")
    assert invoke(["adapters"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {ENVIRONMENT}=much: expected a factor from 1 to 1000000")
