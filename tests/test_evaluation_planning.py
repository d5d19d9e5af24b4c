"""Which rows are run: the plan's arrays choose what its rules, written with sets of keys, do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avsrobust.evaluation.clip_data import clips_of
from avsrobust.evaluation.clip_table import KnownRows
from avsrobust.evaluation.planning import _rows_to_run
from avsrobust.manifest import Manifest, Row
from avsrobust.row_keys import ClipKey, RowKey, clip_of, key_of
from avsrobust.row_sets import RowSet
from avsrobust.vocabulary import CLEAN, NEGATIVE

CONDITIONS = {"clean": "positive", "mixture": "positive", "noise": NEGATIVE, "offscreen": NEGATIVE, "silence": NEGATIVE}


def by_sets(
    rows: Collection[Row], wanted: set[RowKey], scored: set[RowKey], compared: set[RowKey], again: set[RowKey]
) -> tuple[set[RowKey], set[RowKey]]:
    """Return the rows to run, and those of them that results come of."""
    known = {key_of(row): row for row in rows}
    negative = {key for key, row in known.items() if row.polarity == NEGATIVE}
    clean = {clip_of(key): key for key in (*scored, *wanted) if key[2] == CLEAN}
    touched = {clip_of(key) for key in wanted}
    stale = {
        key
        for key in scored - compared
        if key in known
        and key[2] != CLEAN
        and known[key].tiles is None
        and clip_of(key) in clean
        and clip_of(key) in touched
    }
    further = {key for key in wanted if key not in scored and key in known}
    first: dict[ClipKey, RowKey] = {}
    for key in further & negative:
        first[clip_of(key)] = min(key, first.get(clip_of(key), key))
    stale |= {key for key in scored & negative if clip_of(key) in first and key > first[clip_of(key)]}
    due = further | {key for key in again if key in wanted and key in known} | stale
    helpers = {clean[clip_of(key)] for key in due if key[2] != CLEAN and clip_of(key) in clean}
    compared_clips = {clip_of(key) for key in due & negative}
    helpers |= {key for key in scored & negative if clip_of(key) in compared_clips}
    return due | {key for key in helpers if key in known}, due


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_to_run_are_those_of_the_rules(tiny_build: Manifest, data: st.DataObject) -> None:
    entries = st.tuples(
        st.sampled_from(["test", "val"]),
        st.sampled_from(["a", "b", "ab"]),
        st.sampled_from(sorted(CONDITIONS)),
        st.sampled_from([0, 0, 1]),
    )
    made = [
        replace(
            tiny_build.rows[0],
            split=split,
            clip_id=clip_id,
            condition=condition,
            polarity=CONDITIONS[condition],
            draw=0 if condition == CLEAN else draw,
            level=-5.0 if condition == "mixture" else None,
            tiles=("x", "y") if condition == "offscreen" and draw else None,
        )
        for split, clip_id, condition, draw in sorted(data.draw(st.frozensets(entries, max_size=20)))
    ]
    rows = list({key_of(row): row for row in made}.values())
    # Results may hold rows that the manifest lacks.
    keys = [
        *map(key_of, rows),
        ("test", "gone", "clean", float("-inf"), 0),
        ("test", "gone", "noise", float("-inf"), 0),
    ]
    some = st.frozensets(st.sampled_from(keys))
    wanted, scored, compared, again = (set(data.draw(some)) for _ in range(4))
    compared &= scored
    clips, due = _rows_to_run(KnownRows(rows), *map(RowSet.of, (wanted, scored, compared, again)))
    expected, expected_due = by_sets(rows, wanted, scored, compared, again)
    assert list(clips) == clips_of(row for row in rows if key_of(row) in expected)
    assert list(due) == sorted(expected_due)
