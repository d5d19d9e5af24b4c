"""The pixel decoder over stock Mask2Former's own layers: the same function of the same weights, with less work.

Conventions
    N frames, H = hidden_dim, A attention heads of width D = H / A, L = 3 levels from coarse to fine of h_l x w_l positions, S
    positions on all levels together, P = 4 sampling points of a query per level.
    Frames have no padding, so that no position is masked and a position's reference point is its own centre on every level.
    Deformable attention (Zhu et al. 2021, "Deformable DETR", equation 3) samples the values bilinearly, with zeros beyond the
    border. `sampled` leaves that to the library's `grid_sample`, level by level. `gathered` writes it as a weighted sum over
    rows of the values, which torch.compile makes one kernel; uncompiled, it would hold 4 D numbers per point.
    What depends on sizes alone (positions, centres) is made once per size and device.
    Dropout and the clamping of infinite states in the library's layer are not repeated: the configuration has dropout at 0
    (`network._stock_config`), and the trainer stops at a loss that is not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

_LEVELS = 3

# Values [N, S, A, D], sizes of the levels, sampling locations (x, y) in [0, 1] [N, S, A, L, P, 2] and their weights
# [N, S, A, L, P] to attended values [N, S, H].
Attend = Callable[[Tensor, tuple[tuple[int, int], ...], Tensor, Tensor], Tensor]
# A layer, states [N, S, H], positions [1, S, H], centres [S, 2], the levels' extents [L, 2] and sizes to states [N, S, H].
Layer = Callable[[Any, Tensor, Tensor, Tensor, Tensor, tuple[tuple[int, int], ...]], Tensor]


def decode_pixels(module: Any, features: tuple[Tensor, ...], layer: Layer) -> tuple[tuple[Tensor, ...], Tensor]:
    """Run the pixel decoder.

    Args:
        module: The library's `Mask2FormerPixelDecoder`.
        features: The backbone's feature maps, from fine to coarse, [N, C, h, w] each.
        layer: `sampled_layer`, or what torch.compile made of `gathered_layer`.

    Returns:
        The levels for the masked decoder, [N, H, h_l, w_l] from coarse to fine, and the mask features [N, H, h, w].
    """
    maps = [module.input_projections[level](x) for level, x in enumerate(features[::-1][:_LEVELS])]
    sizes = tuple((int(x.shape[2]), int(x.shape[3])) for x in maps)
    states = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
    embeddings = module.level_embed.unbind(0)
    position = torch.cat(
        [
            sine(module.position_embedding, *size, x.device, x.dtype) + embedding
            for x, size, embedding in zip(maps, sizes, embeddings, strict=True)
        ],
        dim=1,
    )
    centres, extents = _centres(sizes, states.device)
    for each in module.encoder.layers:
        states = layer(each, states, position, centres, extents, sizes)
    outputs = [
        part.transpose(1, 2).reshape(len(part), -1, *size)
        for part, size in zip(torch.split(states, [h * w for h, w in sizes], dim=1), sizes, strict=True)
    ]
    for number, feature in enumerate(features[: module.num_fpn_levels][::-1]):
        lateral = module.lateral_convolutions[number](feature)
        raised = F.interpolate(outputs[-1], size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        outputs.append(module.output_convolutions[number](lateral + raised))
    return tuple(outputs[:_LEVELS]), module.mask_projection(outputs[-1])


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


def shrink(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Return feature maps [N, H, h, w] shrunk bilinearly (``align_corners=False``) to a size [h', w'].

    By an even factor this is the mean of the two middle lines and columns of each cell, for which the library's kernel is slow.

    >>> maps = torch.arange(16.0).view(1, 1, 4, 4)
    >>> shrink(maps, (2, 2)).tolist() == F.interpolate(maps, size=(2, 2), mode="bilinear").tolist()
    True
    """
    (height, width), (rows, columns) = features.shape[-2:], size
    factor = height // rows
    if factor % 2 or (rows * factor, columns * factor) != (height, width):
        return F.interpolate(features, size=size, mode="bilinear", align_corners=False)
    cells = features.view(*features.shape[:2], rows, factor, columns, factor)
    middle = slice(factor // 2 - 1, factor // 2 + 1)
    return cells[..., middle, :, middle].mean(dim=(3, 5))


def sine(embedding: Any, height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the sine embedding of the positions of a level, [1, h w, H]: the same for all frames.

    Args:
        embedding: The library's `Mask2FormerSinePositionEmbedding`.
        height: Height of the level.
        width: Width of the level.
        device: Device of the result.
        dtype: Type of the result.
    """
    named = ("num_position_features", "temperature", "normalize", "scale")
    settings: tuple[tuple[str, Hashable], ...] = tuple((name, getattr(embedding, name)) for name in named)
    return _sine(cast("Hashable", type(embedding)), settings, height, width, device, dtype)


@lru_cache(maxsize=64)
def _sine(
    kind: Callable[..., Any],
    settings: tuple[tuple[str, Hashable], ...],
    height: int,
    width: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    # It is kept, and later used where gradients are taken.
    with torch.inference_mode(False):
        position = kind(**dict(settings))(torch.Size((1, 1, height, width)), device, dtype)
        return cast("Tensor", position.flatten(2).transpose(1, 2).contiguous())


@lru_cache(maxsize=64)
def _centres(sizes: tuple[tuple[int, int], ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the centres (x, y) of all positions, float32 [S, 2] in (0, 1), and the levels' extents (w_l, h_l), [L, 2]."""
    centres = []
    with torch.inference_mode(False):
        for height, width in sizes:
            y = (torch.arange(height, dtype=torch.float32) + 0.5) / height
            x = (torch.arange(width, dtype=torch.float32) + 0.5) / width
            centres.append(torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), dim=-1).flatten(0, 1))
        extents = torch.tensor([[width, height] for height, width in sizes], dtype=torch.float32)
        return torch.cat(centres).to(device), extents.to(device)


