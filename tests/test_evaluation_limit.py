"""Smoke runs: a part of the clips, marked as such until the rest is there, and refused in tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from commands import call

import avsrobust as ar
from avsrobust.adapters.baselines import VisualPrior
from avsrobust.errors import ResultsError
from avsrobust.evaluation.runner import EvaluationReport, evaluate
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.results import read_scores


@pytest.fixture
def build(make_build) -> Manifest:
    return make_build(clips=6, split=("test", "val"))


def run(build: Manifest, output: Path, **choices: Any) -> EvaluationReport:
    adapter = VisualPrior.load(None, torch.device("cpu"))
    return evaluate(build, adapter, **{"name": "visual_prior", "output": output, "check": False, **choices})


def test_a_smoke_run_is_marked_until_the_rest_is_there(build: Manifest, tmp_path: Path) -> None:
    limited = run(build, tmp_path / "out", limit=2)
    assert limited.clips == 2
    assert read_scores(limited.scores).info.limited == ("test",)
    # One condition of all clips is not all of them; a whole split beside it is.
    run(build, tmp_path / "out", conditions=["silence"])
    assert read_scores(limited.scores).info.limited == ("test",)
    run(build, tmp_path / "out", splits=["val"])
    assert read_scores(limited.scores).info.limited == ("test",)
    run(build, tmp_path / "out")
    assert read_scores(limited.scores).info.limited == ()
    whole = run(build, tmp_path / "whole", splits=["test", "val"])
    assert sha256_of_file(limited.scores) == sha256_of_file(whole.scores)


def test_a_limit_that_leaves_nothing_out_marks_nothing(build: Manifest, tmp_path: Path) -> None:
    report = run(build, tmp_path / "out", limit=99)
    assert read_scores(report.scores).info.limited == ()
    again = run(build, tmp_path / "out", limit=1)
    assert again.rows_added == 0
    assert read_scores(report.scores).info.limited == ()


def test_a_clip_that_failed_is_not_one_that_was_left_out(build: Manifest, tmp_path: Path) -> None:
    run(build, tmp_path / "out", limit=1)
    last = max(row.clip_id for row in build.rows if row.split == "test")
    row = next(row for row in build.rows if row.clip_id == last)
    picture = build.data_root() / row.frames[0].removeprefix("data:")
    picture.write_bytes(bytes(picture.stat().st_size))
    report = run(build, tmp_path / "out")
    assert [failed.clip_id for failed in report.failed] == [last]
    assert read_scores(report.scores).info.limited == ()


def test_tables_refuse_it_unless_they_are_told(build: Manifest, tmp_path: Path) -> None:
    run(build, tmp_path / "results" / "one", limit=1)
    run(build, tmp_path / "results" / "two", name="other")
    one, two = tmp_path / "results" / "one", tmp_path / "results" / "two"
    with pytest.raises(ResultsError, match=r"is of a smoke run: .* of the clips of test; .* --allow-limited"):
        ar.report(tmp_path / "results")
    with pytest.raises(ResultsError, match="is of a smoke run"):
        ar.compare(one, two)
    allowed = ar.report(tmp_path / "results", allow_limited=True)
    assert "visual_prior" in str(allowed.content)
    (warning,) = (text for text in allowed.warnings if "smoke run" in text)
    assert warning.endswith(
        "of a smoke run (evaluate --limit), which scored 1 clip, a part of the split; no result to quote"
    )
    assert warning in str(allowed.content)
    assert not any("smoke run" in text for text in ar.report(two).warnings)
    compared = ar.compare(one, two, samples=100, allow_limited=True)
    (note,) = (text for text in compared.notes if "smoke run" in text)
    assert note.endswith("are of a smoke run (evaluate --limit): a part of the clips of test; no result to quote")
    assert ar.report(two).content


def test_through_the_command(build: Manifest, tmp_path: Path) -> None:
    done = call(
        tmp_path, "evaluate", "--adapter", "oracle", "--manifest", build.path, "--limit", 1, "--output", "results"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("scores.parquet\n")
    told = "a smoke run (--limit): these scores are of a part of the clips, and no result"
    assert told in done.stderr
    assert done.stderr.count("| _oracle_") == 1
    refused = call(tmp_path, "report", "results")
    assert refused.returncode == 2
    assert "--allow-limited" in refused.stderr
    allowed = call(tmp_path, "report", "results", "--allow-limited", "--format", "csv")
    assert allowed.returncode == 0
    assert "oracle" in allowed.stdout
    assert (
        told
        not in call(tmp_path, "evaluate", "--adapter", "oracle", "--manifest", build.path, "--output", "results").stderr
    )
    # What is there is whole, and stays so.
    again = call(
        tmp_path, "evaluate", "--adapter", "oracle", "--manifest", build.path, "--limit", 1, "--output", "results"
    )
    assert again.stderr.count("| _oracle_") == 1
    assert told not in again.stderr
