"""Deformable attention as one kernel forward and one backward, for GPUs, in Triton (which torch brings along there).

Conventions
    Letters as in `sampling`; the results are those of `sampling.sampled`, up to rounding. That writes every sampled point to
    memory, S A L P D numbers per frame, and reads them again to weigh and to add them; here they stay in registers. Sums are
    taken in float32; the result has the values' type, to which the next product would round it.
    In the backward pass gradients of values are added up in float32 in an order that differs from run to run, as those of
    `grid_sample` are on a GPU. Where torch may take deterministic algorithms alone, it is refused, as `grid_sample`'s is.
    The kernels depend on the types, A, D and P; on the levels' sizes they do not.
"""

# Triton's functions are compiled from their text, and its decorators have no types.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Positions of a program, which attends with one head.
_BLOCK = 32
# Numbers that one kernel serves whatever they are: a picture of another size is no reason to compile anew.
_SIZES = ("positions", "h0", "w0", "h1", "w1", "h2", "w2")


@triton.jit
def _rows(positions, heads: tl.constexpr, channels: tl.constexpr, block: tl.constexpr):
    """Return a program's rows [N S A], which of them exist, and where the values of its frame and head begin."""
    head = tl.program_id(0) % heads
    # Beyond 32 bits where many frames are large.
    frame = tl.program_id(1).to(tl.int64) * positions
    position = tl.program_id(0) // heads * block + tl.arange(0, block)
    return (frame + position) * heads + head, position < positions, (frame * heads + head) * channels


@triton.jit
def _point(locations, weights, at, exists, height, width):
    """Return pixel coordinates and weight of a point of each row."""
    x = tl.load(locations + 2 * at, mask=exists, other=0.0) * width - 0.5
    y = tl.load(locations + 2 * at + 1, mask=exists, other=0.0) * height - 0.5
    return x, y, tl.load(weights + at, mask=exists, other=0.0).to(tl.float32)


@triton.jit
def _corner(x, y, exists, corner: tl.constexpr, start, height, width):
    """Return one of the four pixels around each point: whether it is in the map, its position, its shares across and down."""
    column, line = tl.floor(x) + corner % 2, tl.floor(y) + corner // 2
    inside = exists & (column >= 0) & (column < width) & (line >= 0) & (line < height)
    place = tl.where(inside, line * width + column, 0.0).to(tl.int32) + start
    return inside, place, 1 - tl.abs(x - column), 1 - tl.abs(y - line)


@triton.jit
def _add_level(
    total, values, locations, weights, row, exists, channel, level: tl.constexpr, start, height, width,
    points: tl.constexpr, heads: tl.constexpr, channels: tl.constexpr,
):  # fmt: skip
    for point in range(points):
        at = row * (3 * points) + level * points + point
        x, y, weight = _point(locations, weights, at, exists, height, width)
        for corner in tl.static_range(4):
            inside, place, across, down = _corner(x, y, exists, corner, start, height, width)
            pointers = values + place[:, None] * (heads * channels) + channel[None, :]
            part = tl.load(pointers, mask=inside[:, None] & (channel < channels)[None, :], other=0.0)
            total += tl.where(inside, across * down * weight, 0.0)[:, None] * part.to(tl.float32)
    return total


