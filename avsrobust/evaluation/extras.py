"""Further values that an adapter returns with its masks (`Adapter.extras`), stored in ``extras.parquet``.

Conventions
    A row per (clip, condition, level, draw, frame, name), sorted by these; frames count from 0 and are all of the clip's, with
    a mask or without. Values are float64 and finite. Results of adapters without such values have no such file.
    Equal values give equal bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from avsrobust.adapters.outputs import ExtraValues
from avsrobust.errors import ResultsError
from avsrobust.files import atomic_path
from avsrobust.manifest import Row
from avsrobust.parquet import Kind, open_writer, write_parquet
from avsrobust.results import DRAW_FIELD, EVALUATION_KEY, require_vouched
from avsrobust.row_keys import KEY_COLUMNS, RowKey, add_draws, drop_draws, key_starts, row_keys_in, row_keys_of
from avsrobust.score_checks import require_filled

_KIND = Kind(ResultsError, "further values, as 'avsrobust evaluate' writes them", "evaluate")
_ORDER = ("split", "clip_id", "condition", "level", "draw", "frame", "name")
_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("condition", pa.string(), nullable=False),
        pa.field("level", pa.float32()),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)
_WITH_DRAWS = _SCHEMA.insert(4, DRAW_FIELD)
_TEXTS = ("split", "clip_id", "condition", "name")
_ORDER_AND_VALUE = (*_ORDER, "value")
# Rows that are read at once, and those of a row group, pyarrow's default.
_AT_ONCE, _ROW_GROUP = 1 << 16, 1 << 20


def extras_entries(row: Row, values: ExtraValues) -> list[dict[str, Any]]:
    """Return the rows of ``extras.parquet`` for one row of the manifest.

    Args:
        row: The row.
        values: float64 [T] by name.
    """
    return [
        {
            "split": row.split,
            "clip_id": row.clip_id,
            "condition": row.condition,
            "level": row.level,
            "draw": row.draw,
            "frame": frame,
            "name": name,
            "value": float(value),
        }
        for name, of_frames in values.items()
        for frame, value in enumerate(of_frames)
    ]


def write_extras(path: Path, entries: Sequence[Mapping[str, Any]], evaluation: str = "") -> None:
    """Write rows to a parquet file, atomically.

    Args:
        path: The file.
        entries: Rows that `extras_entries` returned.
        evaluation: Checksum of model and manifest (`evaluation.model_key.evaluation_sha256`).
    """
    _write(path, pa.Table.from_pylist(list(entries), schema=_WITH_DRAWS), evaluation)


def merge_extras(path: Path, sources: Iterable[Path], rows: Collection[RowKey], evaluation: str = "") -> list[str]:
    """Write the values of some rows, found in several files, to one file; no file where there are none.

    Args:
        path: The file to write.
        sources: Files to read; where several hold a row, the first one counts.
        rows: Rows that are kept.
        evaluation: Checksum of model and manifest.

    Returns:
        Names of the values, sorted.

    Raises:
        ResultsError: A file is damaged.
    """
    wanted, found = set(rows), _Entries()
    for source in sources:
        taken: set[RowKey] = set()
        for table in _tables(source):
            taken |= found.add(table, wanted)
        wanted -= taken
    if len(found):
        found.write(path, evaluation)
    return found.names


def rows_of_extras(path: Path) -> set[RowKey]:
    """Return the rows that a file holds values of.

    Raises:
        ResultsError: The file is missing or damaged.
    """
    return {key for table in _tables(path) for key in row_keys_in(table)}


class _Entries:
    """Rows of files by column, in thirty bytes each: 100,000 clips have millions. Texts are numbers of the different ones."""

    def __init__(self) -> None:
        self._words: dict[str, dict[str, int]] = {name: {} for name in _TEXTS}
        self._parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _ORDER_AND_VALUE}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def names(self) -> list[str]:
        """Names of the values, sorted."""
        return sorted(self._words["name"])

    def add(self, table: pa.Table, wanted: Collection[RowKey]) -> set[RowKey]:
        """Take the entries of a table whose rows are wanted; return the keys of these rows."""
        starts = key_starts(table)
        keys = row_keys_of(table.select(KEY_COLUMNS).take(pa.array(starts)))
        is_wanted = np.array([key in wanted for key in keys], dtype=np.bool_)
        kept = np.repeat(is_wanted, np.diff(np.append(starts, table.num_rows)))
        if not kept.all():
            table = table.filter(pa.array(kept))
        for name, parts in self._parts.items():
            column = table.column(name)
            parts.append(self._coded(name, column) if name in _TEXTS else column.to_numpy())
        self._count += table.num_rows
        return {key for key, chosen in zip(keys, is_wanted, strict=True) if chosen}

    def _coded(self, name: str, column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
        known, parts = self._words[name], [np.zeros(0, dtype=np.int32)]
        for chunk in column.chunks:
            array = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            used, position = np.unique(array.indices.to_numpy(), return_inverse=True)
            words = array.dictionary.take(pa.array(used)).to_pylist()
            numbers = np.array([known.setdefault(word, len(known)) for word in words], dtype=np.int32)
            parts.append(numbers[position])
        return np.concatenate(parts)

    def write(self, path: Path, evaluation: str) -> None:
        """Write the entries, sorted, atomically, and keep them no longer."""
        columns: dict[str, npt.NDArray[Any]] = {}
        for name in list(self._parts):
            columns[name] = np.concatenate(self._parts.pop(name))
        order = np.lexsort([self._sortable(name, columns[name]) for name in reversed(_ORDER)])
        schema = _WITH_DRAWS if columns["draw"].any() else _SCHEMA
        metadata = {EVALUATION_KEY: evaluation} if evaluation else None
        with atomic_path(path) as temporary, open_writer(temporary, schema.with_metadata(metadata)) as writer:
            for first in range(0, len(order), _ROW_GROUP):
                here = order[first : first + _ROW_GROUP]
                arrays = [self._array(entry, columns[entry.name][here]) for entry in schema]
                writer.write_table(pa.table(arrays, schema=schema.with_metadata(metadata)))

    def _sortable(self, name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if name not in _TEXTS:
            # A row without a level comes last.
            return np.where(np.isnan(values), np.inf, values) if name == "level" else values
        words = list(self._words[name])
        rank = np.empty(len(words), dtype=np.int32)
        rank[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words))
        return np.asarray(rank[values])

    def _array(self, entry: pa.Field, values: npt.NDArray[Any]) -> pa.Array:
        if entry.name in _TEXTS:
            words = pa.array(list(self._words[entry.name]), pa.string())
            return words.take(pa.array(values))
        if entry.name == "level":
            return pa.array(values, type=entry.type, mask=np.isnan(values))
        return pa.array(values, type=entry.type)


def _tables(path: Path) -> Iterator[pa.Table]:
    """Yield the entries of a file, checked, some at a time, texts as indices into the different ones."""
    require_vouched(path, ResultsError)
    opened = _KIND.open(path, _TEXTS)
    _KIND.require_types(path, opened.schema_arrow, _SCHEMA)
    names = [name for name in _WITH_DRAWS.names if name in opened.schema_arrow.names]
    for table in _KIND.read_tables(path, opened, names, _AT_ONCE):
        require_filled(path, table, _SCHEMA)
        whole = add_draws(table).select(_WITH_DRAWS.names)
        for position, entry in enumerate(_WITH_DRAWS):
            if entry.name not in _TEXTS:
                whole = whole.set_column(position, entry, whole.column(position).cast(entry.type))
        if whole.num_rows and not pc.all(pc.is_finite(whole["value"])).as_py():
            raise ResultsError(f"{path}: has values that are not finite; expected numbers; evaluate again")
        yield whole


def _write(path: Path, table: pa.Table, evaluation: str) -> None:
    ordered = drop_draws(table.sort_by([(name, "ascending") for name in _ORDER]))
    write_parquet(path, ordered.replace_schema_metadata({EVALUATION_KEY: evaluation} if evaluation else None))
