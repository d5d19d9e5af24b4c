from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.evaluation import batches
from avsrobust.evaluation.batches import plan_batches, read_ahead
from avsrobust.evaluation.clip_data import clips_of


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


def test_reading_ahead_keeps_the_order_and_its_bounds() -> None:
    asked: list[int] = []

    def numbers() -> Iterator[Any]:
        for number in range(9):
            asked.append(number)
            yield number

    for expected, (found, thread) in enumerate(read_ahead(numbers(), lambda n: (n, threading.get_ident()))):  # type: ignore[arg-type, return-value]
        assert found == expected
        assert thread != threading.get_ident()
        assert len(asked) <= expected + 3
    assert len(asked) == 9


def test_an_error_in_reading_is_raised_here() -> None:
    def load(number: Any) -> Any:
        if number == 1:
            raise RuntimeError("a bug")
        return number

    loaded = read_ahead(range(5), load)  # type: ignore[arg-type]
    assert next(loaded) == 0
    with pytest.raises(RuntimeError, match="a bug"):
        next(loaded)
