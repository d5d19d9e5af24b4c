from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avsrobust.errors import MetricInputError
from avsrobust.metrics.binary.thresholds import at_least, bin_index, histograms, thresholds

GOLDEN = Path(__file__).parent / "golden" / "metrics_binary.npz"


def boundary_values(table: np.ndarray) -> np.ndarray:
    """Every threshold and the nearest float32 values below and above it, within [0, 1]."""
    below, above = np.nextafter(table, np.float32(-1)), np.nextafter(table, np.float32(2))
    values = np.concatenate([table, below, above])
    return values[(values >= 0) & (values <= 1)]


HARD = boundary_values(thresholds())
probabilities = st.one_of(
    st.floats(0, 1, width=32),
    st.sampled_from(HARD.tolist()),
    st.sampled_from([0.0, 1.0, float(np.float32(0.4)), 0.5]),
)


@st.composite
def predictions_and_targets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 9)))
    pred = draw(hnp.arrays(np.float32, shape, elements=probabilities))
    return pred, draw(hnp.arrays(np.bool_, shape))


def test_thresholds_are_those_of_the_reference() -> None:
    with np.load(GOLDEN) as golden:
        assert np.array_equal(thresholds(), golden["thresholds_f32"])


@pytest.mark.parametrize("num", [2, 3, 10, 100, 254, 255, 256, 257, 1000, 1001, 65535])
def test_thresholds_are_those_of_torch(num: int) -> None:
    assert np.array_equal(thresholds(num), torch.linspace(0, 1 - 1e-10, num).numpy())


@pytest.mark.parametrize("num", [-1, 0, 1, 65536])
def test_numbers_of_thresholds_out_of_range_are_refused(num: int) -> None:
    with pytest.raises(MetricInputError, match=f"num_thresholds: found {num}; expected 2 to 65535"):
        thresholds(num)


def test_thresholds_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        thresholds()[0] = 1


@pytest.mark.parametrize("num", [2, 3, 10, 254, 255, 256, 257, 1001, 65535])
def test_bins_are_exact_on_every_threshold_and_its_neighbours(num: int) -> None:
    table = thresholds(num)
    values = np.concatenate([boundary_values(table), np.linspace(0, 1, 10007, dtype=np.float32)])
    expected = np.searchsorted(table, values, side="right") - 1
    assert np.array_equal(bin_index(values, table), expected)


def test_bins_are_exact_for_every_float32_near_some_thresholds() -> None:
    """All float32 values within 200 steps of a threshold: wider than the error of the product that guesses the bin."""
    table = thresholds()
    chosen = table[[1, 2, 7, 63, 64, 126, 127, 128, 200, 253]]
    bits = chosen.view(np.int32)[:, None] + np.arange(-200, 201, dtype=np.int32)
    values = bits.astype(np.int32).view(np.float32)
    expected = np.searchsorted(table, values, side="right") - 1
    assert np.array_equal(bin_index(values, table), expected)


@settings(max_examples=60, deadline=None)
@given(predictions_and_targets())
def test_cumulative_counts_equal_the_naive_count_at_every_threshold(pair: tuple[np.ndarray, np.ndarray]) -> None:
    pred, target = pair
    table = thresholds()
    inside, outside = (at_least(histogram) for histogram in histograms(pred, target, table))
    for position, threshold in enumerate(table):
        activated = pred >= threshold
        assert np.array_equal(inside[:, position], (activated & target).sum(axis=(1, 2)))
        assert np.array_equal(outside[:, position], (activated & ~target).sum(axis=(1, 2)))


@pytest.mark.parametrize("num", [2, 255, 256, 8191, 8192, 10000])
def test_histograms_count_every_pixel_whatever_the_number_of_bins(num: int) -> None:
    generator = np.random.default_rng(num)
    pred = generator.random((2, 7, 11), dtype=np.float32)
    pred[0, 0, :2] = 0, 1
    target = generator.random(pred.shape) < 0.3
    table = thresholds(num)
    inside, outside = histograms(pred, target, table)
    for frame in range(2):
        bins = np.searchsorted(table, pred[frame], side="right") - 1
        assert np.array_equal(inside[frame], np.bincount(bins[target[frame]], minlength=num))
        assert np.array_equal(outside[frame], np.bincount(bins[~target[frame]], minlength=num))


def test_memory_layout_does_not_matter() -> None:
    generator = np.random.default_rng(3)
    pred, target = generator.random((3, 8, 10), dtype=np.float32), generator.random((3, 8, 10)) < 0.5
    expected = histograms(pred, target, thresholds())
    turned = np.ascontiguousarray(pred.T).T, np.asfortranarray(target)
    strided = np.repeat(pred, 2, axis=2)[:, :, ::2], np.repeat(target, 2, axis=1)[:, ::2]
    for pair in (turned, strided):
        for found, wanted in zip(histograms(*pair, thresholds()), expected, strict=True):
            assert np.array_equal(found, wanted)
