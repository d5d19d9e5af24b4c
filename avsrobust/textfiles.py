"""YAML and JSON from files, read without trusting them.

Conventions
    Only regular files of bounded size are opened. Values are mappings with keys that are texts, lists, texts, true
    and false, null, whole numbers of at most 64 bits and finite numbers, at most `MOST_LEVELS` within each other. The
    exception is JSON that avsrobust wrote itself, in which options and scores may be NaN or infinite (`finite=False`).
    YAML is YAML's safe subset without anchors and aliases (a few lines of them make billions of values), and no key twice.
    `OSError` (not there, no rights, no regular file) and `ValueError` (the content, its text says what) pass through, so that
    callers can say in one line what they expected; a file above the limit raises the caller's `error`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from avsrobust.errors import AvsRobustError
from avsrobust.files import read_regular
from avsrobust.limits import TEXT_BYTES, YAML_BYTES, Limit

MOST_LEVELS = 32
_MOST_SAID = 200
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1


def read_yaml(path: Path, error: type[AvsRobustError], limit: Limit = YAML_BYTES) -> Any:
    """Read a YAML file.

    Args:
        path: The file.
        error: Class of the error for a file above the limit.
        limit: The largest size in bytes.

    Returns:
        A value as in the module's conventions.

    Raises:
        OSError: The file is missing, cannot be read or is no regular file.
        ValueError: The content is refused; the text says why.
        AvsRobustError: `error`, where the file is above the limit.
    """
    return parse_yaml(read_regular(path, limit, error).decode("utf-8"))


def parse_yaml(text: str) -> Any:
    """Return the value that a YAML text describes.

    Raises:
        ValueError: The text is no YAML, or describes something that the module's conventions do not name.
    """
    try:
        content = yaml.load(text, _Strict)  # noqa: S506 (a SafeLoader)
    # Its constructors raise what comes to them on odd numbers and dates.
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(_reason(error)) from error
    _require_plain(content)
    return content


def read_json(path: Path, error: type[AvsRobustError], limit: Limit = TEXT_BYTES) -> Any:
    """Read a JSON file, as `read_yaml` reads YAML.

    Raises:
        OSError: As for `read_yaml`.
        ValueError: The content is refused; the text says why.
        AvsRobustError: `error`, where the file is above the limit.
    """
    return parse_json(read_regular(path, limit, error))


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """Return the value that a JSON text describes.

    Args:
        text: Bytes are UTF-8, with or without a byte order mark.
        finite: Refuse NaN and infinity. False for files of ours, into which Python writes them as ``NaN`` and ``Infinity``.

    Returns:
        A value as in the module's conventions.

    Raises:
        ValueError: The text is no JSON, or describes something else; its message says what.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        content = json.loads(text, parse_constant=_refuse_constant if finite else None)
    except RecursionError as error:
        raise ValueError(f"more than {MOST_LEVELS} levels within each other") from error
    _require_plain(content, finite=finite)
    return content


class _Strict(yaml.SafeLoader):
    """A safe loader that refuses aliases, deep nesting, and a key given twice (YAML's own takes the last without a word)."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refusal("an anchor or alias (& or *); write the value out", event)
        if self._level >= MOST_LEVELS and isinstance(event, yaml.CollectionStartEvent):
            raise _refusal(f"more than {MOST_LEVELS} levels within each other", event)
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        counts = Counter(str(key.value) for key, _ in node.value)
        twice = next((key for key, _ in node.value if counts[str(key.value)] > 1), None)
        if twice is not None:
            reason = f"the key '{str(twice.value)[:50]}' is given twice"
            raise yaml.constructor.ConstructorError(None, None, reason, twice.start_mark)
        return super().construct_mapping(node, deep=deep)


def _refusal(reason: str, event: Any) -> yaml.YAMLError:
    return yaml.composer.ComposerError(None, None, reason, event.start_mark)


def _require_plain(content: Any, *, finite: bool = True) -> None:
    """Raise `ValueError` where a value is none of those that the module's conventions name."""
    level, depth = [content], 0
    while level:
        below: list[Any] = []
        for value in level:
            if depth >= MOST_LEVELS and isinstance(value, dict | list):
                raise ValueError(f"found more than {MOST_LEVELS} levels within each other")
            if isinstance(value, dict):
                odd = [key for key in value if not isinstance(key, str)]
                if odd:
                    raise ValueError(f"found the key {_shown(odd[0])}, which is no text; put it in quotes")
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, int):
                if not _LOWEST <= value <= _HIGHEST:
                    raise ValueError("found a whole number of more than 64 bits")
            elif isinstance(value, float):
                if finite and not math.isfinite(value):
                    raise ValueError(f"found the number {value}; expected finite ones")
            elif value is not None and not isinstance(value, str):
                raise ValueError(f"found a {type(value).__name__}; put it in quotes where it is a text")
        level, depth = below, depth + 1


def _shown(key: object) -> str:
    return f"of type {type(key).__name__}" if isinstance(key, int) and abs(key) > _HIGHEST else repr(key)[:_MOST_SAID]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"found the number {name}; expected finite ones")


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"more than {MOST_LEVELS} levels within each other"
    # YAML's name for a text that comes from no file; the caller names the file.
    text = " ".join(str(error).split()).replace(' in "<unicode string>", ', ", ")
    return (text or type(error).__name__)[:_MOST_SAID]
