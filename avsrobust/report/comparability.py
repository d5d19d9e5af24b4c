"""Which lines of a table do not compare, and why: other weights, adapters, clips, builds or tasks.

Conventions
    Subjects and evaluations are those of one table, in its order. Facts about a run come from its ``run.json``; where there is
    none, nothing is said. Checksums are shown by their first 12 digits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from avsrobust.report.builds import build_title, place_name
from avsrobust.report.evaluations import Evaluation
from avsrobust.vocabulary import BINARY, SEMANTIC

if TYPE_CHECKING:
    from avsrobust.report.tables import Subject

_CHECKSUM_SHOWN = 12
# The adapter of stored masks is told by an option where they lie: another folder for each data set is as it should be.
_PLACES_OF_MASKS = {"predictions": ("masks",)}


def same_model(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Several results under one name: they stay lines of their own, in the order of their files."""
    for (model, place), group in groupby(evaluations, lambda entry: (entry.model, entry.place)):
        same = list(group)
        if len(same) > 1:
            files = ", ".join(f"{entry.origin} ({build_title(entry)})" for entry in same)
            yield (
                f"{model} on {place_name(place)}: {len(same)} results, each a line of its own: {files}; "
                "name the ones to report, or evaluate with --name"
            )


def unlike_models(subjects: Sequence[Subject]) -> Iterator[str]:
    """Results under one name that come from different weights, or from another adapter or other options."""
    of_model: dict[str, list[Subject]] = {}
    for subject in subjects:
        if subject.run:
            of_model.setdefault(subject.model, []).append(subject)
    for model, runs in of_model.items():
        for what, fact, way in (
            ("weights", _weights, "evaluate all with one --checkpoint"),
            ("adapters", _adapter, "evaluate all with one --adapter"),
            ("options", _options, "evaluate all with the same --option"),
        ):
            told = _by_fact(runs, fact)
            if len(told) > 1:
                yield f"{model}: its results are of different {what} ({'; '.join(told)}); {way}, or give each its own --name"


def unlike_evaluations(subjects: Sequence[Subject], evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """Models of one place that were not scored on the same clips, or not with the same negatives."""
    both = zip(subjects, evaluations, strict=True)
    for place, group in groupby(both, lambda pair: pair[0].place):
        scored = [(subject, entry) for subject, entry in group if subject.diagnostics.clips]
        if len({entry.clip_ids for _, entry in scored}) > 1:
            counts = ", ".join(f"{subject.name} {len(entry.clip_ids)}" for subject, entry in scored)
            yield (
                f"{place_name(place)}: models were scored on different clips ({counts}); use 'avsrobust compare' for common ones"
            )
        manifests = {_entry(subject.run, "manifest", "sha256") for subject, _ in scored} - {None}
        if len({(subject.seed, subject.recipe) for subject, _ in scored}) > 1 or len(manifests) > 1:
            yield f"{place_name(place)}: models were scored on different builds; their negatives differ"


def unlike_tasks(subjects: Sequence[Subject]) -> Iterator[str]:
    """Places at which some models are scored by class and others are not."""
    for place, group in groupby(subjects, lambda subject: subject.place):
        names: dict[str, list[str]] = {SEMANTIC: [], BINARY: []}
        for subject in group:
            names[subject.task].append(subject.name)
        if names[SEMANTIC] and names[BINARY]:
            yield (
                f"{place_name(place)}: {', '.join(names[SEMANTIC])} scored by class, {', '.join(names[BINARY])} only as sounding "
                f"or not (in csv: protocol '...-{BINARY}'); these do not compare; --task {BINARY} scores all as sounding or not"
            )


def _by_fact(runs: Sequence[Subject], fact: Callable[[Mapping[str, Any]], tuple[str, str]]) -> list[str]:
    """Return for each value of a fact, (what tells it from others, its text), the places it was found at, and the text."""
    places: dict[str, dict[str, None]] = {}
    texts: dict[str, str] = {}
    for subject in runs:
        value, text = fact(subject.run)
        places.setdefault(value, {})[place_name(subject.place)] = None
        texts.setdefault(value, text)
    return [f"{', '.join(places[value])}: {text}" for value, text in texts.items()]


def _weights(run: Mapping[str, Any]) -> tuple[str, str]:
    checksum, path = _entry(run, "checkpoint", "sha256"), _entry(run, "checkpoint", "path")
    if checksum is None:
        return "", "no checkpoint"
    return checksum, checksum[:_CHECKSUM_SHOWN] + ("" if path is None else f" of {path}")


def _adapter(run: Mapping[str, Any]) -> tuple[str, str]:
    spec = _entry(run, "adapter", "spec") or _entry(run, "adapter", "class") or "unknown"
    source = _entry(run, "identity", "source_sha256")
    if source is None:
        return spec, spec
    # One class may be named in several ways: by its module, or by the path of its file from here or there.
    kind = (_entry(run, "adapter", "class") or spec).rpartition(".")[2]
    return f"{source} {kind}", f"{spec}, source {source[:_CHECKSUM_SHOWN]}"


def _options(run: Mapping[str, Any]) -> tuple[str, str]:
    options = run.get("options")
    if not isinstance(options, Mapping):
        return "", "none"
    ignored = _PLACES_OF_MASKS.get(_entry(run, "adapter", "spec") or "", ())
    told = [f"{name}={_plain(value)}" for name, value in sorted(options.items()) if name not in ignored]
    return " ".join(told), " ".join(told) or "none"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _entry(run: Mapping[str, Any], key: str, name: str) -> str | None:
    value = run.get(key)
    entry = value.get(name) if isinstance(value, Mapping) else None
    return entry if isinstance(entry, str) else None
