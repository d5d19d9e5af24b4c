"""Stored results: round trip, order, versions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avsrobust import score_columns
from avsrobust.errors import ResultsError
from avsrobust.metrics.binary.counts import NUM_THRESHOLDS, FrameStatistics
from avsrobust.metrics.semantic.counts import ClassStatistics, class_statistics, take_classes
from avsrobust.results import (
    COUNT_COLUMNS,
    FailedClip,
    Run,
    ScoreInfo,
    Scores,
    read_run,
    read_scores,
    write_run,
    write_scores,
)


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


INFO = ScoreInfo("m", "s4", 1)


def _many(rows: int, wide: int = 0) -> Scores:
    """Scores of frames that have nothing at all in them; one has `wide` pixels more than the others."""
    index = pd.DataFrame(
        {
            "split": "test",
            "clip_id": [f"clip/{row // 4:05d}" for row in range(rows)],
            "labels": [("dog",)] * rows,
            "condition": "clean",
            "polarity": "positive",
            "level": np.full(rows, np.nan),
            "frame": np.arange(rows) % 4,
            "clean_intersection": None,
            "clean_union": None,
        }
    )
    pixels, none = np.full(rows, 50, dtype=np.int64), np.zeros(rows, dtype=np.int64)
    pixels[-1] += wide
    histograms = np.zeros((2, rows, NUM_THRESHOLDS), dtype=np.int64)
    histograms[1, :, 0] = 50
    histograms[1, -1, :] += np.diff(np.linspace(0, wide, NUM_THRESHOLDS + 1, dtype=np.int64))
    return Scores(INFO, index, FrameStatistics(pixels, none, none, none, none, none, *histograms))


@pytest.mark.parametrize("large", [0, 1 << 16])
def test_a_frame_that_was_read_takes_few_bytes(large: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 5000
    monkeypatch.setattr(score_columns, "_LARGE", large)
    write_scores(tmp_path / "scores.parquet", _many(rows))
    found = read_scores(tmp_path)
    counts = [getattr(found.statistics, name) for name in COUNT_COLUMNS]
    assert {str(values.dtype) for values in counts} == {"int32"}
    assert {str(dtype) for dtype in found.to_pandas()[list(COUNT_COLUMNS)].dtypes} == {"int64"}
    held = sum(values.nbytes for values in counts)
    # Of a column of one value, that value.
    held += sum(
        column.dtype.itemsize * (len(column) if column.strides[0] else 1)
        for column in (found.index[name].to_numpy() for name in found.index)
    )
    assert held < (80 if large == 0 else 100) * rows
    assert found.index["split"].unique().tolist() == ["test"]
    assert found.index["level"].isna().all()
    assert found.index.iloc[[3, 7]]["clip_id"].tolist() == ["clip/00000", "clip/00001"]
    assert found.index.groupby(["split", "condition", "level"], dropna=False).size().tolist() == [rows]
    assert len(found.index[found.index["split"] == "test"]) == rows
    write_scores(tmp_path / "again.parquet", found)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "scores.parquet").read_bytes()


def test_counts_that_32_bits_do_not_hold_are_read_as_they_are(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.parquet", _many(8, wide=2**33))
    found = read_scores(tmp_path)
    assert found.statistics.pixels.tolist() == [50] * 7 + [50 + 2**33]
    assert found.statistics.target_pixels.dtype == np.int32
