"""The small convolutional audio encoder that is trained with the bundled models.

Conventions
    In: log_mel float32 [N, 1, 96, 64], 0.96 s each (96 steps of 10 ms, 64 mel bands), natural log of magnitude + 0.01.
    Out: embedding float32 [N, 128], as long as VGGish's, so that the rest of the network does not care which it is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from model_adapters.m2f.config import EMBEDDING_SIZE

_CHANNELS = (1, 16, 32, 64, 128)
_MEL_BANDS = 64
# Mean and standard deviation of VGGish log-mels over varied sounds, rounded (golden/logmel.json "pooled").
_MEAN, _STD = -1.0, 1.4


class LogMelEncoder(nn.Module):
    """Four strided convolutions, pooled over time alone: which band is loud is what tells sounds apart."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for in_channels, out_channels in pairwise(_CHANNELS):
            layers += [nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        bands = _MEL_BANDS // 2 ** (len(_CHANNELS) - 1)
        self.projection = nn.Linear(2 * _CHANNELS[-1] * bands, EMBEDDING_SIZE)
        self.norm = nn.LayerNorm(EMBEDDING_SIZE)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return the embedding of each second, float32 [N, 128]; `log_mel` is float32 [N, 1, 96, 64]."""
        maps = self.convolutions((log_mel - _MEAN) / _STD)
        pooled = torch.cat((maps.mean(dim=2), maps.amax(dim=2)), dim=1).flatten(1)
        return cast("Tensor", self.norm(self.projection(pooled)))
