"""The tasks and protocols of a report or a comparison.

Conventions
    semantic: IoU and F per class (`metrics.semantic`), where a model returned classes on a data set that has them (avss).
    binary: foreground against background (`metrics.binary`); on avss any class but background is foreground.
    Lines of the two tasks never share a block of a table. Unless a task is requested, results are scored as semantic where
    they hold classes, and as binary otherwise.
    A protocol is named as in `metrics.find_protocol`, and may exist for one task or for both.
"""

from __future__ import annotations

from collections.abc import Sequence

from avsrobust.errors import OptionError, ResultsError, did_you_mean
from avsrobust.metrics import NamedProtocol, Protocol, SemanticProtocol, find_protocol, protocol_names
from avsrobust.reporting.split_results import SplitResult
from avsrobust.vocabulary import BINARY, CLASS_DATASET, SEMANTIC, TASKS

AnyProtocol = Protocol | SemanticProtocol


def check_task(task: str | None) -> None:
    """Raise `OptionError` unless `task` is None or one of `TASKS`."""
    if task is not None and task not in TASKS:
        raise OptionError(f"--task: found '{task}'; expected {' or '.join(TASKS)}{did_you_mean(task, TASKS)}")


def requested_protocols(specs: Sequence[str]) -> tuple[NamedProtocol, ...]:
    """Return the protocols that `specs` name, each once, sorted by name.

    Raises:
        OptionError: There is no spec, one names no protocol, or two name different protocols of the same name.
    """
    if not specs:
        raise OptionError("--protocol: found none; expected at least one; leave the option out for avsbench")
    found: dict[str, NamedProtocol] = {}
    for spec in specs:
        protocol = find_protocol(spec)
        if found.setdefault(protocol.name, protocol) != protocol:
            raise OptionError(
                f"--protocol {spec}: is named '{protocol.name}', and so is another protocol of this report; expected different "
                "names; rename one of the two"
            )
    return tuple(found[name] for name in sorted(found))


def protocol_for(spec: str, task: str) -> AnyProtocol:
    """Return the protocol of a task that `spec` names.

    Raises:
        OptionError: `spec` names no protocol, or none of this task.
    """
    found = find_protocol(spec)
    protocol = found.semantic if task == SEMANTIC else found.binary
    if protocol is not None:
        return protocol
    reason, hint = (
        ("which scores no classes", f"; or --task {BINARY}") if task == SEMANTIC else ("which is for classes alone", "")
    )
    raise OptionError(f"--protocol: found '{spec}', {reason}; expected one of {', '.join(_names_for(task))}{hint}")


def scored_task(result: SplitResult, requested: str | None) -> str:
    """Return the task under which `result` is scored."""
    return BINARY if result.classes is None or requested == BINARY else SEMANTIC


def with_task(results: Sequence[SplitResult], requested: str | None) -> list[SplitResult]:
    """Return the results that can be scored under the requested task. Raises `ResultsError` where none can."""
    if requested != SEMANTIC:
        return list(results)
    found = [result for result in results if result.classes is not None]
    if results and not found:
        raise ResultsError(
            f"--task {SEMANTIC}: no result holds classes (first: {results[0].origin}); expected models that return class "
            f"logits or ids, evaluated on {CLASS_DATASET}"
        )
    return found


def _names_for(task: str) -> list[str]:
    """The registered names that have a protocol for `task`; a plug-in that cannot be imported is not listed."""
    names = []
    for name in protocol_names():
        try:
            found = find_protocol(name)
        except OptionError:
            continue
        if (found.semantic if task == SEMANTIC else found.binary) is not None:
            names.append(name)
    return names
