"""Settings of the whole process that an adapter's code may change, and that must not leak from it into ours.

Conventions
    Research code sets defaults at import: the default device and dtype, deterministic algorithms, gradients, numpy's error state,
    warnings as errors, the umask, folders to import from (whose ``statistics.py`` would be taken for Python's). While an
    adapter's code runs, it finds the settings that it has made; outside of it the user's hold.
    Signal handlers are put back only: Ctrl-C must work during its calls too.
    Threads that read data run meanwhile. To read a setting changes none, and those that hold in all threads (umask, import path)
    are replaced in one step.
    What changes no result of ours (seeds of generators, numbers of threads, environment variables, the locale) is left alone.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGPIPE", "SIGCHLD") if hasattr(signal, name))
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Setting:
    """One setting: how it is read and put.

    Attributes:
        get: Returns its value, which is compared with `==`.
        put: Sets it.
        is_theirs: An adapter finds its own value again at its next call.
    """

    get: Callable[[], Any]
    put: Callable[[Any], None]
    is_theirs: bool = True


def settings() -> dict[str, Any]:
    """Return the value of every setting by name."""
    return {name: setting.get() for name, setting in _SETTINGS.items()}


def apply(values: Mapping[str, Any]) -> None:
    """Put settings."""
    for name, value in values.items():
        _SETTINGS[name].put(value)


def put_back(ours: Mapping[str, Any]) -> dict[str, Any]:
    """Put settings back, and return those of the adapter's code that differed and that it is to find again.

    Args:
        ours: What `settings` returned before.
    """
    changed = {name: value for name, value in settings().items() if value != ours[name]}
    apply({name: ours[name] for name in changed})
    return {name: value for name, value in changed.items() if _SETTINGS[name].is_theirs}


def _default_device() -> torch.device | None:
    """Return the default device, None for one that this machine does not have."""
    try:
        return torch.get_default_device()
    except (AssertionError, RuntimeError):
        return None


def _set_default_device(device: torch.device | None) -> None:
    # The CPU is the default that needs no hook in every function of torch.
    torch.set_default_device(None if device == _CPU else device)


def _set_gradients(value: bool) -> None:
    torch.set_grad_enabled(value)


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _autocast() -> tuple[bool, bool]:
    return torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")


def _set_autocast(value: tuple[bool, bool]) -> None:
    torch.set_autocast_enabled("cpu", value[0])
    torch.set_autocast_enabled("cuda", value[1])


def _set_numpy_errors(value: dict[str, Any]) -> None:
    np.seterr(**value)


def _errors_of_warnings() -> list[Any]:
    """Return the filters that make errors of warnings; others only decide what is printed."""
    return [entry for entry in warnings.filters if entry[0] == "error"]


def _set_errors_of_warnings(value: list[Any]) -> None:
    for entry in _errors_of_warnings():
        if entry not in value:
            warnings.filters.remove(entry)  # type: ignore[attr-defined]
    for entry in reversed(value):
        if entry not in warnings.filters:
            warnings.filters.insert(0, entry)  # type: ignore[attr-defined]
    # Forgets what was decided under the filters before; nothing else in the interface of warnings does.
    warnings.filterwarnings("default", message="$never^", append=True)


def _set_import_path(value: list[str]) -> None:
    """Import from these folders; last from those that are there now, for what a plug-in imports later."""
    # A new list: an import under way in another thread goes on through the one that it began with, and skips no folder.
    sys.path = value + [entry for entry in sys.path if entry not in value]


class _Umask:
    """The umask, which can only be read by setting it: to the last known value, so that other threads' files keep their rights.

    Before the first reading, which is that of an adapter's import, a strict one stands for it.
    """

    def __init__(self) -> None:
        self.known = 0o077

    def get(self) -> int:
        """Return the umask."""
        value = os.umask(self.known)
        if value != self.known:
            self.put(value)
        return value

    def put(self, value: int) -> None:
        """Set the umask."""
        os.umask(value)
        self.known = value


_UMASK = _Umask()


def _handlers() -> list[Any]:
    return [signal.getsignal(number) for number in _SIGNALS]


def _set_handlers(value: list[Any]) -> None:
    # Elsewhere Python sets none, the adapter neither.
    if threading.current_thread() is not threading.main_thread():
        return
    for number, handler in zip(_SIGNALS, value, strict=True):
        # None: one that was not set from Python.
        if handler is not None:
            signal.signal(number, handler)


_SETTINGS: Mapping[str, _Setting] = {
    "default device": _Setting(_default_device, _set_default_device),
    "default dtype": _Setting(torch.get_default_dtype, torch.set_default_dtype),
    "gradients": _Setting(torch.is_grad_enabled, _set_gradients),
    "deterministic algorithms": _Setting(_deterministic, _set_deterministic),
    "autocast": _Setting(_autocast, _set_autocast),
    "numpy errors": _Setting(np.geterr, _set_numpy_errors),
    "warnings as errors": _Setting(_errors_of_warnings, _set_errors_of_warnings),
    "logging": _Setting(lambda: logging.root.manager.disable, logging.disable),
    "import path": _Setting(lambda: list(sys.path), _set_import_path),
    "umask": _Setting(_UMASK.get, _UMASK.put),
    "signal handlers": _Setting(_handlers, _set_handlers, is_theirs=False),
}
