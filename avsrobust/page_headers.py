"""The headers of a parquet file's pages, read before arrow reads the pages: no checksum covers the sizes that they declare.

Conventions
    arrow takes as much memory as a header declares, up to 2 GiB for a page and 32 GiB for a dictionary, before it finds that the
    page is none. Here each size is held against the column chunk of the file's footer that the page is part of.
    Headers are structs of Thrift's compact protocol
    (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md), with the fields of `PageHeader` in
    https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift. Only their numbers are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow.parquet as pq

# Fields of `PageHeader`, and of the structs in it that hold a number of values as their field 1.
_UNCOMPRESSED, _COMPRESSED, _DATA, _DICTIONARY, _DATA_V2 = 2, 3, 5, 7, 8
_NUM_VALUES = 1
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)
# Structs in structs in a header: statistics in a data page's.
_DEPTH = 4
_MOST_BITS = 63
# Most headers have fewer bytes than the first of these; arrow reads none of more than the last.
_AT_ONCE = (1 << 9, 1 << 14, 1 << 24)
_Fields = dict[int, Any]


class _EndError(Exception):
    """A header goes on behind the bytes that were read."""


def check_pages(file: BinaryIO, metadata: pq.FileMetaData) -> None:
    """Raise `ValueError` where a page declares more than the column chunk that it is in has.

    Args:
        file: The file.
        metadata: What its footer says.
    """
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            for number, page in enumerate(_pages(file, chunk)):
                if (what := _excess(page, chunk)) is not None:
                    raise ValueError(
                        f"page {number} of column {chunk.path_in_schema} in row group {group} declares {what}"
                    )


def _pages(file: BinaryIO, chunk: pq.ColumnChunkMetaData) -> Iterator[_Fields]:
    """Yield the headers of a chunk's pages up to that with its last value; `_excess` is to be asked before the next one."""
    start, values = chunk.data_page_offset, 0
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
        start = chunk.dictionary_page_offset
    end = start + chunk.total_compressed_size
    while start < end and values < chunk.num_values:
        header, size = _read_header(file, start, end)
        header["room"] = end - start - size
        yield header
        start += size + header[_COMPRESSED]
        values += _values(header, _DATA, _DATA_V2)


def _excess(page: Mapping[Any, Any], chunk: pq.ColumnChunkMetaData) -> str | None:
    """Return what a page declares and its chunk cannot hold, None where all is well."""
    inside, outside = page.get(_COMPRESSED), page.get(_UNCOMPRESSED)
    if not isinstance(inside, int) or not isinstance(outside, int):
        return "no sizes"
    if not 0 <= inside <= page["room"]:
        return f"{inside:,} bytes, where {page['room']:,} are left"
    if not 0 <= outside <= chunk.total_uncompressed_size:
        return f"{outside:,} bytes uncompressed, of {chunk.total_uncompressed_size:,} in all"
    if not 0 <= (values := _values(page, _DATA, _DATA_V2)) <= chunk.num_values:
        return f"{values:,} values, of {chunk.num_values:,} in all"
    # A word of a dictionary has a byte at least.
    if not 0 <= (words := _values(page, _DICTIONARY)) <= outside:
        return f"{words:,} words in {outside:,} bytes"
    return None


def _values(page: Mapping[Any, Any], *kinds: int) -> int:
    found = [page[kind].get(_NUM_VALUES, -1) for kind in kinds if isinstance(page.get(kind), dict)]
    return sum(found) if all(isinstance(number, int) for number in found) else -1


def _read_header(file: BinaryIO, start: int, end: int) -> tuple[dict[Any, Any], int]:
    """Return the fields of the header at `start`, and its size."""
    for size in _AT_ONCE:
        file.seek(start)
        content = file.read(min(size, end - start))
        try:
            return _struct(content, 0, _DEPTH)
        except _EndError:
            if len(content) < size:
                break
    raise ValueError(f"a page header at byte {start:,} does not end")


def _struct(content: bytes, at: int, depth: int) -> tuple[dict[Any, Any], int]:
    """Return the fields of the struct that begins at `at`, by number, and where it ends."""
    fields: dict[Any, Any] = {}
    number = 0
    try:
        while head := content[at]:
            at += 1
            kind, step = head & 15, head >> 4
            if step:
                number += step
            else:
                value, at = _varint(content, at)
                number = _signed(value)
            fields[number], at = _value(content, at, kind, depth)
        return fields, at + 1
    except IndexError:
        raise _EndError from None


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """Return a field's value, None for what is no number, and where it ends."""
    if kind in _INTEGERS:
        value, at = _varint(content, at)
        return _signed(value), at
    if kind in (_TRUE, _FALSE):
        return None, at
    if kind == _BINARY:
        length, at = _varint(content, at)
        return None, at + length
    if kind == _STRUCT and depth:
        return _struct(content, at, depth - 1)
    if kind in (_BYTE, _DOUBLE):
        return None, at + (1 if kind == _BYTE else 8)
    if kind in (_LIST, _SET) and depth:
        head, at = content[at], at + 1
        length = head >> 4
        if length == 15:
            length, at = _varint(content, at)
        item = head & 15
        for _ in range(length):
            # Items that are true or false have a byte each, other than fields.
            at = at + 1 if item in (_TRUE, _FALSE) else _value(content, at, item, depth - 1)[1]
            if at > len(content):
                raise _EndError
        return None, at
    raise ValueError(f"a page header holds what none does (kind {kind})")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := content[at]) > 127:
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if shift > _MOST_BITS:
            raise ValueError("a page header holds a number of more than 64 bits")
    return value | byte << shift, at + 1


def _signed(value: int) -> int:
    return value >> 1 ^ -(value & 1)
