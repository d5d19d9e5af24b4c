"""Lines for people about what goes on with remote folders: what is copied and put there, and that a store does not answer.

Conventions
    Whoever listens does so for a block (`telling`), of this thread and of those that are started with its context.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from threading import Timer

from avsrobust.callbacks import MessageCallback

# s3fs and its likes try for minutes.
SILENCE_S = 20.0
_LISTENER: ContextVar[MessageCallback | None] = ContextVar("remote_listener", default=None)


@contextmanager
def telling(on_message: MessageCallback) -> Iterator[None]:
    """Call `on_message` with lines for people about what is copied in the block."""
    token = _LISTENER.set(on_message)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def tell(line: str) -> None:
    """Hand a line to whoever listens."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(line)


@contextmanager
def telling_of_silence(url: str) -> Iterator[None]:
    """Tell that a store does not answer, where the block, a small request, takes long."""
    line = f"{url}: no answer for {SILENCE_S:g} s, still trying; check the network and the endpoint (AWS_ENDPOINT_URL)"
    timer = Timer(SILENCE_S, copy_context().run, (tell, line))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
