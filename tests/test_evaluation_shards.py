"""Shards: which clips each has."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.errors import OptionError
from avsrobust.evaluation.shards import Shard, shards_in

clip_keys = st.lists(st.tuples(st.sampled_from(["test", "val"]), st.text("abc/", min_size=1, max_size=4)), unique=True)


@given(clip_keys, st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_clip_is_in_one_shard_whatever_the_order(
    clips: list[tuple[str, str]], number: int, generator: random.Random
) -> None:
    shards = [Shard(number, index).clips(clips) for index in range(1, number + 1)]
    assert sorted(clip for shard in shards for clip in shard) == sorted(clips)
    shuffled = list(clips)
    generator.shuffle(shuffled)
    assert [Shard(number, index).clips(shuffled) for index in range(1, number + 1)] == shards
    for split in ("test", "val"):
        sizes = [sum(clip[0] == split for clip in shard) for shard in shards]
        assert max(sizes) - min(sizes) <= 1
        # Another split requested or not: the shard of a clip is the same.
        alone = [clip for clip in clips if clip[0] == split]
        assert [shard & set(alone) for shard in shards] == [
            Shard(number, index).clips(alone) for index in range(1, number + 1)
        ]


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "1/0", "1/10000", "-1/4", "1 / 4", "a/b", "", "1/4/2", "1/4\n"])
def test_what_names_no_shard_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"expected i/n, one of n shards counted from 1"):
        Shard.parse(text)


def test_folders_of_shards_are_told_from_others(tmp_path) -> None:
    for name in ("2-of-2", "1-of-2", "03-of-4", "5-of-4", "notes"):
        (tmp_path / "shards" / name).mkdir(parents=True)
    (tmp_path / "shards" / "1-of-9").write_text("a file")
    assert shards_in(tmp_path) == [Shard(2, 1), Shard(2, 2)]
    assert shards_in(tmp_path / "other") == []
