"""Protocols by name, of both tasks; packages and files of a user's can add some.

Conventions
    A name stands for a binary protocol, a semantic one, or both. The built-in ones are those of
    `avsrobust.metrics.binary.protocols` and `avsrobust.metrics.semantic.protocols`. Packages register a `Protocol`, a
    `SemanticProtocol` or a pair of them in the entry-point group `avsrobust.protocols`; ``file.py:OBJECT`` names one without
    registering it. ``NAME@batch=2`` is the binary protocol of that name with another value of an argument (`ARGUMENTS`), which
    stands in its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.metrics.binary.protocols import PROTOCOLS, Protocol
from avsrobust.metrics.semantic.protocols import SEMANTIC_PROTOCOLS, SemanticProtocol
from avsrobust.plugins import Registry

# Fields of a binary protocol that ``NAME@field=value`` may set.
ARGUMENTS = ("batch", "negative_batch")


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
    """Return the protocols of a name, of ``package.module:OBJECT`` or of ``file.py:OBJECT``, each maybe with arguments.

    Raises:
        OptionError: The name or an argument is unknown, the object is no protocol, or the protocol cannot take the argument.

    >>> find_protocol("strict").binary.threshold, find_protocol("bias_in_avs").semantic
    (0.5, None)
    >>> find_protocol("avsbench@batch=2").name, find_protocol("avsbench@batch=2").binary.batch
    ('avsbench@batch=2', 2)
    """
    found = re.fullmatch(r"(.+?)@(\w+=.*)", spec)
    return _REGISTRY.find(spec) if found is None else _with_arguments(spec, found[1], found[2])


def protocol_names() -> tuple[str, ...]:
    """Return the names of all protocols: the built-in ones, then those that packages register."""
    return _REGISTRY.names()


def _with_arguments(spec: str, base: str, text: str) -> NamedProtocol:
    """The protocol `base` with the arguments ``name=value,name=value`` of `text`, those in its name that change it."""
    protocol = _REGISTRY.find(base).binary
    if protocol is None:
        raise OptionError(f"--protocol {spec}: {base} is for classes alone, where batches change nothing; use {base}")
    values: dict[str, int] = {}
    for pair in text.split(","):
        key, _, value = pair.partition("=")
        if key not in ARGUMENTS or key in values:
            problem = "is given twice" if key in values else f"is no argument{did_you_mean(key, ARGUMENTS)}"
            raise OptionError(
                f"--protocol {spec}: '{key}' {problem}; expected {' or '.join(ARGUMENTS)}, as in {base}@batch=2"
            )
        if not re.fullmatch(r"[1-9]\d{0,8}", value, flags=re.ASCII):
            raise OptionError(f"--protocol {spec}: found {key} '{value}'; expected a number of clips, at least 1")
        values[key] = int(value)
    batch = values.get("batch", 1)
    negative = values.get("negative_batch", batch)
    arguments = [f"batch={batch}"] * (batch != 1) + [f"negative_batch={negative}"] * (negative != batch)
    if not arguments:
        return _REGISTRY.find(base)
    name = f"{protocol.name}@{','.join(arguments)}"
    changed = replace(protocol, name=name, batch=batch, negative_batch=None if negative == batch else negative)
    return NamedProtocol(name, changed, None)


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
