"""Bounds on the size of a network: on every number of its configuration, and on its parameters against those in its file.

Conventions
    Bounds are a few times the numbers of any published Mask2Former. A configuration within them can still need more memory than
    there is; one from a file must also fit the file's tensors, which is checked before the network is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from avsrobust.errors import AdapterError
from avsrobust.limits import Limit

if TYPE_CHECKING:
    from torch import Tensor

    from model_adapters.m2f.config import M2FConfig

_SWIN = "Swin-L, the largest published backbone, has"
MOST: Mapping[str, Limit] = {
    "image_size": Limit(1024, "pixels", "the published networks see 384; memory grows with the square"),
    "embed_dim": Limit(768, "channels", f"{_SWIN} 192"),
    "depths": Limit(96, "blocks", f"{_SWIN} 18 in one stage"),
    "num_heads": Limit(256, "heads", f"{_SWIN} 48"),
    "window_size": Limit(64, "patches", f"{_SWIN} 12; memory grows with the fourth power"),
    "mlp_ratio": Limit(16, "times the width", f"{_SWIN} 4"),
    "hidden_dim": Limit(2048, "channels", "the published networks have 256"),
    "encoder_layers": Limit(64, "layers", "the published networks have 6"),
    "encoder_feedforward_dim": Limit(16_384, "channels", "the published networks have 1024"),
    "decoder_layers": Limit(64, "layers", "the published networks have 10"),
    "feedforward_dim": Limit(16_384, "channels", "the published networks have 2048"),
    "attention_heads": Limit(256, "heads", "the published networks have 8"),
    "num_queries": Limit(1000, "queries", "the published networks have 100 to 200"),
    "num_labels": Limit(10_000, "classes", "ADE20k has 150, LVIS 1203"),
    "readout_labels": Limit(10_000, "classes", "AVSS has 71"),
}

# Parameters of Mask2Former on Swin-B: 0.4 GB.
_HARMLESS = 107_000_000


def check_bounds(config: M2FConfig) -> None:
    """Refuse a configuration with a number out of bounds.

    Args:
        config: The configuration.

    Raises:
        AdapterError: A number is above its bound in `MOST`; the message names the first.
    """
    for name, limit in MOST.items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            limit.check(math.ceil(number), f"configuration of the network: {name}", AdapterError)


def least_parameters(config: M2FConfig) -> int:
    """Return a lower bound on the number of a network's parameters: those of its large matrices.

    Args:
        config: The network's configuration.
    """
    widths = (config.embed_dim << stage for stage in range(len(config.depths)))
    backbone = sum(
        depth * int((4 + 2 * config.mlp_ratio) * width**2) for depth, width in zip(config.depths, widths, strict=True)
    )
    width = config.hidden_dim
    encoder = config.encoder_layers * 2 * width * config.encoder_feedforward_dim
    # Query, key, value and output, of cross- and of self-attention.
    decoder = (config.decoder_layers - 1) * (8 * width**2 + 2 * width * config.feedforward_dim)
    return backbone + encoder + decoder + (2 * config.num_queries + config.num_labels + 1) * width


def require_parameters(config: M2FConfig, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a configuration of a larger network than the tensors that are to fill it.

    A small network passes: its differences are reported later, name by name.

    Args:
        config: The configuration.
        tensors: The file's tensors by name.

    Raises:
        AdapterError: The network has more parameters than the file, and too many to make it all the same.
    """
    required, held = least_parameters(config), sum(tensor.numel() for tensor in tensors.values())
    if required > max(held, _HARMLESS):
        raise AdapterError(
            f"the configuration asks for a network of {required:,} numbers or more and the file holds {held:,}; "
            "expected the configuration of the file's own network"
        )