@triton.jit(do_not_specialize=_SIZES)
def _forward(
    values, locations, weights, result, positions, h0, w0, h1, w1, h2, w2,
    points: tl.constexpr, heads: tl.constexpr, channels: tl.constexpr, wide: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row, exists, first = _rows(positions, heads, channels, block)
    channel = tl.arange(0, wide)
    values += first
    total = tl.zeros((block, wide), dtype=tl.float32)
    total = _add_level(
        total, values, locations, weights, row, exists, channel, 0, 0, h0, w0, points, heads, channels
    )  # fmt: skip
    total = _add_level(
        total, values, locations, weights, row, exists, channel, 1, h0 * w0, h1, w1, points, heads, channels
    )  # fmt: skip
    total = _add_level(
        total, values, locations, weights, row, exists, channel, 2, h0 * w0 + h1 * w1, h2, w2, points, heads, channels
    )  # fmt: skip
    mask = exists[:, None] & (channel < channels)[None, :]
    tl.store(result + row[:, None] * channels + channel[None, :], total.to(result.dtype.element_ty), mask=mask)


@triton.jit
def _undo_level(
    gradient, values, locations, weights, of_values, of_locations, of_weights, row, exists, channel,
    level: tl.constexpr, start, height, width, points: tl.constexpr, heads: tl.constexpr, channels: tl.constexpr,
):  # fmt: skip
    for point in range(points):
        at = row * (3 * points) + level * points + point
        x, y, weight = _point(locations, weights, at, exists, height, width)
        of_x, of_y, of_weight = x * 0, x * 0, x * 0
        for corner in tl.static_range(4):
            inside, place, across, down = _corner(x, y, exists, corner, start, height, width)
            place = place[:, None] * (heads * channels) + channel[None, :]
            mask = inside[:, None] & (channel < channels)[None, :]
            part = tl.load(values + place, mask=mask, other=0.0).to(tl.float32)
            product = tl.sum(part * gradient, axis=1)
            of_weight += across * down * product
            of_x += (2 * (corner % 2) - 1) * down * product
            of_y += (2 * (corner // 2) - 1) * across * product
            share = tl.where(inside, across * down * weight, 0.0)
            tl.atomic_add(of_values + place, share[:, None] * gradient, mask=mask, sem="relaxed")
        tl.store(of_locations + 2 * at, of_x * weight * width, mask=exists)
        tl.store(of_locations + 2 * at + 1, of_y * weight * height, mask=exists)
        tl.store(of_weights + at, of_weight.to(of_weights.dtype.element_ty), mask=exists)


@triton.jit(do_not_specialize=_SIZES)
def _backward(
    gradient, values, locations, weights, of_values, of_locations, of_weights, positions, h0, w0, h1, w1, h2, w2,
    points: tl.constexpr, heads: tl.constexpr, channels: tl.constexpr, wide: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row, exists, first = _rows(positions, heads, channels, block)
    channel = tl.arange(0, wide)
    mask = exists[:, None] & (channel < channels)[None, :]
    part = tl.load(gradient + row[:, None] * channels + channel[None, :], mask=mask, other=0.0).to(tl.float32)
    values += first
    of_values += first
    _undo_level(
        part, values, locations, weights, of_values, of_locations, of_weights, row, exists, channel,
        0, 0, h0, w0, points, heads, channels,
    )  # fmt: skip
    _undo_level(
        part, values, locations, weights, of_values, of_locations, of_weights, row, exists, channel,
        1, h0 * w0, h1, w1, points, heads, channels,
    )  # fmt: skip
    _undo_level(
        part, values, locations, weights, of_values, of_locations, of_weights, row, exists, channel,
        2, h0 * w0 + h1 * w1, h2, w2, points, heads, channels,
    )  # fmt: skip


def _launch(values: Tensor, locations: Tensor) -> tuple[tuple[int, int], dict[str, int]]:
    """Return the grid of programs, and the constants of both kernels."""
    frames, positions, heads, channels = values.shape
    grid = (heads * triton.cdiv(positions, _BLOCK), frames)
    constants = {
        "points": locations.shape[4],
        "heads": heads,
        "channels": channels,
        "wide": triton.next_power_of_2(channels),
        "block": _BLOCK,
    }
    return grid, constants


@torch.library.custom_op("avsrobust::attend_levels", mutates_args=())
def attend_levels(values: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]) -> Tensor:
    """Return the attended values [N, S, A, D], of the values' type.

    Args:
        values: [N, S, A, D].
        locations: float32 [N, S, A, 3, P, 2].
        weights: [N, S, A, 3, P].
        sizes: Heights and widths of the three levels, from the first: h, w, h, w, h, w.
    """
    values, locations, weights = values.contiguous(), locations.contiguous(), weights.contiguous()
    result = torch.empty_like(values)
    grid, constants = _launch(values, locations)
    with torch.cuda.device_of(values):
        _forward[grid](values, locations, weights, result, values.shape[1], *sizes, **constants)
    return result


@attend_levels.register_fake
def _(values: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]) -> Tensor:
    return torch.empty_like(values, memory_format=torch.contiguous_format)


@torch.library.custom_op("avsrobust::attend_levels_backward", mutates_args=())
def attend_levels_backward(
    gradient: Tensor, values: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of values (float32), locations and weights; arguments as of `attend_levels`.

    Raises:
        RuntimeError: Torch may take deterministic algorithms alone (``torch.use_deterministic_algorithms``).
    """
    if torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(
            "the backward pass of the kernel of deformable attention adds in an order that differs from run to run, and "
            "torch.use_deterministic_algorithms is on; expected model_adapters.m2f.sampling.gathered in its place"
        )
    values, locations, weights = values.contiguous(), locations.contiguous(), weights.contiguous()
    of_values = torch.zeros_like(values, dtype=torch.float32)
    of_locations, of_weights = torch.empty_like(locations), torch.empty_like(weights)
    grid, constants = _launch(values, locations)
    results = (of_values, of_locations, of_weights)
    with torch.cuda.device_of(values):
        _backward[grid](
            gradient.contiguous(), values, locations, weights, *results, values.shape[1], *sizes, **constants
        )
    return results


@attend_levels_backward.register_fake
def _(
    gradient: Tensor, values: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    plain = torch.contiguous_format
    return (
        torch.empty_like(values, dtype=torch.float32, memory_format=plain),
        torch.empty_like(locations, memory_format=plain),
        torch.empty_like(weights, memory_format=plain),
    )


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, list[int]], output: Tensor) -> None:
    *tensors, ctx.sizes = inputs
    ctx.save_for_backward(*tensors)


def _undo(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    values, locations, weights = ctx.saved_tensors
    of_values, of_locations, of_weights = attend_levels_backward(gradient, values, locations, weights, ctx.sizes)
    return of_values.to(values.dtype), of_locations, of_weights, None


attend_levels.register_autograd(_undo, setup_context=_keep)
