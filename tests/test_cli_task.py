"""`--task` of `report` and `compare` through the command line: toy -> build -> evaluate in classes -> tables."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import call

from avsrobust.cli.compare import compare
from avsrobust.cli.report import report
from avsrobust.manifest import Manifest
from avsrobust.vocabulary import TASKS

TABLE = ("--format", "csv", "--protocol", "strict")
# A model of classes: what is bright is class 21, and class 70 where it is brighter still, if there is anything to hear.
MODEL = """
import torch
from avsrobust.adapters.base import Adapter

class Bright(Adapter):
    @classmethod
    def load(cls, checkpoint, device, at="0.6"):
        adapter = cls()
        adapter.at = float(at)
        return adapter

    def segment(self, encoded, audio):
        grey = encoded.float().mean(2) / 255
        has_sound = (audio.std(dim=(2, 3, 4)) > 0)[..., None, None]
        return ((grey > self.at) * 21 + (grey > self.at + 0.2) * 49) * has_sound
"""


def run(folder: Path, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = call(folder, *arguments)
    assert done.returncode == status, done.stderr
    return done


def refuse(folder: Path, *arguments: str) -> str:
    """Run a command that must be refused; return the only line that says why."""
    done = run(folder, *arguments, status=2)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return line


def rows(folder: Path, *arguments: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(run(folder, "report", *TABLE, *arguments).stdout)))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, toy_in: Callable[..., Path]) -> Path:
    """A folder with results on avss: `plain` as binary segmentation, `dim` and `bright` in classes."""
    folder = tmp_path_factory.mktemp("avss")
    (folder / "model.py").write_text(MODEL)
    toy_in(folder / "data", avss=20, seed=3)
    run(folder, "build", "--dataset", "avss", "--split", "test")
    run(folder, "evaluate", "--adapter", "visual_prior", "--name", "plain")
    for name, at in (("dim", "0.3"), ("bright", "0.6")):
        run(folder, "evaluate", "--adapter", "model.py:Bright", "--name", name, "--option", f"at={at}")
    return folder


@pytest.fixture
def without_classes(make_build: Callable[..., Manifest], tmp_path: Path) -> Path:
    """A folder with results on s4, which has no classes."""
    run(tmp_path, "evaluate", "--adapter", "oracle", "--manifest", str(make_build(clips=2).path))
    return tmp_path


def test_report_scores_each_by_the_finest_it_has(results: Path) -> None:
    assert [(row["model"], row["protocol"]) for row in rows(results)] == [
        ("bright", "strict"),
        ("dim", "strict"),
        ("plain", "strict-binary"),
    ]


def test_report_by_class_shows_the_models_of_classes_alone(results: Path) -> None:
    found = rows(results, "--task", "semantic")
    assert found == [row for row in rows(results) if row["model"] != "plain"]
    page = run(results, "report", "--task", "semantic").stdout
    assert "semantic segmentation" in page
    assert "plain" not in page


def test_report_as_sounding_or_not_shows_all(results: Path) -> None:
    found = rows(results, "--task", "binary")
    assert [(row["model"], row["protocol"]) for row in found] == [
        (name, "strict") for name in ("bright", "dim", "plain")
    ]
    by_class = {row["model"]: row["mIoU"] for row in rows(results)}
    assert all(row["mIoU"] != by_class[row["model"]] for row in found if row["model"] != "plain")
    content = json.loads(run(results, "report", "--task", "binary", "--format", "json").stdout)
    assert {line["task"] for line in content["lines"]} == {"binary"}


@pytest.mark.parametrize("command", [("report",), ("compare", "results/dim/avss-seed42", "results/bright/avss-seed42")])
def test_a_task_that_is_none_is_refused(results: Path, command: tuple[str, ...]) -> None:
    line = refuse(results, *command, "--task", "semantics")
    assert "--task" in line
    assert "semantics" in line
    assert "binary" in line


def test_classes_cannot_be_asked_of_results_without_any(without_classes: Path) -> None:
    line = refuse(without_classes, "report", "--task", "semantic")
    assert "--task semantic: no result holds classes (first: results/oracle/" in line
    (scores,) = without_classes.rglob("scores.parquet")
    again = shutil.copytree(scores.parent, without_classes / "again") / scores.name
    line = refuse(without_classes, "compare", str(scores), str(again), "--task", "semantic")
    assert f"--task semantic: no classes in {scores} and {again}; expected two results" in line


def test_compare_by_class_has_the_reports_numbers(results: Path) -> None:
    pair = (
        "compare",
        "results/dim/avss-seed42",
        "results/bright/avss-seed42",
        "--samples",
        "200",
        "--protocol",
        "strict",
    )
    content = json.loads(run(results, *pair, "--format", "json").stdout)
    assert content["task"] == "semantic"
    expected = {row["model"]: row for row in rows(results)}
    for entry in content["splits"][0]["differences"]:
        if entry["statistic"] in expected["dim"]:
            for side, name in (("a", "dim"), ("b", "bright")):
                assert entry[side] == pytest.approx(float(expected[name][entry["statistic"]]), abs=1e-12)
            assert entry["low"] <= entry["high"]
    assert run(results, *pair, "--task", "semantic").stdout == run(results, *pair).stdout
    assert "avss, protocol strict, semantic segmentation, 200 resamples" in run(results, *pair).stdout
    assert "avss, protocol strict, binary segmentation, 200" in run(results, *pair, "--task", "binary").stdout


def test_compare_refuses_a_mix_where_classes_are_asked_for(results: Path) -> None:
    pair = ("compare", "results/dim/avss-seed42", "results/plain/avss-seed42", "--samples", "100")
    line = refuse(results, *pair, "--task", "semantic")
    assert "no classes in results/plain/avss-seed42/scores.parquet; expected two results" in line
    assert "only one of the two has, are not compared" in run(results, *pair).stdout
    line = refuse(
        results, "compare", "results/dim/avss-seed42", "results/bright/avss-seed42", "--protocol", "bias_in_avs"
    )
    assert "--protocol: found 'bias_in_avs', which scores no classes" in line


def test_the_options_know_the_reports_tasks() -> None:
    for command in (compare, report):
        (option,) = (entry for entry in command.params if entry.name == "task")
        assert tuple(option.type.choices) == TASKS
