"""Results on the clips that all of them have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from avsrobust.reporting.common_clips import on_common_clips
from avsrobust.reporting.report import report
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Scores

Make = Callable[..., Scores]


def half(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
    return target * 0.9 * (clip % 3 > 0)


@pytest.fixture
def results(make_scores: Make) -> list[Scores]:
    whole = make_scores(half, model="whole", clips=range(8))
    partial = make_scores(half, model="partial", clips=range(2, 7), failed=("clip000", "clip001", "clip007"))
    return [whole, partial, make_scores(half, model="whole", dataset="ms3")]


def test_clips_that_one_result_lacks_are_left_out_of_all(results: list[Scores], make_scores: Make) -> None:
    found, notes = on_common_clips(results)
    assert notes == ["s4/test: 3 of 8 clips left out, on which not every model was scored"]
    assert [len(set(scores.index["clip_id"])) for scores in found] == [5, 5, 6]
    assert found[1] is results[1]
    assert found[2] is results[2]
    inner = make_scores(half, model="whole", clips=range(2, 7))
    (line, other) = (build_table([scores], ["strict"]).lines[0] for scores in (found[0], inner))
    assert line.score == other.score


def test_releases_and_splits_are_apart(results: list[Scores]) -> None:
    elsewhere = replace(results[1], info=replace(results[1].info, release="semantic"))
    assert on_common_clips([results[0], elsewhere])[1] == []


def test_results_without_a_common_clip_stay_without_a_line(make_scores: Make) -> None:
    apart = [make_scores(half, model=str(n), clips=range(3 * n, 3 * n + 3)) for n in range(2)]
    found, notes = on_common_clips(apart)
    assert notes == ["s4/test: 6 of 6 clips left out, on which not every model was scored"]
    assert all(len(scores.index) == 0 for scores in found)


def test_a_report_says_so_and_does_not_warn_of_different_clips(results: list[Scores]) -> None:
    plain = report(results, ["strict"])
    common = report(results, ["strict"], common_clips=True)
    assert any("--common-clips" in text for text in plain.warnings)
    assert not any("different clips" in text for text in common.warnings)
    assert isinstance(common.content, str)
    assert "3 of 8 clips left out" in common.content
    assert any("3 clips could not be scored" in text for text in common.warnings)
