"""A guard of encodings: the value that `encode_frames` returned must not change, since it is used again for every condition.

Conventions
    An encoding is anything: tensors and numpy arrays are found in tuples, lists, dicts, dataclasses and plain objects, to a
    bounded depth. Tensors count their own changes (`Tensor._version`; views share the count), at no cost; inference tensors do
    not. Arrays are made read-only until the guard is released, so that writing to one raises; those that show the memory of
    something else, which cannot be made writeable again, are copied and compared.
    With `content` everything is copied and compared, which finds changes that bypass the counts (``.data``, shared memory).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from avsrobust.errors import AdapterOutputError

_DEEPEST = 6
_MOST_VALUES = 10_000
_Leaf = Tensor | np.ndarray[Any, np.dtype[Any]]


class EncodingChangedError(AdapterOutputError):
    """`segment` changes the encoding that `encode_frames` returned."""


class EncodingGuard:
    """Watches an encoding while its with block runs.

    Args:
        encoded: The encoding.
        name: Name of the adapter in messages.
        content: Copy and compare the contents too.
    """

    def __init__(self, encoded: object, name: str, *, content: bool = False) -> None:
        self._name = name
        self._leaves = list(leaves(encoded))
        self._versions = [_version(leaf) for _, leaf in self._leaves]
        self._copies = [_copy(leaf) if content or not _is_guarded(leaf) else None for _, leaf in self._leaves]
        self._locked: list[np.ndarray[Any, np.dtype[Any]]] = []

    def __enter__(self) -> Self:
        for _, leaf in self._leaves:
            if isinstance(leaf, np.ndarray) and leaf.flags.writeable and _is_guarded(leaf):
                leaf.flags.writeable = False
                self._locked.append(leaf)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for array in self._locked:
            # The adapter's own buffers may be arrays: it may write to them again for the next clip.
            array.flags.writeable = True
        self._locked.clear()

    def check(self) -> None:
        """Raise `EncodingChangedError` where the encoding has changed since the guard was made."""
        for index, (path, leaf) in enumerate(self._leaves):
            changed = _version(leaf) != self._versions[index]
            copy = self._copies[index]
            if changed or (copy is not None and not _same(leaf, copy)):
                raise changed_in_place(self._name, path)


def changed_in_place(name: str, path: str = "") -> EncodingChangedError:
    """Return the error for an adapter whose `segment` changes its encoding.

    Args:
        name: Name of the adapter.
        path: Part of the encoding that changed, "" where it is not known.
    """
    part = f" ({path})" if path else ""
    return EncodingChangedError(
        f"{name}: segment changes the encoded frames in place{part}, which would leak into the next condition; expected them "
        "unchanged; write e = e + x instead of e += x, or clone them first"
    )


def leaves(value: object) -> Iterator[tuple[str, _Leaf]]:
    """Yield the path and value of every tensor and array in an encoding, each once; modules keep their weights to themselves."""
    seen: set[int] = set()
    waiting: list[tuple[str, object, int]] = [("", value, 0)]
    while waiting and len(seen) < _MOST_VALUES:
        path, item, depth = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor | np.ndarray):
            yield path, item
        elif depth < _DEEPEST and not isinstance(item, nn.Module | type):
            waiting += [(f"{path}{key}", part, depth + 1) for key, part in _parts(item)]


def _parts(item: object) -> list[tuple[str, object]]:
    if isinstance(item, Mapping):
        return [(f"[{key!r}]"[:40], part) for key, part in islice(item.items(), _MOST_VALUES)]
    if isinstance(item, list | tuple | set | frozenset):
        return [(f"[{index}]", part) for index, part in enumerate(islice(item, _MOST_VALUES))]
    # What can be called, or is an adapter itself, may well change; values do not.
    if isinstance(item, str | bytes | int | float | complex | None) or callable(item) or hasattr(item, "segment"):
        return []
    names = [name for name in getattr(type(item), "__slots__", ()) if isinstance(name, str)]
    slots = [(f".{name}", getattr(item, name, None)) for name in names]
    return slots + [(f".{name}", part) for name, part in list(getattr(item, "__dict__", {}).items())]


def _is_guarded(leaf: _Leaf) -> bool:
    """Return whether a change of a tensor or array can be noticed without a copy of it."""
    if isinstance(leaf, Tensor):
        # A copy of every inference tensor would cost too much: only the first clips' contents are compared.
        return True
    owner: object = leaf
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    return isinstance(owner, np.ndarray) and owner.flags.owndata


def _version(leaf: _Leaf) -> int | None:
    if isinstance(leaf, np.ndarray) or leaf.is_inference():
        return None
    return int(leaf._version)


def _copy(leaf: _Leaf) -> _Leaf:
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf.detach().clone()


def _same(leaf: _Leaf, copy: _Leaf) -> bool:
    if isinstance(leaf, np.ndarray) or isinstance(copy, np.ndarray):
        return bool(np.array_equal(leaf, copy, equal_nan=np.asarray(leaf).dtype.kind in "fc"))
    if leaf.shape != copy.shape or leaf.layout != torch.strided:
        return leaf.shape == copy.shape
    if leaf.is_floating_point():
        return torch.equal(leaf.detach().nan_to_num(), copy.nan_to_num())
    return torch.equal(leaf, copy)
