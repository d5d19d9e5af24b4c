"""Seeds: fixed values, independence, range; the rendezvous draw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.conditions.seeds import HIGHEST_SEED, candidate_hashes, check_seed, rendezvous, row_seed
from avsrobust.errors import OptionError

NAMES = st.text(max_size=8)
SEEDS = st.integers(0, HIGHEST_SEED)


def test_row_seeds_stay_what_they_are():
    # Builds made by earlier versions are verified with these: they must never change.
    assert row_seed(42, "s4", "dog_barking/x_1", "noise", None) == 15091023931843320497
    assert row_seed(0, "ms3", "äöü -x", "mixture", -6.0) == 2275592274201142894


@given(SEEDS, NAMES, NAMES, NAMES, st.none() | st.floats(-60, 60, width=32))
def test_a_row_seed_is_64_bits_and_follows_from_its_arguments(seed, dataset, clip_id, condition, level):
    value = row_seed(seed, dataset, clip_id, condition, level)
    assert 0 <= value <= HIGHEST_SEED
    assert value == row_seed(seed, dataset, clip_id, condition, level)


@given(st.tuples(SEEDS, NAMES, NAMES, NAMES), st.tuples(SEEDS, NAMES, NAMES, NAMES))
def test_other_arguments_give_another_seed(left, right):
    assert (row_seed(*left, None) == row_seed(*right, None)) == (left == right)


def test_moving_a_character_between_names_gives_another_seed():
    assert row_seed(1, "s4", "ab", "c", None) != row_seed(1, "s4", "a", "bc", None)


def test_a_level_counts_as_the_manifest_stores_it():
    assert row_seed(1, "s4", "a", "noisy", 0.1) == row_seed(1, "s4", "a", "noisy", float(np.float32(0.1)))
    assert row_seed(1, "s4", "a", "noisy", 0.0) == row_seed(1, "s4", "a", "noisy", -0.0)
    assert row_seed(1, "s4", "a", "noisy", 0.0) != row_seed(1, "s4", "a", "noisy", None)
    with pytest.raises(ValueError, match="level nan is not finite"):
        row_seed(1, "s4", "a", "noisy", float("nan"))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "1", True])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(OptionError, match=r"--seed: found .*; expected an integer from 0 to 18446744073709551615"):
        check_seed(seed)


def test_candidates_of_one_name_and_another_kind_differ():
    assert candidate_hashes("clip", ["a"]) != candidate_hashes("category", ["a"])


@given(SEEDS, st.sets(NAMES, min_size=2, max_size=12))
def test_a_loser_that_goes_changes_no_draw(seed, names):
    names = sorted(names)
    winner = names[rendezvous(seed, candidate_hashes("clip", names))]
    for gone in names:
        rest = [name for name in names if name != gone]
        drawn = rest[rendezvous(seed, candidate_hashes("clip", rest))]
        assert (drawn == winner) == (gone != winner)


@given(SEEDS, st.sets(NAMES, min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(seed, names, random):
    names = sorted(names)
    shuffled = random.sample(names, len(names))
    assert (
        names[rendezvous(seed, candidate_hashes("clip", names))]
        == shuffled[rendezvous(seed, candidate_hashes("clip", shuffled))]
    )
