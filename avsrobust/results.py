"""Results: what evaluating writes and reporting reads, a row per (clip, condition, level, frame).

Conventions
    A results folder holds ``scores.parquet`` (the statistics) and ``run.json`` (who, with what, when), and may hold
    ``masks.parquet`` and ``extras.parquet``.
    ``scores.parquet`` depends on model, data and manifest alone: no time, host, path or version is in it. Its key-value metadata
    holds the format, the adapter's name, data set and failed clips, the evaluation (a checksum of model and manifest, which
    the other files of the folder hold too), and a checksum of all that the file says, which is verified on reading.
    ``run.json`` is written last, holds size and SHA-256 of the files beside it and a checksum of itself: a file that it does not
    vouch for is not read.
    `clean_intersection` and `clean_union` compare the mask at 0.5 with the same model's mask of the same frame under clean
    sound (null under clean, and where the clip was not evaluated under clean sound).
    ``readout-<name>.parquet`` holds the scores of a further readout of the model (`adapters.base.Segmentation`) in the same form,
    under the model's name with the readout's behind it.
    `frame` counts from 0. Only frames that have a mask are scored.
    Where a model that returns classes was scored on class masks (avss), the column `classes` lists for each frame the pixels of
    every class that is predicted or true in it (`avsrobust.metrics.semantic.counts`); otherwise there is no such column. All
    other columns are then those of anything but background.
    The column `negative_overlaps` compares the masks of a clip's negatives with one another (`avsrobust.mask_overlaps`); results
    of older evaluations lack it.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from avsrobust.condition_facts import are_facts
from avsrobust.errors import AvsRobustError, MetricInputError, ResultsError
from avsrobust.files import read_regular, sha256_of_file, write_text
from avsrobust.folders import MARKER_NAME
from avsrobust.heap import release_unused
from avsrobust.limits import METADATA_BYTES
from avsrobust.mask_overlaps import OVERLAPS_FIELD
from avsrobust.metrics.binary.counts import HISTOGRAMS, NUM_THRESHOLDS, FrameStatistics
from avsrobust.metrics.semantic.counts import COUNTS as CLASS_COUNTS
from avsrobust.metrics.semantic.counts import ClassStatistics
from avsrobust.parquet import Kind
from avsrobust.score_checks import HistogramCheck, check_overlaps, check_values, content_sha256
from avsrobust.score_columns import ScoreColumns
from avsrobust.score_frames import FrameTable, SortedFrames
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
from avsrobust.textfiles import parse_json
from avsrobust.vocabulary import BASELINES

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

# The format of results: as `manifest.BUILD_FORMAT`.
SCORES_FORMAT = 2
RESULTS_KIND = "results"
SCORES_NAME = "scores.parquet"
MASKS_NAME = "masks.parquet"
EXTRAS_NAME = "extras.parquet"
READOUT_PREFIX = "readout-"
RUN_NAME = "run.json"
PARTS_NAME = "parts"
NEXT_NAME = "next"
SHARDS_NAME = "shards"
EVALUATION_KEY = "avsrobust.evaluation"
_TRAIN_SOURCES_KEY = "avsrobust.train_sources"
_CONDITIONS_KEY = "avsrobust.conditions"
_READOUT_KEY = "avsrobust.readout"
_SCORE_SIZE_KEY = "avsrobust.score_size"
_LIMITED_KEY = "avsrobust.limited"
_SHARD_KEY = "avsrobust.shard"
_KIND = Kind(ResultsError, "results made by 'avsrobust evaluate'", "evaluate")
# Most frames whose histograms are held in memory, 2 kB each.
IN_MEMORY = 4096
_TEXTS = ("split", "clip_id", "condition", "polarity")


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
    is silent (`manifest.ManifestInfo`). `notes` are sentences that belong beside every table of these results
    (`avsrobust.caveats`). `evaluation` is the checksum of model and manifest (empty: not known). `conditions`: facts about
    conditions beyond the first four, as the manifest has them (`manifest.ManifestInfo.conditions`).
    `train_sources` are the ids of clips of other splits whose YouTube source also gave a clip of train; None where the build has
    no clip of train. `readout` is the name of the readout that was scored (empty: the model's own masks); `score_size` is the
    size of the scored masks and how the annotated ones came to it ("224:nearest"; empty: that of the mask files). `limited` are
    splits of which a smoke run (``evaluate --limit``) scored a part of the clips. `shard` is the part of the clips that one of
    several processes scored ("2/4", ``evaluate --shard``; empty: all).
    """

    model: str
    dataset: str
    seed: int
    failed: tuple[FailedClip, ...] = ()
    recipe: str = ""
    release: str = ""
    muted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    evaluation: str = ""
    train_sources: tuple[str, ...] | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
    readout: str = ""
    score_size: str = ""
    limited: tuple[str, ...] = ()
    shard: str = ""

    def of_readout(self, name: str) -> ScoreInfo:
        """Return the metadata of a readout's scores; `model` is then the model's name with the readout's behind it."""
        return replace(self, model=readout_model(self.model, name), readout=name)


