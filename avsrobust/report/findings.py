"""What a reader must know before quoting a number of the table.

Conventions
    Warnings go to stderr and into every format for people: something is missing, or lines do not compare. Notes explain
    what was done as it should be. Whether lines compare at all is said in `comparability`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from avsrobust.report.builds import place_name
from avsrobust.report.columns import ALL_CATEGORIES, condition_title
from avsrobust.report.comparability import same_model, unlike_evaluations, unlike_models, unlike_tasks
from avsrobust.report.evaluations import Evaluation
from avsrobust.vocabulary import BINARY, CLASS_DATASET, CLEAN, NEGATIVES, SEMANTIC

if TYPE_CHECKING:
    from avsrobust.report.tables import Line, Subject, Table


def find_warnings(table: Table, evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """Return what is wrong with the table or with the results it was made from."""
    per_subject = (warning for subject in table.subjects for warning in _of_subject(subject))
    return (
        *same_model(evaluations),
        *unlike_models(table.subjects),
        *per_subject,
        *_swept_binary_masks(table, evaluations),
        *unlike_evaluations(table.subjects, evaluations),
        *_without_line(table),
        *unlike_tasks(table.subjects),
    )


def find_notes(table: Table, evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """Return what explains the table: its protocols, and what the results themselves say."""
    tasks = {subject.task for subject in table.subjects}
    notes: list[str] = []
    if BINARY in tasks:
        notes += [f"{protocol.name}: {protocol.description} ({protocol.source})" for protocol in table.protocols]
    if SEMANTIC in tasks:
        notes += [f"{entry.name}, by class: {entry.description} ({entry.source})" for entry in table.semantic_protocols]
    if any(line.subject.task == BINARY and line.subject.dataset == CLASS_DATASET for line in table.lines):
        notes.append(
            f"{CLASS_DATASET}, sounding or not: any class but background is foreground; nothing is said about classes"
        )
    if table.by is not None and BINARY in tasks:
        notes.append(f"by category: a clip with several labels counts in each; '{ALL_CATEGORIES}' has every clip once")
    if table.by is not None and SEMANTIC in tasks:
        notes.append("by class: the class's own scores over all clips; FPR is the share of pixels given the class")
    notes += dict.fromkeys(note for line in table.lines if line.is_overall and (note := _left_out(line)))
    notes += [note for entry in evaluations for note in entry.notes]
    notes += [note for entry in evaluations if (note := _muted(entry))]
    notes += _class_ids(table)
    return tuple(dict.fromkeys(notes))


def _left_out(line: Line) -> str | None:
    count = line.score.clips_skipped
    if count == 0:
        return None
    whose = f"{place_name(line.subject.place)}, {line.protocol.name}"
    return f"{whose}: {_clips(count)} left out, whose frames all have an empty target"


def _muted(entry: Evaluation) -> str | None:
    muted, scored = len(entry.muted_clips), len(entry.scored_clips)
    if muted == 0:
        return None
    verb = "is" if muted == 1 else "are"
    return (
        f"{place_name(entry.place)}: {muted} of {_clips(scored)} scored {verb} muted: the recording itself is silent, so that "
        "clean sound equals silence there"
    )


def _class_ids(table: Table) -> Iterator[str]:
    """Models scored by class that return ids: nothing of theirs depends on a threshold."""
    titles = [_title(subject) for subject in table.subjects if subject.task == SEMANTIC and _is_binary(subject)]
    if titles:
        yield (
            f"{', '.join(titles)}: class ids carry no probabilities, so that thresholds change nothing and the best threshold "
            "says nothing; return class logits to have both"
        )


def _swept_binary_masks(table: Table, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Models whose masks are binary under protocols that take F as the best of a sweep of thresholds."""
    swept = [protocol.name for protocol in table.protocols if protocol.f_at == "best_of_255"]
    if not swept:
        return
    found: dict[tuple[str, bool], list[str]] = {}
    for subject, entry in zip(table.subjects, evaluations, strict=True):
        if subject.task == BINARY and _is_binary(subject):
            found.setdefault((subject.name, entry.classes is not None), []).append(place_name(subject.place))
    for (name, has_classes), places in found.items():
        cause, way = "masks are binary", "store probabilities"
        if has_classes:
            cause, way = "class ids carry no probabilities", "return class logits, or score by class"
        yield (
            f"{name} on {', '.join(places)}: {cause}, every pixel is 0 or 1, so that the sweep over thresholds of "
            f"{', '.join(swept)} has two points, the mask and the whole picture, and F is never below that of the whole picture; "
            f"use --protocol strict, or {way}"
        )


def _is_binary(subject: Subject) -> bool:
    return subject.diagnostics.binary_masks and not subject.is_baseline


def _clips(count: int) -> str:
    return f"{count} clip{'' if count == 1 else 's'}"


def _title(subject: Subject) -> str:
    return f"{subject.name} on {place_name(subject.place)}"


def _of_subject(subject: Subject) -> Iterator[str]:
    diagnostics = subject.diagnostics
    if diagnostics.clips == 0:
        yield f"{_title(subject)}: no clip could be scored; it has no line"
    if subject.failed:
        yield (
            f"{_title(subject)}: {_clips(len(subject.failed))} could not be scored, left out of every number; "
            "see 'failed' in run.json beside the scores"
        )
    if diagnostics.clips == 0:
        return
    there = {entry.condition for entry in diagnostics.conditions if entry.level is None}
    absent = [CLEAN] if diagnostics.missing_clean == diagnostics.clips else []
    absent += [name for name in NEGATIVES if name not in there]
    if absent:
        yield f"{_title(subject)}: not evaluated under {', '.join(absent)}; G scores need all of them and are left empty"
    if 0 < diagnostics.missing_clean < diagnostics.clips:
        yield _fewer(subject, CLEAN, diagnostics.missing_clean)
    for entry in diagnostics.conditions:
        if entry.missing_clips:
            yield _fewer(subject, condition_title(entry.condition, entry.level), entry.missing_clips)


def _fewer(subject: Subject, condition: str, missing: int) -> str:
    return (
        f"{_title(subject)}: {_clips(missing)} of {subject.diagnostics.clips} without a row under {condition}; "
        "that condition's means are over the others"
    )


def _without_line(table: Table) -> Iterator[str]:
    """Protocols that were asked for and that one of the two tasks does not have."""
    names = {SEMANTIC: [entry.name for entry in table.semantic_protocols], BINARY: [p.name for p in table.protocols]}
    for task, other, why in (
        (SEMANTIC, BINARY, f"scores no classes; --task {BINARY} has it"),
        (BINARY, SEMANTIC, "is for classes alone"),
    ):
        missing = [name for name in names[other] if name not in names[task]]
        titles = [_title(subject) for subject in table.subjects if subject.task == task and subject.diagnostics.clips]
        if missing and titles:
            yield f"{', '.join(titles)}: no line under {', '.join(missing)}, which {why}"
