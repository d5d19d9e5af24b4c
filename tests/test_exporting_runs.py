"""Stored results as runs of a tracker: names, parameters, scores."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.errors import OptionError, ResultsError
from avsrobust.exporting.runs import name_part, result_runs
from avsrobust.reporting.loading import load_results
from avsrobust.reporting.report import report
from avsrobust.results import Run, Scores, write_run, write_scores

DETAILS = {
    "adapter": {"spec": "net.py:Net", "class": "Net"},
    "checkpoint": {"path": "/home/someone/net.pt", "sha256": "ab" * 32},
    "manifest": {"path": "robust/s4-seed42/manifest.parquet", "sha256": "cd" * 32},
    "options": {"debias": "noise", "size": "3"},
    "device_name": "x86_64",
    "versions": {"avsrobust": "0.0.9"},
}


def half(targets: np.ndarray, condition: str, clip: int) -> np.ndarray:
    found = targets * 0.7
    if clip % 2:
        found[:, ::2] = 0.0
    return found


def stored(folder: Path, scores: Scores, details: dict[str, object] | None = None) -> list[Scores]:
    write_scores(folder / "scores.parquet", scores)
    write_run(folder / "run.json", Run(scores.info.model, scores.info.dataset, {**DETAILS, **(details or {})}))
    return [replace(scores, source=folder / "scores.parquet")]


def test_scores_are_those_of_the_csv(make_scores: Callable[..., Scores]) -> None:
    results = [make_scores(half, levels=(-3.0, 6.0))]
    (run,), warnings = result_runs(results, ["avsbench", "strict"])
    assert warnings == []
    rows = list(csv.DictReader(io.StringIO(str(report(results, ["avsbench", "strict"], format="csv").content))))
    wanted = {}
    for row in rows:
        prefix = f"{row['dataset']}/{row['split']}/{row['protocol']}"
        wanted[f"{prefix}/clips"] = float(row["clips"])
        for column, text in row.items():
            if column.rpartition("_")[2] in ("mIoU", "F", "FPR") and text:
                condition, _, measure = column.rpartition("_")
                wanted[f"{prefix}/{(condition or 'clean').replace('@', ':')}/{measure}"] = float(text)
    assert dict(run.scores) == wanted
    assert "s4/test/strict/mixture:-3/mIoU" in wanted
    assert len({name.split("/")[2] for name in wanted}) == 2


def test_parameters_say_what_was_measured_and_no_path_of_the_machine(
    make_scores: Callable[..., Scores], tmp_path: Path
) -> None:
    (run,), _ = result_runs(stored(tmp_path, make_scores(half, model="net", seed=7)))
    assert run.name == "net/s4-seed7"
    assert run.folder == ("net", "s4-seed7")
    wanted = {
        "model": "net",
        "adapter": "net.py:Net",
        "adapter_class": "Net",
        "checkpoint_sha256": "ab" * 32,
        "manifest_sha256": "cd" * 32,
        "dataset": "s4",
        "seed": "7",
        "splits": "test",
        "option.debias": "noise",
        "evaluated_with": "0.0.9",
        "failed_clips": "0",
    }
    assert {name: run.parameters.get(name) for name in wanted} == wanted
    assert run.parameters["signatures"].startswith("protocol:avsbench;")
    assert not any("/home" in value for value in run.parameters.values())
    assert [path.name for path in run.files] == ["scores.parquet", "run.json"]


def test_undefined_scores_are_left_out(make_scores: Callable[..., Scores]) -> None:
    (run,), _ = result_runs([make_scores(half, conditions=("clean", "silence"))])
    assert not any("/noise/" in name for name in run.scores)
    assert "s4/test/avsbench/clean/mIoU" in run.scores
    assert all(np.isfinite(list(run.scores.values())))


def test_the_key_follows_the_values(make_scores: Callable[..., Scores], tmp_path: Path) -> None:
    scores = make_scores(half, model="net")
    (one,), _ = result_runs([scores])
    (again,), _ = result_runs([scores])
    assert one.key == again.key
    for other in (
        result_runs([scores], ["strict"])[0][0],
        result_runs([make_scores("oracle", model="net")])[0][0],
        result_runs(stored(tmp_path, scores))[0][0],
    ):
        assert other.key != one.key


def test_two_results_of_one_name_are_refused(make_scores: Callable[..., Scores]) -> None:
    with pytest.raises(ResultsError, match="expected results that differ in model or build"):
        result_runs([make_scores(half, model="net"), make_scores("oracle", model="NET")])


def test_unknown_protocols_are_refused(make_scores: Callable[..., Scores]) -> None:
    with pytest.raises(OptionError, match="strikt"):
        result_runs([make_scores(half)], ["strikt"])


def test_hostile_names_are_inert(make_scores: Callable[..., Scores]) -> None:
    model = "../../etc\n\x1b[31m<script>\u202e"
    (run,), _ = result_runs([make_scores(half, model=model)])
    assert re.fullmatch(r"[A-Za-z0-9._+-]+", run.folder[0])
    assert "/" not in run.folder[0]
    assert run.name.isprintable()
    assert run.parameters["model"].isprintable()


@given(st.text())
def test_parts_of_names_are_safe(text: str) -> None:
    part = name_part(text)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]*", part)
    assert ".." not in part
    assert len(part) < 80


@given(st.text(max_size=5), st.text(max_size=5))
def test_parts_of_names_differ_where_names_do(one: str, other: str) -> None:
    # A sign for levels stands for the colon, which no condition's name holds.
    if one != other and ":" not in one + other:
        assert name_part(one) != name_part(other)


def test_a_stored_result_is_read(make_scores: Callable[..., Scores], tmp_path: Path) -> None:
    write_scores(tmp_path / "net" / "scores.parquet", make_scores(half, model="net"))
    (run,), _ = result_runs(load_results([tmp_path]))
    assert run.name == "net/s4-seed42"
    # Without run.json there is nothing of the adapter.
    assert "adapter" not in run.parameters
