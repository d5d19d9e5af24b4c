"""The checksums of a build: a mapping in columns that answers as a dictionary does, and refuses what is damaged."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avsrobust.checksums import CHECKSUMS_NAME, SCHEMA, FileSum, read_checksums, write_checksums
from avsrobust.errors import ManifestError

PATHS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.lists(PATHS, unique=True, max_size=40), other=PATHS, shuffled=st.booleans())
def test_it_is_the_dictionary_of_its_entries(paths: list[str], other: str, shuffled: bool, tmp_path: Path) -> None:
    entries = {path: FileSum(path, len(path), f"{number:064x}") for number, path in enumerate(paths)}
    write_checksums(tmp_path, entries.values())
    if shuffled:
        # As another program may have written it.
        table = pq.read_table(tmp_path / CHECKSUMS_NAME)
        pq.write_table(table.take(pa.array(range(len(paths))[::-1], type=pa.int64())), tmp_path / CHECKSUMS_NAME)
    found = read_checksums(tmp_path)
    assert found == entries
    assert dict(found.items()) == entries
    assert list(found) == sorted(paths)
    assert len(found) == len(entries)
    assert all(path in found for path in paths)
    assert found.get(other) == entries.get(other)


@pytest.mark.parametrize("paths", [["a", "a"], ["a", None], ["b", "a", "b"]])
def test_entries_that_are_empty_or_there_twice_are_refused(paths: list[str | None], tmp_path: Path) -> None:
    columns = [pa.array(paths, pa.string()), pa.array([1] * len(paths), pa.int64()), pa.array(["0"] * len(paths))]
    pq.write_table(pa.table(columns, names=SCHEMA.names), tmp_path / CHECKSUMS_NAME)
    with pytest.raises(ManifestError, match=r"is damaged \(an entry is empty or there twice\); expected one per file"):
        read_checksums(tmp_path)
