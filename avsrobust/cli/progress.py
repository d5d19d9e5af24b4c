"""Output of the commands: progress on stderr (a bar on a terminal, elsewhere a line now and then), remarks, result lines.

Conventions
    Every line is inert (`avsrobust.inert`): names in it come from files, workers and other people. Files of remote folders are
    named by their addresses.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import click

from avsrobust.callbacks import ProgressCallback
from avsrobust.inert import inert_line

EVERY_S = 30.0
_MOST_CHARACTERS = 8000


class ProgressLog:
    """Progress of work in parts for a log file: a line every `EVERY_S` seconds, about all parts together.

    A part whose total changes, or that falls back, has begun other work: speed and time left are those of the new work.

    Args:
        totals: Units of each part, as far as they are known.
    """

    def __init__(self, totals: Sequence[int] = (0,)) -> None:
        self._totals = list(totals)
        self._done = [0] * len(totals)
        # Units that were done before: they say nothing of the speed.
        self._found: dict[int, int] = {}
        self._began = self._last = time.monotonic()

    def part(self, number: int, title: str) -> ProgressCallback:
        """Return the callback ``(done, total)`` of a part, which `title` names."""

        def update(done: int, total: int) -> None:
            now, old = time.monotonic(), (self._done[number], self._totals[number])
            self._totals[number], self._done[number] = total, done
            if not self._found or (number in self._found and (done < old[0] or total != old[1])):
                self._found = {part: self._done[part] for part in (*self._found, number)}
                self._began = now
            self._found.setdefault(number, done)
            if now - self._last >= EVERY_S:
                self._last = now
                note(f"{title}: {self._line()}")

        return update

    def _line(self) -> str:
        done, total = sum(self._done), sum(self._totals)
        rate = (done - sum(self._found.values())) / max(time.monotonic() - self._began, 1e-9)
        left = f", {_duration((total - done) / rate)} left" if rate > 0 else ""
        return f"{done:,} of {total:,} in all, {rate:.3g} per second{left}"


def _duration(seconds: float) -> str:
    """Return a duration for people.

    >>> _duration(59.6), _duration(3599), _duration(90_000)
    ('60 s', '60 min', '25.0 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress_bar(title: str, log: ProgressCallback | None = None) -> Iterator[ProgressCallback]:
    """Yield a callback ``(done, total)`` that draws a bar; where stderr is no terminal, `log`, or a log of its own."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield ProgressLog().part(0, title) if log is None else log
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(inert_line(title), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


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
