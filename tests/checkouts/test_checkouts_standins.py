from __future__ import annotations

import numpy as np
import pytest
import torch

from model_adapters.checkouts.standins import ms_deform_attn


def _inputs(seed: int, shapes: list[tuple[int, int]]) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    positions = sum(height * width for height, width in shapes)
    value = torch.randn(2, positions, 3, 4, generator=generator, dtype=torch.float64)
    # Some samples lie outside of the level.
    locations = torch.rand(2, 5, 3, len(shapes), 2, 2, generator=generator, dtype=torch.float64) * 1.4 - 0.2
    weights = torch.rand(2, 5, 3, len(shapes), 2, generator=generator, dtype=torch.float64)
    return value, torch.tensor(shapes), locations, weights


def _slow(value: np.ndarray, shapes: np.ndarray, locations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Equation 3 of Deformable DETR, one bilinear sample at a time."""
    batch, queries, heads, levels, points = weights.shape
    answer = np.zeros((batch, queries, heads, value.shape[-1]))
    for b, q, m, level, k in np.ndindex(batch, queries, heads, levels, points):
        height, width = shapes[level]
        start = int(np.prod(shapes[:level], axis=1).sum()) if level else 0
        x, y = locations[b, q, m, level, k] * (width, height) - 0.5
        for row in (int(np.floor(y)), int(np.floor(y)) + 1):
            for column in (int(np.floor(x)), int(np.floor(x)) + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(y - row)) * (1 - abs(x - column))
                    sample = value[b, start + row * width + column, m]
                    answer[b, q, m] += weights[b, q, m, level, k] * share * sample
    return answer.reshape(batch, queries, -1)


@pytest.mark.parametrize("shapes", [[(4, 6)], [(4, 6), (2, 3), (1, 1)]])
def test_it_is_the_papers_equation(shapes: list[tuple[int, int]]) -> None:
    inputs = _inputs(1, shapes)
    expected = _slow(*(tensor.numpy() for tensor in inputs))
    np.testing.assert_allclose(ms_deform_attn(*inputs).numpy(), expected, atol=1e-12)


def test_it_agrees_with_transformers() -> None:
    mask2former = pytest.importorskip("transformers.models.mask2former.modeling_mask2former")
    shapes = [(8, 8), (4, 4), (2, 2)]
    value, sizes, locations, weights = _inputs(2, shapes)
    expected = mask2former.multi_scale_deformable_attention(value, shapes, locations, weights)
    torch.testing.assert_close(ms_deform_attn(value, sizes, locations, weights), expected)


def test_one_query_in_the_middle_of_a_pixel_gets_that_pixel() -> None:
    value = torch.arange(6.0).reshape(1, 6, 1, 1)
    centre = torch.tensor([1.5 / 3, 0.5 / 2]).reshape(1, 1, 1, 1, 1, 2)
    assert ms_deform_attn(value, torch.tensor([[2, 3]]), centre, torch.ones(1, 1, 1, 1, 1)).item() == 1.0
