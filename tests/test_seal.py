"""The seal of a build's small files, and the checksums of all others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.checksums import (
    CHECKSUMS_NAME,
    FileSum,
    read_checksums,
    sum_of_content,
    write_checksums,
)
from avsrobust.errors import ManifestError
from avsrobust.files import sha256_of_file
from avsrobust.parquet import write_parquet
from avsrobust.seal import SEAL_NAME, broken_seals, is_intact, read_seal, require_sealed, write_seal

MANIFEST = "manifest.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "build.json").write_text("{}")
    write_seal(tmp_path, {MANIFEST: b"rows"})
    (tmp_path / MANIFEST).write_bytes(b"rows")
    return tmp_path


def test_a_seal_vouches_for_what_is_there_and_what_comes_next(folder: Path) -> None:
    assert read_seal(folder) == {name: sha256_of_file(folder / name) for name in ("build.json", MANIFEST)}
    assert is_intact(folder)
    require_sealed(folder / MANIFEST)


@pytest.mark.parametrize("name", ["build.json", MANIFEST])
@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_what_changed_is_named(folder: Path, name: str, damage: str) -> None:
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(b"{} ")
    [(found, line)] = broken_seals(folder)
    assert found == name
    assert line.startswith(f"{folder / name}: ")
    assert not is_intact(folder)


def test_a_folder_without_a_seal_is_not_intact_but_nothing_is_broken(tmp_path: Path) -> None:
    assert list(broken_seals(tmp_path)) == []
    assert not is_intact(tmp_path)
    require_sealed(tmp_path / MANIFEST)


@settings(max_examples=150, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_every_flipped_bit_of_the_seal_is_its_own_fault(
    position: float, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("seal")
    write_seal(folder, {MANIFEST: b"rows"})
    (folder / MANIFEST).write_bytes(b"rows")
    content = bytearray((folder / SEAL_NAME).read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    (folder / SEAL_NAME).write_bytes(content)
    [(name, line)] = broken_seals(folder)
    assert (name, line.split(": ")[0]) == (SEAL_NAME, str(folder / SEAL_NAME))
    with pytest.raises(ManifestError, match=r"seal\.json: is damaged"):
        require_sealed(folder / MANIFEST)


SUMS = [sum_of_content("data:b", b"b"), sum_of_content("audio/a.wav", b"aa")]


def test_checksums_are_read_as_written_whatever_their_order(tmp_path: Path) -> None:
    own = write_checksums(tmp_path, SUMS)
    content = (tmp_path / CHECKSUMS_NAME).read_bytes()
    assert read_checksums(tmp_path, own) == {entry.path: entry for entry in SUMS}
    assert list(read_checksums(tmp_path)) == ["audio/a.wav", "data:b"]
    assert write_checksums(tmp_path, reversed(SUMS)) == own
    assert (tmp_path / CHECKSUMS_NAME).read_bytes() == content


def test_checksums_that_are_not_those_of_the_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"checksums.parquet: cannot be read .* build again"):
        read_checksums(tmp_path, "0" * 64)
    write_checksums(tmp_path, SUMS)
    with pytest.raises(ManifestError, match=r"checksums.parquet: found sha256 .*; expected 0000"):
        read_checksums(tmp_path, "0" * 64)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["a"], "bytes": [1]}, "has no column sha256"),
        ({"path": ["a"], "bytes": ["1"], "sha256": [""]}, "column bytes is of type string; expected int64"),
        ({"path": ["a", "a"], "bytes": [1, 2], "sha256": ["x", "y"]}, "an entry is empty or there twice"),
        ({"path": ["a", None], "bytes": [1, 2], "sha256": ["x", "y"]}, "an entry is empty or there twice"),
    ],
)
def test_checksums_of_another_form_are_refused(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    write_parquet(tmp_path / CHECKSUMS_NAME, pa.table(columns))
    with pytest.raises(ManifestError, match=rf"checksums.parquet: .*{message}"):
        read_checksums(tmp_path)


def test_an_entry_is_equal_only_with_size_and_content() -> None:
    assert sum_of_content("a", b"x") != sum_of_content("a", b"y")
    assert sum_of_content("a", b"x") == FileSum(
        "a", 1, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    )
