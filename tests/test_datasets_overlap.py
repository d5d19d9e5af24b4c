"""Sources that clips of several splits share."""

from __future__ import annotations

import pytest

from avsrobust.datasets.overlap import source_of_cut, source_of_part, train_overlap


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("0WxgIKuetYI_0", "0WxgIKuetYI"),
        ("0WxgIKuetYI_31", "0WxgIKuetYI"),
        ("_n-Ey8CoFlA", "_n-Ey8CoFlA"),
        # 11 characters: a whole id, whatever it ends in.
        ("0WxgIKuet_0", "0WxgIKuet_0"),
        ("0WxgIKuet_0_2", "0WxgIKuet_0"),
        ("mix0_00017", "mix0_00017"),
    ],
)
def test_source_of_a_part(name: str, source: str) -> None:
    assert source_of_part(name) == source


def test_source_of_a_cut() -> None:
    assert source_of_cut("zVfLHhs9uv8_3000_8000") == "zVfLHhs9uv8"
    assert source_of_cut("zVfLHhs_1_2_3000_8000") == "zVfLHhs_1_2"


def test_shared_sources_count_per_clip_of_the_held_out_split() -> None:
    clips = [("train", "a"), ("train", "b"), ("val", "c"), ("test", "a"), ("test", "a"), ("test", "c"), ("tset", "a")]
    assert train_overlap(clips) == {"val": {"clips": 1, "shared": 0}, "test": {"clips": 3, "shared": 2}}
    assert train_overlap([("test", "a")]) == {"test": {"clips": 1, "shared": 0}}
    assert train_overlap([("train", "a")]) == {}
