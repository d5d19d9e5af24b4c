"""Histograms that are not in memory stand for the array that they are read from, whatever the groups of rows and the order."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avsrobust import results, score_writing, stored_histograms
from avsrobust.errors import ResultsError
from avsrobust.metrics import PROTOCOLS, ScoredFrames, clip_scores
from avsrobust.metrics.binary.counts import (
    FIELDS,
    FrameStatistics,
    activated_at,
    concatenate,
    empty_prediction,
    frame_statistics,
    perfect_prediction,
    take,
)
from avsrobust.metrics.binary.histograms import EndHistograms, Histograms, JoinedHistograms, blocks
from avsrobust.reporting.report import report
from avsrobust.results import ScoreInfo, Scores, read_scores, write_scores

CONDITIONS = ("clean", "noise", "silence")


def made(clips: int, frames: int = 2) -> Scores:
    """Scores of clips x conditions x frames, in the order of the file."""
    number = clips * len(CONDITIONS) * frames
    generator = np.random.default_rng(clips)
    pred, target = generator.random((number, 5, 6), dtype=np.float32), generator.random((number, 5, 6)) < 0.4
    position = np.arange(number)
    condition = np.array(CONDITIONS)[position // frames % len(CONDITIONS)]
    index = pd.DataFrame(
        {
            "split": "test",
            "clip_id": [f"clip{entry:04d}" for entry in position // (frames * len(CONDITIONS))],
            "labels": [("dog",)] * number,
            "condition": condition.astype(object),
            "polarity": np.where(condition == "clean", "positive", "negative").astype(object),
            "level": np.full(number, np.nan),
            "frame": position % frames,
            "clean_intersection": np.full(number, np.nan),
            "clean_union": np.full(number, np.nan),
        }
    )
    return Scores(ScoreInfo("m", "s4", 1), index, frame_statistics(pred, target))


@pytest.fixture(params=[(4096, 1 << 16), (7, 1 << 16), (5, 12), (4, 12), (1000, 9)])
def sizes(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Frames at once, and in a group of rows."""
    at_once, group = request.param
    monkeypatch.setattr(stored_histograms, "_ROWS_AT_ONCE", at_once)
    monkeypatch.setattr(stored_histograms, "_KEPT_BYTES", 3 * at_once * 255 * 4)
    monkeypatch.setattr(score_writing, "_BLOCK", at_once)
    monkeypatch.setattr(score_writing, "ROW_GROUP", group)
    return request.param


def test_away_is_what_is_in_memory(sizes: tuple[int, int], tmp_path: Path) -> None:
    scores = made(9)
    write_scores(tmp_path / "scores.parquet", scores)
    assert pq.ParquetFile(tmp_path / "scores.parquet").metadata.row_group(0).num_rows == min(sizes[1], 54)
    near, away = (read_scores(tmp_path, in_memory=most) for most in (54, 53))
    pd.testing.assert_frame_equal(near.index, away.index)
    for name in ("inside", "outside"):
        expected, found = getattr(near.statistics, name), getattr(away.statistics, name)
        assert isinstance(expected, np.ndarray)
        assert isinstance(found, Histograms)
        assert np.array_equal(expected, getattr(scores.statistics, name))
        assert np.array_equal(found, expected)
        assert found.shape == expected.shape
        assert np.array_equal(np.concatenate(list(blocks(found, 11))), expected)
        for axis in (0, 1):
            assert np.array_equal(found.sum(axis=axis), expected.sum(axis=axis))
        again = pickle.loads(pickle.dumps(found))
        assert np.array_equal(again[::-1], expected[::-1])

        generator = np.random.default_rng(1)
        for count in (0, 1, 5, 30):
            index = generator.integers(-54, 54, count)
            assert np.array_equal(found[index], expected[index])
            assert np.array_equal(found.take(index)[:], expected[index])
            inner = generator.integers(0, 30, 4)
            assert np.array_equal(found.take(slice(3, 40)).take(inner)[:, 2:9], expected[3:40][inner, 2:9])
        assert np.array_equal(found[-1], expected[-1])
        mask = np.arange(54) % 3 == 0
        assert np.array_equal(found.take(mask), expected[mask])


def test_what_is_away_is_written_as_the_same_bytes(sizes: tuple[int, int], tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.parquet", made(9))
    shuffled = np.random.default_rng(0).permutation(54)
    away = read_scores(tmp_path, in_memory=0)
    mixed = replace(away, index=away.index.iloc[shuffled], statistics=take(away.statistics, shuffled))
    write_scores(tmp_path / "again.parquet", mixed)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "scores.parquet").read_bytes()


