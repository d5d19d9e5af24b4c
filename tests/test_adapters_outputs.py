from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.adapters.outputs import (
    ROUNDING,
    check_extras,
    check_output,
    copied,
    is_classes,
    same_bytes,
)
from avsrobust.errors import AdapterOutputError

CPU = torch.device("cpu")


def check(output: object) -> torch.Tensor:
    return check_output(output, adapter="model", batch=2, num_frames=5, device=CPU)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_type_becomes_float32(dtype: torch.dtype) -> None:
    checked = check(torch.full((2, 5, 3, 4), 0.25, dtype=dtype))
    assert checked.dtype == torch.float32
    assert (checked == 0.25).all()


def test_output_is_copied() -> None:
    output = torch.rand(2, 5, 3, 4)
    checked = check(output)
    output.zero_()
    assert checked.sum() > 0


@pytest.mark.parametrize(
    "output",
    [torch.rand(2, 5, 3, 4), torch.rand(2, 5, 7, 3, 4), torch.zeros(2, 5, 3, 4, dtype=torch.uint8)],
    ids=["probabilities", "logits", "ids"],
)
def test_the_same_bytes_under_another_condition_are_one_tensor(output: torch.Tensor) -> None:
    def again(found: torch.Tensor) -> torch.Tensor:
        return check_output(found, adapter="model", batch=2, num_frames=5, device=CPU, earlier=earlier)

    earlier = check(output)
    assert earlier.data_ptr() != output.data_ptr()
    assert again(output) is again(output.clone()) is earlier
    # What the adapter does with its memory afterwards changes neither.
    other = output.clone()
    other[1, 4, -1, -1] += 1
    changed = check_output(other.clamp(0, 1), adapter="model", batch=2, num_frames=5, device=CPU, earlier=earlier)
    assert changed is not earlier
    assert torch.equal(changed.to(other.dtype), other.clamp(0, 1))
    with pytest.raises(AdapterOutputError, match="expected"):
        again(torch.full_like(output, 200) if output.dtype == torch.uint8 else torch.full_like(output, float("nan")))


@given(st.integers(0, 2), st.sampled_from([torch.float32, torch.uint8, torch.bool]), st.data())
def test_tensors_have_the_same_bytes_if_they_are_equal(seed: int, dtype: torch.dtype, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=3))
    one = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).mul(3).to(dtype)
    other = one.clone()
    if one.numel():
        place = data.draw(st.integers(0, one.numel() - 1))
        other.view(-1)[place] = data.draw(st.sampled_from([0, 1]))
    assert same_bytes(one, other) is torch.equal(one, other)
    assert same_bytes(one, one)
    assert same_bytes(None, None)
    assert not same_bytes(one, None)
    assert not same_bytes(one, one.to(torch.float64))


def test_rounding_beyond_the_bounds_is_clamped() -> None:
    output = torch.tensor([1 + ROUNDING / 2, -ROUNDING / 2]).repeat(2, 5, 3, 1)
    assert set(check(output).flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ([1.0], "returned list; expected a torch tensor of probabilities"),
        (torch.zeros(2, 4, 3, 4), r"returned shape \[2, 4, 3, 4\]; expected probabilities \[B=2, T=5, h, w\]"),
        (torch.zeros(10, 3, 4), "separate clips and frames"),
        (torch.zeros(2, 5, 0, 4), r"returned shape \[2, 5, 0, 4\]"),
        (torch.zeros(2, 5, 3, 4).to_sparse(), r"layout sparse_coo; expected probabilities .*\.to_dense\(\)"),
        (
            torch.zeros(2, 5, 1, 1).expand(2, 5, 100_000, 100_000),
            "masks of 100000x100000; expected at most 64,000,000 pixels",
        ),
        (torch.zeros(2, 5, 1, 3, 4), "drop the channel axis"),
        (torch.zeros(2, 4, 71, 3, 4), r"returned shape \[2, 4, 71, 3, 4\]; expected probabilities"),
        (torch.zeros(2, 5, 71, 3, 4, dtype=torch.int64), "returned dtype int64; expected floating-point"),
        (torch.full((2, 5, 71, 3, 4), float("nan")), r"returned NaN in 8,520 of 8,520 values.*finite class logits"),
        (
            torch.full((2, 5, 71, 3, 4), -float("inf")),
            "returned values from -inf to -inf; expected finite class logits",
        ),
        (
            torch.full((2, 5, 3, 4), 255, dtype=torch.uint8),
            r"integers from 255 to 255, which are class ids; expected 0\.\.70",
        ),
        (torch.full((2, 5, 3, 4), -1), "integers from -1 to -1"),
        (torch.zeros(2, 5, 3, 4, dtype=torch.bool), "returned dtype bool; expected floating-point"),
        (torch.zeros(2, 5, 3, 4, device="meta"), "returned a tensor on meta; expected cpu"),
        (torch.full((2, 5, 3, 4), float("nan")), "returned NaN in 120 of 120 values"),
        (torch.full((2, 5, 3, 4), float("inf")), "returned values from inf to inf"),
        (torch.full((2, 5, 3, 4), -3.5), "returned values from -3.5 to -3.5; .* are they logits"),
        (torch.full((2, 5, 3, 4), 1.001), r"returned values from 1.001 to 1.001; .* add \.clamp\(0, 1\)"),
        (torch.zeros(2, 5, 30, 40, 1), r"returned shape \[2, 5, 30, 40, 1\]; .*; drop the last axis"),
        (torch.zeros(2, 5, 90, 120, 71), r"permute\(0, 1, 4, 2, 3\)"),
        (torch.zeros(2, 5, 30, 30, 12), r"permute\(0, 1, 4, 2, 3\)"),
        (torch.zeros(2, 5, 30, 40, 2), r"permute\(0, 1, 4, 2, 3\)"),
        (torch.zeros(1).expand(2, 5, 10**9, 1, 1), "C at most 10,000"),
        (torch.nested.nested_tensor([torch.zeros(5, 3, 4), torch.zeros(5, 2, 4)]), "returned a nested tensor"),
    ],
)
def test_what_breaks_the_contract_is_refused(output: object, message: str) -> None:
    with pytest.raises(AdapterOutputError, match=f"model: .*{message}"):
        check(output)


