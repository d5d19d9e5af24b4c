import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust import row_sets
from avsrobust.manifest import Manifest, load_manifest
from avsrobust.row_keys import KEY_COLUMNS, NO_LEVEL, RowKey, clip_of, key_of
from avsrobust.row_sets import RowSet, aligned, numbered_rows

KEYS = st.tuples(
    st.sampled_from(["test", "val", "é"]),
    st.sampled_from(["a", "b/é", "b", "ab", "\U0001f3b5", "\uffff"]),
    st.sampled_from(["clean", "noise", "mixture"]),
    st.sampled_from([NO_LEVEL, -3.0, float(np.float32(0.1)), 0.0]),
    st.sampled_from([0, 0, 1]),
)
SETS = st.frozensets(KEYS, max_size=12)


@settings(deadline=None)
@given(one=SETS, other=SETS, third=SETS)
def test_sets_are_what_sets_of_tuples_are(
    one: frozenset[RowKey], other: frozenset[RowKey], third: frozenset[RowKey]
) -> None:
    mine, its, more = map(RowSet.of, (one, other, third))
    assert list(mine) == sorted(one)
    assert (len(mine), bool(mine)) == (len(one), bool(one))
    assert mine == one
    assert one == mine
    assert (mine == its) == (one == other)
    assert [key in mine for key in sorted(one | other)] == [key in one for key in sorted(one | other)]
    for found, expected in (
        (mine - its, one - other),
        (mine | its, one | other),
        (mine & its, one & other),
        (mine - other, one - other),
        (one - its, one - other),
        (one | its, one | other),
        (RowSet.union([mine, its, more]), one | other | third),
        (mine.of_clips(its), {key for key in one if clip_of(key) in set(map(clip_of, other))}),
    ):
        assert list(found) == sorted(expected)
    assert (mine <= its, mine >= its, one <= its) == (one <= other, one >= other, one <= other)
    assert mine.clips() == sorted(set(map(clip_of, one)))
    assert mine.isdisjoint(its) == one.isdisjoint(other)


@settings(deadline=None)
@given(sets=st.lists(SETS, min_size=1, max_size=4))
def test_numbers_of_sets_with_common_names_mean_the_same_rows(sets: list[frozenset[RowKey]]) -> None:
    of_sets = [RowSet.of(keys) for keys in sets]
    names, numbers = aligned(*of_sets)
    for keys, found in zip(sets, numbers, strict=True):
        assert list(RowSet(names, found)) == sorted(keys)
    first = of_sets[0]
    for rows in of_sets:
        shuffled = rows.numbers[::-1]
        found = [list(first)[place] if place >= 0 else None for place in first.positions(rows.names, shuffled)]
        assert found == [key if key in first else None for key in sorted(rows, reverse=True)]


@settings(deadline=None)
@given(keys=st.lists(KEYS, max_size=12), encoded=st.booleans(), apart=st.integers(1, 3), has_draws=st.booleans())
def test_sets_of_tables_are_those_of_their_keys(keys: list[RowKey], encoded: bool, apart: int, has_draws: bool) -> None:
    columns = dict(zip(KEY_COLUMNS, zip(*keys, strict=True) if keys else [()] * 5, strict=True))
    columns["level"] = [None if level == NO_LEVEL else level for level in columns["level"]]
    kinds = {"level": pa.float32(), "draw": pa.int16()}
    table = pa.table({name: pa.array(column, kinds.get(name, pa.string())) for name, column in columns.items()})
    if encoded:
        table = pa.table(
            [table.column(name).dictionary_encode() for name in KEY_COLUMNS[:3]] + table.columns[3:], KEY_COLUMNS
        )
    if not has_draws:
        table = table.drop_columns(["draw"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_sets, "_MOST_APART", 2)
        found = RowSet.of_tables(table.slice(first, apart) for first in range(0, len(keys), apart))
    assert list(found) == sorted({key if has_draws else (*key[:4], 0) for key in keys})


def test_rows_of_a_manifest_have_their_keys(tiny_build: Manifest) -> None:
    for rows in (tuple(tiny_build.rows), load_manifest(tiny_build.path).rows):
        names, numbers = numbered_rows(rows)
        assert [next(iter(RowSet(names, numbers[at : at + 1]))) for at in range(len(rows))] == list(map(key_of, rows))


def test_a_row_takes_few_bytes() -> None:
    keys = [("test", f"clip_{number // 40:07d}", "mixture", float(number % 40), 0) for number in range(40_000)]
    rows = RowSet.of(keys)
    held = rows.numbers.nbytes + rows.names.clip_id.nbytes + rows.names.split.nbytes
    assert held < 10 * len(keys)


def test_what_is_no_key_is_not_in_a_set() -> None:
    rows = RowSet.of([("test", "a", "clean", NO_LEVEL, 0)])
    assert ("test", "a", "clean", NO_LEVEL, 0) in rows
    for other in ("test", ("test", "a"), None, ("test", "a", "clean", 1.0, 0), ("test", "b", "clean", NO_LEVEL, 0)):
        assert other not in rows
    assert repr(rows) == "RowSet of 1"
