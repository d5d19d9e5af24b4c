"""The models of a report compared pairwise, for formats that show it: each pair under each protocol of the report.

Conventions
    Baselines are in no pair: their scores are known, and a difference from them needs no test. Names are those of the report.
    p is corrected over all pairs, data sets and splits of one score under one protocol (`reporting.compare`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from avsrobust.errors import OptionError, ResultsError
from avsrobust.reporting.compare import DEFAULT_SAMPLES, Comparisons, compare_models
from avsrobust.reporting.escape import one_line
from avsrobust.reporting.selection import ALL_PROTOCOLS, requested_protocols
from avsrobust.results import Run, Scores, is_baseline


def compare_all(
    results: Sequence[Scores],
    runs: Sequence[Run | None],
    protocols: Sequence[str],
    task: str | None = None,
    negatives: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    samples: int = DEFAULT_SAMPLES,
) -> tuple[tuple[Comparisons, ...], tuple[str, ...]]:
    """Return the comparisons of all pairs of models under each protocol, and a note for each that cannot be made.

    Args:
        results: Stored results.
        runs: Their ``run.json``, where there is one.
        protocols: Protocols, each named as in `metrics.find_protocol`, or "all".
        task: "semantic", "binary", or None: of each pair semantic where both results hold classes.
        negatives: The negative conditions that the G scores average over; None: the default ones.
        names: Names to show, by those of the results.
        samples: Number of resamples.
    """
    names = names or {}
    models = [
        replace(entry, info=replace(entry.info, model=names.get(entry.info.model, entry.info.model)))
        for entry, run in zip(results, runs, strict=True)
        if not is_baseline(entry.info.model, {} if run is None else run.details)
    ]
    found: list[Comparisons] = []
    notes: list[str] = []
    for spec in _specs(protocols):
        try:
            found.append(compare_models(models, None, spec, samples, task=task, negatives=negatives))
        except (OptionError, ResultsError) as error:
            notes.append(f"No pairs of models under {one_line(spec)}: {one_line(str(error))}.")
    notes += [note for several in found for note in several.notes]
    return tuple(found), tuple(dict.fromkeys(notes))


def _specs(protocols: Sequence[str]) -> list[str]:
    if ALL_PROTOCOLS not in protocols:
        return list(dict.fromkeys(protocols))
    return [entry.name for entry in requested_protocols(protocols)]
