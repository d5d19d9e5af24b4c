from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.adapters.resizing import resize_classes, resize_probability


def test_resize_leaves_the_right_size_alone() -> None:
    probability = torch.rand(5, 3, 4)
    assert resize_probability(probability, 3, 4) is probability


def test_resize_is_bilinear_without_aligned_corners() -> None:
    # Closed form: doubling [0, 1] puts samples at -0.25, 0.25, 0.75, 1.25 of the source's pixel centres.
    resized = resize_probability(torch.tensor([[[0.0, 1.0]]]), 1, 4)
    assert resized.tolist() == [[[0.0, 0.25, 0.75, 1.0]]]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**16))
def test_resize_stays_in_range_and_ignores_the_other_frames(height: int, width: int, seed: int) -> None:
    probability = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(seed))
    resized = resize_probability(probability, height, width)
    assert resized.shape == (3, height, width)
    assert resized.min() >= 0
    assert resized.max() <= 1
    assert torch.equal(resized[1:2], resize_probability(probability[1:2], height, width))


def test_the_background_of_logits_is_class_0() -> None:
    logits = torch.zeros(1, 3, 1, 4)
    logits[0, :, 0] = torch.tensor([[2.0, 0.0, 0.0, 5.0], [0.0, 1.0, 0.0, 5.0], [0.0, 0.0, 3.0, 5.0]])
    ids, probability = resize_classes(logits, 1, 4)
    assert ids.tolist() == [[[0, 1, 2, 0]]]
    expected = 1 - logits.softmax(dim=1)[:, 0]
    assert torch.equal(probability, expected)


def test_logits_are_resized_before_the_largest_is_taken() -> None:
    # Between a weak 0 and a strong 1 the strong one reaches further, which resized ids would not show.
    logits = torch.tensor([[[[1.0, 0.0]], [[0.0, 5.0]]]])
    ids, probability = resize_classes(logits, 1, 8)
    assert ids.tolist() == [[[0, 0, 0, 1, 1, 1, 1, 1]]]
    assert probability.shape == (1, 1, 8)
    assert probability.diff().min() >= 0


def test_ids_are_resized_to_the_nearest() -> None:
    ids, probability = resize_classes(torch.tensor([[[3, 0], [70, 21]]], dtype=torch.uint8), 4, 4)
    assert ids[0].tolist() == [[3, 3, 0, 0]] * 2 + [[70, 70, 21, 21]] * 2
    assert torch.equal(probability, (ids != 0).float())


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**16))
def test_classes_of_a_frame_ignore_the_others(height: int, width: int, seed: int) -> None:
    logits = torch.randn(3, 4, 5, 7, generator=torch.Generator().manual_seed(seed))
    ids, probability = resize_classes(logits, height, width)
    alone = resize_classes(logits[1:2], height, width)
    assert torch.equal(ids[1:2], alone[0])
    assert torch.equal(probability[1:2], alone[1])
    assert 0 <= probability.min() <= probability.max() <= 1
