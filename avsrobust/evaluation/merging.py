"""Which rows are scored, which are not, and putting together what several evaluations of one model have scored.

Conventions
    A row is a clip under a condition at a level; its key is (split, clip_id, condition, level), with minus infinity for no
    level. Where several sources hold a row, the first one counts.
    The overlap with the clean mask is defined wherever the clip is scored under clean sound, in whatever order that came about:
    a row without it, whose clip is now evaluated under clean sound too, is evaluated again together with that.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from avsrobust.evaluation.samples import ClipRows, clips_of
from avsrobust.manifest import Row
from avsrobust.metrics.binary.counts import concatenate, take
from avsrobust.metrics.semantic.counts import concatenate_classes, take_classes
from avsrobust.results import ScoreInfo, Scores
from avsrobust.vocabulary import CLASS_DATASET, CLEAN

RowKey = tuple[str, str, str, float]
ClipKey = tuple[str, str]
_KEY = ["split", "clip_id", "condition", "level"]


def row_key(split: str, clip_id: str, condition: str, level: float | None) -> RowKey:
    """Return a row's key; levels are compared as files hold them, in float32."""
    return (split, clip_id, condition, -math.inf if level is None or math.isnan(level) else float(np.float32(level)))


def key_of(row: Row) -> RowKey:
    """Return the key of a manifest's row."""
    return row_key(row.split, row.clip_id, row.condition, row.level)


def clip_of(key: RowKey) -> ClipKey:
    """Return the clip of a row, (split, clip_id)."""
    return key[:2]


def rows_in(scores: Scores) -> set[RowKey]:
    """Return the rows that `scores` holds."""
    return set(_keys(scores.index).itertuples(index=False, name=None))


def rows_with_overlap(scores: Scores) -> set[RowKey]:
    """Return the rows that `scores` holds with their overlap with the clean mask."""
    chosen = scores.index["clean_union"].notna().to_numpy()
    return set(_keys(scores.index[chosen]).itertuples(index=False, name=None))


def rows_to_run(
    rows: Iterable[Row], wanted: Collection[RowKey], sources: Sequence[Scores], again: Collection[RowKey] = ()
) -> tuple[list[ClipRows], set[RowKey]]:
    """Return the clips to run, each with its rows, and the keys of those rows that results come of.

    `rows` are the manifest's, `wanted` what is asked for, `again` what is scored but lacks something else that is asked for.
    A clip that is (or is to be) scored under clean sound is run under it too, first, for the overlap.
    """
    by_key = {key_of(row): row for row in rows}
    scored: set[RowKey] = set().union(*map(rows_in, sources))
    compared: set[RowKey] = set().union(*map(rows_with_overlap, sources))
    clean = {clip_of(key): key for key in (*scored, *wanted) if key[2] == CLEAN}
    touched = {clip_of(key) for key in wanted}
    stale = {
        key for key in scored - compared if key[2] != CLEAN and clip_of(key) in clean and clip_of(key) in touched
    } & by_key.keys()
    due = ((set(wanted) - scored) | (set(again) & set(wanted)) | stale) & by_key.keys()
    helpers = {clean[clip_of(key)] for key in due if key[2] != CLEAN and clip_of(key) in clean} & by_key.keys()
    return clips_of(by_key[key] for key in due | helpers), due


def merge_scores(sources: Sequence[Scores], info: ScoreInfo) -> Scores:
    """Return all rows of `sources`, with classes or all without, under `info`; see the module's conventions."""
    index = pd.concat([source.index for source in sources], ignore_index=True)
    origin = np.repeat(np.arange(len(sources)), [len(source.index) for source in sources])
    chosen = _first_of_each_row(index, origin)
    statistics = concatenate([source.statistics for source in sources])
    classes = [source.classes for source in sources if source.classes is not None]
    whole = concatenate_classes(classes) if classes else None
    return Scores(
        info,
        index[chosen].reset_index(drop=True),
        take(statistics, chosen),
        classes=None if whole is None else take_classes(whole, chosen),
    )


def has_classes(sources: Sequence[Scores]) -> bool | None:
    """Return whether finished clips of avss have scores of classes; None where that says nothing about the adapter."""
    known = [
        source.classes is not None for source in sources if source.info.dataset == CLASS_DATASET and len(source.index)
    ]
    return known[0] if known else None


def _keys(index: pd.DataFrame) -> pd.DataFrame:
    keys = index[_KEY].drop_duplicates()
    levels = keys["level"].astype(np.float32).astype(np.float64).fillna(-np.inf)
    return keys.assign(level=levels)


def _first_of_each_row(index: pd.DataFrame, origin: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Return which frames stay: those of each row's first source, of the ones with an overlap where any has it."""
    later = ((index["condition"] != CLEAN) & index["clean_union"].isna()).to_numpy() * (origin.max(initial=0) + 1)
    rank = pd.Series(origin + later, index=index.index)
    keys = index[_KEY].assign(level=index["level"].astype(np.float64).fillna(-np.inf), rank=rank)
    first = keys.groupby(_KEY, sort=False)["rank"].transform("min")
    return np.asarray((rank == first).to_numpy(), dtype=np.bool_)
