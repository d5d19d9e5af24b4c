"""A network of a checkout, run by its own forward pass, with its visual backbone run once per clip.

Conventions
    The networks treat B clips of T frames as B * T pictures. `stages` are the submodules, by name, that see the pictures alone
    and follow one another; `kept` are those whose output the rest of the network reads. They run in `encode`; in `run`
    the network's own forward pass finds their outputs instead of computing them again, and is otherwise left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model_adapters.checkouts.frames import normalised_frames
from model_adapters.checkouts.imports import Checkout


@dataclass(frozen=True)
class EncodedClips:
    """The pictures of B clips as the network takes them, float32 [B * T, 3, s, s], and the outputs of the kept stages."""

    pictures: Tensor
    outputs: Mapping[str, Any]
    clips: int


class CheckoutNetwork:
    """One network, ready to run on the checkout's device; pictures are `image_size` square."""

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
        """Run the backbone on frames, uint8 [B, T, 3, H, W]."""
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
        """Return what the network's forward pass returns for `arguments`, of which the pictures are one."""
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
    """Return the network's scores [B * T, C, h, w] in the form of an adapter's output.

    One channel: probabilities [B, T, h, w], by the sigmoid that the published evaluations apply. More: class logits
    [B, T, C, h, w].
    """
    answer = scores.reshape(clips, -1, *scores.shape[1:])
    return answer[:, :, 0].sigmoid() if scores.shape[1] == 1 else answer
