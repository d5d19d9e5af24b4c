"""S4 and MS3 of either release: which is read, what is said of it, and how one is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from avsrobust.datasets.read import read_dataset
from avsrobust.errors import DataSetError, OptionError

SEMANTIC = [("z_0_5000", "dog", "test", "v1s"), ("y_0", "man_car", "test", "v1m"), ("x_0_10000", "cat", "train", "v2")]


@pytest.fixture
def both(avsbench: Any) -> Any:
    """S4 and MS3 of both releases."""
    avsbench.s4([("b_1", "dog_barking", "test")])
    avsbench.ms3([("y_0", "test")])
    avsbench.semantic(SEMANTIC)
    return avsbench


@pytest.mark.parametrize(
    ("dataset", "release", "clip_id", "said"),
    [
        ("s4", None, "dog_barking/b_1", "object"),
        ("s4", "object", "dog_barking/b_1", "object"),
        ("s4", "semantic", "v1s/z_0_5000", "semantic"),
        ("ms3", None, "y_0", "object"),
        ("ms3", "semantic", "v1m/y_0", "semantic"),
    ],
)
def test_the_release_read_is_in_the_data_set_and_its_notes(
    both: Any, dataset: str, release: str | None, clip_id: str, said: str
) -> None:
    data = read_dataset(dataset, both.root, release=release)
    assert [clip.clip_id for clip in data.clips] == [clip_id]
    assert data.release == said
    assert any(note.startswith(f"{dataset} is in the form of AVSBench-{said}") for note in data.notes)
    (note,) = (note for note in data.notes if "is there in two forms" in note)
    other = "object" if said == "semantic" else "semantic"
    assert f"(AVSBench-{other}); read was " in note
    assert note.endswith("as asked for" if release else "--release semantic reads the other")


def test_avss_is_semantic_and_nothing_is_said_of_another_form(both: Any) -> None:
    for release in (None, "semantic"):
        data = read_dataset("avss", both.root, release=release)
        assert data.release == "semantic"
        assert not any("form" in note for note in data.notes)


def test_where_one_release_is_there_no_other_is_mentioned(avsbench: Any) -> None:
    avsbench.semantic(SEMANTIC)
    data = read_dataset("s4", avsbench.root)
    assert data.release == "semantic"
    assert not any("is there in two forms" in note for note in data.notes)
    with pytest.raises(
        DataSetError,
        match=r"found AVSBench_semantic/, which serves avss, s4, ms3; s4 needs Single-source/s4_meta_data.csv beside s4_data/, "
        "here",
    ):
        read_dataset("s4", avsbench.root, release="object")


def test_the_semantic_release_that_is_not_there_is_refused(avsbench: Any) -> None:
    avsbench.s4([("b_1", "dog_barking", "test")])
    with pytest.raises(
        DataSetError, match=r"s4 needs AVSBench-semantic's metadata.csv with v1s rows beside v1s/, here"
    ):
        read_dataset("s4", avsbench.root, release="semantic")


def test_half_an_object_release_is_passed_over_only_where_the_other_is_asked_for(avsbench: Any) -> None:
    avsbench.semantic(SEMANTIC)
    avsbench.csv("Single-source/s4_meta_data.csv", ("name", "category", "split"), [("b_1", "dog_barking", "test")])
    with pytest.raises(DataSetError, match="without s4_data/ beside it"):
        read_dataset("s4", avsbench.root)
    assert read_dataset("s4", avsbench.root, release="semantic").release == "semantic"


def test_an_unknown_release_and_one_that_avss_does_not_have_are_refused(both: Any) -> None:
    with pytest.raises(
        OptionError, match="--release: found 'objct'; expected object or semantic; did you mean 'object'"
    ):
        read_dataset("s4", both.root, release="objct")
    with pytest.raises(OptionError, match=r"--release object: found the data set avss, .* expected s4 or ms3 with it"):
        read_dataset("v2", both.root, release="object")


NAMES = [
    ("AbCdEfGhIjK_0", "train"),
    ("AbCdEfGhIjK_1", "test"),
    ("_n-Ey8CoFlA", "train"),
    ("_n-Ey8CoFlA_2", "val"),
    ("qqqqqqqqq_1", "test"),
]


@pytest.mark.parametrize("splits", [None, ["test"], ["val", "test"]])
@pytest.mark.parametrize("release", ["object", "semantic"])
def test_ms3_says_how_many_clips_share_their_source_with_train_whatever_is_read(
    avsbench: Any, release: str, splits: list[str] | None
) -> None:
    avsbench.ms3(NAMES)
    avsbench.semantic([(name, "dog", split, "v1m") for name, split in NAMES])
    avsbench.metadata([(name, name, "dog", split, "v1m") for name, split in NAMES])
    data = read_dataset("ms3", avsbench.root, splits=splits, release=release)
    assert data.facts["train_overlap"] == {"val": {"clips": 1, "shared": 1}, "test": {"clips": 2, "shared": 1}}
    assert "ms3: 1 of 2 test and 1 of 1 val clips share their YouTube source with a train clip" in data.notes


def test_s4_that_shares_nothing_says_nothing(s4_root: Any) -> None:
    data = read_dataset("s4", s4_root.root)
    assert data.facts["train_overlap"] == {"val": {"clips": 1, "shared": 0}, "test": {"clips": 2, "shared": 0}}
    assert not any("share their YouTube source" in note for note in data.notes)
