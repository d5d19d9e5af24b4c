"""Output of the commands: progress on stderr (a bar on a terminal, elsewhere a line now and then), remarks, result lines.

Conventions
    Every line is inert (`avsrobust.inert`): names in it come from files, workers and other people. Files of remote folders are
    named by their addresses.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Protocol

import click

from avsrobust.inert import inert_line
from avsrobust.vocabulary import counted

if TYPE_CHECKING:
    from avsrobust.score_info import FailedClip

EVERY_S = 30.0
# Seconds without a change that are worth a word.
_SHOWN_S = 10.0
# Between two looks of the thread that writes lines.
_SHORTEST_S = 0.01
_MOST_CHARACTERS = 8000
_MOST_FAILURES = 20


class Reporter(Protocol):
    """Shows the progress of one work."""

    def __call__(self, done: int, total: int) -> None:
        """Show units done and in total (`ProgressCallback`)."""

    def stage(self, text: str) -> None:
        """Show the name of the current stage, until the next one."""


class ProgressLog:
    """Progress of work in parts for a log file: a line every `EVERY_S` seconds, about all parts together.

    A part whose total changes, or that falls back, has begun other work: speed and time left are those of the new work. While
    nothing is counted, a thread writes the lines (`beating`): they name the stage, and for how long nothing has changed. Work of
    which there were lines ends with one that says how long all of it took.

    Args:
        totals: Units of each part, as far as they are known.
    """

    def __init__(self, totals: Sequence[int] = (0,)) -> None:
        self._totals = list(totals)
        self._done = [0] * len(totals)
        # Units that were done before: they say nothing of the speed.
        self._found: dict[int, int] = {}
        self._first = self._began = self._last = self._changed = time.monotonic()
        self._has_told = False
        self._stage = ""
        self._lock = Lock()

    def part(self, number: int, title: str) -> LogPart:
        """Return the reporter of a part, which `title` names."""
        return LogPart(self, number, title)

    def update(self, number: int, title: str, done: int, total: int) -> None:
        """Note the progress of a part, and write a line where one is due."""
        with self._lock:
            now, old = time.monotonic(), (self._done[number], self._totals[number])
            self._totals[number], self._done[number] = total, done
            if not self._found or (number in self._found and (done < old[0] or total != old[1])):
                self._found = {part: self._done[part] for part in (*self._found, number)}
                self._began = now
            self._found.setdefault(number, done)
            self._changed = now
            is_due = self._is_due(now)
        if is_due:
            note(f"{title}: {self._line()}")

    def stage(self, text: str) -> None:
        """Note the current stage."""
        self._stage, self._changed = text, time.monotonic()

    @contextmanager
    def beating(self, title: str) -> Iterator[None]:
        """Write lines also while no progress is noted."""
        ended = Event()

        def beat() -> None:
            if hasattr(signal, "pthread_sigmask"):
                # Ctrl-C is the main thread's, which may hold it back (`avsrobust.processes`).
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            while not ended.wait(max(self._last + EVERY_S - time.monotonic(), _SHORTEST_S)):
                with self._lock:
                    now = time.monotonic()
                    is_due = self._is_due(now)
                if is_due:
                    note(f"{title}: {'; '.join(self._state(now))}")

        thread = Thread(target=beat, name="avsrobust-progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        self._conclude(title)

    def _conclude(self, title: str) -> None:
        """Write the last line, where all is done and lines were written before."""
        total = sum(self._totals)
        if self._has_told and self._found and sum(self._done) == total:
            self._has_told = False
            note(f"{title}: {total:,} of {total:,} in all, done in {_duration(time.monotonic() - self._first)}")

    def _state(self, now: float) -> Iterator[str]:
        """Yield the counts, the current stage, and the time since anything changed."""
        if self._found:
            yield self._line()
        same_s = now - self._changed
        since = f" for {_duration(same_s)}" if same_s >= _SHOWN_S else ""
        if self._stage or since or not self._found:
            yield f"{self._stage or 'at work'}{since}"

    def _is_due(self, now: float) -> bool:
        if now - self._last < EVERY_S:
            return False
        self._last = now
        self._has_told = True
        return True

    def _line(self) -> str:
        done, total = sum(self._done), sum(self._totals)
        rate = (done - sum(self._found.values())) / max(time.monotonic() - self._began, 1e-9)
        left = f", {_duration((total - done) / rate)} left" if rate > 0 else ""
        return f"{done:,} of {total:,} in all, {rate:.3g} per second{left}"


class LogPart:
    """The `Reporter` of one part of a `ProgressLog`."""

    def __init__(self, log: ProgressLog, number: int, title: str) -> None:
        self._log, self._number, self._title = log, number, title

    def __call__(self, done: int, total: int) -> None:
        """Note units done and in total."""
        self._log.update(self._number, self._title, done, total)

    def stage(self, text: str) -> None:
        """Note the current stage."""
        self._log.stage(text)

    def beating(self) -> AbstractContextManager[None]:
        """Write lines also while no progress is noted."""
        return self._log.beating(self._title)


def _duration(seconds: float) -> str:
    """Return a duration for people.

    >>> _duration(59.6), _duration(3599), _duration(90_000)
    ('60 s', '60 min', '25.0 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress_bar(title: str, log: LogPart | None = None) -> Iterator[Reporter]:
    """Yield a reporter that draws a bar; where stderr is no terminal, one that writes lines, to `log` or a log of its own."""
    if sys.stderr is None or not sys.stderr.isatty():
        part = ProgressLog().part(0, title) if log is None else log
        with part.beating():
            yield part
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bar(bars, title)


class _Bar:
    """The `Reporter` of a bar on a terminal."""

    def __init__(self, bars: Any, title: str) -> None:
        self._bars, self._title = bars, title
        self._task = bars.add_task(inert_line(title), total=None)

    def __call__(self, done: int, total: int) -> None:
        self._bars.update(self._task, completed=done, total=total)

    def stage(self, text: str) -> None:
        self._bars.update(self._task, description=inert_line(f"{self._title}: {text}"))


def warn(message: str) -> None:
    """Print a warning to stderr."""
    note(f"warning: {message}")


def note(message: object) -> None:
    """Print a remark to stderr, as one inert line. A remark that cannot be written is dropped."""
    line = _line(message)
    if len(line) > _MOST_CHARACTERS:
        line = f"{line[:_MOST_CHARACTERS]} .. and {len(line) - _MOST_CHARACTERS:,} characters more"
    with suppress(OSError):
        click.echo(line, err=True)


def show_failures(failed: Sequence[FailedClip], scored: int) -> None:
    """Print to stderr the clips that failed, the first `_MOST_FAILURES` by name; nothing where none did.

    Args:
        failed: The clips.
        scored: Number of the clips that were scored.
    """
    for failure in failed[:_MOST_FAILURES]:
        note(f"  {failure.split}/{failure.clip_id}: {failure.error}")
    if len(failed) > _MOST_FAILURES:
        note(f"  ... and {len(failed) - _MOST_FAILURES} more, in run.json")
    if failed:
        warn(f"{len(failed)} of {counted(scored + len(failed), 'clip')} could not be scored")


def print_result(line: object) -> None:
    """Print a line of results to stdout: a path, a finding.

    Raises:
        OSError: Stdout cannot be written.
    """
    click.echo(_line(line))


def _line(text: object) -> str:
    """Return a text as one inert line, with the addresses of remote folders for the local ones that stand for them."""
    # Not above: --help would wait for it.
    from avsrobust.remote import with_addresses

    return inert_line(with_addresses(str(text)))
