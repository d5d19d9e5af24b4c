import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.errors import MetricInputError
from avsrobust.metrics import g_score
from avsrobust.metrics.g_score import g_scores

fractions = st.floats(0, 1)


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [(1, 0, 1), (0, 0, 0), (0, 1, 0), (0, 0.3, 0), (1, 1, 0), (0.5, 0.5, 0.5), (0.8, 0.4, 2 * 0.8 * 0.6 / 1.4)],
)
def test_closed_forms(positive: float, negative: float, expected: float) -> None:
    assert g_score(positive, negative) == pytest.approx(expected, abs=1e-15)
    assert isinstance(g_score(positive, negative), float)


@pytest.mark.parametrize(
    ("positive", "negative", "message"),
    [
        (1.01, 0, "positive: found 1.01"),
        (0.5, -0.1, "negative: found -0.1"),
        (math.nan, 0, "positive: found nan"),
        (0.5, math.nan, "negative: found nan"),
        (81.7, 3.0, "percent"),
    ],
)
def test_values_that_are_no_scores_are_refused(positive: float, negative: float, message: str) -> None:
    with pytest.raises(MetricInputError, match=message):
        g_score(positive, negative)


@given(fractions, fractions)
def test_it_lies_between_its_parts_and_is_symmetric_in_them(positive: float, negative: float) -> None:
    value = g_score(positive, negative)
    low, high = sorted((positive, 1 - negative))
    assert low - 1e-12 <= value <= high + 1e-12
    assert value == pytest.approx(g_score(1 - negative, 1 - positive), abs=1e-12)


def test_the_vector_form_agrees_and_keeps_nan() -> None:
    generator = np.random.default_rng(0)
    positive, negative = generator.random(50), generator.random(50)
    positive[:2], negative[:2] = 0, 1
    expected = [g_score(p, n) for p, n in zip(positive.tolist(), negative.tolist(), strict=True)]
    assert np.array_equal(g_scores(positive, negative), expected)
    assert np.isnan(g_scores(np.array([np.nan]), np.array([0.5]))).all()
