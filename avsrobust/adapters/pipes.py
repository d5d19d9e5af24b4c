"""A worker process behind a pipe: exchange messages with it within a time limit.

Conventions
    The messages are those of `avsrobust.adapters.remote.avsrobust_worker`, which the other side runs. What comes before the first
    of them (a container's banner, prints of imports) is passed on to stderr, as is what the worker writes to its own stderr.
    Every failure of the process, of the pipe or of the model behind it is an `AdapterError` of one line; where the process
    or the pipe fails on a clip, a `ClipError`: the next clip gets a new process.
    A message may be sent before earlier ones are answered; answers come in the order of the messages. All that is sent ahead
    fits into the pipe, so that the two sides never wait for each other, and its arrays go through memory that both map
    (`adapters.shared_memory`), where there is such memory and where they fit.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avsrobust.adapters.child_process import LONGEST_LINE, ChildProcess
from avsrobust.adapters.remote import avsrobust_worker as protocol
from avsrobust.adapters.shared_memory import Area, AreaPool, view_arrays
from avsrobust.errors import AdapterError, ClipError
from avsrobust.inert import inert_line
from avsrobust.limits import MESSAGE_BYTES

WORKER_FILE = Path(protocol.__file__)
_LONGEST_BANNER = 1 << 20
_LONGEST_MESSAGE = 2000
_SHOWN = 120
# Magic, length and the first character of the header.
_START = 9
_REMEDY = "expected a program that calls avsrobust_worker.serve(Model)"
# A worker of protocol 1 reads "version" alone and requires 1; later ones choose the highest of "versions".
_VERSIONS: Mapping[str, Any] = {"version": 1, "versions": list(protocol.PROTOCOL_VERSIONS)}
# In each direction: three messages under way, and one answer that is being looked at.
_MOST_AREAS = 4
_MOST_SHARED = 1 << 29
Array = np.ndarray[Any, np.dtype[Any]]
Answer = tuple[dict[str, Any], list[Array]]


@dataclass(eq=False)
class Request:
    """A message that was sent.

    Attributes:
        kind: Its type.
        lent: Area of its arrays, or None.
        room: Area for those of the answer, or None.
        held: Bytes that it may take in the pipe.
        answer: Header and arrays of the answer, or the error, once it has come; None before.
    """

    kind: str
    lent: Area | None
    room: Area | None
    held: int
    answer: Answer | AdapterError | None = None


class WorkerProcess:
    """One running worker; after any failure the process is gone.

    Attributes:
        command: Command line that started it.
        timeout_s: Limit for one answer in seconds.
        ready: Header of its greeting.

    Args:
        command: Initial value of the attribute.
        hello: Fields of the first message.
        timeout_s: Initial value of the attribute.

    Raises:
        AdapterError: The process cannot be started, or does not answer the first message.
    """

    def __init__(self, command: str, hello: Mapping[str, Any], timeout_s: float) -> None:
        self.command = command
        self.timeout_s = timeout_s
        self._banner = b""
        self._waiting: collections.deque[Request] = collections.deque()
        self._closed: list[int] = []
        numbers = itertools.count()
        self._lent, self._room = (AreaPool(_MOST_AREAS, _MOST_SHARED, numbers, self._closed) for _ in range(2))
        self._largest_answer = 0
        self._shares = False
        self._starting = True
        self._child = ChildProcess(command, WORKER_FILE.parent)
        tried = self._lent.take(1)
        memory = {} if tried is None else {"memory": tried.named}
        self.ready, _ = self.receive(self.send("hello", {**_VERSIONS, **memory, **hello}))
        if self.ready["type"] != "ready":
            raise self._failure(f"answered '{self.ready['type']}' to the greeting; expected 'ready'")
        self._starting = False
        if tried is not None:
            self._lent.give(tried)
            self._shares = self.ready.get("memory") is True
        if not self._shares:
            self._lent.close()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._child.alive

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._child.pid

    def send(self, kind: str, fields: Mapping[str, Any], arrays: Sequence[Array] = ()) -> Request:
        """Send one message; where it does not fit beside those under way, receive their answers first.

        Args:
            kind: Type of the message.
            fields: Fields of its header.
            arrays: Its arrays, which may be changed afterwards.

        Raises:
            AdapterError: The message is too large.
        """
        described = [(array.dtype.str, list(array.shape)) for array in arrays]
        count = sum(array.nbytes for array in arrays)
        MESSAGE_BYTES.check(count, f"worker '{self.command}': '{kind}'", AdapterError)
        lent = room = None
        if self._shares:
            lent = self._lent.take(protocol.place(described)[1]) if arrays else None
            # All other answers are headers.
            room = self._room.take(self._largest_answer) if kind == "segment" else None
            # The list is the pools', which add to it.
            closed, self._closed[:] = list(self._closed), []
            named = {"lent": lent and lent.named, "room": room and room.named, "closed": closed}
            fields = {**fields, **{name: value for name, value in named.items() if value}}
        parts = protocol.encode_message(kind, dict(fields), arrays, lent and (lent.number, lent.contents()))
        request = Request(kind, lent, room, sum(len(memoryview(part)) for part in parts))
        try:
            while self._waiting and sum(each.held for each in (request, *self._waiting)) > self._child.capacity // 2:
                self._receive_next()
            self._waiting.append(request)
            self._write(parts)
        except AdapterError as error:
            # Of the process, and so of this message too: raised where its answer is received.
            request.answer = error
        return request

    def _write(self, parts: Sequence[Any]) -> None:
        deadline = time.monotonic() + self.timeout_s
        try:
            with self._failing(self._waiting[0].kind):
                for part in parts:
                    self._child.write(memoryview(part), deadline)
        except BrokenPipeError:
            # It has ended; what it answered before that can still be received.
            self.settle()

    def receive(self, request: Request) -> Answer:
        """Wait for the answer to a message, within the time limit for each answer that comes before it and its own.

        Raises:
            AdapterError: The model fails, or the process does while starting.
            ClipError: The process or the pipe fails later.
        """
        while request.answer is None:
            self._receive_next()
        if isinstance(request.answer, AdapterError):
            raise request.answer
        return request.answer

    def settle(self) -> None:
        """Receive what is under way; errors stay with their messages."""
        with contextlib.suppress(AdapterError):
            while self._waiting:
                self._receive_next()

    def close(self) -> None:
        """End the process and everything it has started."""
        self._child.close()
        self._lent.close()
        self._room.close()

    def _receive_next(self) -> None:
        """Receive the answer to the first of the messages under way."""
        request = self._waiting[0]
        deadline = time.monotonic() + self.timeout_s
        with self._failing(request.kind):
            if self._starting:
                self._skip_banner(deadline)
            header, arrays = self._read_message(request, deadline)
        self._waiting.popleft()
        if request.lent is not None:
            self._lent.give(request.lent)
        self._largest_answer = max(self._largest_answer, sum(array.nbytes + protocol.ALIGNMENT for array in arrays))
        if header["type"] != "error":
            request.answer = header, arrays
            return
        message = str(header.get("message", "an error without a message"))[:_LONGEST_MESSAGE]
        if self._starting:
            self.close()
        request.answer = AdapterError(inert_line(" ".join(f"worker '{self.command}': {message}".split())))

    @contextlib.contextmanager
    def _failing(self, kind: str) -> Iterator[None]:
        """Turn a failure of process or pipe in the block into an error of all messages under way, and raise it."""
        try:
            yield
        except TimeoutError:
            reason = (
                f"{self._printed()}gave no answer to '{kind}' within {self.timeout_s:g} s and was stopped; "
                "raise the limit with --option timeout=SECONDS"
            )
        except EOFError:
            status, printed = self._child.exit_status(), self._printed()
            reason = f"{printed}ended while it worked on '{kind}' ({status})"
            if self._starting and not printed:
                reason = f"ended before it was ready ({status}); {_REMEDY}"
        except protocol.ProtocolError as error:
            reason = f"wrote something else than messages to its stdout ({error})"
        else:
            return
        failure = self._failure(reason)
        for request in self._waiting:
            request.answer = failure
        self._waiting.clear()
        raise failure from None

    def _skip_banner(self, deadline: float) -> None:
        """Receive up to the first message, which stays in `received`; pass earlier bytes on to stderr."""
        skipped = bytearray()
        try:
            while (start := _find_message(self._child.received)) is None:
                # The beginning of a message may be among the last bytes.
                done = max(0, len(self._child.received) - _START)
                skipped += self._child.received[:done]
                del self._child.received[:done]
                if len(skipped) > _LONGEST_BANNER:
                    raise protocol.ProtocolError(f"{len(skipped)} bytes and no message; {_REMEDY}")
                self._child.receive(LONGEST_LINE, deadline)
            skipped += self._child.received[:start]
            del self._child.received[:start]
        except (TimeoutError, EOFError):
            skipped += self._child.received
            raise
        finally:
            self._banner = bytes(skipped)
            for line in self._banner.splitlines():
                self._child.pass_on(line)

    def _printed(self) -> str:
        """Return a note on the text that the process printed instead of its first message, "" where it printed none."""
        if not self._starting:
            return ""
        shown = inert_line(" ".join(self._banner.decode(errors="replace").split()))
        if not shown:
            return ""
        shown = f"{shown[:_SHOWN]}.." if len(shown) > _SHOWN else shown
        return f"wrote something else than messages to its stdout ('{shown}'; {_REMEDY}) and "

    def _read_message(self, request: Request, deadline: float) -> Answer:
        before = len(protocol.MAGIC)
        self._child.fill(before, deadline)
        start = bytes(self._child.take(before))
        if start != protocol.MAGIC:
            raise protocol.ProtocolError(f"it began with {start!r}")
        self._child.fill(4, deadline)
        length = int.from_bytes(self._child.take(4), "little")
        if length > protocol.MAX_HEADER:
            raise protocol.ProtocolError(f"a header of {length} bytes")
        self._child.fill(length, deadline)
        header = protocol.parse_header(self._child.take(length))
        protocol.check_sizes(header, MESSAGE_BYTES.current)
        room = request.room
        if "area" in header:
            if room is None or header["area"] != room.number:
                raise protocol.ProtocolError("arrays in shared memory that it was not offered")
            return header, view_arrays(self._room, room, header["arrays"])
        if room is not None:
            self._room.give(room)
        arrays = [
            protocol.as_array(self._child.read(protocol.array_bytes(dtype, shape), deadline), dtype, shape)
            for dtype, shape in header["arrays"]
        ]
        return header, arrays

    def _failure(self, reason: str) -> AdapterError:
        self._child.kill()
        self.close()
        last = self._child.last_lines()
        if self._starting:
            return AdapterError(inert_line(f"worker '{self.command}' while starting: {reason}; {last}"))
        return ClipError(inert_line(f"worker '{self.command}': {reason}; {last}"))


def _find_message(content: bytearray) -> int | None:
    """Return the position of the first message, None where there is no sign of one.

    >>> _find_message(bytearray(b"AVSR model, AVSR" + bytes([40, 0, 0, 0]) + b'{"'))
    12
    """
    start = content.find(protocol.MAGIC)
    while start >= 0:
        length, opening = content[start + 4 : start + 8], content[start + 8 : start + _START]
        # A text may hold the letters too; after them it has neither such a length nor a JSON object.
        if opening == b"{" and int.from_bytes(length, "little") <= protocol.MAX_HEADER:
            return start
        start = content.find(protocol.MAGIC, start + 1)
    return None
