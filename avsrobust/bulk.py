"""Many objects of a frozen dataclass at once: its own constructor, which sets each field by name, takes four times as long.

Conventions
    The class has slots, and no `__post_init__`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def make_many(kind: type[Kind], count: int, **columns: Iterable[Any]) -> list[Kind]:
    """Return `count` objects.

    Args:
        kind: The class.
        count: Number of objects.
        columns: The values of each field, at least as many as objects; all fields, since none gets its default.
    """
    made = [object.__new__(kind) for _ in range(count)]
    for name, values in columns.items():
        put = getattr(kind, name).__set__
        for entry, value in zip(made, values, strict=False):
            put(entry, value)
    return made
