"""What is asked of an evaluation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from avsrobust.errors import OptionError
from avsrobust.evaluation.existing_results import ExistingResults
from avsrobust.evaluation.request import Request
from avsrobust.evaluation.shards import Shard
from avsrobust.manifest import Manifest
from avsrobust.results import Run


@pytest.fixture
def build(make_build: Callable[..., Manifest]) -> Manifest:
    return make_build(clips=5)


def recorded(splits: list[str], conditions: list[str]) -> ExistingResults:
    """Results whose run was asked for these."""
    asked = {"splits": splits, "conditions": conditions}
    return ExistingResults(run=Run("model", "s4", {"runs": [{"asked": asked}]}))


def test_shards_share_the_clips_and_are_asked_for_the_same(build: Manifest) -> None:
    whole = Request.of(build, ("test",))
    shards = [Request.of(build, ("test",), shard=Shard(3, number)) for number in (1, 2, 3)]
    clips = [{(clip[0].split, clip[0].clip_id) for clip in shard.clips} for shard in shards]
    assert sorted(key for of_shard in clips for key in of_shard) == sorted(
        (clip[0].split, clip[0].clip_id) for clip in whole.clips
    )
    assert {shard.shard_name for shard in shards} == {"1/3", "2/3", "3/3"}
    assert all(shard.pairs() == {("test", name) for name in whole.conditions} for shard in shards)
    assert whole.pairs() == set()
    assert whole.shard_name == ""
    rows = [row for shard in shards for row in shard.own_rows()]
    assert sorted(row.key for row in rows) == sorted(row.key for row in whole.own_rows())


def test_the_first_clips_alone_mark_their_splits(build: Manifest) -> None:
    few = Request.of(build, ("test",), ("clean",), limit=2)
    assert (len(few.clips), few.limited, list(few.conditions)) == (2, ("test",), ["clean"])
    assert {row.condition for clip in few.clips for row in clip} == {"clean"}
    assert Request.of(build, ("test",)).limited == ()


def test_a_shard_is_recorded_by_what_was_asked_others_by_any_run(build: Manifest) -> None:
    whole = Request.of(build, ("test",))
    shard = Request.of(build, ("test",), shard=Shard(2, 1))
    nothing, one = ExistingResults(), recorded(["test"], ["clean"])
    everything = recorded(["test"], list(whole.conditions))
    assert [whole.is_recorded(found) for found in (nothing, one, everything)] == [True, True, True]
    assert [shard.is_recorded(found) for found in (nothing, one, everything)] == [False, False, True]


@pytest.mark.parametrize(
    ("splits", "conditions", "said"),
    [
        (("tset",), None, r"has no rows of split 'tset'; it has test.*did you mean 'test'"),
        (("test",), ("silense",), r"has no rows of condition 'silense'.*did you mean 'silence'"),
    ],
)
def test_what_the_build_lacks_is_refused(
    build: Manifest, splits: tuple[str, ...], conditions: tuple[str, ...] | None, said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        Request.of(build, splits, conditions)
