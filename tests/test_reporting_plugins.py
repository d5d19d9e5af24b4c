"""A protocol and a report format from outside the package: one file of a user's each, and every command takes it.

Inside the package each is one module, which is found without a list to add it to; with its test and a line in the changelog
that makes three files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import call

import avsrobust.reporting.render
from avsrobust.errors import OptionError
from avsrobust.metrics import PROTOCOLS, SEMANTIC_PROTOCOLS, protocol_names
from avsrobust.reporting.compare import compare
from avsrobust.reporting.formats import find_format, format_names
from avsrobust.reporting.report import report
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Scores, write_scores

Make = Callable[..., Scores]
PROTOCOL = """
from dataclasses import replace
from avsrobust.metrics import PROTOCOLS, SEMANTIC_PROTOCOLS

LENIENT = replace(PROTOCOLS["strict"], name="lenient", threshold=76 / 254, beta2=1.0, source="this file")
BOTH = (LENIENT, replace(SEMANTIC_PROTOCOLS["strict"], name="lenient", beta2=1.0, source="this file"))
NAMESAKE = replace(PROTOCOLS["strict"], name="strict", beta2=1.0)
"""
FORMAT = """
from avsrobust.reporting.formats import Format

def names(table):
    return "".join(f"{line.subject.name} {line.score.g_miou}\\n" for line in table.lines)

names.suffix = ".names"
BYTES = Format("bytes", ".bin", lambda table: names(table).encode())
NUMBER = 3

def broken(table):
    raise KeyError("lines")

def nothing(table):
    return None
"""


def faint(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
    """A mask that only thresholds up to 0.35 see."""
    return target * (0.35 if condition == "clean" else 0.1)


@pytest.fixture
def mine(tmp_path: Path) -> Callable[[str], str]:
    (tmp_path / "mine.py").write_text(PROTOCOL + FORMAT)
    return lambda name: f"{tmp_path / 'mine.py'}:{name}"


def test_a_users_protocol_is_scored_and_its_constants_are_kept(
    make_scores: Make, mine: Callable[[str], str], tmp_path: Path
) -> None:
    scores = make_scores(faint)
    protocols = ["strict", mine("LENIENT")]
    lenient, strict = build_table([scores], protocols).lines
    assert (lenient.protocol.name, lenient.score.miou, strict.score.miou) == ("lenient", 1, 0)
    content = json.loads(str(report([scores], protocols, format="json").content))
    assert content["protocols"]["lenient"]["threshold"] == 76 / 254
    assert [line["protocol"] for line in content["lines"]] == ["lenient", "strict"]
    (tmp_path / "t.parquet").write_bytes(bytes(report([scores], protocols, format="parquet").content))  # type: ignore[arg-type]
    stored = pq.read_table(tmp_path / "t.parquet")
    assert stored.column("threshold").to_pylist() == [76 / 254, 0.5]
    assert json.loads(stored.schema.metadata[b"avsrobust.protocols"])["lenient"]["beta2"] == 1.0
    for name in format_names():
        assert find_format(name)(build_table([scores], protocols))
    assert compare(scores, scores, mine("LENIENT"), samples=10).splits[0].differences[0].a == 1


def test_a_users_protocol_may_be_for_one_task(make_scores: Make, mine: Callable[[str], str]) -> None:
    scores = make_scores(faint)
    assert [entry.name for entry in build_table([scores], [mine("BOTH")]).semantic_protocols] == ["lenient"]
    assert build_table([scores], [mine("LENIENT")]).semantic_protocols == ()


def test_two_protocols_of_one_name_are_refused(make_scores: Make, mine: Callable[[str], str]) -> None:
    with pytest.raises(OptionError, match="is named 'strict', and so is another protocol of this report"):
        build_table([make_scores("oracle")], ["strict", mine("NAMESAKE")])
    assert len(build_table([make_scores("oracle")], [mine("LENIENT")] * 2).lines) == 1


def test_a_protocol_that_cannot_be_is_refused_in_one_line(make_scores: Make, tmp_path: Path) -> None:
    for change, message in (
        ("threshold=0.3", r"protocol mine: threshold: found 0\.3, which the stored counts do not answer"),
        ("f_at='treshold'", "protocol mine: found f_at 'treshold'; expected one of .*; did you mean 'threshold'"),
        ("beta2=0, threshold=0.5", "protocol mine: found beta2 0; expected a number above 0"),
    ):
        (tmp_path / "bad.py").write_text(
            PROTOCOL.replace('name="lenient", threshold=76 / 254, beta2=1.0', f'name="mine", {change}')
        )
        with pytest.raises(OptionError, match=message):
            build_table([make_scores("oracle")], [f"{tmp_path / 'bad.py'}:LENIENT"])


def test_a_users_format_renders_the_table(make_scores: Make, mine: Callable[[str], str]) -> None:
    rendered = report([make_scores("oracle")], ["strict"], format=mine("names"))
    assert (rendered.content, rendered.suffix) == ("oracle 1.0\n", ".names")
    rendered = report([make_scores("oracle")], ["strict"], format=mine("BYTES"))
    assert (rendered.content, rendered.suffix) == (b"oracle 1.0\n", ".bin")


def test_what_is_no_format_is_refused_in_one_line(make_scores: Make, mine: Callable[[str], str]) -> None:
    for name, message in (
        ("NUMBER", r"mine\.py:NUMBER: is int; expected an avsrobust\.reporting\.formats\.Format, or a function"),
        ("nmes", "has no 'nmes'; did you mean 'names'"),
        ("broken", r"--format broken: rendering raised KeyError: 'lines' \("),
        ("nothing", "--format nothing: returned NoneType; expected str or bytes"),
    ):
        with pytest.raises(OptionError, match=message) as refused:
            report([make_scores("oracle")], ["strict"], format=mine(name))
        assert "\n" not in str(refused.value)


def test_the_commands_take_both(make_scores: Make, mine: Callable[[str], str], tmp_path: Path) -> None:
    for model in ("oracle", "empty"):
        write_scores(tmp_path / "results" / model / "scores.parquet", make_scores(model))
    given = ["report", "--protocol", mine("LENIENT"), "--format", mine("names")]
    done = call(tmp_path, *given)
    assert (done.returncode, done.stdout) == (0, "empty 0.0\noracle 1.0\n")
    pair = ["compare", "results/oracle", "results/empty", "--samples", "100", "--protocol", mine("LENIENT")]
    done = call(tmp_path, *pair)
    assert done.returncode == 0
    assert "protocol lenient" in done.stdout


def test_modules_are_found_without_a_list() -> None:
    """In the package a format is one module, and a protocol one entry among the others."""
    (folder,) = avsrobust.reporting.render.__path__
    modules = {path.stem for path in Path(folder).iterdir() if not path.name.startswith("_")}
    assert set(format_names()) == modules
    assert all(find_format(name).name == name for name in modules)
    assert set(protocol_names()) == {*PROTOCOLS, *SEMANTIC_PROTOCOLS}
