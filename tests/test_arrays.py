"""NumPy files of any content: the arrays, or one line; never more memory than the file declares and the limit allows."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsrobust.archives import is_stored, open_archive
from avsrobust.arrays import map_npy, read_npy, read_npz
from avsrobust.errors import ClipError
from avsrobust.limits import ARRAY_BYTES, Limit

SMALL = Limit(1000, "bytes", "a test")


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(text: str, version: int = 1) -> bytes:
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<I", len(text)) + text.encode()


def described(shape: str, descr: str = "'<f4'") -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")


@pytest.mark.parametrize("dtype", ["?", "u1", "<i8", ">i4", "<f2", ">f8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 4)])
def test_every_reader_returns_what_numpy_wrote(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", masks=array, other=np.asfortranarray(array))
    archive = read_npz(tmp_path / "a.npz", ClipError)
    for found in (archive["masks"], archive["other"], read_npy(tmp_path / "a.npy", ClipError)):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype.newbyteorder("=")
        assert found.dtype.isnative
    mapped = map_npy(tmp_path / "a.npy", ClipError)
    np.testing.assert_array_equal(mapped, array)
    assert mapped.dtype == array.dtype


BAD_NPY = {
    "empty": (b"", "EOF"),
    "text": (b"hello world, this is no array at all", "magic"),
    "more than there is": (described("(1000000000000,)"), "declares 4,000,000,000,000 bytes of numbers and holds 0"),
    "wraps in 64 bits": (described("(4611686018427387904, 4)"), "declares"),
    "less than there is": (described("(1,)") + bytes(8), "declares 4 bytes of numbers and holds 8"),
    "negative": (described("(-1, -1)") + bytes(4), "shape"),
    "objects": (npy(np.array([None], object)), "plain numbers"),
    "texts": (npy(np.array(["a"])), "plain numbers"),
    "complex": (npy(np.zeros(2, complex)), "plain numbers"),
    "structured": (described("(1,)", "[('a', '<f4')]") + bytes(4), "plain numbers"),
    "many dimensions": (described(f"({'1, ' * 100})") + bytes(4), "shape"),
    "deep": (header("(" * 9000), "numpy"),
    "deep signs": (header("-" * 9000 + "1"), "numpy"),
    "long header": (header(" " * 20000, version=2), "Header info length"),
    "version": (b"\x93NUMPY\x09\x00" + bytes(10), "version"),
    "escape": (header("'\\d'"), "numpy"),
}


ODD_HEADERS = {
    "escape in a name": "{'descr': '<f4\\d', 'fortran_order': False, 'shape': (1,), }",
    "a number runs into a word": "{'descr': '<f4', 'fortran_order': False, 'shape': (1if True else 2,), }",
    "a type's name of long ago": "{'descr': '|a4', 'fortran_order': False, 'shape': (1,), }",
}


@pytest.mark.filterwarnings("error")
def test_arrays_of_python_2_are_read_and_odd_headers_refused_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It changes the filters of all threads, and arrays are read in several.
    monkeypatch.delattr("warnings.catch_warnings")
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    for version in (1, 2):
        text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }        \n"
        (tmp_path / "a.npy").write_bytes(header(text, version) + array.tobytes())
        np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", ClipError), array)
        np.testing.assert_array_equal(map_npy(tmp_path / "a.npy", ClipError), array)
    for text in ODD_HEADERS.values():
        (tmp_path / "a.npy").write_bytes(header(text) + bytes(4))
        with pytest.raises(ClipError, match="its header is no plain literal"):
            read_npy(tmp_path / "a.npy", ClipError)


def test_a_header_that_breaks_off_is_named(tmp_path: Path) -> None:
    whole = npy(np.zeros(3))
    for length in (6, 7, 9, 20, 100):
        (tmp_path / "a.npy").write_bytes(whole[:length])
        with pytest.raises(ClipError, match=r"a.npy: cannot be read as numpy's arrays \(.*EOF"):
            read_npy(tmp_path / "a.npy", ClipError)


@pytest.mark.parametrize("name", BAD_NPY)
def test_bad_arrays_are_one_line(name: str, tmp_path: Path) -> None:
    content, message = BAD_NPY[name]
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("masks.npy", content)
    for read in (lambda: read_npy(tmp_path / "a.npy", ClipError), lambda: read_npz(tmp_path / "a.npz", ClipError)):
        with pytest.raises(ClipError, match=message) as caught:
            read()
        assert "\n" not in str(caught.value)
    with pytest.raises(ClipError, match=message):
        map_npy(tmp_path / "a.npy", ClipError)


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", masks=np.zeros((5, 100, 100), np.uint8))
    assert (tmp_path / "bomb.npz").stat().st_size < 1000
    with pytest.raises(
        ClipError, match=r"bomb.npz: unpacked: found 50,\d\d\d bytes; expected at most 1,000.*--raise-limits 51"
    ):
        read_npz(tmp_path / "bomb.npz", ClipError, limit=SMALL)
    assert read_npz(tmp_path / "bomb.npz", ClipError)["masks"].shape == (5, 100, 100)


def test_the_limit_is_raised_by_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", masks=np.zeros((5, 100, 100), np.uint8))
    monkeypatch.setenv("AVSROBUST_RAISE_LIMITS", "51")
    assert read_npz(tmp_path / "a.npz", ClipError, limit=SMALL)["masks"].size == 50_000


def test_a_member_that_unpacks_to_more_than_it_declares_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", masks=np.zeros(100_000, np.uint8))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    true, small = struct.pack("<L", 100_128), struct.pack("<L", 500)
    # In the directory alone: local headers of numpy's say 2^32 - 1.
    assert content.count(true) >= 1
    (tmp_path / "a.npz").write_bytes(content.replace(true, small))
    with pytest.raises(ClipError, match=r"a.npz: cannot be read as numpy's arrays"):
        read_npz(tmp_path / "a.npz", ClipError)


def test_a_directory_of_too_many_members_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for number in range(100):
            archive.writestr(f"{number}.npy", b"")
    monkeypatch.setattr("avsrobust.archives.TEXT_BYTES", SMALL)
    with pytest.raises(ClipError, match=r"a.npz: directory of the archive: found \d,\d\d\d bytes"):
        read_npz(tmp_path / "a.npz", ClipError)


@pytest.mark.parametrize("tail", [b"x", bytes(22), b"PK\x05\x06" + bytes(18)])
def test_what_follows_the_directory_is_refused(tail: bytes, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", masks=np.zeros(3))
    with (tmp_path / "a.npz").open("ab") as stream:
        stream.write(tail)
    with pytest.raises(ClipError, match="cannot be read as numpy's arrays"):
        read_npz(tmp_path / "a.npz", ClipError, ["masks"])


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", mask=np.zeros(3))
    with pytest.raises(ClipError, match=r"a.npz: .*has no array 'masks'"):
        read_npz(tmp_path / "a.npz", ClipError, ["masks"])


@pytest.mark.parametrize("read", [read_npz, read_npy, map_npy])
def test_only_regular_files_are_opened(read: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a pipe, not a regular file"):
        read(tmp_path / "pipe", ClipError)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent", ClipError)
    with pytest.raises(OSError, match="is a device, not a regular file"):
        read(Path("/dev/zero"), ClipError)


def test_archives_that_hold_what_they_declare(tmp_path: Path) -> None:
    for compression, expected in ((zipfile.ZIP_STORED, True), (zipfile.ZIP_DEFLATED, False)):
        path = tmp_path / f"{compression}.zip"
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("a", bytes(100))
        with path.open("rb") as stream:
            assert is_stored(open_archive(stream, path, ARRAY_BYTES, ClipError), path.stat().st_size) is expected
