"""The option ``task`` of adapters that answer in two forms: a mask of what sounds, or classes.

Conventions
    binary: the probability of a sounding object. semantic: one of AVSBench-semantic's classes per pixel, 0 is background.
"""

from __future__ import annotations

from avsrobust.errors import AdapterError, did_you_mean
from avsrobust.vocabulary import BINARY, TASKS


def take_task(options: dict[str, str]) -> str:
    """Remove ``task`` from an adapter's options and return it; binary where it is not there. Raises `AdapterError`.

    >>> take_task({"task": "semantic"}), take_task({})
    ('semantic', 'binary')
    """
    task = options.pop("task", BINARY)
    if task not in TASKS:
        raise AdapterError(f"--option task={task}: expected {' or '.join(TASKS)}{did_you_mean(task, TASKS)}")
    return task
