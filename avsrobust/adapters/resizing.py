"""Checked outputs of one clip, resized to the size of its target's mask.

Conventions
    Resizing is bilinear with align_corners=False and without antialiasing, each frame by itself; probabilities are then clamped
    to [0, 1], of logits the largest is taken (the first of equal ones). Ids, and masks apart from the probabilities, are resized
    to the nearest (pixel centres, as PIL does). Class 0 is background, and the probability of the foreground is that of any other
    class: one minus the background's softmax, or 0 and 1 for ids.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avsrobust.vocabulary import BACKGROUND


def resize_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Resize one clip's checked mask to the nearest.

    Args:
        mask: bool or uint8 [T, h, w].
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        [T, height, width] of the same type.
    """
    if mask.shape[-2:] == (height, width):
        return mask
    # As floating point, which holds 0..70 exactly: not every device resizes integers.
    stored = mask[:, None].to(torch.float32)
    return torch.nn.functional.interpolate(stored, size=(height, width), mode="nearest-exact")[:, 0].to(mask.dtype)


def resize_probability(probability: Tensor, height: int, width: int) -> Tensor:
    """Resize one clip's probabilities.

    Args:
        probability: float32 [T, h, w] in [0, 1].
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        float32 [T, height, width] in [0, 1]; the same tensor where the size is the same.
    """
    if probability.shape[-2:] == (height, width):
        return probability
    resized = torch.nn.functional.interpolate(
        probability[:, None], size=(height, width), mode="bilinear", align_corners=False
    )
    return resized[:, 0].clamp_(0.0, 1.0)


def resize_classes(output: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Reduce one clip's classes to ids of a given size.

    Args:
        output: The clip's checked output: logits, float32 [T, C, h, w], or ids, uint8 [T, h, w].
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        Class ids, integers [T, height, width], and the probability of the foreground, float32 of that shape.
    """
    if not output.is_floating_point():
        ids = resize_mask(output, height, width)
        return ids, (ids != BACKGROUND).to(torch.float32)
    # Frame by frame: ten frames of 71 classes at 1280 x 720 would need 2.6 GB.
    frames = [_read_logits(logits, height, width) for logits in output]
    return torch.stack([ids for ids, _ in frames]), torch.stack([probability for _, probability in frames])


def _read_logits(logits: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return ids [height, width] and probability of anything but background of one frame's logits, float32 [C, h, w]."""
    if logits.shape[-2:] != (height, width):
        size = (height, width)
        logits = torch.nn.functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
    foreground = 1.0 - logits.softmax(dim=0)[BACKGROUND]
    return logits.argmax(dim=0), foreground.clamp_(0.0, 1.0)
