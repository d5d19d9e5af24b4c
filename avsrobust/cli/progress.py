"""Output of the commands: progress on stderr (a bar on a terminal, nothing elsewhere), remarks and warnings, result lines.

Conventions
    Every line is inert (`avsrobust.inert`): names in it come from files, workers and other people.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from avsrobust.callbacks import ProgressCallback
from avsrobust.inert import inert_line

_MOST_CHARACTERS = 8000


@contextmanager
def progress_bar(title: str) -> Iterator[ProgressCallback | None]:
    """Yield a callback ``(done, total)`` that draws a bar, or None where stderr is no terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
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
    line = inert_line(message)
    if len(line) > _MOST_CHARACTERS:
        line = f"{line[:_MOST_CHARACTERS]} .. and {len(line) - _MOST_CHARACTERS:,} characters more"
    with suppress(OSError):
        click.echo(line, err=True)


def print_result(line: object) -> None:
    """Print a line of results to stdout: a path, a finding.

    Raises:
        OSError: Stdout cannot be written.
    """
    click.echo(inert_line(line))
