"""Finding and loading adapters: names of the catalogue, ``package.module:Class`` and ``file.py:Class``.

Conventions
    Names and files are found as those of all plug-ins (`avsrobust.plugins.Registry`).
    A class needs no base class: `load`, `encode_frames`, `segment` and `audio` make an adapter (`avsrobust.adapters.base`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from avsrobust.adapters.base import VGGISH_OPTION, Adapter, AudioInput
from avsrobust.adapters.catalogue import BUILT_IN, ENTRY_POINT_GROUP
from avsrobust.adapters.surroundings import hand_over, remember, surroundings
from avsrobust.errors import AdapterError, did_you_mean
from avsrobust.plugins import Registry, one_line

# Options of the evaluation itself.
RUNNER_OPTIONS = frozenset({VGGISH_OPTION})
METHODS = ("load", "encode_frames", "segment")


def find_adapter(spec: str) -> type[Adapter]:
    """Return the adapter class that `spec` names.

    Args:
        spec: A name of the catalogue, ``package.module:Class`` or ``file.py:Class``.

    Raises:
        AdapterError: The name is unknown, its module or file cannot be imported, or the object is no adapter class.
    """
    with surroundings() as departure:
        found = _REGISTRY.find(spec)
    remember(found, departure)
    return found


def load_adapter(
    spec: str | type[Any], *, checkpoint: Path | str | None, device: torch.device, options: Mapping[str, str]
) -> Adapter:
    """Find and load an adapter.

    Args:
        spec: Text that `find_adapter` takes, or a class.
        checkpoint: File of weights, or None.
        device: Device that frames and audio will be on.
        options: The adapter's options; `RUNNER_OPTIONS` are kept from it.

    Raises:
        AdapterError: It cannot be found, an option is unknown, the checkpoint is not there, or `load` raises anything.
    """
    adapter_class = find_adapter(spec) if isinstance(spec, str) else _require_adapter(spec.__name__, spec)
    name = spec if isinstance(spec, str) else spec.__name__
    # As the class may change the working folder before it opens it.
    checkpoint = None if checkpoint is None else Path(checkpoint).absolute()
    if checkpoint is not None and not checkpoint.exists():
        raise AdapterError(f"--checkpoint {checkpoint}: not found; expected the weights of {name}")
    own = {key: value for key, value in options.items() if key not in RUNNER_OPTIONS}
    _require_options(name, adapter_class, own)
    with surroundings(adapter_class, anew=True), one_line(f"--adapter {name}: load", AdapterError):
        adapter = adapter_class.load(checkpoint, device, **own)
    hand_over(adapter_class, adapter)
    _require_loaded(name, adapter)
    return adapter


def _require_loaded(name: str, adapter: object) -> None:
    """Refuse what `load` returned, before it is called, where it is no adapter."""
    missing = [method for method in METHODS[1:] if not callable(getattr(adapter, method, None))]
    if missing:
        raise AdapterError(
            f"--adapter {name}: load returned {'None' if adapter is None else f'a {type(adapter).__name__}'}, which has no "
            f"{', '.join(missing)}; expected the adapter: let load end with 'return adapter'"
        )
    try:
        AudioInput.of(getattr(adapter, "audio", None))
    except AdapterError as error:
        raise AdapterError(f"--adapter {name}: attribute {error}") from error


def _require_options(name: str, adapter_class: type[Adapter], options: Mapping[str, str]) -> None:
    """Refuse a `load` that cannot be called, and options that it has no parameter for, before its TypeError does."""
    signature = inspect.signature(adapter_class.load)
    parameters = signature.parameters
    _require_signature(name, signature, options)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    takes = [key for key in parameters if key not in ("checkpoint", "device")]
    for key in options:
        if key not in takes:
            known = ", ".join(takes) or "no options"
            raise AdapterError(f"--option {key}: unknown to {name}, which takes {known}{did_you_mean(key, takes)}")


def _require_signature(name: str, signature: inspect.Signature, options: Mapping[str, str]) -> None:
    """Refuse a `load` that takes no checkpoint and device, or needs an option that is not given."""
    needed = [key for key, parameter in signature.parameters.items() if _must_be_named(key, parameter, options)]
    try:
        given = {key: value for key, value in options.items() if key in signature.parameters}
        signature.bind(None, torch.device("cpu"), **given, **dict.fromkeys(needed, ""))
    except TypeError as error:
        raise AdapterError(
            f"--adapter {name}: load is defined as load{signature} ({error}); expected a class method "
            "load(cls, checkpoint, device, **options)"
        ) from error
    if needed:
        raise AdapterError(f"--adapter {name}: needs {', '.join(f'--option {key}=VALUE' for key in needed)}")


def _must_be_named(key: str, parameter: inspect.Parameter, options: Mapping[str, str]) -> bool:
    named = parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    required = named and parameter.default is inspect.Parameter.empty
    return required and key not in options and key not in ("self", "cls", "checkpoint", "device")


def _require_adapter(spec: str, found: object) -> type[Adapter]:
    expected = f"expected a class with {', '.join(METHODS)} and the attribute audio (avsrobust.adapters.base.Adapter)"
    if not inspect.isclass(found):
        raise AdapterError(f"--adapter {spec}: is a {type(found).__name__}; {expected}")
    missing = [name for name in METHODS if not callable(getattr(found, name, None))]
    if missing:
        raise AdapterError(f"--adapter {spec}: class {found.__name__} has no {', '.join(missing)}; {expected}")
    return cast("type[Adapter]", found)


_REGISTRY = Registry(
    noun="adapter",
    option="--adapter",
    group=ENTRY_POINT_GROUP,
    built_in={entry.name: entry.target for entry in BUILT_IN},
    check=_require_adapter,
    error=AdapterError,
    object_noun="class",
)
