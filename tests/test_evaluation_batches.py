from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.adapters.base import AudioInput
from avsrobust.evaluation import batches
from avsrobust.evaluation.batches import ClipGroup, load_batch, plan_batches, read_ahead
from avsrobust.evaluation.clip_data import clips_of
from avsrobust.evaluation.sound import SoundReader
from avsrobust.results import FailedClip


def test_clips_of_one_size_go_together(make_build) -> None:
    build = make_build(clips=5, sizes=[(24, 32), (20, 20), (24, 32), (20, 20), (24, 32)])
    clips = clips_of(build.rows)
    planned = plan_batches(clips, build, build.data_root(), 2)
    assert [[clip[0].clip_id[-1] for clip in batch] for batch in planned] == [["0", "2"], ["1", "3"], ["4"]]
    assert [len(batch) for batch in plan_batches(clips, build, build.data_root(), 1)] == [1] * 5


@given(sizes=st.lists(st.sampled_from("abc"), max_size=30), batch_size=st.integers(1, 7))
def test_every_clip_is_in_one_batch_of_its_kind(tiny_build, sizes: list[str], batch_size: int) -> None:
    row = tiny_build.rows[0]
    clips = [(row,) for _ in sizes]
    kinds = iter(sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "picture_sizes", lambda *_: next(kinds))
        planned = plan_batches(clips, tiny_build, tiny_build.data_root(), batch_size)
    assert sum(len(batch) for batch in planned) == len(sizes)
    assert all(1 <= len(batch) <= batch_size for batch in planned)
    incomplete = [batch for batch in planned if len(batch) < batch_size]
    assert len(incomplete) <= len(set(sizes))


def failed(number: int) -> list[Any]:
    return [FailedClip("test", str(number), "")]


@pytest.mark.parametrize(("size", "readers", "ahead"), [(1, 1, 3), (1, 4, 6), (3, 2, 3), (4, 9, 3)])
def test_reading_ahead_keeps_the_order_and_its_bounds(size: int, readers: int, ahead: int) -> None:
    asked: list[int] = []
    threads: set[int] = set()

    def numbers() -> Iterator[Any]:
        for number in range(9):
            asked.append(number)
            yield tuple(range(number * size, number * size + size))

    def load(clips: Any) -> Any:
        assert len(clips) == 1
        threads.add(threading.get_ident())
        return failed(*clips)

    for expected, found in enumerate(read_ahead(numbers(), load, readers=readers)):
        assert [clip.clip_id for clip in found.failed] == [str(expected * size + clip) for clip in range(size)]
        assert len(asked) <= expected + ahead
    assert len(asked) == 9
    assert threading.get_ident() not in threads
    assert len(threads) <= readers


def test_an_error_in_reading_is_raised_here() -> None:
    def load(clips: Any) -> Any:
        if clips == (1,):
            raise RuntimeError("a bug")
        return failed(*clips)

    loaded = read_ahead([(number,) for number in range(5)], load)  # type: ignore[misc]
    assert next(loaded).failed[0].clip_id == "0"
    with pytest.raises(RuntimeError, match="a bug"):
        next(loaded)


def test_a_group_copies_what_an_adapter_may_change(tiny_build) -> None:
    root = tiny_build.data_root()
    sounds = SoundReader(tiny_build, root, AudioInput.log_mel())
    clips: list[Any] = list(load_batch(clips_of(tiny_build.rows)[:2], tiny_build, root, sounds))
    group = ClipGroup.of(clips)
    group.pictures[0].zero_()
    group.sounds[0].zero_()
    assert clips[1].sample.frames.any()
    assert clips[1].sounds[0].any()
    assert group.pictures[0].shape[0] == len(group.clips) == 2
