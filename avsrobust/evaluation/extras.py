"""Further values that an adapter returns with its masks (`Adapter.extras`), stored in ``extras.parquet``.

Conventions
    A row per (clip, condition, level, draw, frame, name), sorted by these; frames count from 0 and are all of the clip's, with
    a mask or without. Values are float64 and finite. Results of adapters without such values have no such file.
    Equal values give equal bytes.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from avsrobust.adapters.outputs import ExtraValues
from avsrobust.errors import ResultsError
from avsrobust.files import atomic_path, make_folder
from avsrobust.heap import release_unused
from avsrobust.manifest import Row
from avsrobust.parquet import Kind, open_writer, write_parquet
from avsrobust.results import DRAW_FIELD, EVALUATION_KEY, require_vouched
from avsrobust.row_keys import NO_LEVEL, RowKey, add_draws, drop_draws, key_starts
from avsrobust.row_sets import RowSet, Variant, numbered_table
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
# An entry of a row, put aside.
_ENTRY = np.dtype([("value", "<f8"), ("frame", "<i4"), ("name", "<i4")])
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
    make_folder(path.parent)
    with TemporaryFile(dir=path.parent) as aside:
        found = _Entries(RowSet.of(rows), aside)
        for number, source in enumerate(sources):
            for table in _tables(source):
                found.add(table, number)
        if len(found):
            found.write(path, evaluation)
        return found.names


def rows_of_extras(path: Path) -> RowSet:
    """Return the rows that a file holds values of.

    Raises:
        ResultsError: The file is missing or damaged.
    """
    return RowSet.of_tables(_tables(path))


class _Entries:
    """Entries of files, put aside in a file as they come: 100,000 clips have millions. In memory are twenty bytes a row.

    Args:
        rows: Rows whose entries are taken.
        aside: A file that takes them.
    """

    def __init__(self, rows: RowSet, aside: IO[bytes]) -> None:
        self._rows, self._aside = rows, aside
        self._words: dict[str, int] = {}
        self._source = np.full(len(rows), -1, dtype=np.int32)
        # Of each piece of a row: the row, its first entry in the file, and how many there are.
        self._row, self._first, self._length = array("q"), array("q"), array("q")
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def names(self) -> list[str]:
        """Names of the values, sorted."""
        return sorted(self._words)

    def add(self, table: pa.Table, source: int) -> None:
        """Take the entries of a table of a source whose rows are wanted, and not of an earlier source."""
        starts = key_starts(table)
        lengths = np.diff(np.append(starts, table.num_rows))
        row = self._rows.positions(*numbered_table(table, starts))
        is_taken = row >= 0
        is_taken[is_taken] = np.isin(self._source[row[is_taken]], (-1, source))
        row, taken = row[is_taken], lengths[is_taken]
        self._source[row] = source
        entries = np.empty(table.num_rows, dtype=_ENTRY)
        entries["frame"], entries["value"] = table.column("frame").to_numpy(), table.column("value").to_numpy()
        chosen = np.repeat(is_taken, lengths)
        if not chosen.all():
            table, entries = table.filter(pa.array(chosen)), entries[chosen]
        entries["name"] = self._coded(table.column("name"))
        self._aside.write(entries.tobytes())
        self._row.extend(row.tolist())
        self._first.extend((self._count + np.cumsum(taken) - taken).tolist())
        self._length.extend(taken.tolist())
        self._count += len(entries)

    def _coded(self, column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
        parts = [np.zeros(0, dtype=np.int32)]
        for chunk in column.chunks:
            encoded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            used, position = np.unique(encoded.indices.to_numpy(), return_inverse=True)
            words = encoded.dictionary.take(pa.array(used)).to_pylist()
            numbers = np.array([self._words.setdefault(word, len(self._words)) for word in words], dtype=np.int32)
            parts.append(numbers[position])
        return np.concatenate(parts)

    def write(self, path: Path, evaluation: str) -> None:
        """Write the entries, sorted, atomically."""
        names = self._rows.names
        row, first, length = (np.array(values, dtype=np.int64) for values in (self._row, self._first, self._length))
        clip, variant = np.divmod(self._rows.numbers[row], len(names.variants))
        # A row without a level comes last.
        levels_last = sorted(range(len(names.variants)), key=lambda number: _level_last(names.variants[number]))
        rank = np.empty(len(levels_last), dtype=np.int64)
        rank[levels_last] = np.arange(len(levels_last))
        order = np.lexsort((first, rank[variant], clip))
        row, first, length = row[order], first[order], length[order]
        has_draws = any(names.variants[number][2] for number in np.unique(variant).tolist())
        schema = (_WITH_DRAWS if has_draws else _SCHEMA).with_metadata(
            {EVALUATION_KEY: evaluation} if evaluation else None
        )
        ends = np.cumsum(length)
        with atomic_path(path) as temporary, open_writer(temporary, schema) as writer:
            for begin in range(0, self._count, _ROW_GROUP):
                end = min(begin + _ROW_GROUP, self._count)
                # Whole pieces, of which the group may need a part.
                pieces = slice(int(np.searchsorted(ends, begin, "right")), int(np.searchsorted(ends, end, "left")) + 1)
                here = self._read(row[pieces], first[pieces], length[pieces])
                skipped = begin - int(ends[pieces][0] - length[pieces][0])
                rows_here, entries = (values[skipped : skipped + end - begin] for values in here)
                arrays = [self._array(entry, rows_here, entries) for entry in schema]
                writer.write_table(pa.table(arrays, schema=schema))
                del here, rows_here, entries, arrays
                release_unused()

    def _read(
        self, row: npt.NDArray[np.int64], first: npt.NDArray[np.int64], length: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
        """Return the rows and the entries of some pieces, sorted by row, as the pieces are, frame and name."""
        entries = np.empty(int(length.sum()), dtype=_ENTRY)
        begins = np.append(np.flatnonzero(np.append(True, first[1:] != first[:-1] + length[:-1])), len(first))
        ends = np.cumsum(length)
        for begin, end in pairwise(begins.tolist()):
            # What lies together is read at once.
            place, stop = ends[begin] - length[begin], ends[end - 1]
            self._aside.seek(int(first[begin]) * _ENTRY.itemsize)
            content = self._aside.read(int(stop - place) * _ENTRY.itemsize)
            entries[place:stop] = np.frombuffer(content, dtype=_ENTRY)
        of_row = np.repeat(row.astype(np.int32), length)
        position = np.repeat(np.cumsum(np.append(0, row[1:] != row[:-1])), length)
        rank = np.empty(len(self._words), dtype=np.int64)
        words = list(self._words)
        rank[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words))
        frame = entries["frame"].astype(np.int64)
        order = np.lexsort((rank[entries["name"]], frame, position))
        return of_row, entries[order]

    def _array(self, entry: pa.Field, row: npt.NDArray[np.int32], entries: npt.NDArray[Any]) -> pa.Array:
        if entry.name == "name":
            return pa.array(list(self._words), pa.string()).take(pa.array(entries["name"]))
        if entry.name in ("frame", "value"):
            return pa.array(entries[entry.name], type=entry.type)
        names = self._rows.names
        clip, variant = np.divmod(self._rows.numbers[row], len(names.variants))
        if entry.name == "split":
            return pa.array(names.splits, pa.string()).take(pa.array(names.split[clip]))
        if entry.name == "clip_id":
            return names.clip_id.take(pa.array(clip))
        condition, level, draw = zip(*names.variants, strict=True)
        if entry.name == "condition":
            return pa.array(condition, pa.string()).take(pa.array(variant))
        if entry.name == "level":
            values = np.array(level, dtype=np.float32)[variant]
            return pa.array(values, type=entry.type, mask=np.isinf(values))
        return pa.array(np.array(draw)[variant], type=entry.type)


def _level_last(variant: Variant) -> tuple[str, float, int]:
    condition, level, draw = variant
    return condition, math.inf if level == NO_LEVEL else level, draw


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
