import json
from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.list_runs import run_starts
from avsrobust.score_checks import _plain_bytes

LISTS = st.lists(st.lists(st.sampled_from(["a", "b", "é", '"']), max_size=3), max_size=12)


@given(LISTS)
def test_a_run_starts_where_a_list_differs_from_the_one_before(lists: list[list[str]]) -> None:
    expected = [0][: len(lists)] + [place for place, (one, two) in enumerate(pairwise(lists), 1) if one != two]
    assert run_starts(pa.array(lists, pa.list_(pa.string()))).tolist() == expected


@given(LISTS)
def test_a_slice_of_lists_has_its_own_runs(lists: list[list[str]]) -> None:
    array = pa.array([["a"], ["b", "a"], *lists], pa.list_(pa.string())).slice(2)
    assert run_starts(array).tolist() == run_starts(pa.array(lists, pa.list_(pa.string()))).tolist()


@given(LISTS)
def test_lists_are_hashed_as_the_json_of_all_of_them(lists: list[list[str]]) -> None:
    array = pa.array(lists, pa.list_(pa.string()))
    assert b"".join(_plain_bytes(array)) == json.dumps(lists).encode()


@given(st.lists(st.sampled_from(["a", "b\n", "é", None]), max_size=12))
def test_texts_are_hashed_alike_whether_or_not_they_index_a_dictionary(texts: list[str | None]) -> None:
    array = pa.array(texts, pa.string())
    for stored in (array, array.dictionary_encode()):
        assert b"".join(_plain_bytes(stored)) == json.dumps(texts).encode()
