"""Results: what evaluating writes and reporting reads, a row per (clip, condition, level, frame).

Conventions
    A results folder holds ``scores.parquet`` (the statistics) and ``run.json`` (who, with what, when).
    ``scores.parquet`` depends on model, data and manifest alone: no time, host or path is in it. Its key-value metadata holds
    the schema's version, the adapter's name, data set, split(s) and the failed clips.
    `clean_intersection` and `clean_union` compare the mask at 0.5 with the same model's mask of the same frame under clean
    sound (null under clean, and where the clip was not evaluated under clean sound).
    `frame` counts from 0. Only frames that have a mask are scored.
    Where a model that returns classes was scored on class masks (avss), the column `classes` lists for each frame the pixels of
    every class that is predicted or true in it (`avsrobust.metrics.semantic.counts`); otherwise there is no such column. All other
    columns are then those of anything but background.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from avsrobust import __version__
from avsrobust.errors import MetricInputError, ResultsError
from avsrobust.files import write_text
from avsrobust.metrics.binary.counts import NUM_THRESHOLDS, FrameStatistics
from avsrobust.metrics.semantic.counts import COUNTS as CLASS_COUNTS
from avsrobust.metrics.semantic.counts import ClassStatistics, take_classes
from avsrobust.parquet import Kind, write_parquet

# The format of results: as `manifest.BUILD_FORMAT`.
SCORES_FORMAT = 2
SCORES_NAME = "scores.parquet"
RUN_NAME = "run.json"
_KIND = Kind(ResultsError, "results made by 'avsrobust evaluate'", "evaluate")
COUNT_COLUMNS = ("pixels", "target_pixels", "tp_050", "fp_050", "tp_040", "fp_040")
HISTOGRAM_COLUMNS = ("inside", "outside")
SORT_COLUMNS = ["split", "clip_id", "condition", "level", "frame"]

INDEX_FIELDS = (
    pa.field("split", pa.string(), nullable=False),
    pa.field("clip_id", pa.string(), nullable=False),
    pa.field("labels", pa.list_(pa.string()), nullable=False),
    pa.field("condition", pa.string(), nullable=False),
    pa.field("polarity", pa.string(), nullable=False),
    pa.field("level", pa.float32()),
    pa.field("frame", pa.int32(), nullable=False),
    pa.field("clean_intersection", pa.int64()),
    pa.field("clean_union", pa.int64()),
)
SCHEMA = pa.schema(
    [
        *INDEX_FIELDS,
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNT_COLUMNS),
        *(pa.field(name, pa.list_(pa.int32(), NUM_THRESHOLDS), nullable=False) for name in HISTOGRAM_COLUMNS),
    ]
)
CLASSES_FIELD = pa.field(
    "classes",
    pa.list_(pa.struct([pa.field("class_id", pa.int32()), *(pa.field(name, pa.int64()) for name in CLASS_COUNTS)])),
    nullable=False,
)
INDEX_COLUMNS = [entry.name for entry in INDEX_FIELDS]


@dataclass(frozen=True)
class FailedClip:
    """A clip that could not be scored, and why."""

    split: str
    clip_id: str
    error: str


@dataclass(frozen=True)
class ScoreInfo:
    """Metadata of ``scores.parquet``: model (the adapter's name), data set, seed of the build, failed clips.

    `recipe` is the name of the build's recipe, `release` the form of its data, `muted` the ids of its clips whose own recording
    is silent (`manifest.ManifestInfo`).
    """

    model: str
    dataset: str
    seed: int
    failed: tuple[FailedClip, ...] = ()
    recipe: str = ""
    release: str = ""
    muted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scores:
    """Statistics of N scored frames.

    `index` is a data frame of N rows with the columns `INDEX_COLUMNS`; row i belongs to entry i of `statistics`, and to
    frame i of `classes`, which is None where the model returned no classes or the data set has none.
    `source` is the file they were read from, for messages.
    """

    info: ScoreInfo
    index: pd.DataFrame
    statistics: FrameStatistics
    source: Path | None = None
    classes: ClassStatistics | None = None


@dataclass(frozen=True)
class Run:
    """``run.json``: how the scores came about.

    `details` holds whatever else is worth keeping: adapter, checkpoint and manifest checksums, options, versions, device,
    wall_time_s, clips_per_s.
    """

    model: str
    dataset: str
    details: Mapping[str, Any] = field(default_factory=dict)


def write_scores(path: Path, scores: Scores) -> None:
    """Write `scores` to the parquet file `path`, sorted, atomically; equal scores give equal bytes."""
    index = scores.index.reset_index(drop=True)
    order = index.sort_values(SORT_COLUMNS, kind="stable", na_position="first").index.to_numpy()
    columns: dict[str, pa.Array] = {
        entry.name: pa.array(
            [None if _is_missing(value) else value for value in index[entry.name].iloc[order]],
            type=entry.type,
        )
        for entry in INDEX_FIELDS
    }
    statistics = scores.statistics
    for name in COUNT_COLUMNS:
        columns[name] = pa.array(getattr(statistics, name)[order], type=pa.int64())
    for name in HISTOGRAM_COLUMNS:
        flat = pa.array(getattr(statistics, name)[order].astype(np.int32).ravel(), type=pa.int32())
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, NUM_THRESHOLDS)
    schema = SCHEMA
    if scores.classes is not None:
        columns[CLASSES_FIELD.name] = _class_lists(take_classes(scores.classes, order))
        schema = SCHEMA.append(CLASSES_FIELD)
    table = pa.table(columns, schema=schema.with_metadata(_metadata(scores.info)))
    write_parquet(path, table)


def read_scores(path: Path | str) -> Scores:
    """Read a results folder or its ``scores.parquet``.

    Raises `ResultsError` where the file is missing, damaged or of another version.
    """
    path = Path(path)
    if path.is_dir():
        path = path / SCORES_NAME
    table = _KIND.read(path)
    info = _info(path, table.schema.metadata or {})
    _KIND.require_columns(path, table, SCHEMA.names)
    counts = {name: table.column(name).to_numpy().astype(np.int64) for name in COUNT_COLUMNS}
    histograms = {name: _histogram(table.column(name), table.num_rows) for name in HISTOGRAM_COLUMNS}
    index = table.select(INDEX_COLUMNS).to_pandas()
    classes = _classes(path, table.column(CLASSES_FIELD.name)) if CLASSES_FIELD.name in table.column_names else None
    if classes is not None and not np.array_equal(classes.pixels, counts["pixels"]):
        raise ResultsError(f"{path}: the pixels of its classes are not those of its frames; evaluate again")
    return Scores(info, index, FrameStatistics(**counts, **histograms), path, classes)


def write_run(path: Path, run: Run) -> None:
    """Write ``run.json`` atomically."""
    content = {"model": run.model, "dataset": run.dataset, **dict(run.details)}
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_run(path: Path) -> Run:
    """Read ``run.json``. Raises `ResultsError` where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Run(content.pop("model"), content.pop("dataset"), content)
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: not found; expected it beside {SCORES_NAME}; evaluate again") from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ResultsError(f"{path}: is damaged ({error}); evaluate again") from error


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _histogram(column: pa.ChunkedArray, num_rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.int64).reshape(num_rows, NUM_THRESHOLDS)


def _class_lists(classes: ClassStatistics) -> pa.Array:
    """Return the entries of each frame as a list of structs."""
    names = [entry.name for entry in CLASSES_FIELD.type.value_type]
    fields = [pa.array(getattr(classes, entry.name), type=entry.type) for entry in CLASSES_FIELD.type.value_type]
    starts = np.searchsorted(classes.frame, np.arange(classes.num_frames + 1))
    entries = pa.StructArray.from_arrays(fields, names=names)
    return pa.ListArray.from_arrays(pa.array(starts, type=pa.int32()), entries).cast(CLASSES_FIELD.type)


def _classes(path: Path, column: pa.ChunkedArray) -> ClassStatistics:
    lists = column.combine_chunks()
    try:
        lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
        entries = lists.flatten()
        arrays = {name: np.asarray(entries.field(name)).astype(np.int64) for name in ("class_id", *CLASS_COUNTS)}
        return ClassStatistics(len(lists), np.repeat(np.arange(len(lists), dtype=np.int64), lengths), **arrays)
    except (MetricInputError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ResultsError(f"{path}: has a damaged column {CLASSES_FIELD.name} ({error}); evaluate again") from error


def _metadata(info: ScoreInfo) -> dict[str, str]:
    failed = [[entry.split, entry.clip_id, entry.error] for entry in info.failed]
    return {
        "avsrobust.scores_format": str(SCORES_FORMAT),
        "avsrobust.version": __version__,
        "avsrobust.model": info.model,
        "avsrobust.dataset": info.dataset,
        "avsrobust.seed": str(info.seed),
        "avsrobust.failed": json.dumps(failed, ensure_ascii=False),
        "avsrobust.recipe": info.recipe,
        "avsrobust.release": info.release,
        "avsrobust.muted": json.dumps(list(info.muted), ensure_ascii=False),
    }


def _info(path: Path, metadata: dict[bytes, bytes]) -> ScoreInfo:
    texts = {key.decode(): value.decode() for key, value in metadata.items() if key.startswith(b"avsrobust.")}
    version = texts.get("avsrobust.scores_format")
    if version is None:
        raise ResultsError(f"{path}: is parquet, but no results; expected scores made by 'avsrobust evaluate'")
    if version != str(SCORES_FORMAT):
        raise ResultsError(
            f"{path}: holds results of format {version}; expected format {SCORES_FORMAT}; evaluate again"
        )
    try:
        return ScoreInfo(
            model=texts["avsrobust.model"],
            dataset=texts["avsrobust.dataset"],
            seed=int(texts["avsrobust.seed"]),
            failed=tuple(FailedClip(*entry) for entry in json.loads(texts["avsrobust.failed"])),
            recipe=texts["avsrobust.recipe"],
            release=texts["avsrobust.release"],
            muted=tuple(json.loads(texts["avsrobust.muted"])),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ResultsError(f"{path}: has damaged metadata ({error}); evaluate again") from error
