"""Protocols by name, of both tasks; packages and files of a user's can add some.

Conventions
    A name stands for a binary protocol, a semantic one, or both. The built-in ones are those of
    `avsrobust.metrics.binary.protocols` and `avsrobust.metrics.semantic.protocols`. Packages register a `Protocol`, a
    `SemanticProtocol` or a pair of them in the entry-point group `avsrobust.protocols`; ``file.py:OBJECT`` names one without
    registering it.
"""

from __future__ import annotations

from dataclasses import dataclass

from avsrobust.errors import OptionError
from avsrobust.metrics.binary.protocols import PROTOCOLS, Protocol
from avsrobust.metrics.semantic.protocols import SEMANTIC_PROTOCOLS, SemanticProtocol
from avsrobust.plugins import Registry


@dataclass(frozen=True)
class NamedProtocol:
    """The protocols of one name: one for each task that has it.

    Attributes:
        name: The name.
        binary: The binary protocol, or None.
        semantic: The semantic protocol, or None.
    """

    name: str
    binary: Protocol | None
    semantic: SemanticProtocol | None


def find_protocol(spec: str) -> NamedProtocol:
    """Return the protocols of a name, of ``package.module:OBJECT`` or of ``file.py:OBJECT``.

    Raises:
        OptionError: The name is unknown, or the object is no protocol.

    >>> find_protocol("strict").binary.threshold, find_protocol("bias_in_avs").semantic
    (0.5, None)
    """
    return _REGISTRY.find(spec)


def protocol_names() -> tuple[str, ...]:
    """Return the names of all protocols: the built-in ones, then those that packages register."""
    return _REGISTRY.names()


def _check(spec: str, found: object) -> NamedProtocol:
    """The protocols that `spec` names."""
    parts = found if isinstance(found, tuple) else (found,)
    binary = next((part for part in parts if isinstance(part, Protocol)), None)
    semantic = next((part for part in parts if isinstance(part, SemanticProtocol)), None)
    names = {part.name for part in (binary, semantic) if part is not None}
    if len(parts) != (binary is not None) + (semantic is not None) or len(names) != 1:
        raise OptionError(
            f"--protocol {spec}: is {type(found).__name__}; expected an avsrobust.metrics.Protocol, a SemanticProtocol, or a "
            "pair of them with one name"
        )
    return NamedProtocol(names.pop(), binary, semantic)


# Names of the registry's targets in this module.
_BUILT_IN = {name: f"protocol_{name}" for name in dict.fromkeys([*PROTOCOLS, *SEMANTIC_PROTOCOLS])}
for _name, _target in _BUILT_IN.items():
    globals()[_target] = tuple(known[_name] for known in (PROTOCOLS, SEMANTIC_PROTOCOLS) if _name in known)

_REGISTRY = Registry(
    noun="protocol",
    option="--protocol",
    group="avsrobust.protocols",
    built_in={name: f"{__name__}:{target}" for name, target in _BUILT_IN.items()},
    check=_check,
    error=OptionError,
)
