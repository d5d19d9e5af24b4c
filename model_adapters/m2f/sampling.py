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

from avsrobust.errors import AdapterError, OptionError

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


@lru_cache(maxsize=16)
def can_fuse(device: torch.device, heads: int, width: int) -> bool:
    """Return whether `fused` works on a device; it is tried once. Where a GPU has Triton and it fails, a warning says so.

    Args:
        device: The device.
        heads: Number of heads, A.
        width: Width of a head, D: the kernels that are tried are those that will be taken.

    Raises:
        OptionError: Where ``$AVSROBUST_M2F_KERNEL`` is neither "yes" nor "no".
        AdapterError: The device is of no use to this process since.
    """
    wanted = os.environ.get(ENVIRONMENT_KERNEL) or "yes"
    if wanted not in ("yes", "no"):
        raise OptionError(f"environment variable {ENVIRONMENT_KERNEL}: found '{wanted}'; expected yes or no")
    if wanted == "no" or device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    tried = (_problem(device, dtype, most, heads, width) for dtype, most in _APART.items())
    problem = next(filter(None, tried), None)
    if problem is None:
        return True
    # After a fault on a GPU every later call in the process fails, each with another message.
    broken = fault_of(device)
    if broken is not None:
        raise AdapterError(
            f"m2f: the kernel of deformable attention {problem}, and {device} is of no use to this process since ({broken}); "
            f"set the environment variable {ENVIRONMENT_KERNEL}=no and run again"
        )
    warnings.warn(
        f"m2f: the kernel of deformable attention {problem}; grid_sample takes its place, more slowly", stacklevel=2
    )
    return False


def only_deterministic(device: torch.device) -> bool:
    """Return whether gradients on a device may only be taken deterministically (``torch.use_deterministic_algorithms``).

    There, `gathered` can: torch adds the gradients of rows in a fixed order then. On a CPU all ways can.
    """
    return device.type == "cuda" and torch.is_grad_enabled() and torch.are_deterministic_algorithms_enabled()


def fault_of(device: torch.device) -> str | None:
    """Return why a device can no longer be computed on; None where it can."""
    try:
        torch.ones(1, device=device).add(1).cpu()
    except RuntimeError as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return None


def _problem(device: torch.device, dtype: torch.dtype, most: float, heads: int, width: int) -> str | None:
    """Return what is wrong with `fused` on a device, for values of a type; None where nothing is."""
    try:
        found = difference(fused, device, dtype, heads, width)
    except Exception as error:
        # Compilers and drivers raise many kinds; all mean the same here.
        return f"cannot be compiled or run ({type(error).__name__}: {error})"
    # A comparison with NaN is false.
    return None if found <= most else f"differs from grid_sample by {found:.2g} (expected at most {most:.2g}, {dtype})"


def difference(attend: Attend, device: torch.device, dtype: torch.dtype, heads: int = 4, width: int = 16) -> float:
    """Return how far results and gradients of a way are from those of `sampled`, at most, on a small example.

    Args:
        attend: The way.
        device: Where it is tried.
        dtype: Type of the values; `sampled` takes them in float32.
        heads: Number of heads, A.
        width: Width of a head, D.

    Returns:
        The largest difference, as a share of 1 + the number; NaN where a result is.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 3), (4, 6), (8, 12))
    positions = sum(rows * columns for rows, columns in sizes)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        values = torch.randn(2, positions, heads, width, generator=generator)
        # Some lie beyond the border, none so near a pixel's centre, where derivatives jump, that rounding takes it across.
        extents = torch.tensor([(columns, rows) for rows, columns in sizes]).unsqueeze(1)
        drawn = 0.5 + 0.4 * torch.randn(2, positions, heads, LEVELS, 4, 2, generator=generator)
        pixels = (drawn * extents).floor() + 0.1 + 0.8 * torch.rand(drawn.shape, generator=generator)
        locations = (pixels + 0.5) / extents
        weights = torch.rand(2, positions, heads, LEVELS, 4, generator=generator)
        gradient = torch.randn(2, positions, heads * width, generator=generator).to(device)
        inputs = [each.to(device).requires_grad_() for each in (values.to(dtype), locations, weights)]
        results = []
        for way, taken in ((attend, inputs[0]), (sampled, inputs[0].float())):
            # Rounded to one type, and so are the gradients that come back.
            attended = way(taken, sizes, inputs[1], inputs[2]).to(dtype).float()
            results.append((attended.detach(), *torch.autograd.grad(attended, inputs, gradient)))
        apart = [((one - other).abs() / (1 + other.abs())).float().max() for one, other in zip(*results, strict=True)]
        return float(torch.stack(apart).max())
