"""What an adapter may return: the check of every output, and the resize to the mask's size.

Conventions
    An output is probabilities in [0, 1], floating point [B, T, h, w] of any h and w, on the adapter's device or on the CPU.
    float16 and bfloat16 are widened to float32. `ROUNDING` beyond 0 or 1 is taken for rounding (a model that upsamples its
    own probabilities) and clamped; anything further out is refused.
    Resizing is bilinear with align_corners=False and without antialiasing, each clip by itself, then clamped to [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from avsrobust.errors import AdapterOutputError

ROUNDING = 1e-5


def check_output(output: object, *, adapter: str, batch: int, num_frames: int, device: torch.device) -> Tensor:
    """Return `output` as float32 [B, T, h, w] in [0, 1], on its own device, never a view of what the adapter keeps.

    `adapter` is its name, for messages. Raises `AdapterOutputError` that says what was returned and what was expected.
    """
    expected = f"probabilities [B={batch}, T={num_frames}, h, w]"
    if not isinstance(output, Tensor):
        raise AdapterOutputError(f"{adapter}: returned {type(output).__name__}; expected a torch tensor of {expected}")
    _check_shape(output, adapter, expected, (batch, num_frames))
    if not output.is_floating_point():
        raise AdapterOutputError(
            f"{adapter}: returned dtype {_dtype(output)}; expected floating-point {expected}; convert with .float()"
        )
    if output.device.type not in (device.type, "cpu"):
        raise AdapterOutputError(
            f"{adapter}: returned a tensor on {output.device}; expected {device}, the device it was loaded for, or cpu"
        )
    probability = output.detach().to(torch.float32, copy=True)
    _check_range(probability, adapter, expected)
    return probability.clamp_(0.0, 1.0)


def resize_probability(probability: Tensor, height: int, width: int) -> Tensor:
    """Resize one clip's probabilities, float32 [T, h, w], to [T, height, width]; the same tensor where nothing changes."""
    if probability.shape[-2:] == (height, width):
        return probability
    resized = torch.nn.functional.interpolate(
        probability[:, None], size=(height, width), mode="bilinear", align_corners=False
    )
    return resized[:, 0].clamp_(0.0, 1.0)


def _check_shape(output: Tensor, adapter: str, expected: str, leading: tuple[int, int]) -> None:
    shape = list(output.shape)
    if output.ndim == 5:
        hint = (
            "drop the channel axis"
            if shape[2] == 1
            else "class logits [B, T, C, h, w] cannot be scored yet; return the probability that a pixel belongs to "
            "a sounding object"
        )
        raise AdapterOutputError(f"{adapter}: returned shape {shape}; expected {expected}; {hint}")
    if output.ndim != 4 or tuple(shape[:2]) != leading or 0 in shape:
        hint = "; separate clips and frames" if output.ndim == 3 and shape[0] == leading[0] * leading[1] else ""
        raise AdapterOutputError(f"{adapter}: returned shape {shape}; expected {expected}{hint}")


def _check_range(probability: Tensor, adapter: str, expected: str) -> None:
    # One minimum and one maximum tell everything: NaN survives both.
    low, high = (float(value) for value in torch.aminmax(probability))
    if low != low or high != high:
        share = float(probability.isnan().float().mean())
        raise AdapterOutputError(f"{adapter}: returned NaN in {share:.2%} of the values; expected {expected} in [0, 1]")
    if low < -ROUNDING or high > 1.0 + ROUNDING:
        raise AdapterOutputError(
            f"{adapter}: returned values from {low:.4g} to {high:.4g}; expected {expected} in [0, 1]; "
            "are they logits? apply the sigmoid first"
        )


def _dtype(output: Tensor) -> str:
    return str(output.dtype).removeprefix("torch.")
