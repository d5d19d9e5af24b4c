"""Several seeds in one line: means, spread, names, and the warnings that remain."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from avsrobust.errors import OptionError
from avsrobust.reporting.report import report, report_options
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Scores

Make = Callable[..., Scores]


def noisy(level: float) -> Callable[[np.ndarray, str, int], np.ndarray]:
    def predict(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
        generator = np.random.default_rng([clip, len(condition)])
        return np.where(generator.random(target.shape) < level, target * 0.9, 0.1)

    return predict


@pytest.fixture
def results(make_scores: Make) -> list[Scores]:
    return [make_scores(noisy(0.2 * seed), model="net", seed=seed, levels=(-3.0,)) for seed in (1, 2, 3)]


def test_a_line_is_the_mean_and_the_spread_of_its_results(results: list[Scores]) -> None:
    single = build_table(results, ["strict"]).lines
    (line,) = build_table(results, ["strict"], aggregate="seeds").lines
    for name, value in line.score.columns().items():
        values = [found for entry in single if (found := entry.score.columns()[name]) is not None]
        assert value == pytest.approx(statistics.fmean(values))
        assert line.spread[name] == pytest.approx(statistics.stdev(values))
    mixture = line.score.condition("mixture", -3.0)
    assert mixture is not None
    assert mixture.miou == pytest.approx(
        statistics.fmean(entry.score.condition("mixture", -3.0).miou for entry in single)
    )  # type: ignore[union-attr,misc]
    assert line.runs == 3
    assert line.subject.name == "net (3 runs)"


def test_every_format_shows_mean_and_spread(results: list[Scores], tmp_path: Path) -> None:
    def rendered(name: str, **choices: object) -> str:
        content = report(
            results, format=name, aggregate="seeds", **report_options(protocols=["strict"], **choices)
        ).content  # type: ignore[arg-type]
        assert isinstance(content, str)
        return content

    (row,) = csv.DictReader(io.StringIO(rendered("csv")))
    assert (row["model"], row["runs"], row["seed"]) == ("net", "3", "")
    text = f"{100 * float(row['mIoU']):.2f} ± {100 * float(row['mIoU_spread']):.2f}"
    assert text in rendered("md")
    assert text in rendered("md", layout="wide")
    assert text.replace(" ± ", r"$\\pm$") in rendered("latex", layout="wide").replace("\\pm", "\\\\pm")
    assert json.loads(rendered("json"))["lines"][0]["runs"] == 3
    content = report(results, format="parquet", aggregate="seeds", **report_options(protocols=["strict"])).content
    assert isinstance(content, bytes)
    (tmp_path / "t.parquet").write_bytes(content)
    assert pd.read_parquet(tmp_path / "t.parquet")["runs"].tolist() == [3]


def test_training_seeds_are_joined_by_name(make_scores: Make) -> None:
    several = [make_scores(noisy(level), model=name) for name, level in (("net_a", 0.3), ("net_b", 0.6))]
    table = build_table(several, ["strict"], renames={"net_a": "net", "net_b": "net"}, aggregate="seeds")
    assert [(line.subject.name, line.runs) for line in table.lines] == [("net (2 runs)", 2)]
    assert table.warnings == ()
    assert any(
        note.startswith("net on s4/test: mean and sample standard deviation of 2 results") for note in table.notes
    )


def test_models_on_different_seeds_are_warned_about(make_scores: Make, results: list[Scores]) -> None:
    other = make_scores(noisy(0.5), model="other", seed=1)
    (warning,) = build_table([*results, other], ["strict"], aggregate="seeds").warnings
    assert "different builds" in warning


def test_one_result_stays_as_it_is_and_wrong_choices_are_refused(results: list[Scores]) -> None:
    assert report(results[:1], aggregate="seeds") == report(results[:1])
    with pytest.raises(OptionError, match="--aggregate: found 'seed'; expected seeds; did you mean 'seeds'"):
        report(results, aggregate="seed")
    with pytest.raises(OptionError, match="--intervals, --aggregate"):
        report(results, aggregate="seeds", intervals=True)
