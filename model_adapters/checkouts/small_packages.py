"""Stand-ins of small packages (einops, easydict, loguru) and of timm's Mlp, for checkouts that import them for a line or two.

Conventions
    `standins` offers them where the real package is not installed. Written from the packages' documentation; of einops only
    `rearrange`, with names and parentheses.
"""

from __future__ import annotations

import itertools
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from torch import Tensor, nn

from avsrobust.errors import AdapterError

_LOG = logging.getLogger(__name__)


def rearrange(tensor: Tensor, pattern: str, **lengths: int) -> Tensor:
    """Return a tensor with its axes split, permuted and merged, as einops.rearrange does.

    Args:
        tensor: The tensor.
        pattern: Such as ``"b c h w -> b (h w) c"``: names of the axes before and after; parentheses hold the parts of one axis.
        **lengths: Lengths of the parts of an axis before; one part of each may be left out.

    Raises:
        AdapterError: The pattern does not fit the tensor, or is more than this stand-in knows.
    """
    before, _, after = pattern.partition("->")
    sources, targets = _axes(before), _axes(after)
    names, wanted = list(itertools.chain(*sources)), list(itertools.chain(*targets))
    if len(sources) != tensor.ndim or sorted(names) != sorted(wanted) or len(set(names)) != len(names):
        raise AdapterError(
            f"rearrange: avsrobust's stand-in for einops cannot fit '{pattern}' to a tensor of {tensor.ndim} axes; install "
            "einops"
        )
    split: list[int] = []
    for axis, length in zip(sources, tensor.shape, strict=True):
        rest = length // math.prod(lengths.get(name, 1) for name in axis)
        split += [lengths.get(name, rest) for name in axis]
    permuted = tensor.reshape(split).permute([names.index(name) for name in wanted])
    sizes = dict(zip(wanted, permuted.shape, strict=True))
    return permuted.reshape([math.prod(sizes[name] for name in axis) for axis in targets])


def _axes(side: str) -> list[list[str]]:
    """Return the names of the parts of each axis, of one side of a pattern."""
    return [group.split() if not name else [name] for group, name in re.findall(r"\(([\w\s]*)\)|(\w+)", side)]


class Rearrange(nn.Module):
    """`rearrange` as a layer, as einops.layers.torch.Rearrange."""

    def __init__(self, pattern: str, **lengths: int) -> None:
        super().__init__()
        self.pattern = pattern
        self.lengths = lengths

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` rearranged."""
        return rearrange(x, self.pattern, **self.lengths)


def repeat(*_arguments: object, **_named: object) -> NoReturn:
    """Refuse: only imported by what runs here.

    Raises:
        NotImplementedError: Always.
    """
    raise NotImplementedError("avsrobust has no stand-in for einops.repeat; install einops")


class Mlp(nn.Module):
    """Two linear layers with an activation between them, as timm's Mlp with its default parameters, in evaluation."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features or in_features)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden_features or in_features, out_features or in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, [..., out_features]."""
        hidden: Tensor = self.drop(self.act(self.fc1(x)))
        return self.drop(self.fc2(hidden))  # type: ignore[no-any-return]


class EasyDict(dict[str, Any]):
    """A dict whose keys are attributes too, as easydict.EasyDict; dicts in it become such dicts."""

    def __init__(self, content: Mapping[str, Any] | None = None, **named: Any) -> None:
        super().__init__()
        for name, value in {**(content or {}), **named}.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, _easy(value))

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(name)


def _easy(value: Any) -> Any:
    if isinstance(value, Mapping) and not isinstance(value, EasyDict):
        return EasyDict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return type(value)(map(_easy, value))  # type: ignore[call-arg]
    return value


class Logger:
    """loguru's `logger`: every message goes to our log, at level debug."""

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda message, *arguments, **named: _LOG.debug("%s: %s", level, message)


logger = Logger()
