"""Keys of rows: one for the manifest, the scores and the files next to them."""

from __future__ import annotations

import math

from avsrobust.row_keys import clip_of, key_of, row_key


def test_levels_are_compared_as_files_hold_them() -> None:
    assert row_key("test", "a", "mixture", 0.1) == row_key("test", "a", "mixture", 0.1 + 1e-9)
    assert row_key("test", "a", "mixture", 0.1) != row_key("test", "a", "mixture", 0.2)


def test_no_level_is_one_value_that_sorts_first() -> None:
    none = row_key("test", "a", "mixture", None)
    assert none == row_key("test", "a", "mixture", math.nan)
    assert sorted([row_key("test", "a", "mixture", -60.0), none])[0] == none


def test_a_manifests_row_has_a_key(tiny_build) -> None:
    row = tiny_build.rows[0]
    assert key_of(row) == row_key(row.split, row.clip_id, row.condition, row.level)
    assert clip_of(key_of(row)) == (row.split, row.clip_id)
