"""The smallest network of the m2f family, for tests: a few thousand weights.

Conventions
    `TINY_OPTIONS` is its configuration as recipes write it, `TINY` the same as a value.
"""

from __future__ import annotations

from typing import Any

from model_adapters.m2f.config import M2FConfig

TINY_OPTIONS: dict[str, Any] = {
    "image_size": 64,
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 4,
    "hidden_dim": 32,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 32,
    "decoder_layers": 2,
    "feedforward_dim": 32,
    "attention_heads": 2,
    "num_queries": 6,
}
TINY = M2FConfig(**{**TINY_OPTIONS, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)})
