"""How ``scores.parquet`` is written: a row group at a time, and what it takes does not grow with the number of frames.

Conventions
    The file's metadata hold a checksum over whole columns, one after the other, and come with the first row group. So each
    column is made, hashed and, where there is more than one row group, put aside in a file without a name, which goes with the
    process; then the row groups are written. Equal frames give equal bytes, wherever they came from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from avsrobust.files import atomic_path, make_folder
from avsrobust.heap import release_unused
from avsrobust.metrics.binary.counts import HISTOGRAMS, NUM_THRESHOLDS, Counts
from avsrobust.parquet import open_writer
from avsrobust.score_checks import content_sha256
from avsrobust.score_frames import SortedFrames
from avsrobust.score_schema import ROW_GROUP

CHECKSUM_KEY = "avsrobust.content_sha256"
# Frames whose histograms are numbers of 64 bits at once.
_BLOCK = 4096


def write_frames(path: Path, frames: SortedFrames, metadata: dict[str, str]) -> None:
    """Write frames and the file's metadata, but its checksum, to the parquet file `path`, atomically."""
    schema = frames.schema
    groups = _parts(len(frames), ROW_GROUP) or [slice(0, 0)]
    make_folder(path.parent)
    with _Aside(path.parent, groups) as aside:

        def column(name: str) -> pa.Array:
            made = frames.column(name)
            aside.put(name, made)
            return made

        metadata = dict(metadata)
        metadata[CHECKSUM_KEY] = content_sha256(
            metadata, schema.names, column, {name: _blocks(frames, name) for name in HISTOGRAMS}
        )
        schema = schema.with_metadata(metadata)
        # What hashing took would else stay with the process; that of few frames serves the next ones.
        many = len(frames) > _BLOCK
        if many:
            release_unused()
        with atomic_path(path) as temporary, open_writer(temporary, schema) as writer:
            for number in range(len(groups)):
                writer.write_table(_group(frames, schema, aside, number))
                # Of the group before, nothing is left when the next one is made.
                if many:
                    release_unused()


def _group(frames: SortedFrames, schema: pa.Schema, aside: _Aside, number: int) -> pa.Table:
    arrays = [
        _histograms(frames, name, aside.groups[number]) if name in HISTOGRAMS else aside.get(name, number)
        for name in schema.names
    ]
    return pa.table(arrays, schema=schema)


class _Aside:
    """Columns that were made, a row group at a time: in memory where there is one group, else on disk."""

    def __init__(self, folder: Path, groups: list[slice]) -> None:
        self._folder = folder
        self.groups = groups
        self._held: dict[str, pa.Array] = {}
        self._files: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> _Aside:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def put(self, name: str, column: pa.Array) -> None:
        if len(self.groups) == 1:
            self._held[name] = _plain(column)
            return
        file = self._files[name] = self._stack.enter_context(tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        schema = pa.schema([pa.field(name, kind)])
        with pa.ipc.new_file(file, schema) as writer:
            for group in self.groups:
                part = _plain(column.slice(group.start, group.stop - group.start))
                writer.write_batch(pa.record_batch([part], schema=schema))

    def get(self, name: str, number: int) -> pa.Array:
        if name in self._held:
            return self._held[name]
        file = self._files[name]
        file.seek(0)
        return pa.ipc.open_file(file).get_batch(number).column(0)


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _parts(rows: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, rows)) for first in range(0, rows, size)]


def _blocks(frames: SortedFrames, name: str) -> Iterator[Counts]:
    for part in _parts(len(frames), _BLOCK):
        yield frames.histograms(name, part)


def _histograms(frames: SortedFrames, name: str, group: slice) -> pa.Array:
    """Return the histograms of a row group as a column of the file, in one piece: where pieces meet has a say in its pages."""
    values = np.empty((group.stop - group.start, NUM_THRESHOLDS), dtype=np.int32)
    for part in _parts(len(values), _BLOCK):
        values[part] = frames.histograms(name, slice(group.start + part.start, group.start + part.stop))
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), type=pa.int32()), NUM_THRESHOLDS)
