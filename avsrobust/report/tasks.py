"""What a line of the report scores: classes, or only whether something sounds.

Conventions
    semantic: IoU and F per class (`metrics.semantic`), where a model returned classes on a data set that has them (avss).
    binary: one mask of what sounds; on avss any class but background is foreground. The two never share a block of a table.
    Unless a task is asked for, every result is scored by the finest one it has.
"""

from __future__ import annotations

from collections.abc import Sequence

from avsrobust.errors import OptionError, ResultsError, did_you_mean
from avsrobust.metrics import PROTOCOLS, SEMANTIC_PROTOCOLS, Protocol, SemanticProtocol
from avsrobust.report.evaluations import Evaluation
from avsrobust.vocabulary import BINARY, CLASS_DATASET, SEMANTIC, TASKS

AnyProtocol = Protocol | SemanticProtocol


def check_task(task: str | None) -> None:
    """Raise `OptionError` unless `task` is None or one of `TASKS`."""
    if task is not None and task not in TASKS:
        raise OptionError(f"--task: found '{task}'; expected {' or '.join(TASKS)}{did_you_mean(task, TASKS)}")


def check_protocols(names: Sequence[str]) -> None:
    """Raise `OptionError` where there is no name, or one that is no protocol of either task."""
    if not names:
        raise OptionError("--protocol: found none; expected at least one; leave the option out for avsbench")
    known = list(dict.fromkeys([*PROTOCOLS, *SEMANTIC_PROTOCOLS]))
    for name in names:
        if name not in known:
            raise OptionError(
                f"--protocol: found '{name}'; expected one of {', '.join(known)}{did_you_mean(name, known)}"
            )


def task_of(entry: Evaluation, asked: str | None) -> str:
    """Return the task under which an evaluation is scored."""
    return BINARY if entry.classes is None or asked == BINARY else SEMANTIC


def of_task(entries: Sequence[Evaluation], asked: str | None) -> list[Evaluation]:
    """Return the evaluations that can be scored under the task asked for. Raises `ResultsError` where none can."""
    if asked != SEMANTIC:
        return list(entries)
    found = [entry for entry in entries if entry.classes is not None]
    if entries and not found:
        raise ResultsError(
            f"--task {SEMANTIC}: no result holds classes (first: {entries[0].origin}); expected models that return class "
            f"logits or ids, evaluated on {CLASS_DATASET}"
        )
    return found


def task_title(task: str, dataset: str) -> str:
    """Return what a heading says of the task; nothing where a data set has no classes.

    >>> task_title("semantic", "avss"), task_title("binary", "avss"), task_title("binary", "s4")
    (', by class', ', sounding or not', '')
    """
    if task == SEMANTIC:
        return ", by class"
    return ", sounding or not" if dataset == CLASS_DATASET else ""
