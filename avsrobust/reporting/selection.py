"""The tasks, protocols, negatives and names of a report or a comparison.

Conventions
    semantic: IoU and F per class (`metrics.semantic`), where a model returned classes on a data set that has them (avss).
    binary: foreground against background (`metrics.binary`); on avss any class but background is foreground.
    Lines of the two tasks never share a block of a table. Unless a task is requested, results are scored as semantic where
    they hold classes, and as binary otherwise.
    A protocol is named as in `metrics.find_protocol`, and may exist for one task or for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from avsrobust.errors import OptionError, ResultsError, did_you_mean
from avsrobust.metrics import NamedProtocol, Protocol, SemanticProtocol, find_protocol, protocol_names
from avsrobust.metrics.dataset_score import ConditionKey, conditions_of, negative_key
from avsrobust.reporting.columns import condition_name
from avsrobust.reporting.split_results import SplitResult
from avsrobust.vocabulary import BASELINES, BINARY, CLASS_DATASET, NEGATIVES, SEMANTIC, TASKS

ALL_PROTOCOLS = "all"
AnyProtocol = Protocol | SemanticProtocol


def check_task(task: str | None) -> None:
    """Raise `OptionError` unless `task` is None or one of `TASKS`."""
    if task is not None and task not in TASKS:
        raise OptionError(f"--task: found '{task}'; expected {' or '.join(TASKS)}{did_you_mean(task, TASKS)}")


def requested_protocols(specs: Sequence[str]) -> tuple[NamedProtocol, ...]:
    """Return the protocols that `specs` name, each once, sorted by name; "all" is every registered one.

    Raises:
        OptionError: There is no spec, one names no protocol, or two name different protocols of the same name.
    """
    if not specs:
        raise OptionError("--protocol: found none; expected at least one; leave the option out for avsbench")
    found: dict[str, NamedProtocol] = {}
    for spec in (name for text in specs for name in (protocol_names() if text == ALL_PROTOCOLS else [text])):
        protocol = find_protocol(spec)
        if found.setdefault(protocol.name, protocol) != protocol:
            raise OptionError(
                f"--protocol {spec}: is named '{protocol.name}', and so is another protocol of this report; expected different "
                "names; rename one of the two"
            )
    return tuple(found[name] for name in sorted(found))


def requested_negatives(texts: Sequence[str] | None, results: Sequence[SplitResult]) -> tuple[str, ...]:
    """Return the negative conditions that G averages over, the default ones first and the others by name.

    Args:
        texts: Conditions (``condition@level`` where they have levels), separated by commas too; None: the default ones.
        results: The results, each of which may hold other conditions.

    Raises:
        OptionError: There is no condition, or one that is nowhere negative in the results.
    """
    if texts is None:
        return NEGATIVES
    names = list(dict.fromkeys(part.strip() for text in texts for part in text.split(",")))
    polarity: dict[ConditionKey, bool] = {}
    for result in results:
        rows = result.frames.rows.clips
        polarity.update((key[:2], bool(rows.negative[key[2]].any())) for key in conditions_of(rows))
    known = [condition_name(*key) for key, negative in polarity.items() if negative]
    for name in names:
        if not polarity.get(negative_key(name), False):
            reason = "is positive" if negative_key(name) in polarity else "is in no result"
            there = ", ".join(known) or "of which there are none"
            raise OptionError(
                f"--negatives: '{name}' {reason}; expected negative conditions of the results, {there}{did_you_mean(name, known)}"
            )
    others = sorted(name for name in names if name not in NEGATIVES)
    return (*(name for name in NEGATIVES if name in names), *others)


def requested_renames(texts: Sequence[str]) -> dict[str, str]:
    """Return the new name by the old one of texts ``old=new``.

    Raises:
        OptionError: A text is of another form, or an old name comes twice.

    >>> requested_renames(["m2f_debias=Ours"])
    {'m2f_debias': 'Ours'}
    """
    found: dict[str, str] = {}
    for text in texts:
        old, equals, new = text.partition("=")
        if not equals or not old.strip() or not new.strip():
            raise OptionError(f"--rename: found '{text}'; expected OLD=NEW, such as m2f_debias=Ours")
        if old.strip() in found:
            raise OptionError(f"--rename: '{old.strip()}' is renamed twice; expected each name once")
        found[old.strip()] = new.strip()
    return found


def check_renames(renames: Mapping[str, str], models: Sequence[str]) -> None:
    """Raise `OptionError` unless every name to replace is a model's, and every new one is a model's name and no baseline's."""
    for old, new in renames.items():
        if old not in models:
            known = sorted(set(models))
            raise OptionError(
                f"--rename: '{old}' is no model of the results; expected {', '.join(known)}{did_you_mean(old, known)}"
            )
        if not new.strip() or new in BASELINES:
            problem = f"'{new}' is the name of a baseline" if new.strip() else "found an empty name"
            raise OptionError(f"--rename {old}={new}: {problem}; expected a model's name")


def renamed(result: SplitResult, renames: Mapping[str, str]) -> SplitResult:
    """Return a result under the name that the report gives its model."""
    new = renames.get(result.model)
    return result if new is None else replace(result, model=new, renamed_from=result.model)


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
