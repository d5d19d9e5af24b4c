from dataclasses import dataclass
from itertools import repeat

from hypothesis import given
from hypothesis import strategies as st

from avsrobust.bulk import make_many


@dataclass(frozen=True, slots=True)
class Pair:
    left: int
    right: str


@given(st.lists(st.integers()))
def test_objects_are_those_of_the_constructor(values: list[int]) -> None:
    assert make_many(Pair, len(values), left=values, right=repeat("r")) == [Pair(value, "r") for value in values]
