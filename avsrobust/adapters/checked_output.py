"""An adapter's whole answer, checked: masks, a mask apart from them, readouts and further values.

Conventions
    The parts are checked by `adapters.outputs`, each as it is copied: what the adapter does with its own memory afterwards
    changes nothing here. Forms of an answer are those of `adapters.base`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from avsrobust.adapters.base import Segmentation
from avsrobust.adapters.outputs import ExtraValues, check_mask, check_output, check_readouts, is_classes


@dataclass(frozen=True)
class CheckedOutput:
    """Output of an adapter for B clips under one condition, checked and copied.

    Attributes:
        masks: Probabilities, float32 [B, T, h, w] in [0, 1]; class logits, float32 [B, T, C, h, w]; or class ids, uint8
            [B, T, h, w].
        extras: Further values by name, float64 [B, T].
        mask: A mask apart from `masks`, bool or, where `masks` are classes, uint8 [B, T, h, w]; None: there is none.
        readouts: Further outputs by name, without values and readouts of their own.
    """

    masks: Tensor
    extras: ExtraValues
    mask: Tensor | None = None
    readouts: Mapping[str, CheckedOutput] = field(default_factory=dict)

    @property
    def is_classes(self) -> bool:
        """Whether the masks are class logits or class ids, and not probabilities."""
        return is_classes(self.masks)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor of masks with a name: "masks", "mask", and those of the readouts behind their names."""
        yield "masks", self.masks
        if self.mask is not None:
            yield "mask", self.mask
        for name, readout in self.readouts.items():
            yield from ((f"{name}.{part}", tensor) for part, tensor in readout.tensors())


def check_answer(
    returned: object,
    *,
    adapter: str,
    batch: int,
    num_frames: int,
    device: torch.device,
    num_classes: int | None = None,
    earlier: CheckedOutput | None = None,
) -> CheckedOutput:
    """Check an answer of an adapter: a tensor, or a `Segmentation` with all its parts. Its extras are empty.

    Args:
        returned: Return value of `segment`.
        adapter: Name of the adapter in messages.
        batch: Number B of clips.
        num_frames: Number T of frames.
        device: Device of the adapter.
        num_classes: Number of classes that logits must have; None: any, from 2.
        earlier: Answer for the same clips under another condition; masks of the same bytes are its masks.

    Raises:
        AdapterOutputError: A part has a wrong type, shape, device or range.
    """

    def checked(value: Any, earlier: CheckedOutput | None) -> CheckedOutput:
        answer = value if isinstance(value, Segmentation) else Segmentation(value)
        masks = check_output(
            answer.probabilities,
            adapter=adapter,
            batch=batch,
            num_frames=num_frames,
            device=device,
            num_classes=num_classes,
            earlier=None if earlier is None else earlier.masks,
        )
        if answer.mask is None:
            return CheckedOutput(masks, {})
        mask = check_mask(
            answer.mask, adapter=adapter, batch=batch, num_frames=num_frames, has_classes=is_classes(masks)
        )
        return CheckedOutput(masks, {}, mask)

    output = checked(returned, earlier)
    if not isinstance(returned, Segmentation):
        return output
    readouts = check_readouts(returned.readouts, adapter=adapter)
    before = {} if earlier is None else earlier.readouts
    checked_readouts = {name: checked(value, before.get(name)) for name, value in readouts.items()}
    return CheckedOutput(output.masks, {}, output.mask, checked_readouts)
