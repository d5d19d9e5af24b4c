"""Rows held by column are those that every clip is asked for one by one, under all bundled recipes, and so is the layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.building.layout import lay_out
from avsrobust.building.plan import Plan, count_sources, plan
from avsrobust.building.planned_rows import PlannedRow
from avsrobust.clips import Clip
from avsrobust.conditions.recipe import Recipe, load_recipe, parse_recipe
from avsrobust.datasets.taxonomy import S4_SUPERCATEGORY
from avsrobust.manifest import Row

DRAWN = {
    "kind": "build",
    "name": "drawn",
    "description": "Draws, and files of all sounds.",
    "front_end": "vggish",
    "conditions": {"clean": {}, "silence": {}, "noise": {}, "offscreen": {"draws": 3, "pool": "dataset"}},
}
RECIPES = {
    **{name: load_recipe(name) for name in ("standard", "extended", "reference")},
    "drawn": parse_recipe(DRAWN, "test"),
    "stored": parse_recipe({**DRAWN, "store_audio": True}, "test"),
}
LABELS = sorted(S4_SUPERCATEGORY)


def one_by_one(clips: list[Clip], recipe: Recipe, seed: int) -> Plan:
    """Return the plan of conditions whose choosers are plain functions, so that no row is held by column."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avsrobust.building.plan.SoundOfClip", _Nothing)
        patch.setattr("avsrobust.building.plan.LendingChooser", _Nothing)
        return plan(clips, recipe, seed)


class _Nothing:
    pass


@pytest.mark.parametrize("name", RECIPES)
def test_rows_are_those_of_single_choices(name: str, planned_clip: Callable[..., Clip]) -> None:
    recipe = RECIPES[name]

    @settings(max_examples=25, deadline=None)
    @given(
        kinds=st.lists(
            st.tuples(st.sampled_from(LABELS[:6]), st.sampled_from(["train", "test"]), st.booleans(), st.booleans()),
            max_size=9,
        ),
        seed=st.integers(0, 2**32 - 1),
    )
    def check(kinds: list[tuple[str, str, bool, bool]], seed: int) -> None:
        clips = []
        for number, (label, split, muted, unlabelled) in enumerate(kinds):
            clip = replace(planned_clip(f"c{number}", label), split=split, is_muted=muted)
            clips.append(replace(clip, labels=(), broad=(), has_no_label=True) if unlabelled and not muted else clip)
        columns, objects = plan(clips, recipe, seed), one_by_one(clips, recipe, seed)
        assert len(list(objects.rows.held())) == len(objects.rows)
        assert columns == objects
        assert columns.rows == tuple(objects.rows)
        assert hash(columns.rows) == hash(tuple(objects.rows))
        assert [columns.rows[position] for position in range(-len(kinds), 0) if columns.rows] == list(
            objects.rows[len(objects.rows) - len(kinds) :] if columns.rows else []
        )
        assert count_sources(columns.rows) == count_sources(objects.rows)
        assert columns.rows.conditions() == objects.rows.conditions()
        assert columns.rows.clips() == objects.rows.clips()
        for condition in recipe.condition_names:
            assert list(columns.rows.of_condition(condition)) == [
                row for row in objects.rows if row.condition == condition
            ]
        assert all(one.key < other.key for one, other in pairwise(columns.rows))
        made, expected = lay_out(columns), lay_out(objects)
        assert (made.sounds, made.shards, made.pictures) == (expected.sounds, expected.shards, expected.pictures)
        assert list(made.rows) == list(expected.rows)
        assert all(isinstance(row, Row) for row in made.rows)

    check()


def test_a_position_out_of_range_is_an_index_error(planned_clip: Callable[..., Clip]) -> None:
    rows = plan([planned_clip("a", LABELS[0])], RECIPES["standard"], 1).rows
    assert isinstance(rows[0], PlannedRow)
    with pytest.raises(IndexError, match="range"):
        rows[len(rows)]
