"""A worker process behind a pipe: start it, exchange messages within a time limit, end it.

Conventions
    The messages are those of `avsrobust.adapters.remote.avsrobust_worker`, which the other side runs. What comes before the first
    of them (a container's banner, prints of imports) is passed on to stderr, as is what the worker writes to its own stderr:
    without control characters, line by line.
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
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from avsrobust.adapters.remote import avsrobust_worker as protocol
from avsrobust.adapters.shared_memory import Area, AreaPool, view_arrays
from avsrobust.errors import AdapterError, ClipError
from avsrobust.inert import inert_line
from avsrobust.limits import MESSAGE_BYTES

WORKER_FILE = Path(protocol.__file__)
_STDERR_LINES = 20
_LONGEST_LINE = 1 << 16
_LONGEST_BANNER = 1 << 20
_LONGEST_MESSAGE = 2000
_SHOWN = 120
# Magic, length and the first character of the header.
_START = 9
_REMEDY = "expected a program that calls avsrobust_worker.serve(Model)"
_CHUNK = 1 << 20
# Of what POSIX promises for a pipe; all systems have more.
_SMALLEST_PIPE = 512
# A worker of protocol 1 reads "version" alone and requires 1; later ones choose the highest of "versions".
_VERSIONS: Mapping[str, Any] = {"version": 1, "versions": list(protocol.PROTOCOL_VERSIONS)}
_GRACE_S = 2.0
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
        self._lines: collections.deque[str] = collections.deque(maxlen=_STDERR_LINES)
        self._received = bytearray()
        self._banner = b""
        self._waiting: collections.deque[Request] = collections.deque()
        self._closed: list[int] = []
        numbers = itertools.count()
        self._lent, self._room = (AreaPool(_MOST_AREAS, _MOST_SHARED, numbers, self._closed) for _ in range(2))
        self._largest_answer = 0
        self._shares = False
        self._starting = True
        self._process = self._start()
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
        return self._process.poll() is None

    def send(self, kind: str, fields: Mapping[str, Any], arrays: Sequence[Array] = ()) -> Request:
        """Send one message; where it does not fit beside those under way, receive their answers first.

        Args:
            kind: Type of the message.
            fields: Fields of its header.
            arrays: Its arrays, which may be changed afterwards.

        Raises:
            AdapterError: The message is too large, or the process ends while it starts.
            ClipError: The process or the pipe fails later.
        """
        described = [(array.dtype.str, list(array.shape)) for array in arrays]
        count = sum(array.nbytes for array in arrays)
        MESSAGE_BYTES.check(count, f"worker '{self.command}': '{kind}'", AdapterError)
        lent = room = None
        if self._shares:
            lent = self._lent.take(protocol.place(described)[1]) if arrays else None
            room = self._room.take(self._largest_answer)
            # The list is the pools', which add to it.
            closed, self._closed[:] = list(self._closed), []
            named = {"lent": lent and lent.named, "room": room and room.named, "closed": closed}
            fields = {**fields, **{name: value for name, value in named.items() if value}}
        parts = protocol.encode_message(kind, dict(fields), arrays, lent and (lent.number, lent.contents()))
        request = Request(kind, lent, room, sum(len(memoryview(part)) for part in parts))
        while self._waiting and request.held + sum(earlier.held for earlier in self._waiting) > self._ahead:
            self._receive_next()
        self._waiting.append(request)
        deadline = time.monotonic() + self.timeout_s
        with self._failing(self._waiting[0].kind):
            for part in parts:
                self._write(memoryview(part), deadline)
        return request

    def receive(self, request: Request) -> Answer:
        """Wait for the answer to a message, within the time limit for each answer that comes before it and its own.

        Raises:
            AdapterError: The model fails, or the process does while starting.
            ClipError: The process or the pipe fails later.
        """
        while request.answer is None:
            self._receive_next()
        answer, request.answer = request.answer, None
        if isinstance(answer, AdapterError):
            raise answer
        return answer

    def settle(self) -> None:
        """Receive what is under way; errors stay with their messages."""
        with contextlib.suppress(AdapterError):
            while self._waiting:
                self._receive_next()

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
        message = f"worker '{self.command}': {str(header.get('message', 'an error without a message'))[:_LONGEST_MESSAGE]}"
        if self._starting:
            self.close()
        request.answer = AdapterError(inert_line(" ".join(message.split())))

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
        except (EOFError, BrokenPipeError):
            reason = f"{self._printed()}ended while it worked on '{kind}' ({self._exit_status()})"
        except protocol.ProtocolError as error:
            reason = f"wrote something else than messages to its stdout ({error})"
        else:
            return
        failure = self._failure(reason)
        for request in self._waiting:
            request.answer = failure
        self._waiting.clear()
        raise failure from None

    def close(self) -> None:
        """End the process and everything it has started."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(_GRACE_S if self._process.returncode is None else 0)
        except subprocess.TimeoutExpired:
            self._kill()
        self._stderr_thread.join(_GRACE_S)
        self._lent.close()
        self._room.close()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        # The worker's program can import avsrobust_worker without a copy of its own.
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(WORKER_FILE.parent), environment.get("PYTHONPATH")])
        )
        # Threads of OpenMP that wait by spinning would take the cores on which clips are read and counted meanwhile.
        environment.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            process = subprocess.Popen(
                _words(self.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError, IndexError) as error:
            raise AdapterError(
                f"--option command={self.command}: cannot be started ({error}); expected a command line, "
                "for example command='conda run -n avsegformer python my_worker.py'"
            ) from error
        self._stdin, self._stdout = _descriptor(process.stdin), _descriptor(process.stdout)
        for descriptor in (self._stdin, self._stdout):
            os.set_blocking(descriptor, False)
            _enlarge(descriptor)
        self._ahead = _capacity(self._stdin) // 2
        self._stderr_thread = threading.Thread(target=self._pass_stderr, args=(process.stderr,), daemon=True)
        self._stderr_thread.start()
        return process

    def _pass_stderr(self, stream: IO[bytes]) -> None:
        # In bounded pieces, as a line may never end.
        while raw := stream.readline(_LONGEST_LINE):
            self._pass_on(raw)

    def _pass_on(self, raw: bytes) -> None:
        line = inert_line(raw.decode(errors="replace").rstrip())
        if line:
            self._lines.append(line)
        sys.stderr.write(f"{line}\n")

    def _skip_banner(self, deadline: float) -> None:
        """Receive up to the first message, which stays in `_received`; pass earlier bytes on to stderr."""
        skipped = bytearray()
        try:
            while (start := _find_message(self._received)) is None:
                # The beginning of a message may be among the last bytes.
                done = max(0, len(self._received) - _START)
                skipped += self._received[:done]
                del self._received[:done]
                if len(skipped) > _LONGEST_BANNER:
                    raise protocol.ProtocolError(f"{len(skipped)} bytes and no message; {_REMEDY}")
                self._receive(_LONGEST_LINE, deadline)
            skipped += self._received[:start]
            del self._received[:start]
        except (TimeoutError, EOFError):
            skipped += self._received
            raise
        finally:
            self._banner = bytes(skipped)
            for line in self._banner.splitlines():
                self._pass_on(line)

    def _printed(self) -> str:
        """Return a note on the text that the process printed instead of its first message, "" where it printed none."""
        if not self._starting:
            return ""
        shown = inert_line(" ".join(self._banner.decode(errors="replace").split()))
        if not shown:
            return ""
        shown = f"{shown[:_SHOWN]}.." if len(shown) > _SHOWN else shown
        return f"wrote something else than messages to its stdout ('{shown}'; {_REMEDY}) and "

    def _write(self, view: memoryview, deadline: float) -> None:
        while len(view):
            _, writable, _ = select.select([], [self._stdin], [], max(0.0, deadline - time.monotonic()))
            if not writable:
                raise TimeoutError
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(self._stdin, view[:_CHUNK]) :]

    def _receive(self, most: int, deadline: float) -> None:
        """Add the bytes that can be read now to `_received`."""
        readable, _, _ = select.select([self._stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise TimeoutError
        with contextlib.suppress(BlockingIOError):
            content = os.read(self._stdout, most)
            if not content:
                raise EOFError
            self._received += content

    def _fill(self, count: int, deadline: float) -> None:
        """Receive until `_received` has `count` bytes; what can be read at once is."""
        while len(self._received) < count:
            self._receive(_LONGEST_LINE, deadline)

    def _take(self, count: int) -> bytearray:
        taken = self._received[:count]
        del self._received[:count]
        return taken

    def _read(self, count: int, deadline: float) -> bytearray:
        buffer = bytearray(count)
        view = memoryview(buffer)
        done = min(count, len(self._received))
        view[:done] = self._take(done)
        while done < count:
            readable, _, _ = select.select([self._stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise TimeoutError
            try:
                received = os.readv(self._stdout, [view[done:]])
            except BlockingIOError:
                continue
            if not received:
                raise EOFError
            done += received
        return buffer

    def _read_message(self, request: Request, deadline: float) -> Answer:
        before = len(protocol.MAGIC)
        self._fill(before, deadline)
        start = bytes(self._take(before))
        if start != protocol.MAGIC:
            raise protocol.ProtocolError(f"it began with {start!r}")
        self._fill(4, deadline)
        length = int.from_bytes(self._take(4), "little")
        if length > protocol.MAX_HEADER:
            raise protocol.ProtocolError(f"a header of {length} bytes")
        self._fill(length, deadline)
        header = protocol.parse_header(self._take(length))
        protocol.check_sizes(header, MESSAGE_BYTES.current)
        room = request.room
        if "area" in header:
            if room is None or header["area"] != room.number:
                raise protocol.ProtocolError("arrays in shared memory that it was not offered")
            return header, view_arrays(self._room, room, header["arrays"])
        if room is not None:
            self._room.give(room)
        arrays = [
            protocol.as_array(self._read(protocol.array_bytes(dtype, shape), deadline), dtype, shape)
            for dtype, shape in header["arrays"]
        ]
        return header, arrays

    def _exit_status(self) -> str:
        try:
            status = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _failure(self, reason: str) -> AdapterError:
        self._kill()
        self.close()
        last = (
            f"; its stderr ends: {' | '.join(list(self._lines)[-3:])}"
            if self._lines
            else "; it wrote nothing to stderr"
        )
        if self._starting:
            return AdapterError(inert_line(f"worker '{self.command}' while starting: {reason}{last}"))
        return ClipError(inert_line(f"worker '{self.command}': {reason}{last}"))


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


def _words(command: str) -> list[str]:
    """Split a command line; let ``conda run`` pass the pipe on, which it holds back until the program's end otherwise.

    >>> _words("conda run -n old python 'my worker.py'")
    ['conda', 'run', '--no-capture-output', '-n', 'old', 'python', 'my worker.py']
    """
    words = shlex.split(command)
    if words[1:2] == ["run"] and Path(words[0]).name in ("conda", "conda.exe"):
        # Naming it twice does no harm.
        words.insert(2, "--no-capture-output")
    return words


def _enlarge(descriptor: int) -> None:
    """Let a pipe hold a clip's mask at once where the system allows it: each filling of a small one wakes two processes."""
    try:
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _CHUNK)
    except (ImportError, AttributeError, OSError):
        # Only Linux can; a pipe of the usual size is slower, not wrong.
        return


def _capacity(descriptor: int) -> int:
    """Return how many bytes a pipe holds for certain."""
    try:
        import fcntl

        return int(fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ))
    except (ImportError, AttributeError, OSError):
        return _SMALLEST_PIPE


def _descriptor(stream: IO[bytes] | None) -> int:
    if stream is None:
        raise AdapterError("a worker was started without pipes")
    return stream.fileno()
