"""The files of a results folder, and ``run.json``, which holds their provenance and vouches for them.

Conventions
    A results folder holds ``scores.parquet`` (the statistics, `avsrobust.results`) and ``run.json`` (who, with what, when), and
    may hold ``masks.parquet`` and ``extras.parquet``.
    ``readout-<name>.parquet`` holds the scores of a further readout of the model (`adapters.base.Segmentation`) in the form of
    ``scores.parquet``, under the model's name with the readout's behind it.
    ``run.json`` is written last, holds size and SHA-256 of the files beside it and a checksum of itself: a file that it does not
    vouch for is not read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avsrobust.errors import AvsRobustError, ResultsError
from avsrobust.files import read_regular, sha256_of_file, write_text
from avsrobust.folders import MARKER_NAME
from avsrobust.limits import METADATA_BYTES
from avsrobust.textfiles import parse_json
from avsrobust.vocabulary import BASELINES

RESULTS_KIND = "results"
SCORES_NAME = "scores.parquet"
MASKS_NAME = "masks.parquet"
EXTRAS_NAME = "extras.parquet"
READOUT_PREFIX = "readout-"
RUN_NAME = "run.json"
PARTS_NAME = "parts"
NEXT_NAME = "next"
SHARDS_NAME = "shards"


def readout_file(name: str) -> str:
    """Return the name of the file of a readout's scores.

    >>> readout_file("queries")
    'readout-queries.parquet'
    """
    return f"{READOUT_PREFIX}{name}.parquet"


def readout_of(file_name: str) -> str | None:
    """Return the readout whose scores a file of this name holds, None for other files.

    >>> readout_of("readout-queries.parquet"), readout_of("scores.parquet")
    ('queries', None)
    """
    name = file_name.removeprefix(READOUT_PREFIX).removesuffix(".parquet")
    return name if name and file_name == readout_file(name) else None


@dataclass(frozen=True)
class Run:
    """``run.json``: the provenance of the scores.

    `details` holds whatever else is worth keeping: adapter, checkpoint and manifest checksums, options, versions, device,
    wall_time_s, clips_per_s.
    """

    model: str
    dataset: str
    details: Mapping[str, Any] = field(default_factory=dict)


def section(details: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return what ``run.json`` holds under a key, where that is an object; else an empty one: the file may say anything.

    >>> section({"adapter": {"spec": "m2f"}}, "adapter"), section({"adapter": "m2f"}, "adapter")
    ({'spec': 'm2f'}, {})
    """
    found = details.get(key)
    return found if isinstance(found, Mapping) else {}


def is_baseline(model: str, details: Mapping[str, Any]) -> bool:
    """Return whether results are a baseline's: its scores are known without any model, or it sees the targets.

    Args:
        model: Name of the model, as it was evaluated.
        details: `Run.details` of its evaluation.

    >>> is_baseline("oracle", {}), is_baseline("mine", {"sees_targets": True}), is_baseline("mine", {})
    (True, True, False)
    """
    return model in BASELINES or details.get("sees_targets") is True


def write_run(path: Path | str, run: Run) -> None:
    """Write ``run.json`` atomically, with a checksum of what it says."""
    content = {"model": run.model, "dataset": run.dataset, **dict(run.details)}
    content = {**content, "sha256": _run_sha256(content)}
    write_text(Path(path), json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_run(path: Path | str) -> Run:
    """Read ``run.json``. Raises `ResultsError` where it is missing or damaged."""
    try:
        content = parse_json(read_regular(Path(path), METADATA_BYTES, ResultsError), finite=False)
        if content.pop("sha256") != _run_sha256(content):
            raise ValueError("its content is not what was written")
        run = Run(content.pop("model"), content.pop("dataset"), content)
        if not (isinstance(run.model, str) and isinstance(run.dataset, str)):
            raise ValueError("expected names of model and data set")
        return run
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: not found; expected it beside {SCORES_NAME}; evaluate again") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ResultsError(f"{path}: is damaged ({error}); restore it, or evaluate again") from error


def file_entry(path: Path) -> dict[str, str | int]:
    """Return what ``run.json`` says of a file beside it: its size in bytes and its SHA-256."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def vouches_for(run: Run, path: Path) -> bool:
    """Return whether `run` says that a file beside it has exactly the bytes that `path` has. Raises `OSError`."""
    files = run.details.get("files")
    entry = files.get(path.name) if isinstance(files, Mapping) else None
    return isinstance(entry, Mapping) and entry.get("bytes") == path.stat().st_size and entry == file_entry(path)


def require_vouched(path: Path, error: type[AvsRobustError]) -> Run | None:
    """Return the run whose ``run.json`` lies beside a file of results, after checking that it vouches for the file.

    None where there is none, it is damaged, or it names no files, and the file stands for itself. Raises `error` where the file
    is another one, or is part of an evaluation that is not finished.
    """
    beside = path.with_name(RUN_NAME)
    state = "is not finished or was cut off" if (path.parent / PARTS_NAME).is_dir() else "is not whole"
    if not beside.exists():
        if path.exists() and (path.parent / MARKER_NAME).is_file():
            raise error(
                f"{path.parent}: its evaluation {state} (there is no {RUN_NAME}); run the same 'evaluate' again"
            )
        return None
    try:
        run = read_run(beside)
    except ResultsError:
        return None
    if "files" not in run.details:
        return run
    try:
        vouched = vouches_for(run, path)
    except FileNotFoundError:
        return run
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror or problem}); expected a file of results") from problem
    if not vouched:
        raise error(
            f"{path}: is not the file that {RUN_NAME} beside it vouches for (its SHA-256 differs), or its evaluation "
            f"{state}; restore it, or run the same 'evaluate' again"
        )
    return run


def _run_sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ).hexdigest()
