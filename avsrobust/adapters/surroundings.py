"""The process state that an adapter's code may change, and that must not leak from it: folder, streams, settings, exit.

Conventions
    Research code calls ``os.chdir`` for its relative paths, and prints. While code of an adapter runs (import, load,
    every call), stdout is stderr, for Python, C code and child processes alike: results alone go to stdout. Afterwards the
    working folder is the user's again, so that paths given on the command line hold; the adapter finds its own at the next call.
    Both are properties of the whole process: threads that read data meanwhile must use absolute paths.
    Settings of the process (`adapters.process_state`) are kept apart likewise. ``os._exit`` would end our work without a word:
    in our process it raises what ``sys.exit`` does.
    A process that an adapter's code forks ends where that code does: it would go on with the user's evaluation beside us.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NoReturn
from weakref import WeakKeyDictionary, ref

from avsrobust.adapters import process_state
from avsrobust.errors import text_of
from avsrobust.plugin_sources import note_imports

_STDOUT, _STDERR = 1, 2
_end_process = os._exit


@dataclass
class Departure:
    """What the code of a block has changed.

    Attributes:
        folder: The folder that the block changed to; None: it changed to none.
        settings: Settings of the process (`adapters.process_state`) that it left other than they were.
    """

    folder: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


# What the import of a class has changed, with which every load begins: it is imported once, and may be loaded often.
_IMPORTS: WeakKeyDictionary[type, Departure] = WeakKeyDictionary()
# What their code has changed since, by the identity of adapters, and of classes; each with a reference that tells its end.
_LEFT: dict[int, tuple[ref[object], Departure]] = {}


@contextmanager
def surroundings(owner: object = None, *, anew: bool = False) -> Iterator[Departure]:
    """Run the block as code of an adapter: prints go to stderr; working folder and settings are the adapter's own.

    Args:
        owner: The adapter, or its class; None where none is known yet, as in its import: `remember` then names the class.
        anew: Begin with what the import of the class has changed: an earlier adapter's folder is not that of a new one.
    """
    ours = _working_folder()
    settings = process_state.settings()
    theirs = _theirs(owner, anew=anew)
    if theirs.folder is not None:
        # Where it is gone meanwhile, the adapter's own error says so.
        with contextlib.suppress(OSError):
            os.chdir(theirs.folder)
    process_state.apply(theirs.settings)
    departure = Departure()
    process = os.getpid()
    try:
        with _stderr_kept(), _stdout_to_stderr(), _exit_raises(process):
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
        departure.settings = process_state.put_back(settings)
        if owner is not None:
            _leave(owner, departure)
        # Such as a network that is imported when it is loaded.
        note_imports()


def remember(adapter_class: type, departure: Departure) -> None:
    """Let every load of an adapter begin in the folder, and with the settings, that its import has changed to, if any."""
    # A module that is imported already changes nothing.
    if departure.folder is not None or departure.settings:
        _IMPORTS[adapter_class] = departure


def hand_over(adapter_class: type, adapter: object) -> None:
    """Let the calls of an adapter find the folder and the settings that its load has changed to, and no later load's."""
    found = _LEFT.get(id(adapter_class))
    if found is not None and _owner(adapter) is adapter:
        _leave(adapter, found[1])
        _LEFT.pop(id(adapter_class), None)


def _theirs(owner: object, *, anew: bool) -> Departure:
    if owner is None:
        return Departure()
    kind = owner if isinstance(owner, type) else type(owner)
    for one in () if anew else (owner, kind):
        reference, departure = _LEFT.get(id(one), (None, None))
        if reference is not None and departure is not None and reference() is one:
            return departure
    return _IMPORTS.get(kind, Departure())


def _leave(owner: object, departure: Departure) -> None:
    held = _owner(owner)
    key = id(held)

    def end(reference: ref[object]) -> None:
        if _LEFT.get(key, (None,))[0] is reference:
            del _LEFT[key]

    _LEFT[key] = ref(held, end), departure


def _owner(adapter: object) -> object:
    """Return what an adapter's state is kept by: itself, or its class where nothing can refer to it weakly."""
    try:
        ref(adapter)
    except TypeError:
        return type(adapter)
    return adapter


def _end_child(error: BaseException | None) -> NoReturn:
    """End this process, a fork of ours, as Python would have ended it, but without the remainder of our own work."""
    status = 0 if error is None else 1
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        # What our copy of stdout holds is not the child's to write.
        with contextlib.suppress(OSError):
            os.write(
                _STDERR, f"in a forked process: {type(error).__name__}: {text_of(error)}\n".encode(errors="replace")
            )
    _end_process(status)


@contextmanager
def _exit_raises(process: int) -> Iterator[None]:
    """Let ``os._exit`` in the block raise `SystemExit` in our process; in its forks it ends them."""

    def exit_or_raise(status: int) -> NoReturn:
        if os.getpid() == process and threading.current_thread() is threading.main_thread():
            raise SystemExit(status)
        _end_process(status)

    outer, os._exit = os._exit, exit_or_raise
    try:
        yield
    finally:
        os._exit = outer


@contextmanager
def _stderr_kept() -> Iterator[None]:
    """Let stderr and descriptor 2, where messages go, be after the block what they were before."""
    stream = sys.stderr
    try:
        saved, before = os.dup(_STDERR), os.fstat(_STDERR)
    except OSError:
        # It is closed.
        yield
        return
    try:
        yield
    finally:
        sys.stderr = stream
        try:
            is_same = os.path.samestat(before, os.fstat(_STDERR))
        except OSError:
            is_same = False
        if not is_same:
            os.dup2(saved, _STDERR, inheritable=True)
        os.close(saved)
        if getattr(stream, "closed", False):
            # By sys.stdout.close() too, which it was in the block.
            sys.stderr = os.fdopen(_STDERR, "w", errors="backslashreplace", closefd=False)


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
