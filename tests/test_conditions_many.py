"""Source clips drawn many at a time are those drawn one by one, by the function that scored every candidate for every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from avsrobust.building.plan import plan
from avsrobust.clips import Clip
from avsrobust.conditions import seeds as seeds_module
from avsrobust.conditions.base import Request
from avsrobust.conditions.compiled import highest_scores
from avsrobust.conditions.offscreen import Lender
from avsrobust.conditions.recipe import parse_recipe
from avsrobust.conditions.seeds import candidate_hashes, rendezvous, rendezvous_many, row_seed
from avsrobust.datasets.taxonomy import AVSS_SUPERCATEGORY, S4_SUPERCATEGORY

SEEDS = st.integers(0, 2**64 - 1)


def draw_slowly(seed: int, candidates: Sequence[int]) -> int:
    """splitmix64's finaliser in Python's own integers, of every candidate; the first of the highest wins."""
    scores = []
    for candidate in candidates:
        score = (candidate + seed) % 2**64
        score = (score ^ score >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        score = (score ^ score >> 27) * 0x94D049BB133111EB % 2**64
        scores.append(score ^ score >> 31)
    return scores.index(max(scores))


@settings(deadline=None)
@given(drawn=st.lists(SEEDS, min_size=1, max_size=9), held=st.lists(SEEDS, min_size=1, max_size=40))
@pytest.mark.parametrize("compiled_from", [1, 1 << 60])
def test_many_draws_are_single_draws(compiled_from: int, drawn: list[int], held: list[int]) -> None:
    # Two candidates may have one hash: the first of them is drawn.
    candidates = np.array([*held, held[0]], dtype=np.uint64)
    expected = [draw_slowly(seed, candidates.tolist()) for seed in drawn]
    assert [rendezvous(seed, candidates) for seed in drawn] == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeds_module, "_COMPILED_FROM", compiled_from)
        patch.setattr(seeds_module, "_SCORES_AT_ONCE", 50)
        assert rendezvous_many(np.array(drawn, dtype=np.uint64), candidates).tolist() == expected


@given(score=SEEDS)
def test_the_mixer_can_be_undone(score: int) -> None:
    values: NDArray[np.uint64] = np.array([score], dtype=np.uint64)
    assert seeds_module._unmixed(seeds_module._mixed(values.copy())).tolist() == [score]


def test_more_seeds_than_one_thread_takes() -> None:
    drawn, candidates = (np.arange(1, number, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) for number in (2500, 40))
    highest = highest_scores(drawn, candidates, seeds_module.MULTIPLIERS)
    expected = [seeds_module._scores(int(seed), candidates).max() for seed in drawn]
    assert highest.tolist() == expected


@pytest.mark.parametrize(("dataset", "names"), [("s4", S4_SUPERCATEGORY), ("avss", AVSS_SUPERCATEGORY)])
@pytest.mark.parametrize("compiled_from", [1, 1 << 60])
def test_first_draws_are_what_lend_returns(
    dataset: str, names: dict[str, str], compiled_from: int, planned_clip: Callable[..., Clip]
) -> None:
    known = [name for name in sorted(names) if name != "background"]
    clips = [planned_clip(f"x{index:03d}", known[index * 7 % len(known)], dataset=dataset) for index in range(150)]

    @settings(max_examples=15, deadline=None)
    @given(chosen=st.lists(st.integers(0, 149), min_size=1, max_size=20), seed=st.integers(0, 999))
    def check(chosen: list[int], seed: int) -> None:
        from avsrobust.conditions.base import PlannedDataset

        lender = Lender(PlannedDataset(dataset, tuple(clips), seed))
        asked = [clips[number] for number in chosen]
        seeds = [row_seed(seed, dataset, clip.clip_id, "offscreen", None) for clip in asked]
        for clip, its_seed, drawn in zip(
            asked, seeds, lender.first_draws(asked, np.array(seeds, dtype=np.uint64)), strict=True
        ):
            found = lender.lend(Request("offscreen", clip, None, 0, its_seed, lambda level, draw: 0))
            assert drawn is not None
            assert found == (drawn, False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeds_module, "_COMPILED_FROM", compiled_from)
        check()


@pytest.mark.parametrize("at_once", [1, 7, 1 << 17])
def test_a_plan_does_not_depend_on_how_many_are_chosen_at_once(
    at_once: int, s4_clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = parse_recipe(
        {
            "kind": "build",
            "name": "many",
            "description": "Conditions with levels and draws.",
            "front_end": "vggish",
            "conditions": {"clean": {}, "offscreen": {"draws": 2}, "noise": {}},
        },
        "test",
    )
    expected = plan(s4_clips, recipe, 5)
    monkeypatch.setattr("avsrobust.building.plan._CLIPS_AT_ONCE", at_once)
    found = plan(s4_clips[::-1], recipe, 5)
    assert found == expected
    assert list(found.rows) == sorted(found.rows, key=lambda row: row.key)


def test_hashes_are_those_of_the_first_release() -> None:
    assert candidate_hashes("clip", ["a", 'q"é\\']).tolist() == [
        seeds_module._hash_text('["avsrobust.candidate.1","clip","a"]'),
        seeds_module._hash_text('["avsrobust.candidate.1","clip","q\\"\\u00e9\\\\"]'),
    ]