def test_a_file_of_one_group_has_the_bytes_of_one_table(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.parquet", made(9))
    read = pq.read_table(tmp_path / "scores.parquet")
    schema = results.SCHEMA.with_metadata(read.schema.metadata)
    table = pa.table([read.column(name).combine_chunks() for name in schema.names], schema=schema)
    pq.write_table(table, tmp_path / "table.parquet", compression="zstd", write_page_checksum=True)
    assert (tmp_path / "table.parquet").read_bytes() == (tmp_path / "scores.parquet").read_bytes()


def test_reports_are_the_same(sizes: tuple[int, int], tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.parquet", made(9))
    near, away = (report([read_scores(tmp_path, in_memory=most)], ("all",), format="csv") for most in (54, 0))
    assert near == away


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clips=st.integers(1, 5), order=st.randoms(use_true_random=False))
def test_scores_do_not_depend_on_where_histograms_are(clips: int, order: Any) -> None:
    scores = made(clips)
    shuffled = list(range(len(scores.index)))
    order.shuffle(shuffled)
    near = take(scores.statistics, np.array(shuffled))
    away = replace(
        near, inside=JoinedHistograms([near.inside[:1], near.inside[1:]]), outside=JoinedHistograms([near.outside])
    )
    index = scores.index.iloc[shuffled]
    _, clip = np.unique(index["clip_id"], return_inverse=True)
    for protocol in (*PROTOCOLS.values(), replace(PROTOCOLS["avsbench"], batch=3, negative_batch=2)):
        values = [
            clip_scores(
                ScoredFrames(
                    statistics,
                    clip,
                    index["condition"].to_numpy(dtype=np.str_),
                    (index["polarity"] == "negative").to_numpy(),
                ),
                protocol,
            )
            for statistics in (near, away)
        ]
        assert np.array_equal(values[0].numerator, values[1].numerator)
        assert np.array_equal(values[0].denominator, values[1].denominator)
    for found, expected in zip(activated_at(away, 100 / 254), activated_at(near, 100 / 254), strict=True):
        assert np.array_equal(found, expected)
    both = concatenate([near, away])
    assert np.array_equal(both.inside, np.concatenate([near.inside, near.inside]))


def test_predictions_of_nothing_and_of_all() -> None:
    statistics = made(2).statistics
    shown = np.arange(len(statistics)) % 2 == 0
    target = statistics.target_pixels
    for found, of_target in (
        (empty_prediction(statistics), np.zeros_like(target)),
        (perfect_prediction(statistics, shown), shown * target),
    ):
        assert isinstance(found.inside, EndHistograms)
        expected = np.zeros((len(statistics), 255), dtype=np.int64)
        expected[:, 0], expected[:, -1] = target - of_target, of_target
        assert np.array_equal(found.inside, expected)
        assert np.array_equal(take(found, shown).inside, expected[shown])
        assert np.array_equal(found.outside.sum(axis=1), statistics.pixels - target)


def test_a_file_that_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_histograms, "_KEPT_BYTES", 0)
    monkeypatch.setattr(stored_histograms, "_ROWS_AT_ONCE", 10)
    path = tmp_path / "scores.parquet"
    write_scores(path, made(9))
    scores = read_scores(path, in_memory=0)
    assert len(scores.statistics.inside[:20]) == 20
    os.utime(path, ns=(1, 1))
    with pytest.raises(
        ResultsError, match=r"scores\.parquet: has changed while it was read; run the same command again"
    ):
        scores.statistics.inside[:5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values[:, ::-1], "its content is not what was written"),
        (lambda values: values + (np.arange(255) == 3), "histograms that do not count every pixel once"),
        (lambda values: values - 40 * (np.arange(255) == 3) + 40 * (np.arange(255) == 4), "a negative count of pixels"),
    ],
)
def test_damage_is_found_while_it_passes(
    change: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_histograms, "_ROWS_AT_ONCE", 10)
    path = tmp_path / "scores.parquet"
    scores = made(9)
    write_scores(path, scores)
    metadata = pq.read_schema(path).metadata
    changed: FrameStatistics = replace(scores.statistics, inside=np.ascontiguousarray(change(scores.statistics.inside)))
    write_scores(path, replace(scores, statistics=changed))
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    with pytest.raises(ResultsError, match=message):
        read_scores(path, in_memory=0)


def test_every_field_is_a_count() -> None:
    assert FIELDS[-2:] == ("inside", "outside")
