"""Outputs of adapters: the check of everything that one returns; `adapters.resizing` brings it to the mask's size.

Conventions
    An output is probabilities in [0, 1], floating point [B, T, h, w] of any h and w, class logits, floating point
    [B, T, C, h, w], or class ids, integers [B, T, h, w] in 0..70, on the adapter's device or on the CPU.
    float16 and bfloat16 are widened to float32. `ROUNDING` beyond 0 or 1 is taken for rounding (a model that upsamples its
    own probabilities) and clamped; anything further out is refused. Logits must be finite.
    A mask that comes apart from the probabilities (`adapters.base.Segmentation`) is bool, or class ids where the output
    is classes.
    Adapters that can return either form take the option ``task``: binary (probabilities) or semantic (classes).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avsrobust.errors import AdapterError, AdapterOutputError, did_you_mean
from avsrobust.limits import PICTURE_PIXELS
from avsrobust.vocabulary import BINARY, NUM_CLASSES, TASKS

ROUNDING = 1e-5
# Further values of B clips by name, float64 [B, T].
ExtraValues = Mapping[str, npt.NDArray[np.float64]]
# Names of readouts become parts of file names.
_READOUT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,59}")
_MOST_READOUTS = 16
# Ten times as many as the largest sets of labelled classes have.
_MOST_CLASSES = 10_000
_MOVED = "; move the classes before height and width: permute(0, 1, 4, 2, 3)"
# What interpolation, not a missing sigmoid, goes beyond 0 and 1.
_OVERSHOOT = 0.1
_ID_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
# Values up to which one thread is enough. Those of torch spin when they are done, for longer than all of this takes, on the
# cores where clips are read and counted and a worker's model runs.
_MOST_ALONE = 1 << 24
_NUMPY_TYPES = {torch.float32: np.float32, torch.uint8: np.uint8, torch.bool: np.bool_}
# Words of an output that are compared first.
_LOOK = 1024


def check_output(
    output: object,
    *,
    adapter: str,
    batch: int,
    num_frames: int,
    device: torch.device,
    num_classes: int | None = None,
    earlier: Tensor | None = None,
) -> Tensor:
    """Check an adapter's masks of B clips.

    Args:
        output: Return value of `segment`.
        adapter: Name of the adapter in messages.
        batch: Number B of clips.
        num_frames: Number T of frames.
        device: Device of the adapter.
        num_classes: Number C of classes that logits must have; None: any, from 2.
        earlier: What this returned for another condition. Where the output has the same bytes, as that of a model which ignores
            the audio, it is returned again.

    Returns:
        Probabilities, float32 [B, T, h, w] in [0, 1]; logits, float32 [B, T, C, h, w]; or class ids, uint8 [B, T, h, w]; on the
        output's own device and never a view of the adapter's memory. `is_classes` distinguishes them.

    Raises:
        AdapterOutputError: The output has a wrong type, shape, device or range.

    >>> import torch
    >>> half = torch.full((1, 5, 2, 2), 0.5, dtype=torch.float16)
    >>> check_output(half, adapter="model", batch=1, num_frames=5, device=torch.device("cpu")).dtype
    torch.float32
    """
    expected = f"probabilities [B={batch}, T={num_frames}, h, w]"
    if not isinstance(output, Tensor):
        raise AdapterOutputError(f"{adapter}: returned {type(output).__name__}; expected a torch tensor of {expected}")
    _check_layout(output, adapter, expected)
    _check_shape(output, adapter, expected, (batch, num_frames), num_classes)
    _check_size(output, adapter)
    if not (output.is_floating_point() or (output.dtype in _ID_TYPES and output.ndim == 4)):
        raise AdapterOutputError(
            f"{adapter}: returned dtype {_dtype(output)}; expected floating-point {expected}; convert with .float()"
        )
    if output.device.type not in (device.type, "cpu"):
        raise AdapterOutputError(
            f"{adapter}: returned a tensor on {output.device}; expected {device}, the device it was loaded for, or cpu"
        )
    if earlier is not None and same_bytes(output, earlier):
        return earlier
    if not output.is_floating_point():
        _check_ids(output, adapter)
        return copied(output, torch.uint8)
    # Checked is the copy: what a worker returned may change until then.
    values = copied(output, torch.float32)
    if values.ndim == 5:
        _check_finite(values, adapter, f"finite class logits [B={batch}, T={num_frames}, C, h, w]")
        return values
    low, high = _check_range(values, adapter, expected)
    return values if low >= 0.0 and high <= 1.0 else values.clamp_(0.0, 1.0)


def is_classes(output: Tensor) -> bool:
    """Return whether a checked output is class logits or class ids, and not probabilities."""
    return output.ndim == 5 or not output.is_floating_point()


def check_mask(mask: object, *, adapter: str, batch: int, num_frames: int, has_classes: bool) -> Tensor:
    """Check a mask that an adapter returned apart from its probabilities.

    Args:
        mask: The mask.
        adapter: Name of the adapter in messages.
        batch: Number B of clips.
        num_frames: Number T of frames.
        has_classes: The output that it comes with is class logits or class ids.

    Returns:
        bool [B, T, h, w], or class ids, uint8, where there are classes; on the mask's own device, a copy.

    Raises:
        AdapterOutputError: It has another type, shape or range.
    """
    expected = f"{'class ids' if has_classes else 'bool'} [B={batch}, T={num_frames}, h, w]"
    if not isinstance(mask, Tensor):
        raise AdapterOutputError(
            f"{adapter}: returned a mask of {type(mask).__name__}; expected a torch tensor, {expected}"
        )
    _check_layout(mask, adapter, expected)
    if mask.ndim != 4 or tuple(mask.shape[:2]) != (batch, num_frames) or 0 in mask.shape:
        raise AdapterOutputError(f"{adapter}: returned a mask of shape {list(mask.shape)}; expected {expected}")
    _check_size(mask, adapter)
    if mask.dtype not in (_ID_TYPES if has_classes else (torch.bool,)):
        hint = "" if has_classes else "; compare the values first, for example scores[:, :, 1] > scores[:, :, 0]"
        raise AdapterOutputError(f"{adapter}: returned a mask of dtype {_dtype(mask)}; expected {expected}{hint}")
    if has_classes:
        _check_ids(mask, adapter)
        return copied(mask, torch.uint8)
    return copied(mask, torch.bool)


def copied(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor's values in memory of their own, on the same device.

    Args:
        tensor: Any tensor.
        dtype: float32, uint8 or bool.
    """
    values = tensor.detach()
    plain = None if values.numel() > _MOST_ALONE else _array(values)
    if plain is None:
        return values.to(dtype, copy=True)
    with np.errstate(over="ignore", invalid="ignore"):
        return torch.from_numpy(plain.astype(_NUMPY_TYPES[dtype]))


