"""A child process behind pipes: start it, bytes in and out until a deadline, what it says on stderr, its end.

Conventions
    Nothing waits longer than its deadline, a time of `time.monotonic`: a `TimeoutError` then. A process that has closed its
    pipe is an `EOFError` or a `BrokenPipeError`.
    What it writes to its own stderr is passed on to stderr: without control characters, line by line.
"""

from __future__ import annotations

import collections
import contextlib
import io
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, cast

from avsrobust.errors import AdapterError
from avsrobust.inert import inert_line

LONGEST_LINE = 1 << 16
_STDERR_LINES = 20
_CHUNK = 1 << 20
# Of what POSIX promises for a pipe; all systems have more.
_SMALLEST_PIPE = 512
_GRACE_S = 2.0


class ChildProcess:
    """One running process.

    Attributes:
        received: Bytes of its stdout that were read and not taken yet.
        capacity: Bytes that its stdin holds for certain before it reads any.
        pid: Its number.

    Args:
        command: Command line that starts it.
        import_folder: Folder from which Python programs can import besides.

    Raises:
        AdapterError: It cannot be started.
    """

    def __init__(self, command: str, import_folder: Path) -> None:
        self.received = bytearray()
        self._lines: collections.deque[str] = collections.deque(maxlen=_STDERR_LINES)
        self._process = self._start(command, import_folder)
        self.pid = self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def write(self, view: memoryview, deadline: float) -> None:
        """Write bytes to its stdin."""
        while len(view):
            _, writable, _ = select.select([], [self._stdin], [], max(0.0, deadline - time.monotonic()))
            if not writable:
                raise TimeoutError
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(self._stdin, view[:_CHUNK]) :]

    def receive(self, most: int, deadline: float) -> None:
        """Add the bytes that can be read now to `received`."""
        readable, _, _ = select.select([self._stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise TimeoutError
        with contextlib.suppress(BlockingIOError):
            content = os.read(self._stdout, most)
            if not content:
                raise EOFError
            self.received += content

    def fill(self, count: int, deadline: float) -> None:
        """Receive until `received` has `count` bytes; what can be read at once is."""
        while len(self.received) < count:
            self.receive(LONGEST_LINE, deadline)

    def take(self, count: int) -> bytearray:
        """Return the first bytes of `received`."""
        taken = self.received[:count]
        del self.received[:count]
        return taken

    def read(self, count: int, deadline: float) -> bytearray:
        """Return so many bytes, of `received` and further ones."""
        buffer = bytearray(count)
        view = memoryview(buffer)
        done = min(count, len(self.received))
        view[:done] = self.take(done)
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

    def pass_on(self, raw: bytes) -> None:
        """Write a line to our stderr, and remember it."""
        line = inert_line(raw.decode(errors="replace").rstrip())
        if line:
            self._lines.append(line)
        sys.stderr.write(f"{line}\n")

    def last_lines(self) -> str:
        """Return the end of what it wrote to stderr, in words."""
        if not self._lines:
            return "it wrote nothing to stderr"
        return f"its stderr ends: {' | '.join(list(self._lines)[-3:])}"

    def exit_status(self) -> str:
        """Return how it ended, in words."""
        try:
            status = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def kill(self) -> None:
        """End it and everything it has started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End the process and everything it has started."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(_GRACE_S if self._process.returncode is None else 0)
        except subprocess.TimeoutExpired:
            self.kill()
        self._stderr_thread.join(_GRACE_S)

    def _start(self, command: str, import_folder: Path) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        # The worker's program can import avsrobust_worker without a copy of its own.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(import_folder), environment.get("PYTHONPATH")]))
        # Threads of OpenMP that wait by spinning would take the cores on which clips are read and counted meanwhile.
        environment.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            process = subprocess.Popen(
                _words(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError, IndexError) as error:
            raise AdapterError(
                f"--option command={command}: cannot be started ({error}); expected a command line, "
                "for example command='conda run -n avsegformer python my_worker.py'"
            ) from error
        self._stdin, self._stdout = _descriptor(process.stdin), _descriptor(process.stdout)
        for descriptor in (self._stdin, self._stdout):
            os.set_blocking(descriptor, False)
            _enlarge(descriptor)
        self.capacity = _capacity(self._stdin)
        self._stderr_thread = threading.Thread(target=self._pass_stderr, args=(process.stderr,), daemon=True)
        self._stderr_thread.start()
        return process

    def _pass_stderr(self, stream: IO[bytes]) -> None:
        # A pipe without a buffer is read byte by byte, each time for the GIL.
        buffered = io.BufferedReader(cast("io.FileIO", stream), LONGEST_LINE)
        # In bounded pieces, as a line may never end.
        while raw := buffered.readline(LONGEST_LINE):
            self.pass_on(raw)


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
