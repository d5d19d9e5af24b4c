from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.training.sampler import MixtureComponent, Sampler, Stage, noise_seed, part_of, quotas

ONE = Sampler(3, 4, (Stage(0, 100, (MixtureComponent(tuple(range(10)), 1.0, 0),)),))
TWO = Sampler(
    3,
    8,
    (Stage(0, 100, (MixtureComponent(tuple(range(10)), 0.75, 0), MixtureComponent(tuple(range(10, 13)), 0.25, 1))),),
)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    backwards = [ONE.batch(step) for step in reversed(range(8))]
    assert backwards[::-1] == [ONE.batch(step) for step in range(8)]
    assert ONE.batch(0) != Sampler(4, 4, ONE.stages).batch(0)


def test_each_epoch_has_every_sample_once_in_an_order_of_its_own() -> None:
    samples = [index.sample for step in range(5) for index in ONE.batch(step)]
    assert sorted(samples[:10]) == sorted(samples[10:]) == list(range(10))
    assert samples[:10] != samples[10:]


def test_draws_differ_from_epoch_to_epoch() -> None:
    indices = [index for step in range(5) for index in ONE.batch(step)]
    assert len({index.seed for index in indices}) == len(indices)
    assert {index.epoch for index in indices} == {0, 1}
    assert indices[0].generator().random() == indices[0].generator().random()


def test_a_mix_keeps_its_shares_in_every_batch() -> None:
    for step in range(6):
        counts = Counter(index.sample >= 10 for index in TWO.batch(step))
        assert counts == {False: 6, True: 2}


def test_stages_follow_each_other() -> None:
    first, second = MixtureComponent((0, 1), 1.0, 0), MixtureComponent((0, 1, 2, 3), 1.0, 0)
    sampler = Sampler(0, 4, (Stage(0, 2, (first,)), Stage(2, 5, (second,))))
    assert {index.sample for step in (0, 1) for index in sampler.batch(step)} == {0, 1}
    assert {index.sample for index in sampler.batch(2)} == {0, 1, 2, 3}


@given(st.integers(1, 4), st.integers(0, 20))
def test_parts_make_up_the_batch(parts: int, step: int) -> None:
    together = [index for part in range(parts) for index in part_of(TWO.batch(step), part, parts)]
    assert sorted(together, key=lambda index: index.seed) == sorted(TWO.batch(step), key=lambda index: index.seed)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=6), st.integers(1, 64))
def test_quotas_add_up_and_stay_near_their_share(shares: list[float], total: int) -> None:
    counts = quotas(shares, total)
    assert sum(counts) == total
    for share, count in zip(shares, counts, strict=True):
        assert abs(count - share / sum(shares) * total) <= 1


@pytest.mark.parametrize("other", [(2, 5, 0), (1, 6, 0), (1, 5, 1)])
def test_noise_seeds_differ(other: tuple[int, int, int]) -> None:
    assert noise_seed(1, 5, 0) != noise_seed(*other)
    assert 0 <= noise_seed(*other) < 2**63
