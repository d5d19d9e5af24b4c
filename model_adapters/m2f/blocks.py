"""The adapter layers inside stock Mask2Former: small bottlenecks behind some of its linear layers.

Conventions
    A bottleneck is Linear(d, d/4), ReLU, Linear(d/4, d) (bias_in_AVS, modeling_swin.py `swin_adapt_1`, `swin_adapt_3`;
    modeling_mask2former.py `avs_adapt`). In Swin blocks it stands after the attention's and after the MLP's last layer and
    is added to its input; in the pixel decoder's deformable attention and in the masked decoder's self-attention it takes
    the place of its input. The library's classes stay as they are: only the linear layers are exchanged for subclasses.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from avsrobust.errors import AdapterError

_REDUCTION = 4


class AdaptedLinear(nn.Linear):
    """A linear layer with a bottleneck behind it.

    Args:
        replaced: The layer whose weight and bias it takes over.
        residual: Whether the bottleneck's output is added to its input, or takes its place.
    """

    def __init__(self, replaced: nn.Linear, *, residual: bool) -> None:
        super().__init__(replaced.in_features, replaced.out_features, bias=replaced.bias is not None)
        self.weight = replaced.weight
        self.bias = replaced.bias
        self.residual = residual
        width = replaced.out_features
        self.adapter = nn.Sequential(
            nn.Linear(width, width // _REDUCTION),
            nn.ReLU(),
            nn.Linear(width // _REDUCTION, width),
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of the parent's argument
        """Return the adapted output, [..., out_features]."""
        plain = super().forward(input)
        adapted = cast("Tensor", self.adapter(plain))
        return adapted + plain if self.residual else adapted


def lowered(x: Tensor) -> Tensor:
    """Return `x` in the precision in which autocast takes products, where it is on: half the bytes to move before one."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def insert_adapters(mask2former: Any) -> None:
    """Put adapter layers into a stock Mask2Former, in place.

    Args:
        mask2former: A `Mask2FormerForUniversalSegmentation` with a Swin backbone.

    Raises:
        AdapterError: The installed transformers names its layers otherwise.
    """
    core = mask2former.model
    try:
        for stage in core.pixel_level_module.encoder.swin.encoder.layers:
            for block in stage.blocks:
                _adapt(block.attention, "o_proj", residual=True)
                _adapt(block.mlp, "fc2", residual=True)
        for layer in core.pixel_level_module.decoder.encoder.layers:
            _adapt(layer.self_attn, "output_proj", residual=False)
        for layer in core.transformer_module.decoder.layers:
            _adapt(layer.self_attn, "out_proj", residual=False)
    except AttributeError as error:
        import transformers

        raise AdapterError(
            f"transformers {transformers.__version__}: its Mask2Former is laid out otherwise ({error}); expected that of "
            "5.23; run 'pip install transformers==5.23.0'"
        ) from error


def _adapt(parent: nn.Module, name: str, *, residual: bool) -> None:
    setattr(parent, name, AdaptedLinear(getattr(parent, name), residual=residual))