def same_bytes(one: Tensor | None, other: Tensor | None) -> bool:
    """Return whether two tensors on the CPU have the same shape, dtype and bytes; others count as different, None as None."""
    if one is None or other is None:
        return one is other
    if one.shape != other.shape or one.dtype != other.dtype or not (one.is_contiguous() and other.is_contiguous()):
        return False
    arrays = [_array(tensor.detach()) for tensor in (one, other)]
    if arrays[0] is None or arrays[1] is None:
        return False
    if one.data_ptr() == other.data_ptr():
        return True
    bits, others = (array.reshape(-1).view(_words(array.nbytes)) for array in arrays if array is not None)
    # Outputs that differ mostly do so in their middle: a look at it is enough.
    part = slice(len(bits) // 2, len(bits) // 2 + _LOOK)
    return np.array_equal(bits[part], others[part]) and np.array_equal(bits, others)


def _array(tensor: Tensor) -> npt.NDArray[Any] | None:
    """Return a detached tensor as an array of the same memory; None where there can be none."""
    if tensor.device.type != "cpu" or tensor.dtype == torch.bfloat16:
        return None
    try:
        return tensor.numpy()
    except (RuntimeError, TypeError):
        # Views of a conjugate.
        return None


def _words(num_bytes: int) -> type[np.uint64 | np.uint8]:
    return np.uint64 if num_bytes % 8 == 0 else np.uint8


def check_readouts(readouts: object, *, adapter: str) -> dict[str, Any]:
    """Return an adapter's further readouts by name, sorted; their contents are checked as its own answers are.

    Raises:
        AdapterOutputError: It is no mapping, a name cannot be part of a file's name, or a readout has readouts of its own.
    """
    if not isinstance(readouts, Mapping) or len(readouts) > _MOST_READOUTS:
        found = f"{len(readouts)} readouts" if isinstance(readouts, Mapping) else type(readouts).__name__
        raise AdapterOutputError(
            f"{adapter}: returned {found}; expected a dict of at most {_MOST_READOUTS} readouts by name"
        )
    for name, value in readouts.items():
        if not isinstance(name, str) or not _READOUT_NAME.fullmatch(name):
            raise AdapterOutputError(
                f"{adapter}: returned a readout of the name {name!r}; expected letters, digits, '_', '.' and '-'"
            )
        if getattr(value, "readouts", None):
            raise AdapterOutputError(f"{adapter}: readout '{name}' has readouts of its own; expected one level of them")
    return dict(sorted(readouts.items()))


def check_extras(returned: object, *, adapter: str, batch: int, num_frames: int) -> dict[str, npt.NDArray[np.float64]]:
    """Check an adapter's further values of B clips.

    Args:
        returned: Return value of `extras`.
        adapter: Name of the adapter in messages.
        batch: Number B of clips.
        num_frames: Number T of frames.

    Returns:
        float64 [B, T] by name.

    Raises:
        AdapterOutputError: It is no mapping of names to finite tensors [B, T].
    """
    expected = f"a dict of names to finite tensors [B={batch}, T={num_frames}]"
    if not isinstance(returned, Mapping):
        raise AdapterOutputError(f"{adapter}: extras returned {type(returned).__name__}; expected {expected}")
    return {
        str(name): _extra_values(name, value, adapter, (batch, num_frames), expected)
        for name, value in returned.items()
    }


def _extra_values(
    name: object, value: object, adapter: str, shape: tuple[int, int], expected: str
) -> npt.NDArray[np.float64]:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        found = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise AdapterOutputError(f"{adapter}: extras returned {found} under '{name}'; expected {expected}")
    _check_layout(value, adapter, expected)
    values = value.detach().to("cpu", torch.float64, copy=True).numpy()
    if not np.isfinite(values).all():
        raise AdapterOutputError(f"{adapter}: extras returned NaN or infinity under '{name}'; expected {expected}")
    return values


def take_task(options: dict[str, str]) -> str:
    """Remove ``task`` from an adapter's options and return it.

    Args:
        options: The adapter's options; changed in place.

    Returns:
        "binary", also where the option is missing, or "semantic".

    Raises:
        AdapterError: The option has another value.

    >>> take_task({"task": "semantic"}), take_task({})
    ('semantic', 'binary')
    """
    task = options.pop("task", BINARY)
    if task not in TASKS:
        raise AdapterError(f"--option task={task}: expected {' or '.join(TASKS)}{did_you_mean(task, TASKS)}")
    return task


def _check_shape(
    output: Tensor, adapter: str, expected: str, leading: tuple[int, int], num_classes: int | None
) -> None:
    shape = list(output.shape)
    if output.ndim == 5 and tuple(shape[:2]) == leading and 0 not in shape and shape[2] > 1:
        moved = _moved_axis(shape) or (_MOVED if num_classes == shape[4] else "")
        if num_classes == shape[2] or (num_classes is None and not moved and shape[2] <= _MOST_CLASSES):
            return
        if moved or num_classes is None:
            raise AdapterOutputError(
                f"{adapter}: returned shape {shape}; expected {expected} or class logits [B, T, C, h, w], C at most "
                f"{_MOST_CLASSES:,}{moved}"
            )
        raise AdapterOutputError(
            f"{adapter}: returned shape {shape}; expected {expected} or class logits of C={num_classes}, background "
            "included, in AVSBench-semantic's order; a binary model returns the probability of its foreground"
        )
    if output.ndim == 5 and shape[2] == 1:
        raise AdapterOutputError(f"{adapter}: returned shape {shape}; expected {expected}; drop the channel axis")
    if output.ndim != 4 or tuple(shape[:2]) != leading or 0 in shape:
        hint = "; separate clips and frames" if output.ndim == 3 and shape[0] == leading[0] * leading[1] else ""
        raise AdapterOutputError(f"{adapter}: returned shape {shape}; expected {expected}{hint}")


def _moved_axis(shape: list[int]) -> str:
    """Return the remedy for a shape [B, T, ?, ?, ?] with the classes, or one channel, at its end; "" for any other."""
    classes, height, width = shape[2:]
    if width == 1 < height:
        return "; drop the last axis"
    is_last = (width in (2, NUM_CLASSES) and classes != width < height) or classes == height != width
    return _MOVED if is_last else ""


def _check_layout(tensor: Tensor, adapter: str, expected: str) -> None:
    if tensor.is_nested:
        raise AdapterOutputError(
            f"{adapter}: returned a nested tensor; expected {expected}; make it one tensor, for example with torch.stack"
        )
    if tensor.layout is not torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        raise AdapterOutputError(
            f"{adapter}: returned a tensor of the layout {layout}; expected {expected}; convert it with .to_dense()"
        )


def _check_size(output: Tensor, adapter: str) -> None:
    """Refuse masks of more pixels than any picture has, before they are copied: a view of one value can have any size."""
    height, width = output.shape[-2:]
    if height * width > PICTURE_PIXELS.current:
        raise AdapterOutputError(
            f"{adapter}: returned masks of {height}x{width}; expected at most {PICTURE_PIXELS.current:,} pixels "
            f"({PICTURE_PIXELS.reason}); return them at the frames' size or below, they are resized to the target's"
        )


def _check_ids(ids: Tensor, adapter: str) -> None:
    low, high = (int(value) for value in torch.aminmax(ids))
    if low < 0 or high >= NUM_CLASSES:
        raise AdapterOutputError(
            f"{adapter}: returned integers from {low} to {high}, which are class ids; expected 0..{NUM_CLASSES - 1}, 0 for "
            "background; return probabilities as floating point"
        )


def _check_finite(values: Tensor, adapter: str, expected: str) -> tuple[float, float]:
    """Return minimum and maximum, which are NaN where any value is."""
    low, high = _range(values)
    if low != low or high != high:
        found = f"{int(values.isnan().sum()):,} of {values.numel():,} values"
        raise AdapterOutputError(f"{adapter}: returned NaN in {found}; expected {expected}")
    if values.ndim == 5 and not (math.isfinite(low) and math.isfinite(high)):
        raise AdapterOutputError(f"{adapter}: returned values from {low:.4g} to {high:.4g}; expected {expected}")
    return low, high


def _range(values: Tensor) -> tuple[float, float]:
    if values.device.type == "cpu" and values.numel() <= _MOST_ALONE:
        plain = values.numpy()
        return float(plain.min()), float(plain.max())
    # As one tensor: each value by itself would wait for a GPU.
    low, high = torch.stack(torch.aminmax(values)).tolist()
    return low, high


def _check_range(probability: Tensor, adapter: str, expected: str) -> tuple[float, float]:
    low, high = _check_finite(probability, adapter, f"{expected} in [0, 1]")
    if low < -ROUNDING or high > 1.0 + ROUNDING:
        overshoots = low >= -_OVERSHOOT and high <= 1.0 + _OVERSHOOT
        remedy = "are they interpolated? add .clamp(0, 1)" if overshoots else "are they logits? apply the sigmoid first"
        raise AdapterOutputError(
            f"{adapter}: returned values from {low:.5g} to {high:.5g}; expected {expected} in [0, 1]; {remedy}"
        )
    return low, high


def _dtype(output: Tensor) -> str:
    return str(output.dtype).removeprefix("torch.")
