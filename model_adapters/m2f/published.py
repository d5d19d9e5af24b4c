"""Checkpoints of the published code (GeWu-Lab/bias_in_AVS): its names of parameters, and the network they belong to.

Conventions
    The published model is transformers 4.30 with adapter layers; golden/key_map.json pairs its keys with those of stock
    transformers 5. Ours are the latter below ``mask2former.``, the adapter layers as ``<linear layer>.adapter``.
    ``module.`` in front (DataParallel) is dropped; ``model_v.`` (PmpAVS) stands for ``mask2former.``; keys without either,
    as in a Hugging Face folder, are taken for the Mask2Former's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from avsrobust.errors import AdapterError
from model_adapters.m2f.config import PUBLISHED, M2FConfig, Readout, with_readout

_BACKBONE = "mask2former.model.pixel_level_module.encoder"
_DECODER = "mask2former.model.transformer_module.decoder"
_PIXEL_DECODER = "mask2former.model.pixel_level_module.decoder"
_LEVELS, _POINTS = 3, 4

# In this order; the published names on the left never occur in ours.
_RENAMED = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^(?:module\.)+", ""),
        (r"^model_v\.(?:module\.)?", "mask2former."),
        (r"^(model|class_predictor|criterion)\.", r"mask2former.\1."),
        (r"(\.pixel_level_module\.encoder)\.(embeddings|encoder)\.", r"\1.swin.\2."),
        (
            r"\.attention\.self\.relative_position_bias_table$",
            ".attention.relative_position_bias.relative_position_bias_table",
        ),
        (r"\.attention\.self\.(query|key|value)\.", lambda match: f".attention.{match[1][0]}_proj."),
        (r"\.attention\.output\.dense\.", ".attention.o_proj."),
        (r"\.attention\.output\.swin_adapt_1\.", ".attention.o_proj.adapter."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"(\.blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
        (r"(\.blocks\.\d+)\.output\.swin_adapt_3\.", r"\1.mlp.fc2.adapter."),
        (r"(pixel_level_module\..*\.self_attn)\.avs_adapt\.", r"\1.output_proj.adapter."),
        (r"(transformer_module\..*\.self_attn)\.avs_adapt\.", r"\1.out_proj.adapter."),
    )
)

# Tensors that the published code stores and no output of it depends on, with the reason.
_UNUSED = (
    (re.compile(r"\.relative_position_index$"), "recomputed from the window size"),
    (re.compile(r"\.decoder\.layernorm_sc\."), "declared by the published code, never used in its forward pass"),
    (re.compile(r"(^|\.)(m2f_)?criterion\."), "of the loss"),
)
_SEMANTIC_MARK = re.compile(r"(^|\.)(m2f_criterion|criterion\.mtl_loss)\.")


@dataclass(frozen=True)
class RenamedState:
    """A published state under our names.

    Attributes:
        tensors: The tensors by our names.
        unused: Published names of the tensors that were skipped, by the reason.
    """

    tensors: dict[str, Tensor]
    unused: dict[str, list[str]]


def our_name(key: str) -> str:
    """Return our name of a published parameter.

    Args:
        key: Its name in the published state dict.

    >>> our_name("module.model_v.model.transformer_module.decoder.layers.0.self_attn.avs_adapt.2.bias")
    'mask2former.model.transformer_module.decoder.layers.0.self_attn.out_proj.adapter.2.bias'
    """
    for pattern, replacement in _RENAMED:
        key = pattern.sub(replacement, key)
    return key


def rename(tensors: Mapping[str, Tensor]) -> RenamedState:
    """Return a published state under our names.

    Args:
        tensors: The tensors by their published names.

    Raises:
        AdapterError: Two keys would become one.
    """
    renamed: dict[str, Tensor] = {}
    unused: dict[str, list[str]] = {}
    for key, tensor in tensors.items():
        reason = next((reason for pattern, reason in _UNUSED if pattern.search(key)), None)
        if reason is not None:
            unused.setdefault(reason, []).append(key)
            continue
        name = our_name(key)
        if name in renamed:
            raise AdapterError(f"found '{key}' twice, with and without a prefix; expected each parameter once")
        renamed[name] = tensor
    return RenamedState(renamed, unused)


def readout_of(keys: Mapping[str, Tensor]) -> Readout:
    """Return the head of a published network, by its tensors' names: the AVSS code stores its matching loss, the S4/MS3 code not.

    Args:
        keys: The state; its names are read, published or ours.
    """
    return "semantic" if any(_SEMANTIC_MARK.search(key) for key in keys) else "foreground"


def infer_config(tensors: Mapping[str, Tensor], readout: Readout) -> M2FConfig:
    """Return the architecture of a published network, from the shapes of its tensors.

    The size of the pictures leaves no trace in them; it is the published 384.

    Args:
        tensors: The tensors by our names.
        readout: The network's head, "foreground" or "semantic".

    Raises:
        AdapterError: The tensors are of another architecture.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    try:
        depths = _depths(shapes)
        stage = f"{_BACKBONE}.swin.encoder.layers"
        tables = [
            shapes[f"{stage}.{number}.blocks.0.attention.relative_position_bias.relative_position_bias_table"]
            for number in range(len(depths))
        ]
        labels, width = shapes["mask2former.class_predictor.weight"]
        embed_dim = shapes[f"{_BACKBONE}.swin.embeddings.patch_embeddings.projection.weight"][0]
        found = {
            "image_size": PUBLISHED.image_size,
            "embed_dim": embed_dim,
            "depths": depths,
            "num_heads": tuple(heads for _, heads in tables),
            "window_size": (math.isqrt(tables[0][0]) + 1) // 2,
            "mlp_ratio": shapes[f"{stage}.0.blocks.0.mlp.fc1.weight"][0] / embed_dim,
            "drop_path_rate": PUBLISHED.drop_path_rate,
            "hidden_dim": width,
            "encoder_layers": _count(shapes, f"{_PIXEL_DECODER}.encoder.layers"),
            "encoder_feedforward_dim": shapes[f"{_PIXEL_DECODER}.encoder.layers.0.fc1.weight"][0],
            "decoder_layers": _count(shapes, f"{_DECODER}.layers") + 1,
            "feedforward_dim": shapes[f"{_DECODER}.layers.0.fc1.weight"][0],
            "attention_heads": shapes[f"{_PIXEL_DECODER}.encoder.layers.0.self_attn.attention_weights.weight"][0]
            // (_LEVELS * _POINTS),
            "num_queries": shapes["mask2former.model.transformer_module.queries_features.weight"][0],
            "num_labels": labels - 1,
            "readout_labels": 1,
            "readout": "queries",
            "audio": "embedding",
        }
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise AdapterError(f"the tensors are of another architecture ({_reason(error, shapes)})") from error
    return with_readout(M2FConfig.from_dict(found, named_by="shapes of the tensors"), readout)


def _depths(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    stages = f"{_BACKBONE}.swin.encoder.layers"
    return tuple(_count(shapes, f"{stages}.{number}.blocks") for number in range(_count(shapes, stages)))


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """Return the number of numbered modules below `prefix`."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return len({match[1] for match in map(pattern.match, shapes) if match})


def _reason(error: Exception, shapes: Mapping[str, tuple[int, ...]]) -> str:
    if isinstance(error, KeyError):
        more = f" and {len(shapes) - 1} more" if len(shapes) > 1 else ""
        found = f"found '{sorted(shapes)[0]}'{more}" if shapes else "found none"
        return f"{found}, no '{error.args[0]}'"
    return str(error)
