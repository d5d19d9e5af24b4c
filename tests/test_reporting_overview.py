"""What the page shows once, and of pairs: leaderboards, baselines, and comparisons with the numbers of `compare_models`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from avsrobust.errors import OptionError
from avsrobust.reporting.columns import percent
from avsrobust.reporting.compare import compare_models
from avsrobust.reporting.presentation import sections
from avsrobust.reporting.render.html.overview import baseline_rows, leaderboards, without_baselines
from avsrobust.reporting.render.html.pairs import WIDTH, pair_table
from avsrobust.reporting.report import report
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Scores

Make = Callable[..., Scores]
Array = npt.NDArray[Any]


def leaky(share: float) -> Callable[[Array, str, int], Array]:
    """A model with the right mask, which it shows under negatives too, in `share` of the clips."""
    return lambda targets, condition, clip: targets * float(condition == "clean" or clip < 6 * share)


@pytest.fixture
def results(make_scores: Make) -> list[Scores]:
    return [
        make_scores(leaky(0.2), model="good"),
        make_scores(leaky(0.8), model="bad"),
        make_scores(leaky(0.5), model="partial"),
        make_scores("oracle"),
        make_scores(leaky(0.2), model="good", dataset="ms3"),
        make_scores(leaky(0.8), model="bad", dataset="ms3"),
        make_scores("visual_prior", dataset="ms3"),
    ]


def test_the_leaderboard_is_sorted_by_the_mean_and_says_what_is_missing(results: list[Scores]) -> None:
    table = build_table(results, ["strict", "avsbench"])
    boards = leaderboards([without_baselines(section) for section in sections(table)])
    assert [board.protocol for board in boards] == ["avsbench", "strict"]
    for board in boards:
        assert [row.name for row in board.rows] == ["good", "bad", "partial"]
        assert board.groups == ("s4, test", "ms3, test")
        scores = [
            line.score.g_miou
            for line in table.lines
            if line.subject.name == "good" and line.protocol.name == board.protocol
        ]
        assert board.rows[0].mean == pytest.approx(np.mean([score for score in scores if score is not None]))
        assert board.rows[2].mean is None
        assert board.rows[2].entries[1] is None
        assert board.best_mean == percent(board.rows[0].mean)


def test_one_data_set_has_no_leaderboard(results: list[Scores]) -> None:
    assert leaderboards(sections(build_table(results[:4], ["strict"]))) == []
    assert 'id="leaderboard"' not in str(report(results[:4], ["strict"], format="html").content)


def test_baselines_are_on_the_page_once(results: list[Scores]) -> None:
    table = build_table(results, ["strict"])
    rows = baseline_rows(sections(table))
    assert [(row.split, row.line.subject.name) for row in rows] == [
        ("s4, test", "oracle"),
        ("ms3, test", "visual_prior"),
    ]
    page = str(report(results, ["strict"], format="html").content)
    assert page.count('<th scope="row">oracle</th>') == page.count('<th scope="row">visual_prior</th>') == 1
    # Where the numbers come from is said of them too.
    assert page.count("<h3>oracle</h3>") == 1


def test_a_page_of_baselines_alone_shows_them_as_models(make_scores: Make) -> None:
    page = str(report([make_scores("oracle"), make_scores("empty")], ["strict"], format="html").content)
    assert 'id="baselines"' not in page
    assert page.count('<th scope="row">oracle</th>') > 1


def test_pairs_are_those_of_compare(results: list[Scores]) -> None:
    models = [scores for scores in results if scores.info.model not in ("oracle", "visual_prior")]
    expected = compare_models(models, protocol="strict")
    (section, other) = sections(build_table(results, ["strict"]))
    table = pair_table(section.blocks[0], [expected])
    assert table is not None
    assert [(row.a, row.b) for row in table.rows] == [("good", "bad"), ("good", "partial"), ("bad", "partial")]
    difference = next(entry for entry in expected.comparisons[0].splits[0].differences if entry.statistic == "G_mIoU")
    assert difference.difference is not None
    assert table.rows[0].differences[2].value == f"{100 * difference.difference:+.2f}"
    assert table.rows[0].differences[2].p == f"{difference.p_holm:.4f}"
    for row in table.rows:
        assert row.mark is not None
        assert 0 <= row.mark.low <= row.mark.value <= row.mark.high <= WIDTH
    assert table.rows[0].mark is not None
    assert table.rows[0].mark.value > WIDTH / 2
    found = pair_table(other.blocks[0], [expected])
    assert found is not None
    assert len(found.rows) == 1
    page = str(report(results, ["strict"], format="html", compare=True).content)
    assert len(re.findall(r'<tr data-pair="', page)) == 4
    assert "oracle" not in re.findall(r'<tr data-pair="[^>]*>', page)
    assert "<tr data-pair" not in str(report(results, ["strict"], format="html").content)


def test_names_of_pairs_are_those_of_the_report(results: list[Scores]) -> None:
    page = str(report(results, ["strict"], format="html", compare=True, renames={"bad": "<i>worse"}).content)
    assert 'data-name="good &lt;i&gt;worse"' in page
    assert "<i>" not in page


def test_what_cannot_be_compared_is_said(make_scores: Make, results: list[Scores]) -> None:
    rendered = report([results[0], make_scores("oracle")], ["strict"], format="html", compare=True)
    assert "No pairs of models under strict: " in str(rendered.content)
    with pytest.raises(OptionError, match=r"--compare: found --format md; expected --format html"):
        report(results, ["strict"], compare=True)
    with pytest.raises(OptionError, match=r"--compare, --aggregate: "):
        report(results, ["strict"], format="html", compare=True, aggregate="seeds")
