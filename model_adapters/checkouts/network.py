"""A network of a checkout, run by its own forward pass, with its visual backbone run once per clip.

Conventions
    The networks treat B clips of T frames as B * T pictures. `stages` are the submodules, by name, that see the pictures alone
    and follow one another; `kept` are those whose output the rest of the network reads. They run in `encode`; in `run`
    the network's own forward pass finds their outputs instead of computing them again, and is otherwise left as it is.
    Pictures are prepared as the published data loaders do: resized with Pillow's bilinear filter on 8-bit pictures (as
    torchvision's transforms do), to a square, then scaled to [0, 1] and normalised by ImageNet's mean and standard deviation
    per RGB channel (AVSBench, avs_s4/dataloader.py; AVSegFormer, dataloader/s4_dataset.py). Resizing tensors instead would
    give other pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from model_adapters.checkouts.imports import Checkout

# Of ImageNet, per RGB channel.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EncodedClips:
    """The pictures of B clips as the network takes them, and the outputs of the stages that see pictures alone.

    Attributes:
        pictures: Normalised pictures, float32 [B * T, 3, s, s].
        outputs: Outputs of the kept stages, by the stage's name.
        clips: Number of clips, B.
    """

    pictures: Tensor
    outputs: Mapping[str, Any]
    clips: int


class CheckoutNetwork:
    """One network, ready to run on the checkout's device.

    Args:
        checkout: The code of the network.
        network: The network, with its weights.
        image_size: Side of the square pictures that it takes, in pixels.
        stages: Names of the submodules that see the pictures alone, in the order in which they run.
        kept: Those of `stages` whose output the rest of the network reads.

    Attributes:
        checkout: As given.
        network: The network in evaluation mode, on the checkout's device.
        image_size: As given.
    """

    def __init__(
        self, checkout: Checkout, network: nn.Module, *, image_size: int, stages: Sequence[str], kept: Sequence[str]
    ) -> None:
        self.checkout = checkout
        self.network = network.eval().to(checkout.device)
        self.image_size = image_size
        self._stages = tuple(stages)
        self._kept = frozenset(kept)

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> EncodedClips:
        """Run the backbone.

        Args:
            frames: RGB frames, uint8 [B, T, 3, H, W].

        Returns:
            The prepared pictures, and the outputs of the kept stages.
        """
        pictures = normalised_frames(frames.to(self.checkout.device), self.image_size)
        outputs: dict[str, Any] = {}
        with self.checkout.active():
            result: Any = pictures
            for name in self._stages:
                result = self.network.get_submodule(name)(result)
                if name in self._kept:
                    outputs[name] = result
        return EncodedClips(pictures, outputs, len(frames))

    @torch.inference_mode()
    def run(self, encoded: EncodedClips, *arguments: Tensor) -> Sequence[Tensor]:
        """Run the network's own forward pass.

        Args:
            encoded: Clips from `encode`, whose outputs stand in for the stages.
            *arguments: Arguments of the forward pass; the pictures are one of them.

        Returns:
            The tensors that the forward pass returns.
        """
        with self.checkout.active(), self._replaying(encoded.outputs):
            returned: Sequence[Tensor] = self.network(*arguments)
            return returned

    @contextmanager
    def _replaying(self, outputs: Mapping[str, Any]) -> Iterator[None]:
        modules = {name: self.network.get_submodule(name) for name in self._stages}
        for name, module in modules.items():
            module.forward = _answer(outputs[name]) if name in outputs else _pass_on
        try:
            yield
        finally:
            for module in modules.values():
                # The class's own forward comes back.
                del module.forward


def _answer(output: Any) -> Any:
    # A list of feature maps is the caller's to change.
    return lambda *_arguments, **_named: list(output) if isinstance(output, list) else output


def _pass_on(value: Any) -> Any:
    return value


def clip_masks(scores: Tensor, clips: int) -> Tensor:
    """Return a network's scores in the form of an adapter's output.

    Args:
        scores: Logits [B * T, C, h, w].
        clips: Number of clips, B.

    Returns:
        For one channel, probabilities [B, T, h, w] in [0, 1], by the sigmoid that the published evaluations apply; for more, the
        class logits [B, T, C, h, w].
    """
    answer = scores.reshape(clips, -1, *scores.shape[1:])
    return answer[:, :, 0].sigmoid() if scores.shape[1] == 1 else answer


def normalised_frames(frames: Tensor, size: int) -> Tensor:
    """Return frames as the published data loaders prepare them.

    Args:
        frames: RGB frames, uint8 [B, T, 3, H, W].
        size: Side of the square pictures, in pixels.

    Returns:
        Pictures, float32 [B * T, 3, size, size], on the device of `frames`.
    """
    flat = frames.flatten(0, 1)
    if flat.shape[-2:] != (size, size):
        pictures = flat.permute(0, 2, 3, 1).cpu().numpy()
        resized = np.stack([_resize(picture, size) for picture in pictures])
        flat = torch.from_numpy(resized).permute(0, 3, 1, 2).to(frames.device)
    mean, deviation = (torch.tensor(values, device=flat.device)[:, None, None] for values in (MEAN, DEVIATION))
    return flat.to(torch.float32).div(255).sub(mean).div(deviation)


def _resize(picture: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))