@dataclass(frozen=True, repr=False)
class Scores:
    """Statistics of N scored frames.

    `index` is a data frame of N rows with the columns `INDEX_COLUMNS` (`draw` may be missing: all 0); row i belongs to entry i
    of `statistics`, and to frame i of `classes`, which is None where the model returned no classes or the data set has none.
    `overlaps` are those of the masks of negatives with one another, N lists, or None where none are stored.
    `source` is the file they were read from, for messages.
    """

    info: ScoreInfo
    index: pd.DataFrame
    statistics: FrameStatistics
    source: Path | None = None
    classes: ClassStatistics | None = None
    overlaps: pa.ListArray | None = None

    def __repr__(self) -> str:
        splits = ", ".join(sorted(set(self.index["split"]))) or "no split"
        return f"Scores({self.info.model} on {self.info.dataset}, seed {self.info.seed}, {len(self.index)} frames of {splits})"

    def to_pandas(self) -> pd.DataFrame:
        """Return the statistics as a data frame: `index`, and a column for each count (the histograms are left out)."""
        counts = {name: getattr(self.statistics, name).astype(np.int64) for name in COUNT_COLUMNS}
        return pd.concat([self.index.reset_index(drop=True), pd.DataFrame(counts)], axis=1)

    def _repr_html_(self) -> str:
        keys = ["split", "condition", "level"]
        frames = self.index.groupby(keys, dropna=False).size().rename("frames").reset_index()
        return f"<p>{html.escape(repr(self))}</p>{frames.to_html(index=False, na_rep='')}"


@dataclass(frozen=True)
class Run:
    """``run.json``: how the scores came about.

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


def readout_model(model: str, readout: str) -> str:
    """Return the name of a model's readout in tables, "" for none being the model itself."""
    return f"{model} [{readout}]" if readout else model


def write_scores(path: Path | str, scores: Scores) -> None:
    """Write `scores` to the parquet file `path`, sorted, atomically; equal scores give equal bytes."""
    table = FrameTable()
    table.add(scores.index, scores.statistics, scores.classes, scores.overlaps)
    table.has_classes = scores.classes is not None
    write_table(path, table.sorted(), scores.info)


def write_table(path: Path | str, frames: SortedFrames, info: ScoreInfo) -> None:
    """Write frames that were put together to the parquet file `path`, atomically, as `write_scores` does."""
    write_frames(Path(path), frames, _metadata(info))


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
    if path.is_dir():
        path = path / SCORES_NAME
    is_published = path.name == SCORES_NAME or readout_of(path.name) is not None
    run = require_vouched(path, ResultsError) if vouched and is_published else None
    opened = _KIND.open(path, _TEXTS)
    found = opened.schema_arrow
    metadata = _texts(path, found.metadata or {})
    info = _info(path, metadata)
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
    checksum = content_sha256(_without_checksum(metadata), schema.names, columns.read, passing)
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
    if metadata.get(CHECKSUM_KEY) != checksum:
        raise ResultsError(f"{path}: is damaged: its content is not what was written; restore it, or evaluate again")
    if rows > max(in_memory, IN_MEMORY):
        # What decoding and checking took would else stay with the process; that of a small file serves the next one.
        release_unused()
    return Scores(info, index, statistics, path, classes, overlaps)


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
    """Tell whether `run` says that a file beside it has exactly the bytes that `path` has. Raises `OSError`."""
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


