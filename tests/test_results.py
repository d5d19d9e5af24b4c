"""Stored results: round trip, order, versions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avsrobust.errors import ResultsError
from avsrobust.metrics.binary.counts import NUM_THRESHOLDS, FrameStatistics
from avsrobust.metrics.semantic.counts import ClassStatistics, class_statistics, take_classes
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
    inside, outside = np.zeros((2, count, NUM_THRESHOLDS), np.int64)
    inside[:, 7], outside[:, 17] = numbers + 3, numbers + 4
    counts = (2 * numbers + 7, numbers + 3, numbers + 1, numbers + 2, numbers + 2, numbers + 4)
    return Scores(
        ScoreInfo(
            "m", "s4", 42, (FailedClip("test", "x", "broken"),), "standard", "object", ("a",), ("s4 is é", "and more")
        ),
        index,
        FrameStatistics(*counts, inside, outside),
    )


def test_what_was_written_is_read_in_order(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.parquet", _scores([3, 0, 2, 1]))
    scores = read_scores(tmp_path)
    assert scores.info == _scores([0]).info
    assert list(scores.index["clip_id"]) == ["clip0", "clip0", "clip1", "clip1"]
    assert list(scores.index["condition"]) == ["clean", "mixture"] * 2
    assert scores.index["clean_union"].isna().tolist() == [True, False, True, False]
    np.testing.assert_array_equal(scores.statistics.pixels, [7, 9, 11, 13])
    np.testing.assert_array_equal(scores.statistics.fp_040, [4, 5, 6, 7])
    np.testing.assert_array_equal(scores.statistics.outside[:, 17], [4, 5, 6, 7])


def test_equal_scores_give_equal_bytes(tmp_path: Path) -> None:
    write_scores(tmp_path / "a", _scores([3, 0, 2, 1]))
    write_scores(tmp_path / "b", _scores([0, 1, 2, 3]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def _with_classes(order: list[int]) -> Scores:
    generator = np.random.default_rng(0)
    pred, target = generator.integers(0, 71, (2, 4, 3, 3))
    scores, classes = _scores(order), take_classes(class_statistics(pred, target), np.array(order))
    counts, outside = scores.statistics, np.zeros((4, NUM_THRESHOLDS), np.int64)
    outside[:, 0] = 9 - counts.target_pixels
    few = np.zeros(4, np.int64)
    statistics = replace(counts, pixels=np.full(4, 9), fp_050=few, fp_040=few, outside=outside)
    return replace(scores, statistics=statistics, classes=classes)


def test_classes_are_read_in_the_order_of_the_frames(tmp_path: Path) -> None:
    write_scores(tmp_path / "a", _with_classes([3, 0, 2, 1]))
    write_scores(tmp_path / "b", _with_classes([0, 1, 2, 3]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found, expected = read_scores(tmp_path / "a").classes, _with_classes([0, 1, 2, 3]).classes
    assert isinstance(found, ClassStatistics)
    assert isinstance(expected, ClassStatistics)
    for name in ("num_frames", "frame", "class_id", "intersection", "predicted", "target"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    table = pq.read_table(tmp_path / "a")
    first = table.column("classes")[0].as_py()
    assert sum(entry["target"] for entry in first) == 9
    assert list(first[0]) == ["class_id", "intersection", "predicted", "target"]


def test_results_without_classes_have_no_such_column(tmp_path: Path) -> None:
    write_scores(tmp_path / "a", _scores([0, 1]))
    assert "classes" not in pq.read_schema(tmp_path / "a").names
    assert read_scores(tmp_path / "a").classes is None


def test_damaged_classes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    write_scores(path, _with_classes([0, 1, 2, 3]))
    table = pq.read_table(path)
    place = table.column_names.index("classes")
    kind = table.schema.field(place)
    for cells, message in (
        ([[{"class_id": 99, "intersection": 0, "predicted": 0, "target": 0}]] * 4, "has a damaged column classes"),
        ([[{"class_id": None, "intersection": 0, "predicted": 0, "target": 0}]] * 4, "column classes has empty cells"),
        ([[{"class_id": 3, "intersection": 2, "predicted": 1, "target": 9}]] * 4, "has a damaged column classes"),
        (table.column("classes").to_pylist()[::-1], "its content is not what was written"),
    ):
        pq.write_table(table.set_column(place, kind, pa.array(cells, kind.type)), path)
        with pytest.raises(ResultsError, match=message):
            read_scores(path)
    pq.write_table(table.set_column(place, "classes", [[[{"class_id": 99}]] * 4]), path)
    with pytest.raises(ResultsError, match="column classes is of type"):
        read_scores(path)
    pixels, outside = table.column_names.index("pixels"), table.column_names.index("outside")
    fewer = table.column("outside").to_pylist()
    fewer[3] = [fewer[3][0] - 1, *fewer[3][1:]]
    changed = table.set_column(pixels, table.schema.field(pixels), pa.array([9, 9, 9, 8]))
    pq.write_table(
        changed.set_column(outside, table.schema.field(outside), pa.array(fewer, table.schema.field(outside).type)),
        path,
    )
    with pytest.raises(ResultsError, match="the pixels of its classes are not those of its frames"):
        read_scores(path)


def test_broken_results_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    with pytest.raises(ResultsError, match="not found"):
        read_scores(path)
    write_scores(path, _scores([0]))
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"avsrobust.scores_format": "9"}), tmp_path / "other")
    with pytest.raises(ResultsError, match="results of format 9"):
        read_scores(tmp_path / "other")
    pq.write_table(table.drop_columns(["inside"]), path)
    with pytest.raises(ResultsError, match="no column inside"):
        read_scores(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ResultsError, match="cannot be read as parquet"):
        read_scores(path)


def test_a_run_with_options_that_are_not_finite_is_read(tmp_path: Path) -> None:
    details = {"options": {"threshold": float("inf"), "nested": [float("-inf")]}}
    write_run(tmp_path / "run.json", Run("m", "s4", details))
    assert "Infinity" in (tmp_path / "run.json").read_text()
    assert read_run(tmp_path / "run.json").details == details


def test_run_json_round_trip(tmp_path: Path) -> None:
    write_run(tmp_path / "run.json", Run("m", "s4", {"device": "cpu"}))
    assert read_run(tmp_path / "run.json") == Run("m", "s4", {"device": "cpu"})
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ResultsError, match="is damaged"):
        read_run(tmp_path / "run.json")
