"""Parquet files of ours: how they are written, and what can be wrong with one that is read, said in one line.

Conventions
    Every page carries a checksum (CRC-32, Parquet's own) that is verified on reading, so that a flipped bit is found where
    the page is read and not taken for a number. The footer has none; readers bind it by the checksum of the whole file where one
    is kept beside it (``run.json``, ``checksums.parquet``).
"""

from __future__ import annotations

import os
import struct
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from avsrobust.errors import AvsRobustError
from avsrobust.files import atomic_path, open_regular
from avsrobust.limits import METADATA_BYTES, PARQUET_BYTES, Limit
from avsrobust.page_headers import check_pages
from avsrobust.vocabulary import counted

COMPRESSION = "zstd"
_TAIL = 8
_BUFFER = 1 << 18
# Bytes of a file of one model on a published test set, or less.
_SMALL = 1 << 20
# Files whose pages were checked last.
_CHECKED: deque[tuple[int, ...]] = deque(maxlen=64)
_CHANGES_POOL = threading.Lock()
_MAGIC = b"PAR1"


def write_parquet(path: Path, table: pa.Table, row_group_size: int | None = None) -> None:
    """Write `table` to `path`, atomically, flushed, with page checksums; equal tables give equal bytes."""
    with atomic_path(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression=COMPRESSION,
            store_schema=True,
            write_page_checksum=True,
            row_group_size=row_group_size,
        )


def parquet_bytes(table: pa.Table) -> bytes:
    """Return the content of the file that `write_parquet` would write."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=COMPRESSION, store_schema=True, write_page_checksum=True)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer of row groups with page checksums; `path` is one of `atomic_path`."""
    return pq.ParquetWriter(path, schema, compression=COMPRESSION, write_page_checksum=True)


@contextmanager
def _reused_memory() -> Iterator[None]:
    """Have readers that are made in the block take memory from the C library, which keeps what it gets back for the next file.

    arrow's own allocator gives it up, and new pages take longer than decoding a small file, of which reports read many. Of a
    large one the C library would keep too much. A reader keeps the pool that it was made with. The default is the process's: one
    thread at a time changes it, so that each puts back what was there.
    """
    with _CHANGES_POOL:
        before = pa.default_memory_pool()
        pa.set_memory_pool(pa.system_memory_pool())
        try:
            yield
        finally:
            pa.set_memory_pool(before)


