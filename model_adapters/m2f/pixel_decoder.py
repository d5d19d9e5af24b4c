"""The pixel decoder over stock Mask2Former's own layers: the same function of the same weights, with less work.

Conventions
    N frames, H = hidden_dim, A attention heads of width D = H / A, L = 3 levels from coarse to fine of h_l x w_l positions, S
    positions on all levels together, P = 4 sampling points of a query per level.
    Frames have no padding, so that no position is masked and a position's reference point is its own centre on every level.
    Deformable attention is in `sampling`, in three ways; a layer is named after the one that it takes.
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

from model_adapters.m2f.blocks import lowered
from model_adapters.m2f.sampling import LEVELS, Attend, fused, gathered, sampled

# A layer, states [N, S, H], positions [1, S, H], centres [S, 2], the levels' extents [L, 2] and sizes to states [N, S, H].
Layer = Callable[[Any, Tensor, Tensor, Tensor, Tensor, tuple[tuple[int, int], ...]], Tensor]


def decode_pixels(module: Any, features: tuple[Tensor, ...], layer: Layer) -> tuple[tuple[Tensor, ...], Tensor]:
    """Run the pixel decoder.

    Args:
        module: The library's `Mask2FormerPixelDecoder`.
        features: The backbone's feature maps, from fine to coarse, [N, C, h, w] each.
        layer: `sampled_layer`, `fused_layer`, or what torch.compile made of that or of `gathered_layer`.

    Returns:
        The levels for the masked decoder, [N, H, h_l, w_l] from coarse to fine, and the mask features [N, H, h, w].
    """
    maps = [module.input_projections[level](x) for level, x in enumerate(features[::-1][:LEVELS])]
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
    return tuple(outputs[:LEVELS]), module.mask_projection(outputs[-1])


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


def fused_layer(
    layer: Any, states: Tensor, position: Tensor, centres: Tensor, extents: Tensor, sizes: tuple[tuple[int, int], ...]
) -> Tensor:
    """Return the states [N, S, H] after a layer, whose attention is `fused`."""
    return _layer(layer, states, position, centres, extents, sizes, fused)


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
    low = lowered(states)
    queries = low + lowered(position)
    values = attention.value_proj(low).unflatten(-1, (heads, -1))
    offsets = attention.sampling_offsets(queries).unflatten(-1, (heads, LEVELS, points, 2))
    weights = attention.attention_weights(queries).unflatten(-1, (heads, LEVELS * points)).softmax(-1)
    # An offset counts in the level's own pixels.
    locations = torch.addcdiv(centres[:, None, None, None, :], offsets.to(centres.dtype), extents[:, None, :])
    attended = attend(values, sizes, locations, weights.unflatten(-1, (LEVELS, points)))
    states = layer.self_attn_layer_norm(states + attention.output_proj(attended))
    return cast("Tensor", layer.final_layer_norm(states + layer.fc2(F.relu(layer.fc1(states)))))
