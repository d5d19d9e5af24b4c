"""A pool of processes on this machine: a function over tasks, with the results in the order of the tasks.

Conventions
    Function and tasks are picklable. Processes are joblib's (loky), which are kept for the next call as long as they are what
    new ones would be: working folder, environment, import path and the files of plug-ins stay as they were.
    Nothing is passed by file, so that a killed command leaves nothing in shared memory, and its processes end with it.
    Ctrl-C reaches every process of a terminal; here the command alone takes it, and ends the others: a process that is
    interrupted while it starts would print where it was.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from avsrobust.plugin_sources import imported_files

if TYPE_CHECKING:
    from joblib import Parallel

Task = TypeVar("Task")
Result = TypeVar("Result")
_WATCH_SECONDS = 0.5
POOL_THREAD = "ExecutorManagerThread"


def usable_cores() -> int:
    """Return the number of cores that this process may use: of a node that many share, a scheduler gives a job some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_processes(function: Callable[[Task], Result], tasks: Sequence[Task], processes: int) -> Iterator[Result]:
    """Start the work, and return an iterator over ``function(task)`` for every task, in order.

    Args:
        function: What is done; it can be pickled.
        tasks: Its arguments.
        processes: Number of processes, at most; there are no more than tasks.
    """
    if not tasks:
        return iter(())
    with _interrupts_later():
        from joblib import Parallel, delayed
        from joblib.externals.loky.backend import resource_tracker as loky_tracker

        pool = Parallel(
            n_jobs=min(processes, len(tasks)),
            backend="loky",
            return_as="generator",
            max_nbytes=None,
            # With a folder named, none is made in shared memory.
            temp_folder=tempfile.gettempdir(),
            initializer=_end_with,
            # joblib keeps processes while these are the same.
            initargs=(os.getpid(), _surroundings()),
        )
        # Each lets Ctrl-C through where it is started, whatever was held.
        for tracker in (resource_tracker, loky_tracker):
            tracker.ensure_running()
        with _interrupts_held():
            outcomes: Generator[Result, None, None] = pool(delayed(function)(task) for task in tasks)
        results = _until_closed(outcomes, pool)
        # From here on it is closed, whatever comes.
        next(results)
    return results


def _until_closed(outcomes: Generator[Result, None, None], pool: Parallel) -> Generator[Result, None, None]:
    """Yield None, then the outcomes; where they are not wanted any more, end the processes and say nothing of it."""
    before = threading.excepthook

    def tell(failure: threading.ExceptHookArgs) -> None:
        # loky's thread looks for a task that it has just given up with all others; the processes have ended by then.
        name = "" if failure.thread is None else failure.thread.name
        if not (name == POOL_THREAD and failure.exc_type is KeyError and pool._aborting):
            before(failure)

    threading.excepthook = tell
    try:
        yield None  # type: ignore[misc]
        yield from outcomes
    finally:
        # By itself as well: filters are those of all threads, and another may take this one's away meanwhile.
        pool._warn_exit_early = lambda: None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            outcomes.close()
        if threading.excepthook is tell:
            threading.excepthook = before


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Have Ctrl-C interrupt the command after the block, and not in it: threads may be given it whatever this one holds back."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    taken: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: taken.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if taken:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back in the block; processes and threads that are started in it never get it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _surroundings() -> Hashable:
    """Return what a process takes over from this one where it starts, and what its modules are made of."""
    # pytest's changes with every test, and within one.
    environment = frozenset((name, value) for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST")
    try:
        folder = Path.cwd()
    except OSError:
        folder = None
    return folder, environment, tuple(sys.path), imported_files()


def _end_with(parent: int, _surroundings: Hashable) -> None:
    """End this process when its parent has gone: a killed one cannot tell it, and it would wait for work for minutes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
