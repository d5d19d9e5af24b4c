import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avsrobust import manifest_rows
from avsrobust.evaluation import clip_table
from avsrobust.evaluation.clip_data import clips_of
from avsrobust.evaluation.clip_table import ClipTable, KnownRows
from avsrobust.manifest import Manifest, load_manifest
from avsrobust.row_keys import key_of
from avsrobust.row_sets import RowSet

FIXTURES = [HealthCheck.function_scoped_fixture]


@pytest.fixture(params=[1, 5, 1 << 14], ids=lambda size: f"rows made in blocks of {size}")
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_rows, "_BLOCK", request.param)
    monkeypatch.setattr(clip_table, "_ROWS_AT_ONCE", request.param)


@pytest.mark.usefixtures("small_blocks")
@settings(deadline=None, suppress_health_check=FIXTURES, max_examples=20)
@given(data=st.data())
def test_clips_are_those_of_all_rows_as_objects(tiny_build: Manifest, data: st.DataObject) -> None:
    build = load_manifest(tiny_build.path)
    conditions = data.draw(st.none() | st.sets(st.sampled_from(build.distinct("condition")), min_size=1))
    rows = build.select(None, None if conditions is None else sorted(conditions)).rows
    chosen = data.draw(st.none() | st.sets(st.integers(0, len(rows) - 1)))
    table = ClipTable(rows, chosen)
    expected = clips_of(row for place, row in enumerate(tuple(rows)) if chosen is None or place in chosen)
    assert list(table) == expected
    assert [table[place] for place in range(len(table))] == expected
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(expected))] * 2)))
    assert list(table[first:last]) == expected[first:last]
    assert table.keys(KnownRows(rows)) == {key_of(row) for clip in expected for row in clip}
    assert table.distinct("condition") == {row.condition for clip in expected for row in clip}


def test_rows_in_any_order_are_put_together(tiny_build: Manifest) -> None:
    rows = list(tiny_build.rows)
    random.Random(0).shuffle(rows)
    assert list(ClipTable(tuple(rows))) == clips_of(rows)


def test_known_rows_say_what_planning_asks(tiny_build: Manifest) -> None:
    tiled = replace(tiny_build.rows[0], tiles=("a", "b"))
    known = KnownRows((tiled, *tiny_build.rows[1:]))
    assert set(known.keys) == {key_of(row) for row in tiny_build.rows}
    for key, negative, composed in zip(known.keys, known.is_negative, known.is_composed, strict=True):
        (row,) = (row for row in tiny_build.rows if key_of(row) == key)
        assert negative == (row.polarity == "negative")
        assert composed == (row == tiny_build.rows[0])
    assert list(known.clips(RowSet.of(map(key_of, tiny_build.rows)))) == clips_of(known.rows)
    assert ("test", "nothing", "clean", float("-inf"), 0) not in known.keys
