"""The end of the command: with its own exit status, and with a word where code that is not ours would keep it, or ends it.

Conventions
    Everything is written and flushed before `leave`. Python then waits for threads that are no daemons, without a limit: an
    adapter's that never ends would keep the command, and its slot in a queue, for ever. It is given `GRACE_S`.
    Python ends by the signal, not with a status, once Ctrl-C has left any text that was compiled and run on the way (``exec``,
    as in `dataclasses`), however it was handled: -2 to callers where 130 is documented. So an interrupted command ends itself.
    A crash in C code ends the process without a line: `faulthandler` says where it was.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from avsrobust.cli import streams
from avsrobust.cli.progress import note
from avsrobust.vocabulary import counted

GRACE_S = 10.0
# As long as threads that are told to end may take.
_TOLD_AFTER_S = 1.0
_MOST_NAMES = 3
# The status that the command ends with.
_LEAVING: list[int] = []
# The adapter's code may have a hand in the others (`adapters.surroundings`).
_end_process = os._exit


def prepare(interrupted: int) -> None:
    """Have crashes in C code told, and exit status `interrupted` kept. Call it before anything else registers an exit handler."""
    if not faulthandler.is_enabled():
        # A descriptor of its own: the adapter's code may close the other.
        with suppress(OSError):
            faulthandler.enable(os.dup(sys.stderr.fileno()), all_threads=False)
    # The first to be registered is the last to be called.
    atexit.register(_end, interrupted)


def leave(status: int) -> NoReturn:
    """Exit with a status, after the threads that others have started, or without them."""
    _LEAVING.append(status)
    # Nothing is left that would have to be tidied up. Where Ctrl-C is ignored, as in the background of a shell, it stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda _number, _frame: _end_now(status))
    if any(_others()):
        from avsrobust.processes import POOL_THREAD

        ended = threading.Event()
        # Called when Python has waited for the threads.
        atexit.register(ended.set)
        threading.Thread(target=_end_without, args=(ended, status, POOL_THREAD), daemon=True).start()
    sys.exit(status)


def _others() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]


def _end_without(ended: threading.Event, status: int, own: str) -> None:
    if ended.wait(_TOLD_AFTER_S):
        return
    # Pools of our own end by themselves; on a busy machine their processes take longer.
    if others := [thread for thread in _others() if thread.name != own]:
        names = ", ".join(thread.name for thread in others[:_MOST_NAMES]) + (", .." if others[_MOST_NAMES:] else "")
        note(
            f"all is written; {counted(len(others), 'thread')} of the adapter's code or a library's did not end ({names}): the "
            f"command waits {GRACE_S:.0f} s, and ends"
        )
    if not ended.wait(GRACE_S):
        _end_now(status)


def _end(interrupted: int) -> None:
    if interrupted in _LEAVING:
        _end_now(interrupted)
    # While modules are taken down, Ctrl-C would end the process by the signal, with all done.
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_now(status: int) -> None:
    streams.abandon()
    _end_process(status)
