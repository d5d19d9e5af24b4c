"""What a reader must know before quoting a number of the table.

Conventions
    Warnings go to stderr and into every format for people: something is missing, or lines do not compare. Notes explain
    what was done as it should be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from avsrobust.report.columns import ALL_CATEGORIES, condition_title
from avsrobust.report.evaluations import Evaluation
from avsrobust.report.tasks import BINARY, CLASS_DATASET, SEMANTIC
from avsrobust.vocabulary import CLEAN, NEGATIVES

if TYPE_CHECKING:
    from avsrobust.report.tables import Line, Subject, Table


def find_warnings(table: Table, evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """Return what is wrong with the table or with the results it was made from."""
    per_subject = (warning for subject in table.subjects for warning in _of_subject(subject))
    return (
        *_same_model(evaluations),
        *per_subject,
        *_unlike_evaluations(table, evaluations),
        *_without_line(table),
        *_unlike_tasks(table),
    )


def find_notes(table: Table) -> tuple[str, ...]:
    """Return what explains the table."""
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
    return tuple(notes)


def _left_out(line: Line) -> str | None:
    count = line.score.clips_left_out
    if count == 0:
        return None
    whose = f"{line.subject.dataset}/{line.subject.split}, {line.protocol.name}"
    return f"{whose}: {_clips(count)} left out, whose frames all have an empty target"


def _clips(count: int) -> str:
    return f"{count} clip{'' if count == 1 else 's'}"


def _title(subject: Subject) -> str:
    return f"{subject.name} on {subject.dataset}/{subject.split}"


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


def _same_model(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Several results under one name: they stay lines of their own, in the order of their files."""
    for (model, dataset, split), group in groupby(evaluations, lambda entry: (entry.model, entry.dataset, entry.split)):
        same = list(group)
        if len(same) > 1:
            files = ", ".join(f"{entry.origin} (seed {entry.seed})" for entry in same)
            yield (
                f"{model} on {dataset}/{split}: {len(same)} results, each a line of its own: {files}; "
                "name the ones to report, or evaluate with --name"
            )


def _unlike_evaluations(table: Table, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Models of one block that were not scored on the same clips, or not with the same negatives."""
    both = zip(table.subjects, evaluations, strict=True)
    for (dataset, split), group in groupby(both, lambda pair: (pair[0].dataset, pair[0].split)):
        scored = [(subject, entry) for subject, entry in group if subject.diagnostics.clips]
        if len({entry.clip_ids for _, entry in scored}) > 1:
            counts = ", ".join(f"{subject.name} {len(entry.clip_ids)}" for subject, entry in scored)
            yield f"{dataset}/{split}: models were scored on different clips ({counts}); use 'avsrobust compare' for common ones"
        manifests = {_manifest(subject) for subject, _ in scored} - {None}
        if len({subject.seed for subject, _ in scored}) > 1 or len(manifests) > 1:
            yield f"{dataset}/{split}: models were scored on different builds; their negatives differ"


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


def _unlike_tasks(table: Table) -> Iterator[str]:
    """Data sets of which some models are scored by class and others are not."""
    for (dataset, split), group in groupby(table.subjects, lambda subject: (subject.dataset, subject.split)):
        names: dict[str, list[str]] = {SEMANTIC: [], BINARY: []}
        for subject in group:
            names[subject.task].append(subject.name)
        if names[SEMANTIC] and names[BINARY]:
            yield (
                f"{dataset}/{split}: {', '.join(names[SEMANTIC])} scored by class, {', '.join(names[BINARY])} only as sounding "
                f"or not (in csv: protocol '...-{BINARY}'); these do not compare; --task {BINARY} scores all as sounding or not"
            )


def _manifest(subject: Subject) -> str | None:
    manifest = subject.run.get("manifest")
    checksum = manifest.get("sha256") if isinstance(manifest, dict) else None
    return checksum if isinstance(checksum, str) else None
