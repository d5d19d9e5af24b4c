"""Reading a mapping of YAML into frozen dataclasses, every key and type checked.

Conventions
    A field's type says what is read: int, float, str, bool, a Literal, `tuple[X, ...]` from a list, `dict[str, X]` from a
    mapping, another dataclass from a mapping, ``X | None`` where the key may be left out. `bounded` gives a number's range.
    Messages name the file and the key, with dots between levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from avsrobust.errors import RecipeError, did_you_mean

Value = TypeVar("Value")
_BOUNDS = "bounds"


def bounded(low: float, high: float | None = None, default: Any = MISSING) -> Any:
    """Return a dataclass field for a number from `low` to `high` (None: no upper end)."""
    metadata = {_BOUNDS: (low, high)}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def read_fields(kind: type[Value], content: object, where: str, prefix: str = "") -> Value:
    """Return the dataclass `kind` that the mapping `content` describes.

    `where` is the file and `prefix` the keys above, for messages. Raises `RecipeError`.
    """
    if not isinstance(content, Mapping):
        raise _error(where, prefix.rstrip("."), content, "a mapping")
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    for key in content:
        if key not in known:
            near = did_you_mean(str(key), known)
            raise RecipeError(f"{where}: key {prefix}{key}: not known{near}; expected one of {', '.join(known)}")
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, entry in known.items():
        if name in content:
            values[name] = _read(types[name], content[name], where, prefix + name, entry)
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise RecipeError(f"{where}: key {prefix}{name}: not given; expected {_describe(types[name])}; add it")
    return kind(**values)


def _read(kind: Any, value: object, where: str, key: str, entry: Field[Any] | None) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        inner = next(argument for argument in arguments if argument is not NoneType)
        return None if value is None else _read(inner, value, where, key, entry)
    if is_dataclass(kind):
        return read_fields(kind, value, where, f"{key}.")  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, list):
            raise _error(where, key, value, "a list")
        return tuple(_read(arguments[0], item, where, f"{key}[{at}]", entry) for at, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise _error(where, key, value, "a mapping of names")
        return {name: _read(arguments[1], item, where, f"{key}.{name}", entry) for name, item in value.items()}
    if kind is Any:
        return value
    return _read_plain(kind, value, where, key, entry)


def _read_plain(kind: Any, value: object, where: str, key: str, entry: Field[Any] | None) -> Any:
    if get_origin(kind) is Literal:
        # A number is not taken for a text, nor 1 for true.
        if value in get_args(kind) and isinstance(value, str):
            return value
        near = did_you_mean(value, get_args(kind)) if isinstance(value, str) else ""
        raise RecipeError(f"{where}: key {key}: found {value!r}; expected {' or '.join(get_args(kind))}{near}")
    if kind is bool or kind is str:
        if isinstance(value, kind):
            return value
        raise _error(where, key, value, _describe(kind))
    accepted = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, accepted):
        hint = " (YAML reads 6e-4 as a text; write 6.0e-4)" if isinstance(value, str) else ""
        raise _error(where, key, value, _describe(kind) + hint)
    number = kind(value)
    low, high = (entry.metadata if entry is not None else {}).get(_BOUNDS, (None, None))
    if number != number or (low is not None and number < low) or (high is not None and number > high):
        raise _error(
            where,
            key,
            value,
            f"{_describe(kind)} {f'from {low} to {high}' if high is not None else f'of at least {low}'}",
        )
    return number


def _describe(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if get_origin(kind) is tuple:
        return "a list"
    return names.get(kind, "a mapping")


def _error(where: str, key: str, value: object, expected: str) -> RecipeError:
    at = f"key {key}: " if key else ""
    return RecipeError(f"{where}: {at}found {value!r}; expected {expected}; correct the file")
