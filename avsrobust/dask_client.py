"""Connections to a dask cluster that the user runs.

Conventions
    dask is an extra: it is imported where a cluster is used, and its absence becomes one line.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.optional_packages import import_obstacle

ENGINES = ("local", "dask")
CONNECT_SECONDS = 30
_INSTALL = "'avsrobust[dask]'"


def check_engine(engine: str, scheduler: str | None, *, own_cluster: bool = True) -> None:
    """Check the options `--engine` and `--scheduler`.

    Args:
        engine: Name of the engine.
        scheduler: Address of a cluster's scheduler, or None.
        own_cluster: The command starts a cluster of its own where no scheduler is named.

    Raises:
        OptionError: The engine is unknown, or there is a scheduler where none is used, or none where one is needed.
    """
    if engine not in ENGINES:
        raise OptionError(f"--engine {engine}: expected one of {', '.join(ENGINES)}{did_you_mean(engine, ENGINES)}")
    if scheduler is not None and engine != "dask":
        raise OptionError(
            f"--scheduler {scheduler}: only --engine dask uses one; add that option or leave this one out"
        )
    if engine == "dask" and scheduler is None and not own_cluster:
        raise OptionError(
            "--engine dask: needs --scheduler ADDRESS, that of a running dask scheduler, such as tcp://host:8786"
        )


def distributed_library() -> Any:
    """Return the module `distributed`, whose classes carry no types. Raises `OptionError` where it cannot be imported."""
    try:
        import distributed
    except ImportError as error:
        raise OptionError(f"--engine dask: {import_obstacle(error, 'distributed', _INSTALL)}") from error
    return distributed


@contextmanager
def connect(scheduler: str, timeout: float = CONNECT_SECONDS) -> Iterator[Any]:
    """Yield a client of the dask scheduler at an address; the connection ends with the block.

    Raises:
        OptionError: dask cannot be imported, or nothing answers there within `timeout` seconds.
    """
    library = distributed_library()
    try:
        client = library.Client(scheduler, timeout=timeout)
    except (OSError, ValueError) as error:
        raise OptionError(
            f"--scheduler {scheduler}: cannot be reached ({' '.join(str(error).split())}); "
            "expected the address of a running dask scheduler, such as tcp://host:8786"
        ) from error
    with _without_its_log(), client:
        yield client


@contextmanager
def _without_its_log() -> Iterator[None]:
    """Keep the traces that dask logs where a connection breaks out of the block: it ends with an error of ours."""
    logs = [logging.getLogger(f"distributed.{name}") for name in ("client", "core", "comm")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
