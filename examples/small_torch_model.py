"""A complete adapter for a small torch model. Copy this file and put your own network in.

    avsrobust evaluate --adapter examples/small_torch_model.py:SmallModel [--checkpoint weights.pt]

`avsrobust.testing.check_adapter("examples/small_torch_model.py:SmallModel")` lists the faults of an adapter.
"""

from __future__ import annotations

from pathlib import Path

import torch
from small_network import make_network
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput


class SmallModel(Adapter):
    """The network of ``small_network.py``."""

    audio = AudioInput.log_mel()  # or AudioInput.waveform(16_000), or AudioInput.embedding()

    @classmethod
    def load(cls, checkpoint: Path | None, device: torch.device) -> SmallModel:  # type: ignore[override]
        """Make the model ready. More parameters here are more ``--option name=value``, as strings."""
        adapter = cls()
        adapter.network = make_network(checkpoint).to(device)
        return adapter

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Once per clip: all that is independent of the sound. Frames are uint8 [B, T, 3, H, W], at their own size."""
        return self.network.look(frames)

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        """Once per sound: probabilities [B, T, h, w], of any h and w."""
        return self.network.mark(encoded, audio).sigmoid()
