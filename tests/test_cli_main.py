"""The command line itself: exit statuses, and where --verbose may stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from avsrobust.cli import main as cli
from avsrobust.cli.main import STATUS_INTERNAL, STATUS_USER, invoke


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def command() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cli.main, "get_command", lambda _context, _name: _with_common_options(command))
    monkeypatch.setitem(cli.COMMANDS, "broken", "nowhere:command")


def _with_common_options(command: click.Command) -> click.Command:
    if all(parameter.name != "verbose" for parameter in command.params):
        command.params += cli._common_options()
    return command


@pytest.mark.usefixtures("broken")
def test_a_bug_of_ours_is_status_70_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["broken"]) == STATUS_INTERNAL == 70
    error = capsys.readouterr().err
    assert error == (
        "internal error: ZeroDivisionError: a bug (a bug of avsrobust; --verbose shows where; please report it)\n"
    )


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("arguments", [["--verbose", "broken"], ["broken", "--verbose"]])
def test_verbose_shows_the_traceback_wherever_it_stands(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(arguments) == STATUS_INTERNAL
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_the_list_of_commands_cuts_no_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert len(listed) == len(cli.COMMANDS)
    assert [line for line in listed if not line.endswith(".") or line.endswith("..")] == []


def test_verbose_as_the_value_of_an_option_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["toy", "--dataset", "--verbose", "out"]) == STATUS_USER
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(("policy", "most"), [(None, 1000), ("passive", 0)])
def test_torchs_threads_soon_wait_asleep_unless_the_user_chose(policy: str | None, most: int, tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    # Torch's library of OpenMP says itself, as it is loaded, how often its threads look before they sleep.
    environment |= {"OMP_DISPLAY_ENV": "verbose"} | ({} if policy is None else {"OMP_WAIT_POLICY": policy})
    command = [Path(sys.executable).parent / "avsrobust", "evaluate", "--adapter", "oracle", "--data-root", tmp_path]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "GOMP_SPINCOUNT" not in run.stderr:
        pytest.skip("torch's OpenMP is not GNU's here")
    counts = [int(count) for count in re.findall(r"GOMP_SPINCOUNT = '(\d+)'", run.stderr)]
    assert set(counts) == {most}


@pytest.mark.parametrize(
    ("error", "used_up"),
    [
        (MemoryError(), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"), "memory"),
        (RuntimeError("can't start new thread"), "memory, or the number of threads you may have,"),
    ],
)
def test_memory_that_is_used_up_is_no_bug(
    error: Exception, used_up: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(cli.main, "get_command", lambda _context, _name: _with_common_options(command))
    monkeypatch.setitem(cli.COMMANDS, "hungry", "nowhere:command")
    assert invoke(["hungry"]) == STATUS_USER
    told = capsys.readouterr().err
    assert told.startswith(
        f"error: the {used_up} is used up ({type(error).__name__}); close other programs, or take fewer"
    )
    assert told.count("\n") == 1
