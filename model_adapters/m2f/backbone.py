"""The Swin backbone over the library's own layers: the same function of the same weights, with less work.

Conventions
    N frames, C channels of a stage, h, w its height and width in patches, A attention heads. Windows are s x s patches, W of them
    in a frame, L = s^2; h and w are padded to multiples of s. Every second block shifts the map by half a window before the cut.
    Queries, keys and values are one product. What depends on sizes alone, the masks of shifted windows, is made once per size
    and device. Dropout of the library's layers is not repeated: the configuration has it at 0 (`network._stock_config`); its
    stochastic depth is, which draws from torch's generator in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from model_adapters.m2f.blocks import lowered

# As `apply_block`.
Block = Callable[[Any, Tensor, int, int, Tensor | None, Tensor | None], Tensor]
# As the library has it, of patches that are no neighbours.
_APART = -100.0


def feature_maps(backbone: Any, frames: Tensor, block: Block) -> tuple[Tensor, ...]:
    """Return the feature maps of the four stages, from fine to coarse, [N, C, h, w] each.

    Args:
        backbone: The library's `SwinBackbone`.
        frames: float32 [N, 3, S, S].
        block: `apply_block`, or what torch.compile made of it.
    """
    states, (height, width) = backbone.swin.embeddings(frames)
    maps: list[Tensor] = []
    for stage, name in zip(backbone.swin.encoder.layers, backbone.stage_names[1:], strict=True):
        for layer in stage.blocks:
            mask = _mask_of(layer, height, width, states.device)
            states = block(layer, states, height, width, mask, _kept(layer, states))
        normed = backbone.hidden_states_norms[name](states)
        maps.append(normed.transpose(1, 2).unflatten(2, (height, width)).contiguous())
        if stage.downsample is not None:
            states = _merged(stage.downsample, states, height, width)
            height, width = (height + 1) // 2, (width + 1) // 2
    return tuple(maps)


def apply_block(
    layer: Any, states: Tensor, height: int, width: int, mask: Tensor | None, kept: Tensor | None
) -> Tensor:
    """Return the states [N, h w, C] after a block: attention within windows, and the feed-forward block.

    Args:
        layer: The library's `SwinLayer`.
        states: [N, h w, C].
        height: Height of the map, h.
        width: Width of the map, w.
        mask: Added to the scores of shifted windows, [W, 1, L, L]; None: the windows are not shifted.
        kept: Factor of each frame's attention, [N, 1, 1]; None: 1.
    """
    side, shift = layer.window_size, layer.shift_size
    frames, _, channels = states.shape
    maps = lowered(layer.layernorm_before(states)).view(frames, height, width, channels)
    below, right = -height % side, -width % side
    if below or right:
        maps = F.pad(maps, (0, 0, 0, right, 0, below))
    if mask is not None:
        maps = torch.roll(maps, (-shift, -shift), (1, 2))
    rows, columns = (height + below) // side, (width + right) // side
    windows = maps.view(frames, rows, side, columns, side, channels).permute(0, 2, 4, 1, 3, 5)
    attended = _attend(layer.attention, windows.reshape(frames, side * side, rows * columns, channels), mask)
    maps = attended.view(frames, side, side, rows, columns, channels).permute(0, 3, 1, 4, 2, 5)
    maps = maps.reshape(frames, rows * side, columns * side, channels)
    if mask is not None:
        maps = torch.roll(maps, (shift, shift), (1, 2))
    if below or right:
        maps = maps[:, :height, :width]
    attended = maps.reshape(frames, height * width, channels)
    states = states + (attended if kept is None else attended * kept)
    return cast("Tensor", states + layer.mlp(layer.layernorm_after(states)))


def _attend(attention: Any, windows: Tensor, mask: Tensor | None) -> Tensor:
    """Return the projected attention within windows, [N, L, W, C], as these lie.

    The windows of a frame stand beside its heads, as W A heads: what is added to their scores is then one array that is read for
    all frames, not one per frame.
    """
    frames, length, count, channels = windows.shape
    heads, parts = attention.num_attention_heads, (attention.q_proj, attention.k_proj, attention.v_proj)
    # Query, key and value of a head side by side: windows and heads are one dimension of all three.
    weight = torch.stack([part.weight.view(heads, -1, channels) for part in parts], dim=1).flatten(0, 2)
    bias = None
    if parts[0].bias is not None:
        bias = torch.stack([part.bias.view(heads, -1) for part in parts], dim=1).flatten()
    projected = F.linear(windows, weight, bias).view(frames, length, count * heads, 3, -1)
    queries, keys, values = (part.transpose(1, 2) for part in projected.unbind(3))
    scores = attention.relative_position_bias()
    scores = scores.expand(count, -1, -1, -1) if mask is None else scores + mask
    # Rounded as attention would round them.
    scores = scores.to(queries.dtype).reshape(1, count * heads, length, length)
    attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=scores, scale=attention.scaling)
    return cast("Tensor", attention.o_proj(attended.transpose(1, 2).reshape(frames, length, count, channels)))


def _merged(merging: Any, states: Tensor, height: int, width: int) -> Tensor:
    """Return the states [N, h w / 4, 2 C] of patches merged two by two: the library's `SwinPatchMerging` in one copy."""
    frames, _, channels = states.shape
    maps = merging.maybe_pad(states.view(frames, height, width, channels), height, width)
    rows, columns = (height + 1) // 2, (width + 1) // 2
    # Of a patch's four, first those of the left column, from top to bottom.
    corners = maps.view(frames, rows, 2, columns, 2, channels).permute(0, 1, 3, 4, 2, 5)
    return cast("Tensor", merging.reduction(merging.norm(corners.flatten(3).flatten(1, 2))))


def _kept(layer: Any, states: Tensor) -> Tensor | None:
    """Return what stochastic depth makes of ones, [N, 1, 1]; drawn here, blocks of all rates are alike to torch.compile."""
    if not layer.training or getattr(layer.drop_path, "drop_prob", 0.0) == 0:
        return None
    return cast("Tensor", layer.drop_path(states.new_ones(len(states), 1, 1)))


def _mask_of(layer: Any, height: int, width: int, device: torch.device) -> Tensor | None:
    side, shift = layer.window_size, layer.shift_size
    return None if shift <= 0 else _shift_mask(height + -height % side, width + -width % side, side, shift, device)


@lru_cache(maxsize=64)
def _shift_mask(height: int, width: int, side: int, shift: int, device: torch.device) -> Tensor:
    """Return 0 where two patches of a shifted window are neighbours in the map, else `_APART`, float32 [W, 1, L, L]."""
    # It is kept, and later used where gradients are taken.
    with torch.inference_mode(False):
        regions = []
        for length in (height, width):
            place = torch.arange(length)
            regions.append((place >= length - side).long() + (place >= length - shift).long())
        region = regions[0][:, None] * 3 + regions[1]
        windows = region.view(height // side, side, width // side, side).transpose(1, 2).reshape(-1, side * side)
        apart = windows[:, None, :] != windows[:, :, None]
        return torch.where(apart, _APART, 0.0).unsqueeze(1).to(device)
