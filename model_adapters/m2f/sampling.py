"""Deformable attention to the values of three levels (Zhu et al. 2021, "Deformable DETR", equation 3), in three ways.

Conventions
    N frames, S positions on all L = 3 levels together, A heads of width D, P points of a position per level, H = A D. A way takes
    values [N, S, A, D], the levels' sizes (h_l, w_l), locations (x, y) in [0, 1], float32 [N, S, A, L, P, 2], and their weights
    [N, S, A, L, P], to attended values [N, S, H]. Values are sampled bilinearly, with zeros beyond the border.
    `sampled` leaves that to torch's `grid_sample`, level by level. `gathered` writes it as a weighted sum over rows of the
    values, for torch.compile; uncompiled, it would hold 4 D numbers per point. `fused` is one kernel forward and one backward
    (`sampling_kernel`), for GPUs where Triton is at hand, after it has been compared with `sampled` there (`can_fuse`).
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 3
Attend = Callable[[Tensor, tuple[tuple[int, int], ...], Tensor, Tensor], Tensor]
# How far `fused` may be from `sampled` on the small example that they are compared on, in float32 on numbers of about 1.
_APART = 1e-3


def sampled(values: Tensor, sizes: tuple[tuple[int, int], ...], locations: Tensor, weights: Tensor) -> Tensor:
    """Return the attended values [N, S, H], sampled by `grid_sample`, one level after the other."""
    frames, positions, heads, width = values.shape
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1).unbind(2)
    shares = weights.transpose(1, 2).flatten(0, 1).unsqueeze(1).unbind(-2)
    levels = torch.split(values, [h * w for h, w in sizes], dim=1)
    total: Tensor | None = None
    for part, size, grid, share in zip(levels, sizes, grids, shares, strict=True):
        maps = part.permute(0, 2, 3, 1).reshape(frames * heads, width, *size)
        points = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        one = (points * share).sum(-1)
        total = one if total is None else total + one
    return cast("Tensor", total).view(frames, heads * width, positions).transpose(1, 2)


def gathered(values: Tensor, sizes: tuple[tuple[int, int], ...], locations: Tensor, weights: Tensor) -> Tensor:
    """Return the attended values [N, S, H] as a weighted sum of rows; in training, of float32 rows (their gradients add up)."""
    frames, _, heads, _ = values.shape
    values = values.float() if values.requires_grad else values
    rows, shares = [], []
    start = 0
    for level, (height, width) in enumerate(sizes):
        # Pixel coordinates, and the four neighbours of each.
        x = locations[..., level, :, 0] * width - 0.5
        y = locations[..., level, :, 1] * height - 0.5
        left, top = x.floor(), y.floor()
        for down in (0, 1):
            for right in (0, 1):
                column, line = left + right, top + down
                share = (1 - (x - column).abs()) * (1 - (y - line).abs()) * weights[..., level, :]
                inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
                row = line.clamp(0, height - 1) * width + column.clamp(0, width - 1)
                rows.append(row.to(torch.int64) + start)
                shares.append(share * inside)
        start += height * width
    row, share = torch.cat(rows, dim=-1), torch.cat(shares, dim=-1)
    frame = torch.arange(frames, device=values.device)[:, None, None, None]
    head = torch.arange(heads, device=values.device)[None, None, :, None]
    return (values[frame, row, head] * share.unsqueeze(-1)).sum(dim=-2).flatten(2).to(weights.dtype)


def fused(values: Tensor, sizes: tuple[tuple[int, int], ...], locations: Tensor, weights: Tensor) -> Tensor:
    """Return the attended values [N, S, H] by one kernel; only where `can_fuse`."""
    from model_adapters.m2f.sampling_kernel import attend_levels

    sides = [side for size in sizes for side in size]
    return cast("Tensor", attend_levels(values, locations, weights, sides)).flatten(2)


@lru_cache(maxsize=16)
def can_fuse(device: torch.device) -> bool:
    """Return whether `fused` works on a device; it is tried once. Where a GPU has Triton and it fails, a warning says so."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    try:
        found = difference(fused, device)
    except Exception as error:
        # Compilers and drivers raise many kinds; all mean the same here.
        problem = f"cannot be compiled or run ({type(error).__name__}: {error})"
    else:
        if found <= _APART:
            return True
        problem = f"differs from grid_sample by {found:.2g} (expected at most {_APART})"
    warnings.warn(
        f"m2f: the kernel of deformable attention {problem}; grid_sample takes its place, more slowly", stacklevel=2
    )
    return False


def difference(attend: Attend, device: torch.device) -> float:
    """Return how far results and gradients of a way are from those of `sampled`, at most, on a small example."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 3), (4, 6), (8, 12))
    positions = sum(height * width for height, width in sizes)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        values = torch.randn(2, positions, 4, 16, generator=generator)
        # Some lie beyond the border.
        locations = 0.5 + 0.4 * torch.randn(2, positions, 4, LEVELS, 4, 2, generator=generator)
        weights = torch.rand(2, positions, 4, LEVELS, 4, generator=generator)
        gradient = torch.randn(2, positions, 64, generator=generator).to(device)
        inputs = [each.to(device).requires_grad_() for each in (values, locations, weights)]
        results = []
        for way in (attend, sampled):
            attended = way(inputs[0], sizes, inputs[1], inputs[2])
            results.append((attended.detach(), *torch.autograd.grad(attended, inputs, gradient)))
        return max(float((one - other).abs().max()) for one, other in zip(*results, strict=True))
