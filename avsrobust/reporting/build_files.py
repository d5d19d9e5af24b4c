"""The manifest that results were scored on, found again by its checksum, and the sources of its borrowed sounds.

Conventions
    ``run.json`` names the manifest by the path that the evaluation was given. A relative one is looked for in the working folder
    and in those above the results. The manifest is the right one if its SHA-256 is the run's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from avsrobust.datasets.overlap import source_of_clip
from avsrobust.errors import AvsRobustError, ResultsError
from avsrobust.files import FileState, file_state, sha256_of_file
from avsrobust.limits import MANIFEST_ROWS, MANIFEST_VALUES
from avsrobust.metrics.dataset_score import ConditionKey
from avsrobust.parquet import Kind
from avsrobust.remote import is_remote
from avsrobust.remote.inputs import named_copy

_KIND = Kind(ResultsError, "a manifest made by 'avsrobust build'", "build")
_COLUMNS = ("dataset", "split", "clip_id", "condition", "level", "source_clip_id")
_OPTIONAL = ("draw", "source_dataset")

# By split, condition and clip id: the source of the clip's sound.
SoundSources = Mapping[str, Mapping[ConditionKey, Mapping[str, str]]]


def manifest_file(results: Path, details: Mapping[str, Any]) -> Path:
    """Return the file of the manifest that a run was scored on.

    Args:
        results: Folder of the results.
        details: Details of its ``run.json``.

    Raises:
        ResultsError: ``run.json`` names none, or it is not there any more.
    """
    entry = details.get("manifest")
    path = entry.get("path") if isinstance(entry, Mapping) else None
    sha256 = entry.get("sha256") if isinstance(entry, Mapping) else None
    if not (isinstance(path, str) and path and isinstance(sha256, str)):
        raise ResultsError(f"{results}: its run.json names no manifest; evaluate again")
    try:
        candidates = [named_copy(path, results)] if is_remote(path) else []
    except AvsRobustError as error:
        raise ResultsError(f"{results}: {error}") from error
    for candidate in filter(None, candidates or (folder / path for folder in (Path(), *results.absolute().parents))):
        try:
            if candidate.is_file() and _checksum(candidate) == sha256:
                return candidate
        except (OSError, ValueError):
            continue
    raise ResultsError(
        f"{results}: found no manifest {path} with SHA-256 {sha256[:12]}.., on which these results were scored, in this "
        "folder or above the results; run again in the folder of the evaluation, or build and evaluate again"
    )


def sound_sources(manifest: Path) -> SoundSources:
    """Return the sources of the sounds of a manifest's rows that borrow one from another clip.

    A condition that draws several sounds for a clip has none here: no single source is its sound's.

    Raises:
        ResultsError: The file cannot be read.
    """
    return _sound_sources(manifest.absolute(), file_state(manifest))


def _checksum(path: Path) -> str:
    return _checksum_of(path.absolute(), file_state(path))


# A table of many results asks for the same few manifests.
@lru_cache(256)
def _checksum_of(path: Path, _state: FileState | None) -> str:
    return sha256_of_file(path)


@lru_cache(8)
def _sound_sources(path: Path, _state: FileState | None) -> SoundSources:
    opened = _KIND.open(path)
    _KIND.require_sizes(path, opened, MANIFEST_ROWS, MANIFEST_VALUES)
    there = [name for name in _OPTIONAL if name in opened.schema_arrow.names]
    missing = [name for name in _COLUMNS if name not in opened.schema_arrow.names]
    if missing:
        raise ResultsError(f"{path}: has no column {missing[0]}; expected a manifest made by 'avsrobust build'")
    table = _KIND.read_columns(path, opened, [*_COLUMNS, *there])
    table = table.filter(pc.is_valid(table.column("source_clip_id")))
    several: set[tuple[str, ConditionKey]] = set()
    found: dict[str, dict[ConditionKey, dict[str, str]]] = {}
    for row in _rows(path, table):
        key = (str(row["condition"]), row["level"])
        if row.get("draw"):
            several.add((row["split"], key))
        source = source_of_clip(row.get("source_dataset") or row["dataset"], row["source_clip_id"])
        found.setdefault(row["split"], {}).setdefault(key, {})[row["clip_id"]] = source
    for split, key in several:
        del found[split][key]
    return MappingProxyType(found)


def _rows(path: Path, table: pa.Table) -> Sequence[dict[str, Any]]:
    """The rows, with columns of the types that they have in a manifest."""
    types = {name: pa.float64() if name == "level" else pa.string() for name in table.column_names}
    types |= {"draw": pa.int64()} if "draw" in types else {}
    try:
        rows: list[dict[str, Any]] = table.cast(
            pa.schema([pa.field(name, types[name]) for name in table.column_names])
        ).to_pylist()
        return rows
    except (pa.ArrowException, ValueError) as error:
        raise _KIND.damaged(path, error) from error
