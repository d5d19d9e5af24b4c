"""Random numbers of adapters: global generators that are seeded for a block and put back, and a watch for dropout.

Conventions
    The global generators are torch's (of all devices), numpy's legacy one and Python's `random`: research code draws from each.
    Dropout that is left on draws numbers too, but by mistake. Layers in training mode show it themselves; calls of
    functions (``F.dropout(x, 0.1)``, whose default is ``training=True``, or ``scaled_dot_product_attention(dropout_p=0.1)``)
    only when they are made: `DropoutWatch` records them, also where a seed makes their numbers the same each time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_LARGEST_NUMPY_SEED = 1 << 32
# Functions (input, p=0.5, training=..).
_DROPOUTS = (
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put the states of the global generators back at the end of the block."""
    cpu, legacy, python = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = torch.cuda.get_rng_state_all() if on_gpu else []
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        np.random.set_state(legacy)  # noqa: NPY002
        random.setstate(python)
        if devices:
            torch.cuda.set_rng_state_all(devices)


def seed_generators(seed: int) -> None:
    """Seed the global generators, numpy's with the lower 32 bits.

    Args:
        seed: Any whole number from 0 to 2^64 - 1.
    """
    torch.manual_seed(seed)
    np.random.seed(seed % _LARGEST_NUMPY_SEED)  # noqa: NPY002
    random.seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the block with seeded global generators, and put their states back."""
    with generators_kept():
        seed_generators(seed)
        yield


class DropoutWatch(TorchFunctionMode):
    """Records whether functions of torch drop values in its with block.

    Attributes:
        found: Name and rate of the first such call, "" where there was none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = ""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func`, and remember it where it drops values."""
        named = kwargs or {}
        if func in _DROPOUTS:
            rate = named.get("p", args[1] if len(args) > 1 else 0.5)
            if rate > 0 and named.get("training", args[2] if len(args) > 2 else _trains(func)):
                self._remember(func, rate)
        elif func is torch.dropout and len(args) > 2 and args[1] > 0 and args[2]:
            self._remember(func, args[1])
        elif func is functional.scaled_dot_product_attention:
            rate = named.get("dropout_p", args[4] if len(args) > 4 else 0.0)
            if rate > 0:
                self._remember(func, rate)
        return func(*args, **named)

    def _remember(self, func: Callable[..., Any], rate: float) -> None:
        self.found = self.found or f"{getattr(func, '__name__', 'dropout')} with p={rate:g}"


def _trains(function: Callable[..., Any]) -> bool:
    """Return the default of a function's argument `training`."""
    return function not in (functional.alpha_dropout, functional.feature_alpha_dropout)
