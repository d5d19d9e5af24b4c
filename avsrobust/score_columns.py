"""The columns of ``scores.parquet`` but its histograms, read one at a time: results of 100,000 clips have two million frames.

Conventions
    A column is read, checked, hashed and turned into what `results.Scores` holds of it before the next one is read, so that the
    file's own form of no more than one column is in memory. Counts have 32 bits where all fit. Equal texts are one object, and so
    are lists of labels that follow one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from avsrobust.list_runs import run_starts
from avsrobust.parquet import Kind
from avsrobust.score_checks import require_filled

_AT_ONCE = 1 << 16
# Rows from which on a column of one value is that value alone, which numpy shows for every row.
_LARGE = 1 << 16
_LEAST, _MOST = np.iinfo(np.int32).min, np.iinfo(np.int32).max


class ScoreColumns:
    """The columns of an opened file of scores.

    Args:
        path: The file, for messages.
        opened: The file, opened by `kind`.
        schema: The columns, without histograms.
        kind: Kind of the file, for messages.
    """

    def __init__(self, path: Path, opened: pq.ParquetFile, schema: pa.Schema, kind: Kind) -> None:
        self._path, self._opened, self._schema, self._kind = path, opened, schema, kind
        self._found: dict[str, Any] = {}

    def read(self, name: str) -> pa.Array:
        """Return a column in one piece, texts as numbers of different texts, and keep its values.

        Raises the kind's error where it is damaged or has empty cells.
        """
        entry = self._schema.field(name)
        table = self._kind.read_columns(self._path, self._opened, [name])
        require_filled(self._path, table, pa.schema([entry]))
        column = table.column(name)
        array = _texts(column) if pa.types.is_string(entry.type) else column.cast(entry.type).combine_chunks()
        self._found[name] = _values(array)
        return array

    def values(self, name: str) -> Any:
        """Return what is kept of a column that was read: numbers, texts or labels as numpy arrays, other lists as arrow's."""
        return self._found[name]

    def index(self, names: Sequence[str], further: Mapping[str, npt.NDArray[Any]]) -> pd.DataFrame:
        """Return columns that were read as a data frame, with `further` ones behind them, and keep them no longer."""
        # Texts as objects: pandas' own columns of them hold the text of every cell, and most of these are equal.
        found = {name: self._found.pop(name) for name in names} | dict(further)
        columns = {name: pd.Series(values, dtype=values.dtype, copy=False) for name, values in found.items()}
        return pd.DataFrame(columns, copy=False)


def _texts(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Return a column of texts as indices into the different ones."""
    parts = []
    for chunk in column.chunks:
        if not pa.types.is_dictionary(chunk.type):
            chunk = chunk.cast(pa.string()).dictionary_encode()
        parts.append(pa.DictionaryArray.from_arrays(chunk.indices.cast(pa.int32()), chunk.dictionary.cast(pa.string())))
    whole = pa.chunked_array(parts, type=pa.dictionary(pa.int32(), pa.string()))
    return whole.unify_dictionaries().combine_chunks()


def _values(array: pa.Array) -> Any:
    is_large = len(array) > _LARGE
    if pa.types.is_dictionary(array.type):
        words = array.dictionary.to_numpy(zero_copy_only=False)
        if is_large and len(words) == 1:
            return np.broadcast_to(words, len(array))
        return words[array.indices.to_numpy()] if len(words) else np.empty(0, dtype=object)
    if is_large and array.null_count == len(array) and pa.types.is_floating(array.type):
        return np.broadcast_to(np.array([np.nan], array.type.to_pandas_dtype()), len(array))
    if pa.types.is_list(array.type):
        return _labels(array) if pa.types.is_string(array.type.value_type) else array
    # As pandas has it: floats, not numbered, where cells are empty.
    values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    if values.dtype == np.int64 and len(values) and values.min() >= _LEAST and values.max() <= _MOST:
        return values.astype(np.int32)
    return values if values.flags.writeable else values.copy()


def _labels(lists: pa.ListArray) -> npt.NDArray[np.object_]:
    """Return lists of labels, each a numpy array of texts; equal ones are one object."""
    found = np.empty(len(lists), dtype=object)
    known: dict[tuple[str, ...], npt.NDArray[np.object_]] = {}
    for first in range(0, len(lists), _AT_ONCE):
        part = lists.slice(first, _AT_ONCE)
        starts = run_starts(part)
        stops = np.append(starts[1:], len(part))
        for entry, start, stop in zip(part.take(pa.array(starts)).to_pylist(), starts, stops, strict=True):
            key = tuple(entry)
            if key not in known:
                known[key] = np.array(entry, dtype=object)
            for position in range(first + start, first + stop):
                found[position] = known[key]
    return found
