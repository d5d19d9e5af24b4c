"""Our parquet files: checksums on pages, and one line for whatever is wrong with a file."""

from __future__ import annotations

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from avsrobust.errors import ManifestError
from avsrobust.limits import METADATA_BYTES
from avsrobust.parquet import Kind, open_writer, write_parquet

KIND = Kind(ManifestError, "a manifest", "build")


def table() -> pa.Table:
    return pa.table({"name": [f"clip {n % 7}" for n in range(2000)], "value": [n * 0.37 for n in range(2000)]})


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit_in_a_page_is_found_or_changes_nothing(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(path, table())
    whole = bytearray(path.read_bytes())
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    generator = random.Random(seed)
    whole[generator.randrange(4, len(whole) - footer)] ^= 1 << generator.randrange(8)
    path.write_bytes(whole)
    found, message = None, ""
    try:
        found = KIND.read(path)
    except ManifestError as error:
        message = str(error)
    assert "\n" not in message
    assert str(path) in message if found is None else found.equals(table())


def test_row_groups_are_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with open_writer(path, table().schema) as writer:
        writer.write_table(table())
        writer.write_table(table())
    assert KIND.open(path).metadata.num_row_groups == 2
    whole = bytearray(path.read_bytes())
    whole[2000] ^= 4
    path.write_bytes(whole)
    with pytest.raises(ManifestError, match="cannot be read as parquet"):
        KIND.read(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", b"PAR1" + b"\xff" * 40 + b"PAR1"])
def test_what_is_no_parquet_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"t\.parquet") as caught:
        KIND.read(path)
    assert "\n" not in str(caught.value)


def test_a_footer_that_declares_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1" + b"\0" * 100 + (METADATA_BYTES.value + 1).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ManifestError, match=r"footer: found .* expected at most"):
        KIND.read(path)


def test_types_are_compared_column_by_column(tmp_path: Path) -> None:
    expected = pa.schema([pa.field("name", pa.string()), pa.field("value", pa.float64())])
    KIND.require_types(tmp_path, pa.schema([("name", pa.large_string()), ("value", pa.float64())]), expected)
    KIND.require_types(
        tmp_path, pa.schema([("name", pa.dictionary(pa.int32(), pa.string())), ("value", pa.float64())]), expected
    )
    with pytest.raises(ManifestError, match="column value is of type int64; expected double"):
        KIND.require_types(tmp_path, pa.schema([("name", pa.string()), ("value", pa.int64())]), expected)
    with pytest.raises(ManifestError, match="has no column value"):
        KIND.require_types(tmp_path, pa.schema([("name", pa.string())]), expected)


def test_what_a_displaced_page_declares_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(path, pa.table({f"c{n}": ["data:s4/a.wav", "data:s4/a.wav"] for n in range(12)}))
    whole = path.read_bytes()
    # Pages behind these two bytes are read from within their headers, where a checksum is taken for a size.
    path.write_bytes(whole[:60] + whole[62:])
    pools = (pa.system_memory_pool(), pa.default_memory_pool())
    before = [pool.max_memory() for pool in pools]
    opened = KIND.open(path)
    for column in range(1, 12):
        with contextlib.suppress(ManifestError):
            KIND.read_columns(path, opened, [f"c{column}"])
    assert all(pool.max_memory() < max(had + 1, 1 << 28) for pool, had in zip(pools, before, strict=True))


def test_row_groups_have_the_rows_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(path, table())
    whole = path.read_bytes()
    count = b"\x16" + bytes([2000 * 2 & 127 | 128, 2000 * 2 >> 7])
    first = whole.index(count, len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"))
    path.write_bytes(whole[:first] + b"\x16" + bytes([1000 * 2 & 127 | 128, 1000 * 2 >> 7]) + whole[first + 3 :])
    with pytest.raises(ManifestError, match=r"row groups of 2,000 rows, of 1,000 in all"):
        KIND.open(path)


def test_files_opened_in_threads_leave_the_processs_pool_of_memory_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(path, table())
    before = pa.default_memory_pool().backend_name
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _number: KIND.open(path), range(400)))
    assert pa.default_memory_pool().backend_name == before != pa.system_memory_pool().backend_name