def _metadata(info: ScoreInfo) -> dict[str, str]:
    # A path in an error may hold bytes that are no UTF-8.
    errors = [entry.error.encode("utf-8", "replace").decode() for entry in info.failed]
    failed = [[entry.split, entry.clip_id, text] for entry, text in zip(info.failed, errors, strict=True)]
    sources = {} if info.train_sources is None else {_TRAIN_SOURCES_KEY: json.dumps(info.train_sources)}
    return {
        **sources,
        "avsrobust.scores_format": str(SCORES_FORMAT),
        "avsrobust.model": info.model,
        "avsrobust.dataset": info.dataset,
        "avsrobust.seed": str(info.seed),
        "avsrobust.failed": json.dumps(failed, ensure_ascii=False),
        "avsrobust.recipe": info.recipe,
        "avsrobust.release": info.release,
        "avsrobust.muted": json.dumps(list(info.muted), ensure_ascii=False),
        "avsrobust.notes": json.dumps(list(info.notes), ensure_ascii=False),
        EVALUATION_KEY: info.evaluation,
        **({_READOUT_KEY: info.readout} if info.readout else {}),
        **({_SCORE_SIZE_KEY: info.score_size} if info.score_size else {}),
        **({_LIMITED_KEY: json.dumps(list(info.limited), ensure_ascii=False)} if info.limited else {}),
        **({_SHARD_KEY: info.shard} if info.shard else {}),
        **({_CONDITIONS_KEY: json.dumps(dict(info.conditions), sort_keys=True)} if info.conditions else {}),
    }


def _without_checksum(metadata: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key != CHECKSUM_KEY}


def _texts(path: Path, metadata: Mapping[bytes, bytes]) -> dict[str, str]:
    try:
        return {key.decode(): value.decode() for key, value in metadata.items() if key.startswith(b"avsrobust.")}
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: has damaged metadata ({error}); evaluate again") from error


def _info(path: Path, texts: Mapping[str, str]) -> ScoreInfo:
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
            failed=tuple(FailedClip(*_strings(entry, 3)) for entry in _list(texts["avsrobust.failed"])),
            recipe=texts["avsrobust.recipe"],
            release=texts["avsrobust.release"],
            muted=tuple(_strings(_list(texts["avsrobust.muted"]))),
            notes=tuple(_strings(_list(texts["avsrobust.notes"]))),
            evaluation=texts[EVALUATION_KEY],
            train_sources=tuple(_strings(_list(texts[_TRAIN_SOURCES_KEY]))) if _TRAIN_SOURCES_KEY in texts else None,
            conditions=_facts(texts.get(_CONDITIONS_KEY, "{}")),
            readout=texts.get(_READOUT_KEY, ""),
            score_size=texts.get(_SCORE_SIZE_KEY, ""),
            limited=tuple(_strings(_list(texts.get(_LIMITED_KEY, "[]")))),
            shard=texts.get(_SHARD_KEY, ""),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ResultsError(f"{path}: has damaged metadata ({error}); evaluate again") from error


def _facts(text: str) -> dict[str, Any]:
    value = parse_json(text)
    if not are_facts(value):
        raise ValueError("expected facts about each condition")
    return dict(value)


def _list(text: str) -> list[Any]:
    value = parse_json(text)
    if not isinstance(value, list):
        raise ValueError(f"found {type(value).__name__}; expected a list")
    return value


def _strings(values: object, count: int | None = None) -> Sequence[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("expected a list of strings")
    if count is not None and len(values) != count:
        raise ValueError(f"expected {count} strings")
    return values
