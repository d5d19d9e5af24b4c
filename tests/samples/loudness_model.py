"""A model whose answer depends on frames and sound, for tests of evaluations in pieces and in shards."""

from __future__ import annotations

import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, Segmentation
from avsrobust.errors import ClipError


class LoudnessModel(Adapter):
    """Brighter where the sound is louder, and tells the loudness. It counts its calls in a list, which is no setting.

    Args:
        readout: Give a readout too, "half".
    """

    def __init__(self, readout: bool = False) -> None:
        self.readout = readout
        self.calls: list[int] = []
        self.loudness = [torch.empty(0)]

    def encode_frames(self, frames: Tensor) -> Tensor:
        return frames.float().mean(dim=2)[..., ::4, ::4] / 255

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor | Segmentation:
        self.calls += [1] * len(audio)
        loudness = audio.mean(dim=(2, 3, 4))
        self.loudness[0] = loudness
        masks = torch.sigmoid(8 * (encoded - 0.5) + loudness[..., None, None] * 20)
        return Segmentation(masks, readouts={"half": masks / 2}) if self.readout else masks

    def extras(self) -> dict[str, Tensor]:
        return {"loudness": self.loudness[0]}


class PickyModel(LoudnessModel):
    """Refuses one clip, told by its first pixel, until it is mended."""

    bad: float | None = None

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor | Segmentation:
        if PickyModel.bad is not None and (encoded[:, 0, 0, 0] == PickyModel.bad).any():
            raise ClipError("not this one")
        return super().segment(encoded, audio)
