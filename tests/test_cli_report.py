"""`avsrobust report`: the format from the file's name, all protocols, and tables on a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from avsrobust.cli.main import invoke
from avsrobust.cli.tables import print_markdown
from avsrobust.metrics import PROTOCOLS
from avsrobust.reporting.report import report
from avsrobust.results import Scores, write_scores

Make = Callable[..., Scores]


@pytest.fixture(autouse=True)
def folder(make_scores: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("oracle", "empty"):
        write_scores(tmp_path / f"results/{name}/s4-seed42/scores.parquet", make_scores(name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("t.csv", "model,dataset"),
        ("t.TEX", r"% \usepackage{booktabs}"),
        ("t.json", "{"),
        ("t.html", "<!doctype html>"),
        ("t.md", "## s4"),
        ("t.txt", "## s4"),
        ("t", "## s4"),
    ],
)
def test_the_format_follows_the_suffix(folder: Path, name: str, start: str) -> None:
    assert invoke(["report", "--output", name]) == 0
    assert (folder / name).read_text().lower().startswith(start.lower())


FORMS = {
    "csv": (), "md": (), "latex": (), "json": (), "html": (), "parquet": (),
    "md wide": ("--layout=wide", "--caption=A table of mine"), "latex wide": ("--layout=wide",), "html wide": ("--layout=wide",),
    "csv by category": ("--by=category", "--intervals", "--protocol=all"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_report_takes_the_place_of_an_earlier_one_and_of_nothing_else(
    folder: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["report", f"--format={name.split()[0]}", *FORMS[name], "--output=t"]
    path = folder / "t"
    path.touch()
    assert invoke(command) == 0
    first = path.read_bytes()
    assert invoke(command) == 0
    assert path.read_bytes() == first
    for mine in (
        b"name,start_time,category,split\n",
        b"# A paper\n",
        b"\\documentclass{article}",
        b"{}",
        b"<html>",
        b"PAR1PAR1",
    ):
        path.write_bytes(mine)
        assert invoke(command) == 2
        assert (
            "--output t: is there already, and is no report; expected a new file, or an earlier"
            in capfd.readouterr().err
        )
        assert path.read_bytes() == mine


def test_a_format_of_a_plug_in_may_replace_what_is_there(folder: Path) -> None:
    (folder / "shout.py").write_text("def render(table): return 'G!'\n")
    for _ in range(2):
        assert invoke(["report", "--format=shout.py:render", "--output=t.txt"]) == 0
    assert (folder / "t.txt").read_text() == "G!"


def test_a_format_that_is_named_wins_and_an_unknown_suffix_is_refused(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["report", "--output", "t.csv", "--format", "json"]) == 0
    assert (folder / "t.csv").read_text().startswith("{")
    assert invoke(["report", "--output", "t.cvs"]) == 2
    err = capfd.readouterr().err
    assert "no format has the suffix '.cvs'" in err
    assert "did you mean '.csv'" in err
    assert not (folder / "t.cvs").exists()


def test_all_protocols_are_reported_without_warnings_about_tasks(capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["report", "--protocol", "all", "--format", "csv"]) == 0
    output = capfd.readouterr()
    assert {line.split(",")[3] for line in output.out.splitlines()[1:]} == set(PROTOCOLS)
    assert "no line under" not in output.err


def test_wide_layout_preset_and_names(capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["report", "--preset", "avsbench_robust", "--rename", "oracle=Ideal"]) == 0
    assert "_Ideal_" in capfd.readouterr().out
    assert invoke(["report", "--layout", "wide", "--columns", "mIuo"]) == 2
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1


def shown(text: str, width: int = 100, **choices: object) -> str:
    stream = io.StringIO()
    print_markdown(text, Console(file=stream, width=width, **choices))  # type: ignore[arg-type]
    return stream.getvalue()


def test_a_terminal_shows_aligned_tables_in_colour(make_scores: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    nasty = "[red]x[/red]|a_b*c*"
    results = [make_scores("oracle", model=nasty), make_scores("empty", model="other")]
    content = report(results).content
    assert isinstance(content, str)
    coloured = shown(content, force_terminal=True, color_system="standard")
    plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert "\x1b[1;32m100.00" in coloured
    assert nasty in plain
    assert "**" not in plain.replace(nasty, "")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[\d;]*3\dm", shown(content, force_terminal=True, color_system="standard"))


def test_a_narrow_terminal_loses_nothing(make_scores: Make) -> None:
    content = report([make_scores("oracle", model="net_of_a_long_name")]).content
    assert isinstance(content, str)
    for width in (40, 60, 80, 120):
        lines = shown(content, width=width).splitlines()
        assert max(map(len, lines)) <= width
        # A panel of each table names the model, and no number is broken.
        assert sum(line.startswith("net_of_a_long_name") for line in lines) >= 3
        assert sum(line.count("100.00") for line in lines) >= content.count("100.00") - content.count("`100.00`")
