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
import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from avsrobust.errors import OptionError

LEVELS = 3
# Whether the kernel may be taken: "yes", as where it is not set, or "no".
ENVIRONMENT_KERNEL = "AVSROBUST_M2F_KERNEL"
Attend = Callable[[Tensor, tuple[tuple[int, int], ...], Tensor, Tensor], Tensor]
# How far `fused` may be from `sampled` on the small example that they are compared on, as shares of 1 + the number: rounding.
_APART = {torch.float32: 1e-3, torch.bfloat16: 2**-5}


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


def can_fuse(device: torch.device) -> bool:
    """Return whether `fused` works on a device; it is tried once. Where a GPU has Triton and it fails, a warning says so.

    Raises:
        OptionError: Where ``$AVSROBUST_M2F_KERNEL`` is neither "yes" nor "no".
    """
    wanted = os.environ.get(ENVIRONMENT_KERNEL) or "yes"
    if wanted not in ("yes", "no"):
        raise OptionError(f"environment variable {ENVIRONMENT_KERNEL}: found '{wanted}'; expected yes or no")
    return wanted == "yes" and device.type == "cuda" and _works(device)


@lru_cache(maxsize=16)
def _works(device: torch.device) -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    problem = next(filter(None, (_problem(device, dtype, most) for dtype, most in _APART.items())), None)
    if problem is None:
        return True
    warnings.warn(
        f"m2f: the kernel of deformable attention {problem}; grid_sample takes its place, more slowly", stacklevel=2
    )
    return False


def _problem(device: torch.device, dtype: torch.dtype, most: float) -> str | None:
    """Return what is wrong with `fused` on a device, for values of a type; None where nothing is."""
    try:
        found = difference(fused, device, dtype)
    except Exception as error:
        # Compilers and drivers raise many kinds; all mean the same here.
        return f"cannot be compiled or run ({type(error).__name__}: {error})"
    # A comparison with NaN is false.
    return None if found <= most else f"differs from grid_sample by {found:.2g} (expected at most {most:.2g}, {dtype})"


def difference(attend: Attend, device: torch.device, dtype: torch.dtype) -> float:
    """Return how far results and gradients of a way are from those of `sampled`, at most, on a small example.

    Args:
        attend: The way.
        device: Where it is tried.
        dtype: Type of the values; `sampled` takes them in float32.

    Returns:
        The largest difference, as a share of 1 + the number; NaN where a result is.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 3), (4, 6), (8, 12))
    positions = sum(height * width for height, width in sizes)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        values = torch.randn(2, positions, 4, 16, generator=generator)
        # Some lie beyond the border.
        locations = 0.5 + 0.4 * torch.randn(2, positions, 4, LEVELS, 4, 2, generator=generator)
        weights = torch.rand(2, positions, 4, LEVELS, 4, generator=generator)
        gradient = torch.randn(2, positions, 64, generator=generator).to(device)
        inputs = [each.to(device).requires_grad_() for each in (values.to(dtype), locations, weights)]
        results = []
        for way, taken in ((attend, inputs[0]), (sampled, inputs[0].float())):
            # Rounded to one type, and so are the gradients that come back.
            attended = way(taken, sizes, inputs[1], inputs[2]).to(dtype).float()
            results.append((attended.detach(), *torch.autograd.grad(attended, inputs, gradient)))
        apart = [((one - other).abs() / (1 + other.abs())).float().max() for one, other in zip(*results, strict=True)]
        return float(torch.stack(apart).max())
