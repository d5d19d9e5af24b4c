"""A table of frames against data frames: what is put together, sorted and written is what pandas gives, byte for byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avsrobust import score_writing
from avsrobust.errors import ResultsError
from avsrobust.evaluation.stored_scores import Content, StoredScores, frames_of
from avsrobust.files import sha256_of_file
from avsrobust.mask_overlaps import OVERLAPS_FIELD, concatenate_overlaps, overlaps_array, pair_counts
from avsrobust.metrics import FrameStatistics, frame_statistics
from avsrobust.metrics.binary.counts import concatenate, take
from avsrobust.metrics.semantic.counts import ClassStatistics, class_statistics, concatenate_classes, take_classes
from avsrobust.parquet import open_writer
from avsrobust.results import INDEX_COLUMNS, SORT_COLUMNS, ScoreInfo, Scores, read_scores, write_scores
from avsrobust.row_keys import KEY_COLUMNS, rows_in, rows_with_overlap
from avsrobust.score_checks import content_sha256
from avsrobust.score_schema import CLASSES_FIELD, COUNT_COLUMNS, INDEX_FIELDS, schema_with

INFO = ScoreInfo("m", "avss", 1)
HISTOGRAMS = ("inside", "outside")


@st.composite
def some_scores(draw: st.DrawFn, classes: bool, levels: bool) -> Scores:
    """Scores of some rows, each of one or two frames, in any order."""
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["test", "val"]),
                st.sampled_from(["a", "b/é", "b"]),
                st.sampled_from(["clean", "noise", "silence"]),
                st.sampled_from([None, -3.0, 0.1]) if levels else st.none(),
                st.sampled_from([0, 0, 1]),
            ),
            unique=True,
            max_size=5,
        )
    )
    number = sum(frames := [draw(st.integers(1, 2)) for _ in rows])
    generator = np.random.default_rng(draw(st.integers(0, 9)))
    entries = []
    for (split, clip_id, condition, level, number_of_draw), count in zip(rows, frames, strict=True):
        compared = draw(st.booleans()) and condition != "clean"
        entries += [
            {
                "split": split,
                "clip_id": clip_id,
                "labels": draw(st.sampled_from([("dog",), (), ("dog", "cat")])),
                "condition": condition,
                "polarity": "positive" if condition == "clean" else "negative",
                "level": level,
                "frame": frame,
                "clean_intersection": 1 if compared else None,
                "clean_union": 2 if compared else None,
                "draw": number_of_draw,
            }
            for frame in range(count)
        ]
    index = pd.DataFrame(entries, columns=INDEX_COLUMNS)
    # Metrics refuse no frames at all.
    pred, target = generator.random((number + 1, 3, 4), dtype=np.float32), generator.random((number + 1, 3, 4)) < 0.4
    ids = (generator.integers(0, most, (number + 1, 3, 4)) for most in (4, 3))
    statistics = take(frame_statistics(pred, target), slice(number))
    of_classes = take_classes(class_statistics(*ids), np.arange(number + 1) < number)
    # As many pairs for all frames of a row.
    kinds = st.sampled_from([None, [], [("noise", 2)], [("noise", 1), ("x@0.1", 0)]])
    pairs = [found for count in frames for found in [draw(kinds)] * count]
    overlaps = draw(st.sampled_from([None, overlaps_array(pairs)]))
    return Scores(INFO, index, statistics, None, of_classes if classes else None, overlaps)


def written_by_pandas(path: Path, scores: Scores, groups: int) -> None:
    """The file that the first release writes: whole columns as lists of Python objects."""
    index = scores.index.reset_index(drop=True)
    order = index.sort_values(SORT_COLUMNS, kind="stable", na_position="first").index.to_numpy()
    columns = {
        entry.name: pa.array(
            [
                None if value is None or (isinstance(value, float) and math.isnan(value)) else value
                for value in index[entry.name].iloc[order]
            ],
            type=entry.type,
        )
        for entry in INDEX_FIELDS
    }
    columns["draw"] = pa.array(index["draw"].iloc[order].to_numpy(), type=pa.int16())
    for name in COUNT_COLUMNS:
        columns[name] = pa.array(getattr(scores.statistics, name)[order], type=pa.int64())
    has_overlaps = scores.overlaps is not None and scores.overlaps.null_count < len(scores.overlaps)
    if has_overlaps:
        columns["negative_overlaps"] = scores.overlaps.take(pa.array(order))
    if scores.classes is not None:
        columns["classes"] = _class_lists(take_classes(scores.classes, order))
    histograms = {name: np.asarray(getattr(scores.statistics, name))[order] for name in HISTOGRAMS}
    for name, values in histograms.items():
        flat = pa.array(values.astype(np.int32).ravel(), type=pa.int32())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, 255)
    schema = schema_with(draws=bool(index["draw"].any()), overlaps=has_overlaps, classes=scores.classes is not None)
    metadata = {
        key.decode(): value.decode() for key, value in _metadata_of(path, scores).items() if b"content" not in key
    }
    blocks = {name: [values] for name, values in histograms.items()}
    metadata["avsrobust.content_sha256"] = content_sha256(metadata, schema.names, columns.__getitem__, blocks)
    table = pa.table({name: columns[name] for name in schema.names}, schema=schema.with_metadata(metadata))
    with open_writer(path, table.schema) as writer:
        for first in range(0, max(1, len(order)), groups):
            writer.write_table(table.slice(first, groups))


def _metadata_of(path: Path, scores: Scores) -> dict[bytes, bytes]:
    empty = Scores(scores.info, pd.DataFrame(columns=INDEX_COLUMNS), concatenate([]))
    write_scores(path, empty)
    return dict(pq.read_schema(path).metadata)


def _class_lists(classes: ClassStatistics) -> pa.Array:
    names = [entry.name for entry in CLASSES_FIELD.type.value_type]
    fields = [pa.array(getattr(classes, entry.name), type=entry.type) for entry in CLASSES_FIELD.type.value_type]
    starts = np.searchsorted(classes.frame, np.arange(classes.num_frames + 1))
    entries = pa.StructArray.from_arrays(fields, names=names)
    return pa.ListArray.from_arrays(pa.array(starts, type=pa.int32()), entries).cast(CLASSES_FIELD.type)


def merged_by_pandas(sources: Sequence[Scores]) -> Scores:
    """What the first release merges: data frames put together, and the first source of each row by its rank."""
    sources = [source for source in sources if len(source.index)]
    if not sources:
        return Scores(INFO, pd.DataFrame(columns=INDEX_COLUMNS), concatenate([]))
    index = pd.concat([source.index for source in sources], ignore_index=True)
    origin = np.repeat(np.arange(len(sources)), [len(source.index) for source in sources])
    overlaps = concatenate_overlaps([(len(source.index), source.overlaps) for source in sources])
    chosen = _first_of_each_row(index, origin, pair_counts(overlaps, len(index)))
    classes = [source.classes for source in sources if source.classes is not None]
    return Scores(
        INFO,
        index[chosen].reset_index(drop=True),
        take(concatenate([source.statistics for source in sources]), chosen),
        classes=take_classes(concatenate_classes(classes), chosen) if classes else None,
        overlaps=None if overlaps is None else overlaps.filter(pa.array(chosen)),
    )


def _first_of_each_row(
    index: pd.DataFrame, origin: npt.NDArray[np.intp], pairs: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    lacks_clean = ((index["condition"] != "clean") & index["clean_union"].isna()).to_numpy()
    sources, most = origin.max(initial=0) + 1, pairs.max(initial=0) + 2
    rank = pd.Series(origin + sources * (most - 2 - pairs) + sources * most * lacks_clean, index=index.index)
    levels = index["level"].astype(np.float64).fillna(-np.inf)
    first = index[KEY_COLUMNS].assign(level=levels, rank=rank).groupby(KEY_COLUMNS, sort=False)["rank"].transform("min")
    return np.asarray((rank == first).to_numpy(), dtype=np.bool_)


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("levels", [False, True])
def test_merged_scores_are_those_of_data_frames(
    classes: bool, levels: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawing is slow on a busy machine, and never much of a test that writes and reads files.
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(sources=st.lists(some_scores(classes, levels), max_size=3), group=st.sampled_from([3, 100]), data=st.data())
    def check(sources: list[Scores], group: int, data: st.DataObject) -> None:
        monkeypatch.setattr(score_writing, "ROW_GROUP", group)
        expected = merged_by_pandas(sources)
        # In one table, or in tables that are put together.
        cut = data.draw(st.integers(0, len(sources)))
        tables = [frames_of(sources[:cut], INFO), frames_of(sources[cut:], INFO)]
        found = StoredScores(INFO, frames_of(tables, INFO))
        content, rows = found.content, found.rows
        found.write(tmp_path / "found")
        written_by_pandas(tmp_path / "expected", expected, group)
        assert sha256_of_file(tmp_path / "found") == sha256_of_file(tmp_path / "expected")
        write_scores(tmp_path / "alone", expected)
        assert sha256_of_file(tmp_path / "alone") == sha256_of_file(tmp_path / "expected")

        assert rows == rows_in(expected)
        every = [key for source in sources if len(source.index) for key in rows_with_overlap(source)]
        assert found.rows_with_overlap == set(every)
        first = expected.index.drop_duplicates(["split", "clip_id", "frame"]).index.to_numpy()
        assert content == Content(
            sorted(set(expected.index["split"])),
            sorted(set(expected.index["condition"])),
            expected.classes is not None,
            len(expected.index[["split", "clip_id"]].drop_duplicates()),
            len(first),
            int((expected.statistics.target_pixels[first] == 0).sum()),
        )
        found.write(tmp_path / "found", use_up=True)
        assert sha256_of_file(tmp_path / "found") == sha256_of_file(tmp_path / "expected")

    check()


def test_frames_with_classes_and_without_are_refused() -> None:
    index = pd.DataFrame([["test", "a", ("dog",), "clean", "positive", None, 0, None, None, 0]], columns=INDEX_COLUMNS)
    statistics: FrameStatistics = frame_statistics(np.zeros((1, 2, 2), np.float32), np.ones((1, 2, 2), bool))
    of_classes = class_statistics(np.zeros((1, 2, 2), int), np.ones((1, 2, 2), int))
    both = [Scores(INFO, index, statistics), Scores(INFO, index, statistics, classes=of_classes)]
    with pytest.raises(ResultsError, match=r"m on avss: some clips were scored by class .* --replace"):
        frames_of(both, INFO)
    with pytest.raises(ResultsError, match="some clips were scored by class"):
        frames_of([frames_of(both[:1], INFO), frames_of(both[1:], INFO)], INFO)


def test_large_counts_are_kept(tmp_path: Path) -> None:
    index = pd.DataFrame(
        [["test", "a", ("dog",), "noise", "negative", 0.25, 0, 2**40, 2**41, 0]], columns=INDEX_COLUMNS
    )
    many = np.array([2**42])
    histogram = np.zeros((1, 255), dtype=np.int64)
    overlaps = pa.array([[{"other": "silence", "intersection": 2**39}]], type=OVERLAPS_FIELD.type)
    statistics = FrameStatistics(many, many // 2, many // 4, many // 8, many // 16, many // 32, histogram, histogram)
    frames = frames_of([Scores(INFO, index, statistics, overlaps=overlaps)], INFO).sorted()
    assert frames.column("pixels").to_pylist() == [2**42]
    assert frames.column("clean_union").to_pylist() == [2**41]
    assert frames.column("level").to_pylist() == [0.25]
    assert frames.column("negative_overlaps").to_pylist() == [[{"other": "silence", "intersection": 2**39}]]
    assert frames.column("tp_040").type == pa.int64()


def test_what_is_read_again_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_writing, "ROW_GROUP", 4)
    index = pd.DataFrame(
        [["test", f"c{clip}", ("dog",), "clean", "positive", None, 0, None, None, 0] for clip in range(9)],
        columns=INDEX_COLUMNS,
    )
    pred = np.random.default_rng(0).random((9, 3, 3), dtype=np.float32)
    write_scores(tmp_path / "scores.parquet", Scores(INFO, index, frame_statistics(pred, pred > 0.3)))
    for in_memory in (0, 100):
        again = tmp_path / f"in a new folder {in_memory}" / "again"
        write_scores(again, read_scores(tmp_path, in_memory=in_memory))
        assert again.read_bytes() == (tmp_path / "scores.parquet").read_bytes()
