import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.building.map_ahead import map_ahead


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(), max_size=30), st.integers(1, 5), st.integers(1, 3))
def test_results_come_in_the_order_of_items(items: list[int], ahead: int, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        assert list(map_ahead(pool, lambda item: item * 2, items, ahead)) == [(item, item * 2) for item in items]


def test_no_more_items_are_taken_than_may_be_under_way() -> None:
    taken = 0
    go = threading.Event()

    def items() -> object:
        nonlocal taken
        for item in range(100):
            taken += 1
            yield item

    with ThreadPoolExecutor(2) as pool:
        found = map_ahead(pool, lambda item: (go.wait(), item)[1], items(), 7)  # type: ignore[arg-type]
        go.set()
        assert next(found) == (0, 0)
        assert taken == 7
        found.close()  # type: ignore[attr-defined]


def test_an_error_is_raised_where_its_item_stands() -> None:
    with ThreadPoolExecutor(2) as pool:
        found = map_ahead(pool, lambda item: 1 // item, [1, 0, 1], 2)
        assert next(found) == (1, 1)
        with pytest.raises(ZeroDivisionError, match="division"):
            next(found)
