"""Warnings and notes of a table: sentences that a reader needs before quoting a number of it.

Conventions
    Warnings go to stderr and into every format for people: something is missing, or lines do not compare. Notes explain
    how numbers came about.
    Lines do not compare where weights, adapters, options, clips, builds or tasks differ. Facts about a run come from its
    ``run.json``; without one nothing is said. Checksums are shown by their first 12 digits.
    Subjects and results are those of one table, in its order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from avsrobust.metrics import ClassStatistics
from avsrobust.metrics.dataset_score import negative_key
from avsrobust.reporting.breakdowns import CATEGORY, GROUPINGS
from avsrobust.reporting.columns import ALL_CATEGORIES
from avsrobust.reporting.extra_scores import OVERLAP
from avsrobust.reporting.model import Line, Subject, Table
from avsrobust.reporting.naming import build_title, split_name
from avsrobust.reporting.split_results import SplitResult
from avsrobust.vocabulary import BACKGROUND, BINARY, CLASS_DATASET, CLEAN, NUM_CLASSES, SEMANTIC, counted

_CHECKSUM_SHOWN = 12
# How many times more must fit the other way: some classes have the same colour both ways.
_CLEARLY = 2
# Options that name folders of data, which differ from one data set to another.
_FOLDER_OPTIONS = {"predictions": ("masks",)}


def find_warnings(
    table: Table, results: Sequence[SplitResult], every_protocol: bool = False, several_seeds: bool = False
) -> tuple[str, ...]:
    """Return the warnings of a table.

    Args:
        table: The table.
        results: The results that it was made from.
        every_protocol: Whether all protocols were requested: nothing is said about tasks that lack one.
        several_seeds: Whether several results of a model are meant to be one line: nothing is said about their number, their
            weights and their builds.
    """
    per_subject = (warning for subject in table.subjects for warning in _of_subject(subject, table.negatives))
    return (
        *(() if several_seeds else (*_same_model(results), *_unlike_models(table.subjects))),
        *_smoke_runs(table, results),
        *per_subject,
        *_swept_binary_masks(table, results),
        *_one_class(table, results),
        *_reversed_colours(table, results),
        *_unlike_results(table.subjects, results, several_seeds),
        *(() if every_protocol else _without_line(table)),
        *_unlike_tasks(table.subjects),
    )


def find_notes(table: Table, results: Sequence[SplitResult]) -> tuple[str, ...]:
    """Return the notes of `table`, which was made from `results`: on its protocols, and those that the results carry."""
    tasks = {subject.task for subject in table.subjects}
    notes: list[str] = []
    if BINARY in tasks:
        notes += [f"{protocol.name}: {protocol.description} ({protocol.source})" for protocol in table.protocols]
    if SEMANTIC in tasks:
        notes += [
            f"{entry.name}, {SEMANTIC}: {entry.description} ({entry.source})" for entry in table.semantic_protocols
        ]
    if any(line.subject.task == BINARY and line.subject.dataset == CLASS_DATASET for line in table.lines):
        notes.append(
            f"{CLASS_DATASET}, binary segmentation: any class but background is foreground; nothing is said about classes"
        )
    if table.by == CATEGORY and BINARY in tasks:
        notes.append(f"by category: a clip with several labels counts in each; '{ALL_CATEGORIES}' has every clip once")
    elif table.by is not None and table.by != CATEGORY:
        notes.append(f"by {table.by}: {GROUPINGS[table.by]}; '{ALL_CATEGORIES}' has every clip")
    if table.by == CATEGORY and SEMANTIC in tasks:
        notes.append("by class: the class's own scores over all clips; FPR is the share of pixels given the class")
    notes += dict.fromkeys(note for line in table.lines if line.is_overall and (note := _skipped(line)))
    notes += [note for result in results for note in result.notes]
    notes += [note for result in results if (note := _muted(result))]
    notes += _class_ids(table)
    notes += _without_overlaps(table, results)
    return tuple(dict.fromkeys(notes))


def _skipped(line: Line) -> str | None:
    """Clips that the protocol skips."""
    count = line.score.clips_skipped
    if count == 0:
        return None
    whose = f"{split_name(line.subject.split_key)}, {line.protocol.name}"
    return f"{whose}: {counted(count, 'clip')} skipped, whose frames all have an empty target"


def _muted(entry: SplitResult) -> str | None:
    """Clips whose recording is silent."""
    muted, scored = len(entry.muted_clips), len(entry.scored_clips)
    if muted == 0:
        return None
    verb = "is" if muted == 1 else "are"
    return (
        f"{split_name(entry.split_key)}: {muted} of {counted(scored, 'clip')} scored {verb} muted: the recording itself is "
        "silent, so that clean sound equals silence there"
    )


def _class_ids(table: Table) -> Iterator[str]:
    """Models that return class ids in the semantic task: nothing of theirs depends on a threshold."""
    titles = [_title(subject) for subject in table.subjects if subject.task == SEMANTIC and _is_binary(subject)]
    if titles:
        yield (
            f"{', '.join(titles)}: class ids carry no probabilities, so that thresholds change nothing and the best threshold "
            "says nothing; return class logits to have both"
        )


def _without_overlaps(table: Table, results: Sequence[SplitResult]) -> Iterator[str]:
    """Results that store no overlaps of their negatives with one another, where these are requested."""
    if not any(score.group == OVERLAP for line in table.lines for score in line.extra):
        return
    for subject, entry in zip(table.subjects, results, strict=True):
        negatives = {found.condition for found in subject.diagnostics.conditions if found.auroc is not None}
        if len(negatives) > 1 and entry.overlaps is None:
            yield (
                f"{_title(subject)}: overlaps of negatives with one another are not stored in these results; evaluate again with "
                "--replace to have them"
            )


def _smoke_runs(table: Table, results: Sequence[SplitResult]) -> Iterator[str]:
    """Results of `evaluate --limit`, which are there because they were asked for."""
    for subject, entry in zip(table.subjects, results, strict=True):
        if entry.is_limited:
            clips = counted(subject.diagnostics.clips, "clip")
            yield (
                f"{_title(subject)}: of a smoke run (evaluate --limit), which scored {clips}, a part of the split; "
                "no result to quote"
            )


def _swept_binary_masks(table: Table, results: Sequence[SplitResult]) -> Iterator[str]:
    """Models whose masks are binary under protocols that take F as the best of a sweep of thresholds."""
    swept = [protocol.name for protocol in table.protocols if protocol.f_at == "best_of_255"]
    if not swept:
        return
    found: dict[tuple[str, bool], list[str]] = {}
    for subject, entry in zip(table.subjects, results, strict=True):
        if subject.task == BINARY and _is_binary(subject):
            found.setdefault((subject.name, entry.classes is not None), []).append(split_name(subject.split_key))
    for (name, has_classes), splits in found.items():
        cause, remedy = "masks are binary", "store probabilities"
        if has_classes:
            cause, remedy = "class ids carry no probabilities", "return class logits, or use --task semantic"
        yield (
            f"{name} on {', '.join(splits)}: {cause}, every pixel is 0 or 1, so that the sweep over thresholds of "
            f"{', '.join(swept)} has two points, the mask and the whole picture, and F is never below that of the whole picture; "
            f"use --protocol strict, or {remedy}"
        )


def _one_class(table: Table, results: Sequence[SplitResult]) -> Iterator[str]:
    """Models that predict no class but 1 where others are annotated: a binary mask, stored as the integers 0 and 1."""
    for subject, entry in zip(table.subjects, results, strict=True):
        if subject.task != SEMANTIC or subject.is_baseline or entry.classes is None:
            continue
        predicted = set(np.unique(entry.classes.class_id[entry.classes.predicted > 0]).tolist())
        annotated = set(np.unique(entry.classes.class_id[entry.classes.target > 0]).tolist())
        if 1 in predicted and predicted <= {BACKGROUND, 1} and annotated - {BACKGROUND, 1}:
            yield (
                f"{_title(subject)}: every foreground pixel has class 1 ({counted(len(annotated - {BACKGROUND}), 'class')} "
                "annotated); integers are class ids: where they are a binary mask, return it as floating point and evaluate "
                "again; --task binary scores them as foreground"
            )


def _reversed_colours(table: Table, results: Sequence[SplitResult]) -> Iterator[str]:
    """Models whose classes fit the annotated ones only with red and blue exchanged, as cv2 writes pictures."""
    for subject, entry in zip(table.subjects, results, strict=True):
        if subject.task != SEMANTIC or subject.is_baseline or entry.classes is None:
            continue
        as_they_are, exchanged = (_fitting_pixels(entry.classes, ids) for ids in (np.arange(NUM_CLASSES), _EXCHANGED))
        if exchanged > _CLEARLY * max(as_they_are, 1):
            yield (
                f"{_title(subject)}: {exchanged / max(as_they_are, 1):.1f} times as many pixels of its classes would fit if red "
                "and blue of AVSBench's colours were exchanged; were they written in the order BGR, as cv2 does? save them as "
                "RGB, or store class ids"
            )


def _fitting_pixels(classes: ClassStatistics, ids: npt.NDArray[np.int64]) -> int:
    """Return the sum, over frames and classes, of pixels that may fit, where class j is read as ``ids[j]``."""
    annotated = (classes.target > 0) & (classes.class_id != BACKGROUND)
    predicted = (classes.predicted > 0) & (classes.class_id != BACKGROUND)
    there = classes.frame[annotated] * NUM_CLASSES + classes.class_id[annotated]
    found = classes.frame[predicted] * NUM_CLASSES + ids[classes.class_id[predicted]]
    _, of_annotated, of_predicted = np.intersect1d(there, found, assume_unique=True, return_indices=True)
    return int(np.minimum(classes.target[annotated][of_annotated], classes.predicted[predicted][of_predicted]).sum())


def _exchanged(class_id: int) -> int:
    """Return the class whose colour has red and blue exchanged, or the class itself where no class has that colour.

    Bits 0, 3 and 6 of an id make red, 2 and 5 blue (`avsrobust.datasets.masks.palette`).
    """
    if class_id >= 1 << 6:
        return class_id
    kept = class_id & 0b010010
    return kept | (class_id & 0b001001) << 2 | (class_id & 0b100100) >> 2


_EXCHANGED = np.array([_exchanged(class_id) for class_id in range(NUM_CLASSES)])


def _is_binary(subject: Subject) -> bool:
    """Whether a model (not a baseline) has binary masks."""
    return subject.diagnostics.binary_masks and not subject.is_baseline


def _title(subject: Subject) -> str:
    """The beginning of a sentence about one subject."""
    return f"{subject.name} on {split_name(subject.split_key)}"


def _of_subject(subject: Subject, negatives: Sequence[str]) -> Iterator[str]:
    """Clips, conditions and rows that one subject lacks."""
    diagnostics = subject.diagnostics
    if diagnostics.clips == 0:
        yield f"{_title(subject)}: no clip could be scored; it has no line"
    if subject.failed:
        yield (
            f"{_title(subject)}: {counted(len(subject.failed), 'clip')} could not be scored and enter no number; "
            "see 'failed' in run.json next to the scores"
        )
    if diagnostics.clips == 0:
        return
    present = {(entry.condition, entry.level) for entry in diagnostics.conditions}
    absent = [CLEAN] if diagnostics.missing_clean == diagnostics.clips else []
    absent += [name for name in negatives if negative_key(name) not in present]
    if absent:
        yield f"{_title(subject)}: not evaluated under {', '.join(absent)}; G scores need all of them and are left empty"
    if 0 < diagnostics.missing_clean < diagnostics.clips:
        yield _fewer(subject, CLEAN, diagnostics.missing_clean)
    for entry in diagnostics.conditions:
        if entry.missing_clips:
            yield _fewer(subject, subject.condition_title(entry.condition, entry.level), entry.missing_clips)


def _fewer(subject: Subject, condition: str, missing: int) -> str:
    """A condition under which some clips were not scored."""
    return (
        f"{_title(subject)}: {counted(missing, 'clip')} of {subject.diagnostics.clips} without a row under {condition}; "
        "that condition's means are over the others"
    )


def _without_line(table: Table) -> Iterator[str]:
    """Requested protocols that one of the two tasks does not have."""
    names = {SEMANTIC: [entry.name for entry in table.semantic_protocols], BINARY: [p.name for p in table.protocols]}
    for task, other, reason in (
        (SEMANTIC, BINARY, f"scores no classes; --task {BINARY} has it"),
        (BINARY, SEMANTIC, "is for classes alone"),
    ):
        missing = [name for name in names[other] if name not in names[task]]
        titles = [_title(subject) for subject in table.subjects if subject.task == task and subject.diagnostics.clips]
        if missing and titles:
            yield f"{', '.join(titles)}: no line under {', '.join(missing)}, which {reason}"


def _same_model(results: Sequence[SplitResult]) -> Iterator[str]:
    """Several results under one name: they stay lines of their own, in the order of their files."""
    for (model, key), group in groupby(results, lambda entry: (entry.model, entry.split_key)):
        same = list(group)
        if len(same) > 1:
            files = ", ".join(f"{entry.origin} ({build_title(entry)})" for entry in same)
            yield (
                f"{model} on {split_name(key)}: {counted(len(same), 'result')}, each a line of its own: {files}; "
                "name the ones to report, or evaluate with --name"
            )


def _unlike_models(subjects: Sequence[Subject]) -> Iterator[str]:
    """Results under one name that come from different weights, or from another adapter or other options."""
    of_model: dict[str, list[Subject]] = {}
    for subject in subjects:
        if subject.run:
            of_model.setdefault(subject.model, []).append(subject)
    for model, runs in of_model.items():
        for noun, fact, remedy in (
            ("weights", _weights, "evaluate all with one --checkpoint"),
            ("adapters", _adapter, "evaluate all with one --adapter"),
            ("options", _options, "evaluate all with the same --option"),
        ):
            values = _by_fact(runs, fact)
            if len(values) > 1:
                yield f"{model}: its results are of different {noun} ({'; '.join(values)}); {remedy}, or give each its own --name"


def _unlike_results(subjects: Sequence[Subject], results: Sequence[SplitResult], several_seeds: bool) -> Iterator[str]:
    """Models of one split that were not scored on the same clips, or not with the same negatives."""
    both = zip(subjects, results, strict=True)
    for key, group in groupby(both, lambda pair: pair[0].split_key):
        scored = [(subject, entry) for subject, entry in group if subject.diagnostics.clips]
        if len({entry.clip_ids for _, entry in scored}) > 1:
            counts = ", ".join(f"{subject.name} {len(entry.clip_ids)}" for subject, entry in scored)
            yield (
                f"{split_name(key)}: models were scored on different clips ({counts}); --common-clips scores them on common ones"
            )
        manifests = {_entry(subject.run, "manifest", "sha256") for subject, _ in scored} - {None}
        seeds = {(subject.seed, subject.recipe) for subject, _ in scored}
        if several_seeds:
            # Means compare where every model was scored on the same builds.
            of_model: dict[str, set[int]] = {}
            for subject, _ in scored:
                of_model.setdefault(subject.model, set()).add(subject.seed)
            differ = len({frozenset(found) for found in of_model.values()}) > 1
        else:
            differ = len(seeds) > 1 or len(manifests) > 1
        if differ:
            yield f"{split_name(key)}: models were scored on different builds; their negatives differ"


def _unlike_tasks(subjects: Sequence[Subject]) -> Iterator[str]:
    """Splits on which some models are scored in the semantic task and others in the binary one."""
    for key, group in groupby(subjects, lambda subject: subject.split_key):
        names: dict[str, list[str]] = {SEMANTIC: [], BINARY: []}
        for subject in group:
            names[subject.task].append(subject.name)
        if names[SEMANTIC] and names[BINARY]:
            yield (
                f"{split_name(key)}: {', '.join(names[SEMANTIC])} scored as semantic, {', '.join(names[BINARY])} only as binary "
                f"segmentation (in csv: protocol '...-{BINARY}'); these do not compare; --task {BINARY} scores all as binary"
            )


def _by_fact(runs: Sequence[Subject], fact: Callable[[Mapping[str, Any]], tuple[str, str]]) -> list[str]:
    """Return a text for each value of a fact: the splits that have it, and the value. A fact is (value to compare, its text)."""
    splits: dict[str, dict[str, None]] = {}
    texts: dict[str, str] = {}
    for subject in runs:
        value, text = fact(subject.run)
        splits.setdefault(value, {})[split_name(subject.split_key)] = None
        texts.setdefault(value, text)
    return [f"{', '.join(splits[value])}: {text}" for value, text in texts.items()]


def _weights(run: Mapping[str, Any]) -> tuple[str, str]:
    """The checkpoint as a fact (see `_by_fact`)."""
    checksum, path = _entry(run, "checkpoint", "sha256"), _entry(run, "checkpoint", "path")
    if checksum is None:
        return "", "no checkpoint"
    return checksum, checksum[:_CHECKSUM_SHOWN] + ("" if path is None else f" of {path}")


def _adapter(run: Mapping[str, Any]) -> tuple[str, str]:
    """The adapter as a fact (see `_by_fact`)."""
    spec = _entry(run, "adapter", "spec") or _entry(run, "adapter", "class") or "unknown"
    source = _entry(run, "identity", "source_sha256")
    if source is None:
        return spec, spec
    # One class may be named in several ways: by its module, or by the path of its file from here or there.
    class_name = (_entry(run, "adapter", "class") or spec).rpartition(".")[2]
    return f"{source} {class_name}", f"{spec}, source {source[:_CHECKSUM_SHOWN]}"


def _options(run: Mapping[str, Any]) -> tuple[str, str]:
    """The adapter's options as a fact (see `_by_fact`)."""
    options = run.get("options")
    if not isinstance(options, Mapping):
        return "", "none"
    ignored = _FOLDER_OPTIONS.get(_entry(run, "adapter", "spec") or "", ())
    pairs = [f"{name}={_plain(value)}" for name, value in sorted(options.items()) if name not in ignored]
    return " ".join(pairs), " ".join(pairs) or "none"


def _plain(value: object) -> str:
    """An option's value as text."""
    return value if isinstance(value, str) else json.dumps(value)


def _entry(run: Mapping[str, Any], key: str, name: str) -> str | None:
    """A text two levels down in ``run.json``; None where there is none."""
    value = run.get(key)
    entry = value.get(name) if isinstance(value, Mapping) else None
    return entry if isinstance(entry, str) else None
