"""The option ``task`` of adapters that can return either of two forms: a binary mask, or classes.

Conventions
    binary: the probability of the foreground. semantic: one of AVSBench-semantic's classes per pixel, 0 is background.
"""

from __future__ import annotations

from avsrobust.errors import AdapterError, did_you_mean
from avsrobust.vocabulary import BINARY, TASKS


def take_task(options: dict[str, str]) -> str:
    """Remove ``task`` from an adapter's options and return it.

    Args:
        options: The adapter's options; changed in place.

    Returns:
        "binary", also where the option is missing, or "semantic".

    Raises:
        AdapterError: The option has another value.

    >>> take_task({"task": "semantic"}), take_task({})
    ('semantic', 'binary')
    """
    task = options.pop("task", BINARY)
    if task not in TASKS:
        raise AdapterError(f"--option task={task}: expected {' or '.join(TASKS)}{did_you_mean(task, TASKS)}")
    return task