@pytest.mark.parametrize(
    "shape", [(71, 30, 40), (2, 40, 30), (2, 1, 1), (71, 71, 71), (134, 56, 56), (12, 2, 2), (3, 3, 3)]
)
def test_classes_in_their_place_are_taken(shape: tuple[int, ...]) -> None:
    assert check(torch.zeros(2, 5, *shape)).shape == (2, 5, *shape)


def test_classes_at_the_end_are_named_where_their_number_is_known() -> None:
    with pytest.raises(AdapterOutputError, match=r"returned shape \[2, 5, 30, 40, 71\]; .*permute\(0, 1, 4, 2, 3\)"):
        check_output(torch.zeros(2, 5, 30, 40, 71), adapter="model", batch=2, num_frames=5, device=CPU, num_classes=71)


def test_one_nan_is_found() -> None:
    output = torch.zeros(2, 5, 3, 4)
    output[1, 4, 2, 3] = float("nan")
    with pytest.raises(AdapterOutputError, match="returned NaN in 1 of 120 values"):
        check(output)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_integers_are_class_ids(dtype: torch.dtype) -> None:
    checked = check(torch.full((2, 5, 3, 4), 70, dtype=dtype))
    assert checked.dtype == torch.uint8
    assert is_classes(checked)
    assert not is_classes(check(torch.zeros(2, 5, 3, 4)))


def test_logits_have_the_data_sets_number_of_classes() -> None:
    def check_classes(output: torch.Tensor) -> torch.Tensor:
        return check_output(output, adapter="model", batch=2, num_frames=5, device=CPU, num_classes=71)

    logits = torch.randn(2, 5, 71, 3, 4, dtype=torch.float64)
    checked = check_classes(logits)
    assert checked.dtype == torch.float32
    assert is_classes(checked)
    with pytest.raises(
        AdapterOutputError, match=r"shape \[2, 5, 2, 3, 4\]; .* logits of C=71, .* binary model returns"
    ):
        check_classes(torch.zeros(2, 5, 2, 3, 4))
    assert is_classes(check(torch.zeros(2, 5, 2, 3, 4)))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1], "extras returned list; expected a dict of names to finite tensors"),
        ({"x": 0.5}, "extras returned float under 'x'"),
        ({"x": torch.zeros(2)}, r"extras returned shape \[2\] under 'x'; expected .* \[B=2, T=5\]"),
        ({"x": torch.full((2, 5), torch.nan)}, "extras returned NaN or infinity under 'x'"),
    ],
)
def test_other_values_are_refused(returned: object, message: str) -> None:
    with pytest.raises(AdapterOutputError, match=message):
        check_extras(returned, adapter="model", batch=2, num_frames=5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_copies_hold_what_torch_converts_to_in_memory_of_their_own(dtype: torch.dtype) -> None:
    values = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1)).mul(1e30).to(dtype)
    for source in (values, values.transpose(0, 2), values[:1].expand(3, 4, 5), values[:, ::2], values.requires_grad_()):
        found = copied(source, torch.float32)
        assert torch.equal(found, source.detach().to(torch.float32))
        found.zero_()
        assert source.detach().abs().sum() > 0
    huge = torch.tensor([1e300, -1e300, float("nan")], dtype=torch.float64)
    assert torch.equal(copied(huge, torch.float32).isinf(), torch.tensor([True, True, False]))


def test_copies_of_masks_and_ids_are_their_own() -> None:
    mask = torch.tensor([True, False])
    ids = torch.tensor([70, 3])
    assert copied(mask, torch.bool).logical_not_().tolist() == [False, True]
    assert copied(ids, torch.uint8).add_(1).tolist() == [71, 4]
    assert (mask.tolist(), ids.tolist()) == ([True, False], [70, 3])
    # numpy knows no lazy negation.
    negative = torch.tensor([1 + 2j]).conj().imag
    assert negative.is_neg()
    assert torch.equal(copied(negative, torch.float32), torch.tensor([-2.0]))
