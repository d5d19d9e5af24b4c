"""The standard streams of the command: there or closed, with room or on a full disk.

Conventions
    Results go to stdout; where they cannot be written, the command has failed. Messages go to stderr; where they cannot be
    written, the work goes on without them.
    Results alone: descriptor 1 is stderr from the start, for C code, child processes and whatever an adapter prints at any time,
    in threads of its own or while the interpreter ends; results go to a copy of what it was.
    Nothing is left in a buffer when the interpreter ends: it would try again, and speak for itself.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from typing import IO, Any

from avsrobust.errors import OptionError

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_MAIN = threading.main_thread()


class _Results(io.RawIOBase):
    """The file behind stdout; `has_failed` once something could not be written: its error names no file."""

    has_failed = False
    descriptor = _STDOUT

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def write(self, content: Any, /) -> int:
        try:
            return os.write(self.descriptor, content)
        except OSError:
            self.has_failed = True
            raise


_RESULTS = _Results()


class _ResultsText(io.TextIOWrapper):
    """stdout: results come from the main thread; what another one prints is an adapter's, and goes to stderr."""

    def write(self, text: str, /) -> int:
        if threading.current_thread() is _MAIN:
            return super().write(text)
        return sys.stderr.write(text)


def prepare() -> None:
    """Open closed standard streams on the null device, and make log messages inert. Call it before anything is opened.

    A file that is opened takes the number of a stream that is closed, and whatever is printed would be written into it.
    """
    closed = [number for number in (_STDIN, _STDOUT, _STDERR) if not _is_open(number)]
    for _ in closed:
        # The lowest free number: stream by stream, in this order.
        os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = os.fdopen(_STDIN, "r", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(_STDERR, "w", errors="backslashreplace", closefd=False)
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    # Characters that the encoding lacks (names of files that are no UTF-8, for one) are shown as escapes.
    if _RESULTS.descriptor == _STDOUT and _STDOUT not in closed:
        _RESULTS.descriptor = os.dup(_STDOUT)
        os.dup2(_STDERR, _STDOUT)
    sys.stdout = _ResultsText(
        io.BufferedWriter(_RESULTS), encoding, "backslashreplace", line_buffering=_RESULTS.isatty()
    )
    logging.lastResort = _InertHandler(logging.WARNING)
    if _STDOUT in closed:
        raise OptionError(
            "standard output: found it closed; expected a place for results; add '> FILE' or '> /dev/null'"
        )


def flush_results() -> None:
    """Write what is left for stdout. Raises `OSError`."""
    if sys.stdout is not None:
        sys.stdout.flush()


def results_are_lost() -> bool:
    """Return whether something that was written to stdout did not get there."""
    return _RESULTS.has_failed


def end() -> None:
    """Let what is printed from now on, while the interpreter ends, go to stderr; call it after the last result."""
    abandon()
    sys.stdout = sys.stderr


def abandon() -> None:
    """Let what could not be written go: the streams that fail are the null device from now on."""
    for number, stream in ((_RESULTS.descriptor, sys.stdout), (_STDERR, sys.stderr)):
        if stream is not None and not _flushes(stream):
            try:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, number)
                os.close(null)
                stream.flush()
            except (OSError, ValueError):
                continue


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _flushes(stream: IO[str]) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):
        return False
    return True


class _InertHandler(logging.Handler):
    """Log messages of libraries and adapters as notes, where nobody has asked for them elsewhere."""

    def emit(self, record: logging.LogRecord) -> None:
        from avsrobust.cli.progress import note

        note(record.getMessage())
