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

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from model_adapters.m2f.pixel_decoder import shrink, sine

_LEVELS = 3
_Tensors = tuple[Tensor, ...]
# Weight [H, H] and bias [H].
_Projection = tuple[Tensor, Tensor]
# As `apply_layer`.
Layer = Callable[[Any, Any, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


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
    layers = list(module.decoder.layers)
    shrunk = []
    keys: list[Tensor | None] = [None for _ in layers]
    values: list[Tensor | None] = [None for _ in layers]
    for number, level in enumerate(levels):
        height, width = level.shape[-2:]
        memory = module.input_projections[number](level) + module.level_embed.weight[number][:, None, None]
        memory = memory.flatten(2).transpose(1, 2)
        placed = memory + sine(module.position_embedder, height, width, level.device, level.dtype)
        with torch.no_grad():
            shrunk.append(shrink(mask_features, (height, width)).flatten(2))
        # The layers that attend to this level: one product for all.
        own = range(number, len(layers), _LEVELS)
        attentions = [layers[each].cross_attn for each in own]
        if attentions:
            of_keys, of_values = zip(*[_keys_and_values(attention) for attention in attentions], strict=True)
            heads = attentions[0].num_heads
            projected = zip(_projected(placed, of_keys, heads), _projected(memory, of_values, heads), strict=True)
            for each, (key, value) in zip(own, projected, strict=True):
                keys[each], values[each] = key, value
    return EncodedFrames(mask_features, tuple(shrunk), cast("_Tensors", tuple(keys)), cast("_Tensors", tuple(values)))


def decode(module: Any, encoded: EncodedFrames, prompts: Tensor | None, layer: Layer) -> tuple[Tensor, Tensor]:
    """Run the masked decoder's layers on R audio queries of each frame.

    Args:
        module: The library's `Mask2FormerTransformerModule`.
        encoded: Features of N frames.
        prompts: Added to the query features, [N, R, Q, H]; None: nothing is added, and R is 1.
        layer: `apply_layer`, or what torch.compile made of it.

    Returns:
        The last layer's normalised states and mask embeddings, both [N, R, Q, H].
    """
    decoder, position = module.decoder, module.queries_embedder.weight
    features = module.queries_features.weight
    states = features.expand(len(encoded.mask_features), 1, -1, -1) if prompts is None else features + prompts
    for number, each in enumerate(decoder.layers):
        shrunk = encoded.shrunk[number % _LEVELS]
        states = layer(decoder, each, states, position, encoded.keys[number], encoded.values[number], shrunk)
    last = decoder.layernorm(states)
    return last, decoder.mask_predictor.mask_embedder(last)


def apply_layer(
    decoder: Any, layer: Any, states: Tensor, position: Tensor, keys: Tensor, values: Tensor, shrunk: Tensor
) -> Tensor:
    """Return the states [N, R, Q, H] after a layer: attention to the frame, among the queries, and the feed-forward block.

    Args:
        decoder: The library's decoder, whose norm and mask predictor all layers share.
        layer: One of its layers.
        states: [N, R, Q, H].
        position: Position of each query, [Q, H].
        keys: Keys of the frames, [N, A, S, H / A].
        values: Values of the frames, [N, A, S, H / A].
        shrunk: Mask features of the frames, [N, H, S].
    """
    with torch.no_grad():
        allowed = _attended(decoder, states, shrunk)
    cross, own = layer.cross_attn, layer.self_attn
    width = cross.embed_dim
    query = (cross.in_proj_weight[:width], cross.in_proj_bias[:width])
    queries = _projected((states + position).flatten(1, 2), [query], cross.num_heads)[0]
    attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
    states = layer.cross_attn_layer_norm(states + cross.out_proj(_merged(attended)).view_as(states))
    flat = states.flatten(0, 1)
    weight = torch.cat((own.q_proj.weight, own.k_proj.weight))
    both = F.linear(flat + position, weight, torch.cat((own.q_proj.bias, own.k_proj.bias)))
    queries, keys = (_split(part, own.num_heads) for part in both.chunk(2, dim=-1))
    attended = F.scaled_dot_product_attention(queries, keys, _split(own.v_proj(flat), own.num_heads))
    flat = layer.self_attn_layer_norm(flat + own.out_proj(_merged(attended)))
    flat = layer.final_layer_norm(flat + layer.fc2(layer.activation_fn(layer.fc1(flat))))
    return cast("Tensor", flat.view_as(states))


def masks_of(embeddings: Tensor, mask_features: Tensor) -> Tensor:
    """Return mask logits [N, Q, h, w] of mask embeddings [N, Q, H] on mask features [N, H, h, w]."""
    return torch.bmm(embeddings, mask_features.flatten(2)).view(*embeddings.shape[:2], *mask_features.shape[-2:])


def _attended(decoder: Any, states: Tensor, shrunk: Tensor) -> Tensor:
    """Return the positions that each query attends to, bool [N, 1, R * Q, S]: those in its mask, or all where it is empty."""
    embeddings = decoder.mask_predictor.mask_embedder(decoder.layernorm(states)).flatten(1, 2)
    inside = torch.bmm(embeddings, shrunk) >= 0
    return (inside | ~inside.any(dim=-1, keepdim=True)).unsqueeze(1)


def _keys_and_values(attention: Any) -> tuple[_Projection, _Projection]:
    """Return the projections of an attention to keys and to values."""
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    return (weights[1], biases[1]), (weights[2], biases[2])


def _projected(x: Tensor, projections: Sequence[_Projection], heads: int) -> list[Tensor]:
    """Return several projections of x [N, L, H], taken in one product, split into heads, [N, A, L, H / A] each."""
    weight, bias = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*projections, strict=True))
    return [_split(one, heads) for one in F.linear(x, weight, bias).chunk(len(projections), dim=-1)]


def _split(x: Tensor, heads: int) -> Tensor:
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(1, 2)


def _merged(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
