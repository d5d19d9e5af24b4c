"""Statistics per class: counted by hand, joined, taken apart, and refused where they are no class ids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from avsrobust.errors import MetricInputError
from avsrobust.metrics import (
    ClassStatistics,
    background_prediction,
    class_statistics,
    concatenate_classes,
    take_classes,
)
from avsrobust.vocabulary import NUM_CLASSES

FIELDS = ("frame", "class_id", "intersection", "predicted", "target")


def ids(num_frames: int | None = None) -> st.SearchStrategy[np.ndarray]:
    shape = st.tuples(st.integers(1, 4) if num_frames is None else st.just(num_frames), st.just(2), st.just(3))
    return arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 70]))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    pred = draw(ids())
    return pred, draw(ids(len(pred)))


def same(left: ClassStatistics, right: ClassStatistics) -> bool:
    equal = all(np.array_equal(getattr(left, name), getattr(right, name)) for name in FIELDS)
    return equal and left.num_frames == right.num_frames


@given(pairs())
def test_counts_are_those_of_the_pixels(pair: tuple[np.ndarray, np.ndarray]) -> None:
    pred, target = pair
    statistics = class_statistics(pred, target)
    found = {
        (int(frame), int(class_id)): tuple(counts)
        for frame, class_id, *counts in zip(*(getattr(statistics, name).tolist() for name in FIELDS), strict=True)
    }
    expected = {}
    for frame in range(len(pred)):
        for class_id in range(NUM_CLASSES):
            predicted, true = pred[frame] == class_id, target[frame] == class_id
            if predicted.any() or true.any():
                expected[frame, class_id] = (int((predicted & true).sum()), int(predicted.sum()), int(true.sum()))
    assert found == expected
    assert list(found) == sorted(found)
    assert statistics.pixels.tolist() == [6] * len(pred)
    assert statistics.of_class("target", 70).tolist() == (target == 70).sum(axis=(1, 2)).tolist()


@given(pairs(), pairs())
def test_parts_join_to_the_whole(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> None:
    whole = class_statistics(*(np.concatenate(both) for both in zip(first, second, strict=True)))
    assert same(concatenate_classes([class_statistics(*first), class_statistics(*second)]), whole)


@given(pairs(), st.data())
def test_frames_can_be_taken_in_any_order(pair: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    pred, target = pair
    order = np.array(data.draw(st.permutations(range(len(pred)))), dtype=np.int64)
    count = data.draw(st.integers(0, len(pred)))
    chosen = order[:count]
    expected = class_statistics(pred[chosen], target[chosen])
    assert same(take_classes(class_statistics(pred, target), chosen), expected)
    flags = np.isin(np.arange(len(pred)), chosen)
    expected = class_statistics(pred[flags], target[flags])
    assert same(take_classes(class_statistics(pred, target), flags), expected)


@given(pairs())
def test_background_everywhere_is_what_an_empty_model_gets(pair: tuple[np.ndarray, np.ndarray]) -> None:
    pred, target = pair
    expected = class_statistics(np.zeros_like(target), target)
    assert same(background_prediction(class_statistics(pred, target)), expected)


def test_nothing_joins_to_nothing() -> None:
    nothing = concatenate_classes([])
    assert (nothing.num_frames, len(nothing), nothing.pixels.tolist()) == (0, 0, [])
    assert same(class_statistics(np.zeros((0, 2, 2), np.uint8), np.zeros((0, 2, 2), np.uint8)), nothing)


GOOD = np.zeros((1, 2, 2), np.uint8)


@pytest.mark.parametrize(
    ("pred", "target", "message"),
    [
        (GOOD.astype(np.float32), GOOD, r"pred: found dtype float32; expected class ids.*argmax"),
        (GOOD, GOOD.astype(bool), "target: found dtype bool; expected class ids"),
        ([[[0]]], GOOD, "pred: found list; expected class ids"),
        (GOOD[0], GOOD, r"pred: found shape \(2, 2\); expected \[N, H, W\]"),
        (GOOD, GOOD[:, :1], r"target: found shape \(1, 1, 2\) next to pred \(1, 2, 2\)"),
        (GOOD + 255, GOOD, r"pred: found ids 255\.\.255; expected 0\.\.70; is this a mask of 0 and 255"),
        (GOOD, GOOD.astype(np.int8) - 1, r"target: found ids -1\.\.-1"),
    ],
)
def test_what_are_no_class_ids_is_refused(pred: np.ndarray, target: np.ndarray, message: str) -> None:
    with pytest.raises(MetricInputError, match=message):
        class_statistics(pred, target)


def test_arrays_that_do_not_fit_are_refused() -> None:
    one, two = np.zeros(1, np.int64), np.zeros(2, np.int64)
    with pytest.raises(MetricInputError, match=r"predicted: found shape \(2,\); expected \(1,\)"):
        ClassStatistics(1, one, one, one, two, one)
    with pytest.raises(MetricInputError, match=r"frame: found 3\.\.3; expected 0\.\.0"):
        ClassStatistics(1, one + 3, one, one, one, one)
    with pytest.raises(MetricInputError, match=r"class_id: found 71\.\.71; expected 0\.\.70"):
        ClassStatistics(1, one, one + 71, one, one, one)
