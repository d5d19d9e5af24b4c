"""A run of an experiment tracker: one stored result, its parameters and the scores of the report's table.

Conventions
    A score's name is ``<dataset>/<split>/<protocol>/<condition>/<measure>``, a condition with a level reads
    ``<condition>:<level>``, and the scores over all conditions have the condition ``G``. The parts of a name are letters, digits
    and ``_.:+-``, which every tracker takes; of another part what is safe is kept, with a checksum behind it.
    Scores are fractions in [0, 1]; undefined ones are skipped. Names of parameters are fixed, but for the options of adapters.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsrobust import __version__
from avsrobust.defaults import RECIPE, build_name
from avsrobust.errors import ResultsError
from avsrobust.files import is_safe_name
from avsrobust.folders import folder_name
from avsrobust.inert import inert_line
from avsrobust.metrics import DEFAULT_PROTOCOL
from avsrobust.metrics.dataset_score import ConditionKey
from avsrobust.reporting.columns import MEASURES, METRICS
from avsrobust.reporting.loading import load_runs
from avsrobust.reporting.model import Line, Table
from avsrobust.reporting.report import report
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import RUN_NAME, Run, Scores, section

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]*")
_LONGEST_PART = 60
_LONGEST_VALUE = 500


@dataclass(frozen=True)
class ResultRun:
    """One stored result as trackers take it.

    Attributes:
        name: ``<model>/<build>``, inert.
        folder: The same as two folders' names, safe on every system.
        key: SHA-256, in hex, of everything but `table` and `files`: equal for exports of the same values.
        parameters: Origin of the scores: adapter, checksums of checkpoint and manifest, seed, recipe and so on.
        scores: The scores by name (see the module's conventions).
        table: The report's table of this result, in Markdown.
        files: The result's own files: the scores and ``run.json``.
    """

    name: str
    folder: tuple[str, str]
    key: str
    parameters: Mapping[str, str]
    scores: Mapping[str, float]
    table: str
    files: tuple[Path, ...]


def result_runs(
    results: Sequence[Scores], protocols: Sequence[str] = (DEFAULT_PROTOCOL,), task: str | None = None
) -> tuple[list[ResultRun], list[str]]:
    """Return a run for each of some stored results, and warnings.

    Args:
        results: Stored results (`avsrobust.reporting.loading.load_results`).
        protocols: Protocols, as in `avsrobust.reporting.report.report`.
        task: "semantic", "binary" or None, as there.

    Raises:
        OptionError: A protocol or the task is unknown.
        ResultsError: A result holds no scored frame, cannot be true, or two are one run.
    """
    runs, warnings = load_runs(results)
    made = [_run(scores, run, protocols, task) for scores, run in zip(results, runs, strict=True)]
    by_folder: dict[tuple[str, ...], Path | None] = {}
    for one, scores in zip(made, results, strict=True):
        # Upper and lower case are one folder on some systems.
        place = tuple(part.casefold() for part in one.folder)
        if place in by_folder:
            raise ResultsError(
                f"{scores.source}: is of model {inert_line(scores.info.model)} on build {one.folder[1]}, and so is "
                f"{by_folder[place]}; expected results that differ in model or build; export them one at a time"
            )
        by_folder[place] = scores.source
    return made, warnings


def _run(scores: Scores, run: Run | None, protocols: Sequence[str], task: str | None) -> ResultRun:
    table = build_table([scores], protocols, runs=[run], task=task)
    values = dict(_values(table))
    if not values:
        raise ResultsError(f"{scores.source}: holds no defined score under {', '.join(protocols)}; evaluate again")
    parameters = _parameters(scores, {} if run is None else run.details, table)
    info = scores.info
    build = build_name(info.dataset, info.seed, info.recipe or RECIPE, info.release)
    identity = json.dumps([info.model, build, parameters, values], sort_keys=True)
    source = scores.source
    files = () if source is None else (source, *_beside(source))
    return ResultRun(
        name=f"{inert_line(info.model)}/{inert_line(build)}",
        folder=(folder_name(info.model), folder_name(build)),
        key=hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest(),
        parameters=parameters,
        scores=values,
        table=str(report([scores], protocols, task=task, format="md").content),
        files=files,
    )


def _beside(source: Path) -> Iterable[Path]:
    path = source.with_name(RUN_NAME)
    return (path,) if path.is_file() else ()


def _values(table: Table) -> Iterable[tuple[str, float]]:
    for line in table.lines:
        if not line.is_overall:
            continue
        subject = line.subject
        prefix = "/".join(map(name_part, (subject.dataset, subject.split, table.csv_protocol(line))))
        for condition, measure, value in _line_values(table, line):
            if value is not None:
                yield f"{prefix}/{name_part(condition)}/{measure}", float(value)
        yield f"{prefix}/clips", float(line.score.clips)


def _line_values(table: Table, line: Line) -> Iterable[tuple[str, str, float | None]]:
    columns = line.score.columns()
    for metric in METRICS.values():
        yield metric.condition, metric.measure, columns.get(metric.name)
    of: dict[ConditionKey, Any] = {score.key: score for score in line.score.conditions}
    for key, name in table.extended.items():
        score = of.get(key)
        values = (None, None, None) if score is None else (score.miou, score.f, score.fpr)
        for measure, value in zip(MEASURES, values, strict=True):
            yield name, measure, value


def name_part(text: str) -> str:
    """Return a part of a score's name (see the module's conventions).

    >>> name_part("mixture@-3"), name_part("clean"), name_part("../a b")
    ('mixture:-3', 'clean', '____a_b-2c2c791a')
    """
    plain = text.replace("@", ":") if text.count("@") == 1 else text
    if _PART.fullmatch(plain) and len(plain) <= _LONGEST_PART and ".." not in plain:
        return plain
    kept = re.sub(r"[^A-Za-z0-9_.:+-]", "_", plain)[:_LONGEST_PART].replace("..", "__")
    return f"_{kept}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _parameters(scores: Scores, details: Mapping[str, Any], table: Table) -> dict[str, str]:
    info = scores.info
    adapter, checkpoint = section(details, "adapter"), section(details, "checkpoint")
    manifest, versions = section(details, "manifest"), section(details, "versions")
    found: dict[str, object] = {
        "model": info.model,
        "readout": info.readout or None,
        "adapter": adapter.get("spec"),
        "adapter_class": adapter.get("class"),
        "checkpoint_sha256": checkpoint.get("sha256"),
        "manifest_sha256": manifest.get("sha256"),
        "dataset": info.dataset,
        "release": info.release or None,
        "seed": info.seed,
        "recipe": info.recipe or None,
        "splits": ", ".join(sorted(set(scores.index["split"]))),
        "conditions": ", ".join(sorted(set(scores.index["condition"]))),
        "signatures": "; ".join(dict.fromkeys(line.signature for line in table.lines if line.is_overall)),
        "failed_clips": len(info.failed),
        "score_size": info.score_size or None,
        "device": details.get("device_name"),
        "evaluated_with": versions.get("avsrobust"),
        "exported_with": __version__,
    }
    for key, value in sorted(section(details, "options").items()):
        if is_safe_name(key):
            found[f"option.{key}"] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return {key: inert_line(value)[:_LONGEST_VALUE] for key, value in found.items() if value not in (None, "")}
