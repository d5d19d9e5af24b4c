"""Engines: the tasks of a build are done in this process, in a local pool, or on a dask cluster.

Conventions
    An engine maps a function over tasks and yields the results in the order of the tasks, whatever finishes first. Tasks
    and functions are picklable and touch only files that no other task writes, so that the outcome is the same everywhere.
    The machines of a dask cluster must see data root and output folder under the same paths.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from avsrobust import dask_client
from avsrobust.dask_client import CONNECT_SECONDS, connect, distributed_library
from avsrobust.errors import AvsRobustError, OptionError
from avsrobust.processes import map_in_processes

_CONNECT_SECONDS = CONNECT_SECONDS

Task = TypeVar("Task")
Result = TypeVar("Result")


class Engine(Protocol):
    """Something that works through tasks."""

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Yield ``function(task)`` for every task, in order."""
        ...


@contextmanager
def open_engine(engine: str, workers: int, scheduler: str | None = None) -> Iterator[Engine]:
    """Yield an engine; its processes end with the block.

    `workers` is the number of processes of a local pool or of a dask cluster started here; `scheduler` is the address of a
    dask cluster that runs already and has its own. Raises `OptionError` as `check_engine`, and where dask cannot be had.
    """
    check_engine(engine, workers, scheduler)
    if engine == "dask":
        with _dask(workers, scheduler) as cluster:
            yield cluster
    elif workers == 1:
        yield _InProcess()
    else:
        yield _Pool(workers)


def check_engine(engine: str, workers: int, scheduler: str | None) -> None:
    """Raise `OptionError` for an unknown engine, less than one worker, or a scheduler where none is used."""
    dask_client.check_engine(engine, scheduler)
    if workers < 1:
        raise OptionError(f"--workers {workers}: expected 1 or more")


class _InProcess:
    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        return map(function, tasks)


class _Pool:
    def __init__(self, workers: int) -> None:
        self._workers = workers

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        # The pool would raise the error of whichever task fails first by the clock.
        outcomes: Iterator[Result | _Failure] = map_in_processes(partial(_outcome, function), tasks, self._workers)
        return _in_order(outcomes)


@dataclass(frozen=True)
class _Failure:
    """An error for users, and where in the worker it came from, which an exception loses on its way."""

    error: AvsRobustError
    trace: str


def _outcome(function: Callable[[Task], Result], task: Task) -> Result | _Failure:
    try:
        return function(task)
    except AvsRobustError as error:
        return _Failure(error, traceback.format_exc())


def _in_order(outcomes: Iterator[Result | _Failure]) -> Iterator[Result]:
    for outcome in outcomes:
        if isinstance(outcome, _Failure):
            raise outcome.error from RuntimeError(f"in a worker:\n{outcome.trace}")
        yield outcome


class _Dask:
    def __init__(self, client: Any) -> None:
        self._client = client

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        # pure=False: a task writes files, so it is never to be answered from the cluster's memory of an earlier build.
        futures = self._client.map(function, list(tasks), pure=False)
        while futures:
            future = futures.pop(0)
            result: Result = future.result()
            yield result


@contextmanager
def _dask(workers: int, scheduler: str | None) -> Iterator[Engine]:
    if scheduler is None:
        library = distributed_library()
        # No dashboard: it would need a port and say so in a warning.
        with (
            library.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
            library.Client(cluster) as client,
        ):
            yield _Dask(client)
        return
    with connect(scheduler, _CONNECT_SECONDS) as client:
        yield _Dask(client)
