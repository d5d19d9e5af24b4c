"""Devices of a run: the device that ``--device`` names here, and whether it computes a precision itself."""

from __future__ import annotations

import os
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from avsrobust.errors import OptionError

_PRECISION = "ACCELERATE_MIXED_PRECISION"


def trains_on_cpu(device: str) -> bool:
    """Return whether a run with ``--device`` trains on the CPU here."""
    return device == "cpu" or (device == "auto" and not torch.accelerator.is_available())


def computes(precision: str, device: torch.device) -> bool:
    """Return whether a device has instructions for a precision: CPUs without those for bfloat16 compute it piece by piece."""
    if precision != "bfloat16" or device.type != "cpu":
        return True
    mkldnn = cast("Any", torch.backends.mkldnn)
    return bool(mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def check_device(device: str) -> None:
    """Raise `OptionError` unless training can take place on a device of this name here."""
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"--device cuda: torch {torch.__version__} sees no GPU here; use --device cpu or auto")
    if device not in ("auto", "cpu", "cuda"):
        raise OptionError(f"--device {device}: expected auto, cpu or cuda (accelerate spreads over several GPUs)")


def open_accelerator(precision: str, device: str) -> Accelerator:
    """Return the accelerator of a run.

    Args:
        precision: "float32" or "bfloat16".
        device: auto, cpu or cuda.

    Raises:
        OptionError: There is no such device here.
    """
    check_device(device)
    mixed = "bf16" if precision == "bfloat16" else "no"
    # Accelerate keeps one precision, and one device, for the whole process; a second run of it may want others.
    AcceleratorState._reset_state(reset_partial_state=not _is_one_of_several())
    # Set by accelerate launch; the recipe decides.
    launched = os.environ.pop(_PRECISION, None)
    try:
        return Accelerator(mixed_precision=mixed, cpu=device == "cpu")
    finally:
        if launched is not None:
            os.environ[_PRECISION] = launched


def _is_one_of_several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
