"""The masked decoder over stock Mask2Former's own layers: the same function of the same weights, with less work.

Conventions
    N frames, R audio queries of each (branches and conditions), Q queries of the network, H = hidden_dim, A attention heads, S_l
    positions on level l of three, h, w = image_size / 4.
    Shrinking is linear, so it commutes with the product of queries and features: shrink(e . F) = e . shrink(F). The mask
    features are shrunk to the three levels once per frame, and the masks that restrict attention are predicted there; only the
    last layer's masks have the full size. Keys and values of a level do not depend on the queries: they are projected once per
    frame, and the R times Q queries of a frame attend to them in one call.
    The attention masks carry no gradient, as in the library (modeling_mask2former.py, `Mask2FormerMaskPredictor`). Dropout and
    layer dropout of the library are not repeated: its configuration has both at 0 (`network._stock_config`).
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from model_adapters.m2f.pixel_decoder import shrink

_LEVELS = 3


class EncodedFrames(NamedTuple):
    """Features of N frames for the decoder.

    Attributes:
        mask_features: Mask features [N, H, h, w].
        shrunk: The mask features shrunk to each level, [N, H, S_l], without gradient.
        keys: Keys of each layer, [N, A, S_l, H / A], with the position added.
        values: Values of each layer, [N, A, S_l, H / A].
    """

    mask_features: Tensor
    shrunk: tuple[Tensor, ...] = ()
    keys: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()

    def take(self, index: Tensor) -> EncodedFrames:
        """Return the frames of the numbers `index`, int64 [M], each as often as it is named."""
        parts = (tuple(part[index] for part in parts) for parts in self[1:])
        return EncodedFrames(self.mask_features[index], *parts)


def prepare(module: Any, levels: tuple[Tensor, ...], mask_features: Tensor) -> EncodedFrames:
    """Return all that the decoder needs of some frames, whatever it is asked about them.

    Args:
        module: The library's `Mask2FormerTransformerModule`.
        levels: The pixel decoder's three levels, [N, H, h_l, w_l], from coarse to fine.
        mask_features: Its mask features [N, H, h, w].
    """
    memories, positions, shrunk = [], [], []
    for number, level in enumerate(levels):
        shape = torch.Size((1, *level.shape[1:]))
        position = module.position_embedder(shape, level.device, level.dtype, None)
        memory = module.input_projections[number](level) + module.level_embed.weight[number][:, None, None]
        positions.append(position.flatten(2).transpose(1, 2))
        memories.append(memory.flatten(2).transpose(1, 2))
        with torch.no_grad():
            shrunk.append(shrink(mask_features, (level.shape[-2], level.shape[-1])).flatten(2))
    keys, values = [], []
    for number, layer in enumerate(module.decoder.layers):
        memory, position = memories[number % _LEVELS], positions[number % _LEVELS]
        keys.append(_projected(layer.cross_attn, memory + position, 1))
        values.append(_projected(layer.cross_attn, memory, 2))
    return EncodedFrames(mask_features, tuple(shrunk), tuple(keys), tuple(values))


def decode(module: Any, encoded: EncodedFrames, prompts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run the masked decoder's layers on R audio queries of each frame.

    Args:
        module: The library's `Mask2FormerTransformerModule`.
        encoded: Features of N frames.
        prompts: Added to the query features, [N, R, Q, H]; None: nothing is added, and R is 1.

    Returns:
        The last layer's normalised states and mask embeddings, both [N, R, Q, H].
    """
    decoder, position = module.decoder, module.queries_embedder.weight
    features = module.queries_features.weight
    states = features.expand(len(encoded.mask_features), 1, -1, -1) if prompts is None else features + prompts
    for number, layer in enumerate(decoder.layers):
        with torch.no_grad():
            allowed = _attended(decoder, states, encoded.shrunk[number % _LEVELS])
        states = _layer(layer, states, position, encoded.keys[number], encoded.values[number], allowed)
    last = decoder.layernorm(states)
    return last, decoder.mask_predictor.mask_embedder(last)


def masks_of(embeddings: Tensor, mask_features: Tensor) -> Tensor:
    """Return mask logits [N, Q, h, w] of mask embeddings [N, Q, H] on mask features [N, H, h, w]."""
    return torch.bmm(embeddings, mask_features.flatten(2)).view(*embeddings.shape[:2], *mask_features.shape[-2:])


def _attended(decoder: Any, states: Tensor, shrunk: Tensor) -> Tensor:
    """Return the positions that each query attends to, bool [N, 1, R * Q, S]: those in its mask, or all where it is empty."""
    embeddings = decoder.mask_predictor.mask_embedder(decoder.layernorm(states)).flatten(1, 2)
    inside = torch.bmm(embeddings, shrunk) >= 0
    return (inside | ~inside.any(dim=-1, keepdim=True)).unsqueeze(1)


def _layer(layer: Any, states: Tensor, position: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
    """Return the states [N, R, Q, H] after a layer: attention to the frame, among the queries, and the feed-forward block."""
    cross, own = layer.cross_attn, layer.self_attn
    queries = _projected(cross, (states + position).flatten(1, 2), 0)
    attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
    states = layer.cross_attn_layer_norm(states + cross.out_proj(_merged(attended)).view_as(states))
    flat = states.flatten(0, 1)
    placed = flat + position
    attended = F.scaled_dot_product_attention(
        _split(own.q_proj(placed), own.num_heads),
        _split(own.k_proj(placed), own.num_heads),
        _split(own.v_proj(flat), own.num_heads),
    )
    flat = layer.self_attn_layer_norm(flat + own.out_proj(_merged(attended)))
    flat = layer.final_layer_norm(flat + layer.fc2(layer.activation_fn(layer.fc1(flat))))
    return cast("Tensor", flat.view_as(states))


def _projected(attention: Any, x: Tensor, part: int) -> Tensor:
    """Return the projection of x [N, L, H] to queries (part 0), keys (1) or values (2), [N, A, L, H / A]."""
    width = attention.embed_dim
    rows = slice(part * width, (part + 1) * width)
    return _split(F.linear(x, attention.in_proj_weight[rows], attention.in_proj_bias[rows]), attention.num_heads)


def _split(x: Tensor, heads: int) -> Tensor:
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def _merged(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
