"""The key of a row, by which the files of one results folder and a manifest refer to the same masks.

Conventions
    A row is one clip under one condition at one level. Its key is (split, clip_id, condition, level); the level is compared
    as files hold it, in float32, and is minus infinity where the condition has none, so that keys can be sorted.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from avsrobust.manifest import Row
from avsrobust.results import Scores

RowKey = tuple[str, str, str, float]
ClipKey = tuple[str, str]
KEY_COLUMNS = ["split", "clip_id", "condition", "level"]


def row_key(split: str, clip_id: str, condition: str, level: float | None) -> RowKey:
    """Return a row's key.

    Args:
        split: Split of the clip.
        clip_id: Id of the clip, unique in its split.
        condition: Name of the condition.
        level: Level in dB; None or NaN where the condition has none.

    >>> row_key("test", "dog/a", "mixture", -5.0)
    ('test', 'dog/a', 'mixture', -5.0)
    >>> row_key("test", "dog/a", "clean", None)
    ('test', 'dog/a', 'clean', -inf)
    """
    return (split, clip_id, condition, -math.inf if level is None or math.isnan(level) else float(np.float32(level)))


def key_of(row: Row) -> RowKey:
    """Return the key of a manifest's row."""
    return row_key(row.split, row.clip_id, row.condition, row.level)


def clip_of(key: RowKey) -> ClipKey:
    """Return the clip of a row's key, (split, clip_id)."""
    return key[:2]


def rows_in(scores: Scores) -> set[RowKey]:
    """Return the keys of the rows that `scores` holds."""
    return _keys(scores.index)


def rows_with_overlap(scores: Scores) -> set[RowKey]:
    """Return the keys of the rows that `scores` holds together with their overlap with the clean mask."""
    return _keys(scores.index[scores.index["clean_union"].notna().to_numpy()])


def _keys(index: pd.DataFrame) -> set[RowKey]:
    keys = index[KEY_COLUMNS].drop_duplicates()
    levels = keys["level"].astype(np.float32).astype(np.float64).fillna(-np.inf)
    return set(keys.assign(level=levels).itertuples(index=False, name=None))