@dataclass(frozen=True)
class Kind:
    """A kind of file: the error for bad ones, what one is called ("a manifest made by .."), and how to make it again."""

    error: type[AvsRobustError]
    expected: str
    again: str

    def read(self, path: Path, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the file's table (only `columns`). Raises `error` where it is missing, damaged or no parquet file."""
        return self.read_columns(path, self.open(path), columns)

    def read_columns(self, path: Path, opened: pq.ParquetFile, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the table (only `columns`) of a file that `open` returned. Raises `error` where it is damaged."""
        try:
            chosen = None if columns is None else list(columns)
            # Threads read several columns at once.
            table = opened.read(columns=chosen, use_threads=chosen is None or len(chosen) > 1)
            table.validate(full=True)
            return table
        except (OSError, pa.ArrowException, ValueError) as error:
            raise self.damaged(path, error) from error

    def read_batches(
        self, path: Path, opened: pq.ParquetFile, column: str, rows: int, groups: Sequence[int] | None = None
    ) -> Iterator[pa.Array]:
        """Yield a column (only of these row groups) of a file that `open` returned, `rows` rows at a time.

        Raises `error` where it is damaged.
        """
        try:
            chosen = None if groups is None else list(groups)
            for batch in opened.iter_batches(batch_size=rows, row_groups=chosen, columns=[column], use_threads=False):
                batch.validate(full=True)
                yield batch.column(column)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise self.damaged(path, error) from error

    def read_tables(self, path: Path, opened: pq.ParquetFile, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Yield the table (only `columns`) of a file that `open` returned, `rows` rows at a time.

        Raises `error` where it is damaged.
        """
        try:
            for batch in opened.iter_batches(batch_size=rows, columns=list(columns), use_threads=False):
                batch.validate(full=True)
                yield pa.Table.from_batches([batch])
        except (OSError, pa.ArrowException, ValueError) as error:
            raise self.damaged(path, error) from error

    def open(self, path: Path, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
        """Return the opened file, whose pages are verified as they are read. Raises `error` as `read` does.

        Columns of text in `dictionaries` are read as indices into the texts that a page holds once.
        """
        try:
            with open_regular(path) as stream:
                size = stream.seek(0, 2)
                PARQUET_BYTES.check(size, path, self.error)
                stream.seek(max(0, size - _TAIL))
                tail = stream.read(_TAIL)
            if len(tail) == _TAIL and tail[4:] == _MAGIC:
                METADATA_BYTES.check(struct.unpack("<I", tail[:4])[0], f"{path}: footer", self.error)
            # A column of a large row group is read a buffer at a time, and as much is taken as a page's header declares. Read
            # at once, the column bounds that; what arrow takes beside it is never written to.
            buffer = _BUFFER if size > _SMALL else 0
            options = {"page_checksum_verification": True, "buffer_size": buffer, "pre_buffer": False}
            with _reused_memory() if size <= _SMALL else nullcontext():
                file = pq.ParquetFile(path, **options)
                _require_rows(file)
                if size > _SMALL:
                    _require_pages(path, file)
                there = [name for name in dictionaries if _is_text(file, name)]
                return pq.ParquetFile(path, metadata=file.metadata, read_dictionary=there, **options) if there else file
        except FileNotFoundError as error:
            raise self.error(f"{path}: not found; expected {self.expected}") from error
        except (OSError, pa.ArrowException, ValueError) as error:
            raise self.damaged(path, error) from error

    def require_sizes(self, path: Path, opened: pq.ParquetFile, rows: Limit, values: Limit) -> None:
        """Raise `error` where a file declares more rows, or more values in one column, than the limits allow.

        A column of one value repeated takes a few bytes in the file, however long it is.
        """
        metadata = opened.metadata
        rows.check(metadata.num_rows, path, self.error)
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        for index in range(metadata.num_columns):
            found = sum(group.column(index).num_values for group in groups)
            values.check(found, f"{path}: column {metadata.schema.column(index).path}", self.error)

    def damaged(self, path: Path, cause: Exception) -> AvsRobustError:
        """Return the error for a file whose content cannot be read."""
        reason = " ".join(str(cause).split())[:200]
        return self.error(f"{path}: cannot be read as parquet ({reason}); expected {self.expected}; {self.again} again")

    def require_types(self, path: Path, found: pa.Schema, expected: pa.Schema) -> None:
        """Raise `error` where a column of `expected` is missing in the schema `found`, or is of another type there.

        Strings may be large or dictionaries there: other programs write them so.
        """
        for entry in expected:
            index = found.get_field_index(entry.name)
            if index < 0:
                raise self.error(f"{path}: has no column {entry.name}; expected {self.expected}; {self.again} again")
            actual = found.field(index).type
            if _plain(actual) != _plain(entry.type):
                raise self.error(
                    f"{path}: column {entry.name} is of type {actual}; expected {entry.type}; {self.again} again"
                )


def _require_rows(file: pq.ParquetFile) -> None:
    """Raise `ValueError` where the row groups have not the file's rows: as many as they say are made room for."""
    metadata = file.metadata
    rows = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
        raise ValueError(f"row groups of {counted(sum(rows), 'row')}, of {metadata.num_rows:,} in all")


def _require_pages(path: Path, file: pq.ParquetFile) -> None:
    """Raise `ValueError` where a page declares more than its column has; a file that is opened again is not checked again."""
    with open_regular(path) as stream:
        found = os.fstat(stream.fileno())
        state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if state not in _CHECKED:
            check_pages(stream, file.metadata)
            _CHECKED.append(state)


def _is_text(file: pq.ParquetFile, name: str) -> bool:
    columns = (file.schema.column(index) for index in range(len(file.schema)))
    return any(column.path == name and column.physical_type == "BYTE_ARRAY" for column in columns)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return a type without what does not change its values: large strings and lists, dictionaries, names of list items."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(entry.name, _plain(entry.type)) for entry in kind])
    return kind
