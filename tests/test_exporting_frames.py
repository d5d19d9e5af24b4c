"""The report's table as a data frame, and what a notebook shows of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from avsrobust.api import Results
from avsrobust.errors import OptionError, ResultsError
from avsrobust.exporting.frames import ScoreTable, score_table
from avsrobust.reporting.report import report
from avsrobust.results import Scores


def weak(targets: np.ndarray, condition: str, clip: int) -> np.ndarray:
    found = targets * 0.7
    found[:, ::2] = 0.0
    return found * (condition == "clean")


def good(targets: np.ndarray, condition: str, clip: int) -> np.ndarray:
    return targets * 0.7 * (condition in ("clean", "mixture"))


class Cells(HTMLParser):
    """Rows of cells as (text, style)."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[tuple[str, str]]] = []
        self._style: str | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._style, self._text = dict(attrs).get("style") or "", ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.rows[-1].append((" ".join(self._text.split()), self._style or ""))

    def handle_data(self, data: str) -> None:
        self._text += data


def cells(text: str) -> Cells:
    parser = Cells()
    parser.feed(text)
    return parser


def test_the_frame_has_the_numbers_of_the_csv(make_scores: Callable[..., Scores]) -> None:
    results = [make_scores(weak, model="a", levels=(-3.0,)), make_scores("oracle"), make_scores(good, model="b")]
    frame = score_table(results, ["avsbench", "strict"])
    wanted = pd.read_csv(io.StringIO(str(report(results, ["avsbench", "strict"], format="csv").content)))
    assert isinstance(frame, ScoreTable)
    assert list(frame.columns) == list(wanted.columns)
    for name in frame.columns:
        if frame[name].dtype.kind == "f":
            np.testing.assert_array_equal(frame[name], wanted[name])
        else:
            assert [value or None for value in frame[name]] == [None if pd.isna(v) else v for v in wanted[name]], name


def test_undefined_scores_are_numbers_too(make_scores: Callable[..., Scores]) -> None:
    frame = score_table([make_scores(weak, conditions=("clean",), model="a")])
    assert frame["noise_FPR"].dtype == np.float64
    assert frame["noise_FPR"].isna().all()


def test_names_are_kept_as_they_are(make_scores: Callable[..., Scores]) -> None:
    # pandas takes "NA" in a csv for nothing, and a spreadsheet "=1" for a formula.
    frame = score_table([make_scores(weak, model="NA"), make_scores(good, model="=1")])
    assert sorted(frame["model"]) == ["=1", "NA"]


def test_html_marks_the_best_models_and_no_baseline(make_scores: Callable[..., Scores]) -> None:
    results = [make_scores(weak, model="weak"), make_scores(good, model="good"), make_scores("oracle")]
    parsed = cells(score_table(results)._repr_html_())
    header = [text for text, _ in parsed.rows[0]]
    of = {row[0][0]: dict(zip(header, row, strict=True)) for row in parsed.rows[1:]}
    assert set(of) == {"weak", "good", "oracle baseline"}
    assert "bold" in of["good"]["mIoU ↑"][1]
    assert "underline" in of["weak"]["mIoU ↑"][1]
    assert "bold" not in of["oracle baseline"]["mIoU ↑"][1]
    assert of["good"]["mIoU ↑"][0] == "100.00"
    # A model that marks nothing is best there.
    assert not any("bold" in row["silence FPR ↓"][1] for row in of.values())


def test_html_has_a_table_per_split_and_protocol(make_scores: Callable[..., Scores]) -> None:
    results = [make_scores(weak, model="a"), make_scores(weak, model="a", dataset="ms3")]
    text = score_table(results, ["avsbench", "strict"])._repr_html_()
    assert cells(text).tags.count("table") == 4
    for title in ("s4, test, avsbench", "s4, test, strict", "ms3, test, avsbench", "ms3, test, strict"):
        assert title in text


def test_html_tells_builds_apart(make_scores: Callable[..., Scores]) -> None:
    text = score_table([make_scores(weak, model="a", seed=1), make_scores(weak, model="a", seed=2)])._repr_html_()
    assert "a, seed 1" in text
    assert "a, seed 2" in text


def test_hostile_names_are_inert_in_html(make_scores: Callable[..., Scores]) -> None:
    results = [make_scores(weak, model="<script>alert(1)</script>\u202e", split='"><img src=x>')]
    text = score_table(results)._repr_html_()
    assert {"script", "img"}.isdisjoint(cells(text).tags)
    assert "\u202e" not in text


def test_what_is_made_of_the_frame_is_an_ordinary_one(make_scores: Callable[..., Scores]) -> None:
    frame = score_table([make_scores(weak, model="a"), make_scores(good, model="b")])
    best = frame.sort_values("mIoU", ascending=False).head(1)
    assert type(best) is pd.DataFrame
    assert list(best["model"]) == ["b"]
    assert "<table" in frame[["model", "mIoU"]]._repr_html_()


def test_options_are_those_of_the_report(make_scores: Callable[..., Scores]) -> None:
    results = [make_scores(weak, model="a", seed=1), make_scores(good, model="a", seed=2)]
    assert len(score_table(results, aggregate="seeds")) == 1
    assert set(score_table(results[:1], by="category")["category"]) == {"all", "cat", "dog"}
    assert {"mIoU_low", "mIoU_high"} <= set(score_table(results[:1], intervals=True).columns)
    with pytest.raises(OptionError, match="--by"):
        score_table(results, by="colour")
    with pytest.raises(ResultsError, match="found none"):
        score_table([])


def test_results_show_their_table(make_scores: Callable[..., Scores]) -> None:
    results = Results((make_scores(weak, model="a"),))
    assert results.table(["strict"])["protocol"].tolist() == ["strict"]
    assert results._repr_html_() == results.table()._repr_html_()
