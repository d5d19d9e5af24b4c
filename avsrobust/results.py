"""Results, which evaluating writes and reporting reads: a row per (clip, condition, level, frame).

Conventions
    The folder is `avsrobust.results_folder`'s: names of its files, and ``run.json``, which vouches for them.
    ``scores.parquet`` depends on model, data and manifest alone: no time, host, path or version is in it. Its key-value metadata
    (`avsrobust.score_info`) hold a checksum of all that the file says too, which is verified on reading.
    `clean_intersection` and `clean_union` compare the mask at 0.5 with the same model's mask of the same frame under clean
    sound (null under clean, and where the clip was not evaluated under clean sound).
    `frame` counts from 0. Only frames that have a mask are scored.
    Where a model that returns classes was scored on class masks (avss), the column `classes` lists for each frame the pixels of
    every class that is predicted or true in it (`avsrobust.metrics.semantic.counts`); otherwise there is no such column. All
    other columns are then those of anything but background.
    The column `negative_overlaps` compares the masks of a clip's negatives with one another (`avsrobust.mask_overlaps`); results
    of older evaluations lack it.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from avsrobust.errors import MetricInputError, ResultsError
from avsrobust.files import path_from_here
from avsrobust.heap import release_unused
from avsrobust.mask_overlaps import OVERLAPS_FIELD
from avsrobust.metrics.binary.counts import HISTOGRAMS, NUM_THRESHOLDS, FrameStatistics
from avsrobust.metrics.semantic.counts import COUNTS as CLASS_COUNTS
from avsrobust.metrics.semantic.counts import ClassStatistics
from avsrobust.parquet import Kind
from avsrobust.results_folder import (
    EXTRAS_NAME,
    MASKS_NAME,
    NEXT_NAME,
    PARTS_NAME,
    READOUT_PREFIX,
    RESULTS_KIND,
    RUN_NAME,
    SCORES_NAME,
    SHARDS_NAME,
    Run,
    file_entry,
    is_baseline,
    read_run,
    readout_file,
    readout_of,
    require_vouched,
    section,
    vouches_for,
    write_run,
)
from avsrobust.score_checks import HistogramCheck, check_overlaps, check_values, content_sha256
from avsrobust.score_columns import ScoreColumns
from avsrobust.score_frames import FrameTable, SortedFrames
from avsrobust.score_info import (
    EVALUATION_KEY,
    SCORES_FORMAT,
    FailedClip,
    ScoreInfo,
    info_texts,
    read_info,
    read_texts,
    readout_model,
)
from avsrobust.score_schema import (
    CLASSES_FIELD,
    COUNT_COLUMNS,
    DRAW_FIELD,
    HISTOGRAM_COLUMNS,
    INDEX_COLUMNS,
    INDEX_FIELDS,
    ROW_GROUP,
    SCHEMA,
    SORT_COLUMNS,
    schema_with,
)
from avsrobust.score_writing import CHECKSUM_KEY, write_frames
from avsrobust.stored_histograms import Ints32, StoredHistograms, read_histograms
from avsrobust.vocabulary import counted

__all__ = [
    "COUNT_COLUMNS",
    "DRAW_FIELD",
    "EVALUATION_KEY",
    "EXTRAS_NAME",
    "HISTOGRAM_COLUMNS",
    "INDEX_COLUMNS",
    "INDEX_FIELDS",
    "IN_MEMORY",
    "MASKS_NAME",
    "NEXT_NAME",
    "PARTS_NAME",
    "READOUT_PREFIX",
    "RESULTS_KIND",
    "ROW_GROUP",
    "RUN_NAME",
    "SCHEMA",
    "SCORES_FORMAT",
    "SCORES_NAME",
    "SHARDS_NAME",
    "SORT_COLUMNS",
    "FailedClip",
    "Run",
    "ScoreInfo",
    "Scores",
    "file_entry",
    "is_baseline",
    "read_run",
    "read_scores",
    "readout_file",
    "readout_model",
    "readout_of",
    "require_vouched",
    "section",
    "vouches_for",
    "with_draws",
    "write_run",
    "write_scores",
    "write_table",
]

_KIND = Kind(ResultsError, "results made by 'avsrobust evaluate'", "evaluate")
# Most frames whose histograms are held in memory, 2 kB each.
IN_MEMORY = 4096
_TEXTS = ("split", "clip_id", "condition", "polarity")


@dataclass(frozen=True, repr=False)
class Scores:
    """Statistics of N scored frames.

    `index` is a data frame of N rows with the columns `INDEX_COLUMNS` (`draw` may be missing: all 0); row i belongs to entry i
    of `statistics`, and to frame i of `classes`, which is None where the model returned no classes or the data set has none.
    `overlaps` are those of the masks of negatives with one another, N lists, or None where none are stored.
    `source` is the file they were read from, and `whole_source` the same as an absolute path.
    """

    info: ScoreInfo
    index: pd.DataFrame
    statistics: FrameStatistics
    source: Path | None = None
    classes: ClassStatistics | None = None
    overlaps: pa.ListArray | None = None
    whole_source: Path | None = None

    def from_here(self) -> Scores:
        """Return the scores with a source that holds where the working folder has changed since they were read."""
        source = None if self.source is None else path_from_here(self.source, self.whole_source)
        return self if source is self.source else replace(self, source=source)

    def __repr__(self) -> str:
        splits = ", ".join(sorted(set(self.index["split"]))) or "no split"
        frames = counted(len(self.index), "frame")
        return f"Scores({self.info.model} on {self.info.dataset}, seed {self.info.seed}, {frames} of {splits})"

    def to_pandas(self) -> pd.DataFrame:
        """Return the statistics as a data frame: `index`, and a column for each count (the histograms are left out)."""
        counts = {name: getattr(self.statistics, name).astype(np.int64) for name in COUNT_COLUMNS}
        return pd.concat([self.index.reset_index(drop=True), pd.DataFrame(counts)], axis=1)

    def _repr_html_(self) -> str:
        keys = ["split", "condition", "level"]
        frames = self.index.groupby(keys, dropna=False).size().rename("frames").reset_index()
        return f"<p>{html.escape(repr(self))}</p>{frames.to_html(index=False, na_rep='')}"


def write_scores(path: Path | str, scores: Scores) -> None:
    """Write `scores` to the parquet file `path`, sorted, atomically; equal scores give equal bytes."""
    table = FrameTable()
    table.add(scores.index, scores.statistics, scores.classes, scores.overlaps)
    table.has_classes = scores.classes is not None
    write_table(path, table.sorted(), scores.info)


def write_table(path: Path | str, frames: SortedFrames, info: ScoreInfo) -> None:
    """Write frames that were put together to the parquet file `path`, atomically, as `write_scores` does."""
    write_frames(Path(path), frames, info_texts(info))


def read_scores(path: Path | str, *, vouched: bool = True, in_memory: int = IN_MEMORY) -> Scores:
    """Read a results folder or its ``scores.parquet``.

    The histograms of a large file are checked, and read again whenever they are asked for (`stored_histograms`).

    Args:
        path: The folder or the file.
        vouched: Look at the ``run.json`` beside it.
        in_memory: Most frames whose histograms are held in memory.

    Raises:
        ResultsError: The file is missing, damaged, of another format, or not the one that ``run.json`` vouches for.
    """
    path = Path(path)
    if path.is_dir() and path.name != SCORES_NAME:
        path = path / SCORES_NAME
    is_published = path.name == SCORES_NAME or readout_of(path.name) is not None
    run = require_vouched(path, ResultsError) if vouched and is_published else None
    opened = _KIND.open(path, _TEXTS)
    found = opened.schema_arrow
    texts = read_texts(path, found.metadata or {})
    info = read_info(path, texts)
    if run is not None and (readout_model(run.model, info.readout), run.dataset) != (info.model, info.dataset):
        raise ResultsError(
            f"{path}: is not of the run that {RUN_NAME} beside it describes ({run.model}); evaluate again"
        )
    has_classes, has_overlaps = CLASSES_FIELD.name in found.names, OVERLAPS_FIELD.name in found.names
    schema = schema_with(draws=DRAW_FIELD.name in found.names, overlaps=has_overlaps, classes=has_classes)
    _KIND.require_types(path, found, schema)
    others = pa.schema([entry for entry in schema if entry.name not in HISTOGRAMS])
    rows = opened.metadata.num_rows
    columns = ScoreColumns(path, opened, others, _KIND)
    checks = {name: HistogramCheck(rows) for name in HISTOGRAMS}
    kept: dict[str, list[Ints32]] = {name: [] for name in HISTOGRAMS}
    passing = {
        name: _keep(check.watch(read_histograms(path, opened, name, _KIND)), kept[name], rows <= in_memory)
        for name, check in checks.items()
    }
    without_checksum = {key: value for key, value in texts.items() if key != CHECKSUM_KEY}
    checksum = content_sha256(without_checksum, schema.names, columns.read, passing)
    del passing
    histograms: dict[str, Any] = {
        name: _in_memory(parts) if rows <= in_memory else StoredHistograms(path, name, rows, _KIND)
        for name, parts in kept.items()
    }
    draws = {} if DRAW_FIELD.name in schema.names else {DRAW_FIELD.name: np.zeros(rows, dtype=np.int16)}
    index = columns.index([name for name in INDEX_COLUMNS if name in schema.names], draws)
    statistics = FrameStatistics(**{name: columns.values(name) for name in COUNT_COLUMNS}, **histograms)
    check_values(path, index, statistics, checks)
    overlaps = columns.values(OVERLAPS_FIELD.name) if has_overlaps else None
    if overlaps is not None:
        check_overlaps(path, overlaps, statistics)
    classes = _classes(path, columns.values(CLASSES_FIELD.name)) if has_classes else None
    if classes is not None and not np.array_equal(classes.pixels, statistics.pixels):
        raise ResultsError(f"{path}: the pixels of its classes are not those of its frames; evaluate again")
    if texts.get(CHECKSUM_KEY) != checksum:
        raise ResultsError(f"{path}: is damaged: its content is not what was written; restore it, or evaluate again")
    if rows > max(in_memory, IN_MEMORY):
        # What decoding and checking took would else stay with the process; that of a small file serves the next one.
        release_unused()
    return Scores(info, index, statistics, path, classes, overlaps, path.absolute())


def _keep(parts: Iterator[Ints32], kept: list[Ints32], are_kept: bool) -> Iterator[Ints32]:
    """Yield parts of a column of histograms, and append them to `kept` where they are to be held in memory."""
    for part in parts:
        if are_kept:
            kept.append(part)
        yield part


def _in_memory(parts: Sequence[Ints32]) -> Ints32:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros((0, NUM_THRESHOLDS), dtype=np.int32)


def with_draws(index: pd.DataFrame) -> pd.DataFrame:
    """Return an index of frames with the column `draw`, which is 0 everywhere where it was not there."""
    if DRAW_FIELD.name in index.columns:
        return index
    return index.assign(**{DRAW_FIELD.name: np.zeros(len(index), dtype=np.int16)})


def _classes(path: Path, lists: pa.ListArray) -> ClassStatistics:
    try:
        lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
        entries = lists.flatten()
        arrays = {name: np.asarray(entries.field(name)).astype(np.int64) for name in ("class_id", *CLASS_COUNTS)}
        frame = np.repeat(np.arange(len(lists), dtype=np.int64), lengths)
        intersection, most = arrays["intersection"], np.minimum(arrays["predicted"], arrays["target"])
        if (intersection < 0).any() or (intersection > most).any():
            raise ValueError("an intersection that no two masks have")
        return ClassStatistics(len(lists), frame, **arrays)
    except (MetricInputError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ResultsError(f"{path}: has a damaged column {CLASSES_FIELD.name} ({error}); evaluate again") from error
