"""Sizes in the headers of parquet pages, which no checksum covers, are held against what the footer says of their column."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust import page_headers
from avsrobust.errors import ManifestError
from avsrobust.page_headers import check_pages
from avsrobust.parquet import Kind, write_parquet

KIND = Kind(ManifestError, "a manifest", "build")
HUGE = 0x7FFF0000
# Numbers of a header, in order: type, uncompressed and compressed size, checksum, words of a dictionary or values of a page.
FIELDS = {"uncompressed": 1, "compressed": 2, "words": 4}
REASONS = {
    "uncompressed": r"page 0 of column text in row group 0 declares 2,147,418,112 bytes uncompressed, of [\d,]+ in all",
    "compressed": r"page 0 of column text in row group 0 declares 2,147,418,112 bytes, where [\d,]+ are left",
    "words": r"page 0 of column text in row group 0 declares 2,147,418,112 words in [\d,]+ bytes",
}


def varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def with_number(content: bytes, at: int, field: int, number: int) -> bytes:
    """Return a file with another number as that field of the header at `at`."""

    def end_of(at: int) -> int:
        while content[at] > 127:
            at += 1
        return at + 1

    for _ in range(field):
        at = end_of(at + 1)
    # The number may be the first field of a struct.
    at += 1 + (content[at] & 15 == 12)
    return content[:at] + varint(number << 1) + content[end_of(at) :]


def large(path: Path) -> pq.ColumnChunkMetaData:
    """Write a file of more than a mebibyte; return what it says of its texts."""
    numbers = [str(number * 7_919 % 1_000_003) * 3 for number in range(200_000)]
    write_parquet(path, pa.table({"number": range(200_000), "text": numbers}))
    assert path.stat().st_size > 1 << 20
    return pq.ParquetFile(path).metadata.row_group(0).column(1)


@pytest.mark.parametrize("field", FIELDS)
def test_what_a_damaged_header_declares_takes_no_memory(tmp_path: Path, field: str) -> None:
    path = tmp_path / "t.parquet"
    chunk = large(path)
    assert KIND.read(path).num_rows == 200_000
    path.write_bytes(with_number(path.read_bytes(), chunk.dictionary_page_offset, FIELDS[field], HUGE))
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(ManifestError, match=REASONS[field]) as caught:
        KIND.read(path)
    assert len(str(caught.value).splitlines()) == 1
    assert pa.default_memory_pool().max_memory() <= max(before, 1 << 28)


def test_a_data_page_has_no_more_values_than_its_column(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    chunk = large(path)
    content = path.read_bytes()
    path.write_bytes(with_number(content, chunk.data_page_offset, 4, 210_000))
    with pytest.raises(ManifestError, match=r"column text .* declares 210,000 values, of 200,000 in all"):
        KIND.open(path)


def test_a_file_that_is_opened_again_is_checked_again_only_where_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    chunk = large(path)
    checked = []
    monkeypatch.setattr("avsrobust.parquet.check_pages", lambda *given: checked.append(given) or check_pages(*given))
    KIND.open(path)
    KIND.open(path)
    assert len(checked) == 1
    path.write_bytes(with_number(path.read_bytes(), chunk.dictionary_page_offset, FIELDS["words"], HUGE))
    for number in (2, 3):
        with pytest.raises(ManifestError, match="words"):
            KIND.open(path)
        assert len(checked) == number


TABLES = st.lists(
    st.tuples(
        st.one_of(st.none(), st.text(max_size=40)),
        st.lists(st.one_of(st.none(), st.text(max_size=8)), max_size=4),
        st.floats(allow_nan=False),
        st.booleans(),
    ),
    max_size=60,
)
TYPES = pa.schema(
    {"text": pa.string(), "list": pa.list_(pa.string()), "number": pa.float64(), "flag": pa.bool_()}.items()
)
OPTIONS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(["none", "snappy", "zstd"]),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "use_dictionary": st.booleans(),
        "write_page_checksum": st.booleans(),
        "write_statistics": st.booleans(),
        "data_page_size": st.sampled_from([1, 64, 1 << 20]),
        "write_batch_size": st.sampled_from([1, 7, 1024]),
        "row_group_size": st.sampled_from([5, 1000]),
    }
)


def written(rows: list[Any], options: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    columns = [pa.array([row[index] for row in rows], type=entry.type) for index, entry in enumerate(TYPES)]
    pq.write_table(pa.table(columns, schema=TYPES), sink, **options)
    return bytes(sink.getvalue())


@given(TABLES, OPTIONS)
@settings(max_examples=60, deadline=None)
def test_every_page_of_a_good_file_is_found(rows: list[Any], options: dict[str, Any]) -> None:
    content = written(rows, options)
    metadata = pq.ParquetFile(io.BytesIO(content)).metadata
    check_pages(io.BytesIO(content), metadata)
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            pages = list(page_headers._pages(io.BytesIO(content), chunk))
            values = sum(page[kind][1] for page in pages for kind in (5, 8) if kind in page)
            assert values == chunk.num_values
            assert any(7 in page for page in pages) <= chunk.has_dictionary_page


@given(TABLES, OPTIONS, st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(0, 255)), max_size=6))
@settings(max_examples=200, deadline=None)
def test_any_damage_is_a_value_error_or_nothing(
    rows: list[Any], options: dict[str, Any], changes: list[tuple[int, int]]
) -> None:
    content = bytearray(written(rows, options))
    metadata = pq.ParquetFile(io.BytesIO(bytes(content))).metadata
    for at, value in changes:
        content[at % len(content)] = value
    with contextlib.suppress(ValueError):
        check_pages(io.BytesIO(bytes(content)), metadata)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"\x15\x00\x15\x02", "does not end"),
        (b"\x18" + varint(1 << 40), "does not end"),
        (b"\x1c" * 6 + b"\x00", "holds what none does"),
        (b"\x15" + b"\xff" * 11, "more than 64 bits"),
        (b"\x19\xfc" + varint(1 << 40) + b"\x00" * 9, "does not end"),
    ],
)
def test_headers_that_are_none(header: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        page_headers._read_header(io.BytesIO(header), 0, len(header))
