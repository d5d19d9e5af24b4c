"""The process state that an adapter's code may change, and that must not leak from it: the working folder, and stdout.

Conventions
    Research code calls ``os.chdir`` for its relative paths, and prints. While code of an adapter runs (import, load,
    every call), stdout is stderr, for Python, C code and child processes alike: results alone go to stdout. Afterwards the
    working folder is the user's again, so that paths given on the command line hold; the adapter finds its own at the next call.
    Both are properties of the whole process: threads that read data meanwhile must use absolute paths.
    A process that an adapter's code forks ends where that code does: it would go on with the user's evaluation beside us.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

_STDOUT, _STDERR = 1, 2
# The folder that an adapter's code has changed to, by the adapter's class, which outlives its adapters.
_FOLDERS: dict[type, str] = {}


@dataclass
class Departure:
    """Change of the working folder by the code of a block.

    Attributes:
        folder: The folder that the block changed to; None: it changed to none.
    """

    folder: str | None = None


@contextmanager
def surroundings(adapter_class: type | None = None) -> Iterator[Departure]:
    """Run the block as code of an adapter: prints go to stderr, and the working folder is the adapter's own.

    Args:
        adapter_class: Class of the adapter; None where it is not known yet, as in its import: `remember_folder` then names it.
    """
    ours = _working_folder()
    theirs = _FOLDERS.get(adapter_class) if adapter_class is not None else None
    if theirs is not None:
        # Where it is gone meanwhile, the adapter's own error says so.
        with contextlib.suppress(OSError):
            os.chdir(theirs)
    departure = Departure()
    process = os.getpid()
    try:
        with _stdout_to_stderr():
            yield departure
    except BaseException as error:
        if os.getpid() != process:
            _end_child(error)
        raise
    finally:
        if os.getpid() != process:
            _end_child(None)
        now = _working_folder()
        departure.folder = now if now != ours else None
        if ours is not None and now != ours:
            os.chdir(ours)
        if adapter_class is not None:
            _FOLDERS.pop(adapter_class, None)
            remember_folder(adapter_class, departure)


def remember_folder(adapter_class: type, departure: Departure) -> None:
    """Let the calls of an adapter run in the folder that its import has changed to, if any."""
    if departure.folder is not None:
        _FOLDERS[adapter_class] = departure.folder


def _end_child(error: BaseException | None) -> NoReturn:
    """End this process, a fork of ours, as Python would have ended it, but without the remainder of our own work."""
    status = 0 if error is None else 1
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        # What our copy of stdout holds is not the child's to write.
        with contextlib.suppress(OSError):
            os.write(_STDERR, f"in a forked process: {type(error).__name__}: {error}\n".encode(errors="replace"))
    os._exit(status)


def _working_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        # It was deleted.
        return None


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Let whatever is written to stdout in the block go to stderr."""
    ours = sys.stdout
    saved = _redirect(ours)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        # What waits in the buffers now was written in the block.
        for stream in (ours, sys.__stdout__, sys.stdout):
            _flush(stream)
        _flush_c()
        sys.stdout = ours
        if saved is not None:
            os.dup2(saved, _STDOUT)
            os.close(saved)


def _redirect(stream: Any) -> int | None:
    """Let descriptor 1 be descriptor 2; return a copy of what it was, None where one of them is closed."""
    for waiting in (stream, sys.__stdout__):
        _flush(waiting)
    _flush_c()
    try:
        saved = os.dup(_STDOUT)
    except OSError:
        return None
    try:
        os.dup2(_STDERR, _STDOUT, inheritable=True)
    except OSError:
        os.close(saved)
        return None
    return saved


def _flush(stream: Any) -> None:
    # None under pythonw, closed by the user, or a reader that has gone: whoever writes results next finds out.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stream.flush()


def _flush_c() -> None:
    """Empty the buffers of C's stdio, where printf of an extension waits."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        _c_library().fflush(None)


@lru_cache(maxsize=1)
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
