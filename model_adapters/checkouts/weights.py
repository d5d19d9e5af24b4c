"""Loading a checkpoint into a checkout's network; any difference between the two is refused.

Conventions
    Names are those of the network's own state dict, without the ``module.`` that `torch.nn.DataParallel` puts before them.
    Files are read without running anything in them (`model_adapters.m2f.state`).
    A network to be filled is made within `UnfilledWeights`: drawing random weights takes a PVT most of a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from avsrobust.errors import AdapterError
from model_adapters.m2f.state import read_state

_PARALLEL = "module."
_MOST_NAMES = 4
_RANDOM_FILLS = frozenset(("uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_"))


class UnfilledWeights(TorchFunctionMode):
    """A block within which random weights are zeros, since a checkpoint replaces them."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type[Any]],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func`, or fill with zeros where it would draw numbers."""
        named = dict(kwargs or {})
        if getattr(func, "__name__", "") in _RANDOM_FILLS:
            # Zeros, and not the memory's content: some initialisers draw again until all is within bounds.
            filled: Tensor = args[0] if args else named["tensor"]
            with torch.no_grad():
                return filled.zero_()
        return func(*args, **named)


def read_weights(checkpoint: Path | None, model: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint.

    Args:
        checkpoint: The file; None where the user named none.
        model: Name of the model, for messages.

    Returns:
        The tensors by name.

    Raises:
        AdapterError: No file is named, or it holds anything but named tensors.
    """
    if checkpoint is None:
        raise AdapterError(f"{model}: found no --checkpoint; expected the file of weights that its training wrote")
    tensors = read_state(checkpoint).tensors
    if all(name.startswith(_PARALLEL) for name in tensors):
        return {name.removeprefix(_PARALLEL): tensor for name, tensor in tensors.items()}
    return tensors


def fill(network: nn.Module, tensors: Mapping[str, Tensor], checkpoint: Path | None, hint: str = "") -> None:
    """Copy all tensors of a checkpoint into a network.

    Args:
        network: The network, changed in place.
        tensors: The tensors by name.
        checkpoint: Their file, for messages.
        hint: End of the message, such as another adapter that the checkpoint may be for.

    Raises:
        AdapterError: A tensor is missing, unknown or of another shape; the message counts and names them.
    """
    own = network.state_dict()
    misshapen = [
        f"{name} {list(tensors[name].shape)} instead of {list(own[name].shape)}"
        for name in sorted(own.keys() & tensors.keys())
        if own[name].shape != tensors[name].shape
    ]
    differences = {
        "missing": sorted(own.keys() - tensors.keys()),
        "unknown": sorted(tensors.keys() - own.keys()),
        "of another shape": misshapen,
    }
    if any(differences.values()):
        listed = "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in differences.items() if names)
        fitting = len(own.keys() & tensors.keys()) - len(misshapen)
        raise AdapterError(
            f"--checkpoint {checkpoint}: does not fit the network: {listed}; {fitting} tensors fit; "
            f"name the checkpoint of this network, or its configuration{hint}"
        )
    network.load_state_dict(dict(tensors))


def shape_of(tensors: Mapping[str, Tensor], name: str, checkpoint: Path | None, model: str) -> tuple[int, ...]:
    """Return the shape of a tensor that every checkpoint of the model has.

    Args:
        tensors: The checkpoint's tensors by name.
        name: Name of the tensor.
        checkpoint: The file, for messages.
        model: Name of the model, for messages.

    Raises:
        AdapterError: There is no tensor of that name.
    """
    if name not in tensors:
        first = _some(sorted(tensors))
        raise AdapterError(
            f"--checkpoint {checkpoint}: has no tensor '{name}', which every {model} has; found {len(tensors)} others "
            f"({first}); name a checkpoint of {model}"
        )
    return tuple(tensors[name].shape)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
