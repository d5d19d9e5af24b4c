"""Stored results: round trip, order, versions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from avsrobust.errors import ResultsError
from avsrobust.metrics.frames import NUM_THRESHOLDS, FrameStatistics
from avsrobust.results import FailedClip, Run, ScoreInfo, Scores, read_run, read_scores, write_run, write_scores


def _scores(order: list[int]) -> Scores:
    count = len(order)
    index = pd.DataFrame(
        {
            "split": "test",
            "clip_id": [f"clip{number // 2}" for number in order],
            "labels": [["dog", "cat"]] * count,
            "condition": ["clean" if number % 2 == 0 else "mixture" for number in order],
            "polarity": "positive",
            "level": [None if number % 2 == 0 else 6.0 for number in order],
            "frame": 0,
            "clean_intersection": [None if number % 2 == 0 else number for number in order],
            "clean_union": [None if number % 2 == 0 else number + 1 for number in order],
        }
    )
    numbers = np.array(order, dtype=np.int64)
    histogram = np.repeat(numbers[:, None], NUM_THRESHOLDS, axis=1)
    return Scores(
        ScoreInfo("m", "s4", 42, (FailedClip("test", "x", "broken"),)),
        index,
        FrameStatistics(*(numbers + offset for offset in range(6)), histogram, histogram + 1),
    )


def test_what_was_written_is_read_in_order(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.parquet", _scores([3, 0, 2, 1]))
    scores = read_scores(tmp_path)
    assert scores.info == _scores([0]).info
    assert list(scores.index["clip_id"]) == ["clip0", "clip0", "clip1", "clip1"]
    assert list(scores.index["condition"]) == ["clean", "mixture"] * 2
    assert scores.index["clean_union"].isna().tolist() == [True, False, True, False]
    np.testing.assert_array_equal(scores.statistics.pixels, [0, 1, 2, 3])
    np.testing.assert_array_equal(scores.statistics.fp_040, [5, 6, 7, 8])
    np.testing.assert_array_equal(scores.statistics.outside[:, 17], [1, 2, 3, 4])


def test_equal_scores_give_equal_bytes(tmp_path: Path) -> None:
    write_scores(tmp_path / "a", _scores([3, 0, 2, 1]))
    write_scores(tmp_path / "b", _scores([0, 1, 2, 3]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_broken_results_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    with pytest.raises(ResultsError, match="not found"):
        read_scores(path)
    write_scores(path, _scores([0]))
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"avsrobust.results_version": "9"}), tmp_path / "other")
    with pytest.raises(ResultsError, match="results of version 9"):
        read_scores(tmp_path / "other")
    pq.write_table(table.drop_columns(["inside"]), path)
    with pytest.raises(ResultsError, match="no column inside"):
        read_scores(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ResultsError, match="cannot be read as parquet"):
        read_scores(path)


def test_run_json_round_trip(tmp_path: Path) -> None:
    write_run(tmp_path / "run.json", Run("m", "s4", {"device": "cpu"}))
    assert read_run(tmp_path / "run.json") == Run("m", "s4", {"device": "cpu"})
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ResultsError, match="is damaged"):
        read_run(tmp_path / "run.json")
