"""Intervals in a report: on request, in csv, json, parquet and md."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import numpy as np
import pytest

from avsrobust.reporting.columns import CSV_COLUMNS, METRICS
from avsrobust.reporting.report import report
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Scores

Make = Callable[..., Scores]


def noisy(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
    generator = np.random.default_rng([clip, len(condition)])
    return np.where(generator.random(target.shape) < 0.3 + 0.1 * (clip % 5), target * 0.9, 0.1)


@pytest.fixture
def results(make_scores: Make) -> list[Scores]:
    return [make_scores(noisy, model="net", clips=range(20), levels=(-3.0,))]


def rendered(results: list[Scores], name: str, **choices: bool) -> str:
    content = report(results, ["strict"], format=name, **choices).content  # type: ignore[arg-type]
    assert isinstance(content, str)
    return content


def test_csv_has_both_ends_of_every_score(results: list[Scores]) -> None:
    (row,) = csv.DictReader(io.StringIO(rendered(results, "csv", intervals=True)))
    for name in (*METRICS, "mixture@-3_mIoU"):
        assert float(row[f"{name}_low"]) <= float(row[name]) <= float(row[f"{name}_high"]), name
    assert float(row["mIoU_low"]) < float(row["mIoU_high"])
    assert list(row)[: len(CSV_COLUMNS)] == list(CSV_COLUMNS)
    assert "_low" not in rendered(results, "csv")


def test_json_and_md_show_them_on_request(results: list[Scores]) -> None:
    (line,) = json.loads(rendered(results, "json", intervals=True))["lines"]
    low, high = line["intervals"]["G_mIoU"]
    assert low <= line["G_mIoU"] <= high
    assert f"{100 * line['G_mIoU']:.2f} [{100 * low:.2f}, {100 * high:.2f}]" in rendered(results, "md", intervals=True)
    assert "intervals" not in json.loads(rendered(results, "json"))["lines"][0]


def test_the_same_results_give_the_same_intervals_and_undefined_scores_none(make_scores: Make) -> None:
    scores = [make_scores(noisy, model="net", conditions=("clean", "silence"))]
    (line,) = build_table(scores, ["strict"], intervals=True).lines
    (again,) = build_table(scores, ["strict"], intervals=True).lines
    assert line.intervals == again.intervals
    assert line.interval("silence_FPR") is not None
    assert line.interval("noise_FPR") is None
    assert line.interval("G_mIoU") is None
