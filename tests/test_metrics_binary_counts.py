import numpy as np
import pytest

from avsrobust.errors import MetricInputError, OptionError
from avsrobust.metrics import FrameStatistics, concatenate, empty_prediction, frame_statistics, take
from avsrobust.metrics.binary.counts import FIELDS, NUM_THRESHOLDS, activated_at
from avsrobust.metrics.binary.thresholds import thresholds


def random_frames(seed: int, shape: tuple[int, ...] = (5, 9, 13)) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    pred = generator.random(shape, dtype=np.float32)
    exact = np.array([0, 0.4, 0.5, 1], dtype=np.float32)
    pred[generator.random(shape) < 0.3] = generator.choice(exact)
    target = generator.random(shape) < 0.4
    target[1] = False
    return pred, target


def assert_equal(first: FrameStatistics, second: FrameStatistics) -> None:
    for name in FIELDS:
        found, expected = getattr(first, name), getattr(second, name)
        assert found.dtype == expected.dtype == np.int64, name
        assert np.array_equal(found, expected), name


def test_counts_equal_the_naive_ones() -> None:
    pred, target = random_frames(0)
    statistics = frame_statistics(pred, target)
    axes = (1, 2)
    for threshold, tp, fp in (
        (np.float32(0.5), statistics.tp_050, statistics.fp_050),
        (np.float32(0.4), statistics.tp_040, statistics.fp_040),
    ):
        assert np.array_equal(tp, ((pred > threshold) & target).sum(axes))
        assert np.array_equal(fp, ((pred > threshold) & ~target).sum(axes))
    assert statistics.pixels.tolist() == [9 * 13] * 5
    assert np.array_equal(statistics.target_pixels, target.sum(axes))
    assert np.array_equal(statistics.inside.sum(1), target.sum(axes))
    assert np.array_equal(statistics.outside.sum(1), (~target).sum(axes))
    assert len(statistics) == 5


def test_the_last_bin_holds_probability_one_alone() -> None:
    pred = np.array([[[1.0, np.nextafter(np.float32(1), np.float32(0)), 0.0]]], dtype=np.float32)
    statistics = frame_statistics(pred, np.ones_like(pred, dtype=bool))
    assert np.flatnonzero(statistics.inside[0]).tolist() == [0, NUM_THRESHOLDS - 2, NUM_THRESHOLDS - 1]


@pytest.mark.parametrize("cuts", [[1, 2, 3, 4], [2], [5]])
def test_splitting_into_batches_changes_nothing(cuts: list[int]) -> None:
    pred, target = random_frames(1)
    parts = [
        frame_statistics(p, t) for p, t in zip(np.split(pred, cuts), np.split(target, cuts), strict=True) if len(p)
    ]
    assert_equal(concatenate(parts), frame_statistics(pred, target))


def test_order_of_frames_is_kept() -> None:
    pred, target = random_frames(2)
    order = np.array([3, 0, 4, 1, 2])
    assert_equal(take(frame_statistics(pred, target), order), frame_statistics(pred[order], target[order]))


def test_take_by_slice_and_flags() -> None:
    statistics = frame_statistics(*random_frames(3))
    flags = np.array([False, True, True, False, False])
    assert_equal(take(statistics, flags), take(statistics, slice(1, 3)))


def test_concatenating_nothing_gives_no_frame() -> None:
    nothing = concatenate([])
    assert len(nothing) == 0
    statistics = frame_statistics(*random_frames(4))
    assert_equal(concatenate([nothing, statistics]), statistics)


def test_the_empty_prediction_is_what_zeros_would_score() -> None:
    pred, target = random_frames(5)
    assert_equal(empty_prediction(frame_statistics(pred, target)), frame_statistics(np.zeros_like(pred), target))


def test_fields_of_different_lengths_are_refused() -> None:
    statistics = frame_statistics(*random_frames(6))
    arrays = {name: getattr(statistics, name) for name in FIELDS}
    with pytest.raises(MetricInputError, match=r"fp_040: found shape \(4,\); expected \(5,\)"):
        FrameStatistics(**{**arrays, "fp_040": statistics.fp_040[:4]})
    with pytest.raises(MetricInputError, match=r"inside: found shape \(5, 254\); expected \(5, 255\)"):
        FrameStatistics(**{**arrays, "inside": statistics.inside[:, :254]})


@pytest.mark.parametrize("index", [0, 1, 76, 126, 128, 200, 254])
def test_the_histograms_answer_every_threshold_of_theirs(index: int) -> None:
    pred, target = random_frames(index)
    threshold = thresholds()[index]
    tp, fp = activated_at(frame_statistics(pred, target), index / 254)
    assert np.array_equal(tp, ((pred >= threshold) & target).sum((1, 2)))
    assert np.array_equal(fp, ((pred >= threshold) & ~target).sum((1, 2)))


@pytest.mark.parametrize("threshold", [0.3, -0.1, 1.5, float("nan"), 0.41])
def test_a_threshold_between_those_stored_is_refused_with_its_neighbours(threshold: float) -> None:
    pred, target = random_frames(0)
    with pytest.raises(OptionError, match=r"do not answer; expected 0\.5, 0\.4, or k / 254 .* nearest are"):
        activated_at(frame_statistics(pred, target), threshold)