def sampled_layer(
    layer: Any, states: Tensor, position: Tensor, centres: Tensor, extents: Tensor, sizes: tuple[tuple[int, int], ...]
) -> Tensor:
    """Return the states [N, S, H] after a layer, whose attention is `sampled`."""
    return _layer(layer, states, position, centres, extents, sizes, sampled)


def gathered_layer(
    layer: Any, states: Tensor, position: Tensor, centres: Tensor, extents: Tensor, sizes: tuple[tuple[int, int], ...]
) -> Tensor:
    """Return the states [N, S, H] after a layer, whose attention is `gathered`."""
    return _layer(layer, states, position, centres, extents, sizes, gathered)


def _layer(
    layer: Any,
    states: Tensor,
    position: Tensor,
    centres: Tensor,
    extents: Tensor,
    sizes: tuple[tuple[int, int], ...],
    attend: Attend,
) -> Tensor:
    """Return the states [N, S, H] after a layer: deformable attention to all levels, and the feed-forward block."""
    attention = layer.self_attn
    heads, points = attention.n_heads, attention.n_points
    queries = states + position
    values = attention.value_proj(states).unflatten(-1, (heads, -1))
    offsets = attention.sampling_offsets(queries).unflatten(-1, (heads, _LEVELS, points, 2))
    weights = attention.attention_weights(queries).unflatten(-1, (heads, _LEVELS * points)).softmax(-1)
    # An offset counts in the level's own pixels.
    locations = torch.addcdiv(centres[:, None, None, None, :], offsets.to(centres.dtype), extents[:, None, :])
    attended = attend(values, sizes, locations, weights.unflatten(-1, (_LEVELS, points)))
    states = layer.self_attn_layer_norm(states + attention.output_proj(attended))
    return cast("Tensor", layer.final_layer_norm(states + layer.fc2(F.relu(layer.fc1(states)))))
