"""The key of a row, by which the files of one results folder and a manifest refer to the same masks.

Conventions
    A row is one draw of one clip under one condition at one level. Its key is (split, clip_id, condition, level, draw); the
    level is compared as files hold it, in float32, and is minus infinity where the condition has none, so that keys can be
    sorted. Files without a column `draw` hold draw 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from avsrobust.manifest import Row
from avsrobust.results import DRAW_FIELD, Scores, with_draws

RowKey = tuple[str, str, str, float, int]
ClipKey = tuple[str, str]
NO_LEVEL = -math.inf
KEY_COLUMNS = ["split", "clip_id", "condition", "level", "draw"]


def row_key(split: str, clip_id: str, condition: str, level: float | None, draw: int = 0) -> RowKey:
    """Return a row's key.

    Args:
        split: Split of the clip.
        clip_id: Id of the clip, unique in its split.
        condition: Name of the condition.
        level: Level in the condition's unit; None or NaN where it has none.
        draw: Number of the draw, from 0.

    >>> row_key("test", "dog/a", "mixture", -5.0)
    ('test', 'dog/a', 'mixture', -5.0, 0)
    >>> row_key("test", "dog/a", "clean", None)
    ('test', 'dog/a', 'clean', -inf, 0)
    """
    rounded = NO_LEVEL if level is None or math.isnan(level) else float(np.float32(level))
    return (split, clip_id, condition, rounded, draw)


def key_of(row: Row) -> RowKey:
    """Return the key of a manifest's row."""
    return row_key(row.split, row.clip_id, row.condition, row.level, row.draw)


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
    keys = with_draws(index)[KEY_COLUMNS].drop_duplicates()
    levels = keys["level"].astype(np.float32).astype(np.float64).fillna(-np.inf)
    return set(keys.assign(level=levels).itertuples(index=False, name=None))


def row_keys_of(table: pa.Table) -> list[RowKey]:
    """Return the key of each entry of a table with the columns of a key, of which `draw` may be missing."""
    names = [name for name in KEY_COLUMNS if name in table.column_names]
    return [row_key(*entry) for entry in zip(*(table.column(name).to_pylist() for name in names), strict=True)]


def row_keys_in(table: pa.Table) -> Iterator[RowKey]:
    """Yield the key of each run of entries with one key: frames of a row follow one another, and few keys come twice."""
    names = [name for name in KEY_COLUMNS if name in table.column_names]
    yield from row_keys_of(table.select(names).take(pa.array(key_starts(table))))


def key_starts(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return the positions of the entries of a table whose key is another one than that of the entry before."""
    begins = np.zeros(table.num_rows, dtype=np.bool_)
    begins[:1] = True
    for name in (name for name in KEY_COLUMNS if name in table.column_names):
        values = _comparable(table.column(name))
        begins[1:] |= values[1:] != values[:-1]
    return np.flatnonzero(begins)


def _comparable(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return numbers that are equal where values are, an empty cell like any other."""
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_floating(array.type):
        levels = array.to_numpy(zero_copy_only=False)
        return np.where(np.isnan(levels), NO_LEVEL, levels)
    if pa.types.is_integer(array.type) and not array.null_count:
        return np.asarray(array.to_numpy())
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    return np.asarray(array.indices.fill_null(-1).to_numpy())


def add_draws(table: pa.Table) -> pa.Table:
    """Return a table with the column `draw`, behind `level`: 0 everywhere where it was not there."""
    if DRAW_FIELD.name in table.column_names:
        return table
    zeros = pa.array(np.zeros(table.num_rows, dtype=np.int16))
    after = table.column_names.index("level") + 1 if "level" in table.column_names else 0
    return table.add_column(after, DRAW_FIELD, zeros)


def drop_draws(table: pa.Table) -> pa.Table:
    """Return a table without the column `draw` where it is 0 everywhere: files of conditions drawn once do not have it."""
    if DRAW_FIELD.name not in table.column_names or pc.any(pc.not_equal(table[DRAW_FIELD.name], 0)).as_py():
        return table
    return table.drop_columns([DRAW_FIELD.name])
