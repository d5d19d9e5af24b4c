"""Sentences beside every table: the form of the data, the overlap with train, muted clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avsrobust.caveats import caveats, source_caveats, train_sources
from avsrobust.errors import ManifestError
from avsrobust.manifest import ManifestInfo


def _info(dataset: str = "ms3", release: str = "object", **survey: object) -> ManifestInfo:
    return ManifestInfo(dataset, 42, {}, {}, release=release, muted=("a", "b"), survey=survey)


def test_what_concerns_every_table_is_said_in_one_order() -> None:
    overlap = {"test": {"clips": 64, "shared": 38}, "val": {"clips": 64, "shared": 41}}
    assert caveats(_info(train_overlap=overlap)) == (
        "ms3 is in the form of AVSBench-object",
        "ms3: 38 of 64 test and 41 of 64 val clips share their YouTube source with a train clip",
        "ms3: 2 clips are muted, their own recording is silent or nearly so",
    )


def test_the_semantic_form_is_named_with_its_rows() -> None:
    (sentence,) = caveats(ManifestInfo("s4", 42, {}, {}, release="semantic"))
    assert sentence.startswith("s4 is in the form of AVSBench-semantic (v1s rows), ")
    assert "not comparable" in sentence


def test_avss_has_one_form_only_and_nothing_is_said_of_it() -> None:
    assert caveats(ManifestInfo("avss", 42, {}, {}, release="semantic")) == ()


def test_a_split_that_shares_nothing_is_not_mentioned() -> None:
    overlap = {"test": {"clips": 740, "shared": 0}, "val": {"clips": 740, "shared": 1}}
    assert "1 of 740 val clips" in " ".join(caveats(_info("s4", train_overlap=overlap)))
    assert "test" not in " ".join(caveats(_info("s4", train_overlap=overlap)))


@pytest.mark.parametrize("overlap", [[1], {"test": 3}, {"test": {"clips": 3}}, {"test": {"clips": None, "shared": 1}}])
def test_a_damaged_survey_is_named(overlap: object) -> None:
    with pytest.raises(ManifestError, match="damaged train_overlap"):
        caveats(_info(train_overlap=overlap))
    with pytest.raises(ManifestError, match="damaged train_overlap"):
        caveats(ManifestInfo("ms3", 42, {}, {}, survey=[overlap]))  # type: ignore[arg-type]


def test_clips_that_share_their_source_with_train_are_named(tmp_path: Path) -> None:
    clips = {
        "train": ["aaaaaaaaaaa_0", "bbbbbbbbbbb_1"],
        "val": ["aaaaaaaaaaa_1"],
        "test": ["bbbbbbbbbbb_0", "ccccccccccc_0"],
    }
    rows = [(split, name) for split, names in clips.items() for name in names]

    def build(dataset: str, splits: Sequence[str], rename: Callable[[str], str] = str) -> Any:
        path = tmp_path / f"{dataset}.parquet"
        chosen = [(split, rename(name)) for split, name in rows if split in splits]
        columns = dict(zip(("split", "clip_id"), map(list, zip(*chosen, strict=True)), strict=True))
        pq.write_table(pa.table(columns), path)
        return SimpleNamespace(path=path, info=SimpleNamespace(dataset=dataset))

    assert train_sources(build("ms3", ("train", "val", "test"))) == ("aaaaaaaaaaa_1", "bbbbbbbbbbb_0")
    assert train_sources(build("ms3", ("val", "test"))) is None
    cut = train_sources(build("s4", ("train", "test"), lambda name: f"dog/{name[:11]}_{name[-1]}000_9000"))
    assert cut == ("dog/bbbbbbbbbbb_0000_9000",)


def test_few_recordings_are_said_of_val_and_test_alone() -> None:
    few, many = {"rows": 64, "sources": 15, "largest": 12}, {"rows": 64, "sources": 50, "largest": 3}
    counts = {"offscreen": {"test": few, "train": few, "val": many}}
    assert source_caveats("ms3", counts) == (
        "ms3, test: the 64 rows of offscreen have the sounds of 15 distinct clips; the most used one serves 12 clips",
    )
    assert source_caveats("ms3", {}) == ()
    for damaged in ([1], {"offscreen": 3}, {"offscreen": {"test": {"rows": "x"}}}):
        with pytest.raises(ManifestError, match="damaged sources"):
            source_caveats("ms3", damaged)
