"""Differences of models from shared resamples, and Holm's correction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.metrics import PairedDifference
from avsrobust.metrics.bootstrap import CONDITION_STATISTICS, G_CONDITIONS, STATISTICS, statistics_of
from avsrobust.metrics.comparison import (
    ResampledScores,
    condition_statistics,
    difference,
    g_statistics,
    holm,
    holm_by_statistic,
)
from avsrobust.metrics.intervals import expanded_percentiles
from avsrobust.metrics.resampling import ClipTerms, Grouping, Resampling
from avsrobust.vocabulary import NEGATIVES

CONDITIONS, ALL = g_statistics(NEGATIVES)


def scores(values: np.ndarray, resampling: Resampling) -> ResampledScores:
    """Scores of means over clips; values are [clips, 4 conditions, 3]."""
    terms = np.stack([values, np.ones_like(values)], axis=2)

    def ratio(sums: np.ndarray) -> np.ndarray:
        return sums[:, :, 0] / sums[:, :, 1]

    return ResampledScores(ClipTerms(terms, np.ones(values.shape[:2], bool), ratio), resampling, CONDITIONS)


def entry(p: float | None, statistic: str = "F") -> PairedDifference:
    return PairedDifference(statistic, 0, 0, 0, 0, 0, p, 1, 1)


def test_names_and_values_are_those_of_the_pairwise_functions() -> None:
    assert [statistic.name for statistic in ALL] == [*STATISTICS, *CONDITION_STATISTICS]
    assert dict(G_CONDITIONS) == CONDITIONS
    values = np.random.default_rng(0).random((7, 4, 3))
    for statistic in ALL:
        expected = statistics_of(G_CONDITIONS)[statistic.name](values)
        assert statistic.value(values) == pytest.approx(expected, abs=1e-15), statistic.name
    conditions, (miou, *_) = condition_statistics("mixture@-3", ("mixture", -3.0))
    assert (dict(conditions), miou.name) == ({"mixture@-3": ("mixture", -3.0)}, "mixture@-3_mIoU")


def test_other_negatives_enter_g() -> None:
    conditions, statistics = g_statistics(["silence", "offscreen@-6"])
    assert list(conditions) == ["clean", "silence", "noise", "offscreen", "offscreen@-6"]
    of = {statistic.name: statistic.of for statistic in statistics}
    assert of["G_FPR"] == of["G_mIoU"] == (1, 4)
    assert of["offscreen@-6_FPR"] == (4,)


def test_a_model_does_not_differ_from_itself() -> None:
    resampling = Resampling(np.arange(20), 300)
    values = np.random.default_rng(1).random((20, 4, 3))
    a, b = scores(values, resampling), scores(values.copy(), resampling)
    for statistic in ALL:
        found = difference(statistic, a, b)
        assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
        assert (found.clips, found.samples) == (20, 300)


def test_it_equals_a_slow_bootstrap() -> None:
    generator = np.random.default_rng(2)
    one, other = generator.random((30, 4, 3)), 0.9 * generator.random((30, 4, 3))
    resampling = Resampling(np.arange(30), 4000)
    found = difference(ALL[0], scores(one, resampling), scores(other, resampling))
    gaps = [(one - other)[generator.integers(30, size=30), 0, 0].mean() for _ in range(4000)]
    assert [found.low, found.high] == pytest.approx(np.percentile(gaps, expanded_percentiles(30)), abs=0.02)


def test_interval_and_p_agree_about_chance() -> None:
    generator = np.random.default_rng(3)
    resampling = Resampling(np.arange(12), 4000)
    for shift in np.linspace(0.0, 0.5, 15):
        values = generator.random((12, 4, 3))
        found = difference(ALL[0], scores(values + shift, resampling), scores(generator.random((12, 4, 3)), resampling))
        assert found.p is not None
        assert found.low is not None
        assert found.high is not None
        if abs(found.p - 0.05) > 0.005:
            assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_what_is_undefined_has_no_difference() -> None:
    resampling = Resampling(np.arange(5), 10)
    values = np.full((5, 4, 3), 0.5)
    values[:, 3] = np.nan
    found = {statistic.name: difference(statistic, *[scores(values, resampling)] * 2) for statistic in ALL}
    assert found["mIoU"].difference == 0
    assert found["G_mIoU"].difference is found["offscreen_F"].p is None


def test_holm_by_hand() -> None:
    # 4 values: 0.01 * 4, 0.02 * 3, 0.03 * 2 (not below the one before), 0.5 * 1.
    found = [value.p_holm for value in holm([entry(0.03), entry(None), entry(0.01), entry(0.5), entry(0.02)])]
    assert found[1] is None
    assert [value for value in found if value is not None] == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert [value.p_holm for value in holm([entry(0.7), entry(0.6)])] == [1, 1]


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_lowers_nothing(values: list[float]) -> None:
    found = holm([entry(p) for p in values])
    corrected = [value.p_holm for value in found]
    assert all(one is not None and p <= one <= 1 for p, one in zip(values, corrected, strict=True))
    assert [corrected[i] for i in np.argsort(values, kind="stable")] == sorted(corrected)  # type: ignore[type-var]
    assert [replace(value, p_holm=None) for value in found] == [entry(p) for p in values]


def test_families_are_scores() -> None:
    groups = [[entry(0.01), entry(0.02, "mIoU")], [entry(0.04)], [entry(0.03)]]
    found = holm_by_statistic(groups)
    assert [[value.p_holm for value in group] for group in found] == [
        [pytest.approx(0.03), pytest.approx(0.02)],
        [pytest.approx(0.06)],
        [pytest.approx(0.06)],
    ]


def test_both_models_take_one_pass_through_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(5)
    values = [generator.random((9, 4, 3)) for _ in range(3)]
    alone = [scores(of_model, Resampling(np.arange(9), 50)) for of_model in values]
    expected = [side.resampled(statistic)[0] for statistic in ALL for side in alone]
    passes = []

    def counted(self: Resampling, terms: Sequence[np.ndarray], grouping: Grouping) -> Iterator[list[np.ndarray]]:
        passes.append(len(terms))
        return blocks_of_all(self, terms, grouping)

    blocks_of_all = Resampling.blocks_of_all
    monkeypatch.setattr(Resampling, "blocks_of_all", counted)
    shared = Resampling(np.arange(9), 50)
    one, other, third = (scores(of_model, shared) for of_model in values)
    found = [difference(statistic, one, other) for statistic in ALL]
    assert passes == [2]
    difference(ALL[0], one, third)
    assert passes == [2, 1]
    assert [entry.difference for entry in found] == [
        difference(statistic, alone[0], alone[1]).difference for statistic in ALL
    ]
    together = [side.resampled(statistic)[0] for statistic in ALL for side in (one, other, third)]
    assert all((now == before).all() for now, before in zip(together, expected, strict=True))
