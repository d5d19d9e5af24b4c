"""Atomic writes, checksums, and paths that stay inside their root."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.errors import AvsRobustError, OptionError
from avsrobust.files import (
    TEMPORARY_SUFFIX,
    atomic_path,
    is_safe_name,
    is_safe_relative,
    open_regular,
    read_regular,
    remove_temporaries,
    require_writable,
    resolve_inside,
    sha256_of_file,
    write_bytes,
)
from avsrobust.limits import Limit


def _fail_while_writing(target: Path) -> None:
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError("while writing")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a" / "file.bin"
    write_bytes(target, b"old")
    with pytest.raises(ZeroDivisionError, match="while writing"):
        _fail_while_writing(target)
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


def test_a_full_disk_has_a_remedy_of_its_own(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no device that is always full")
    with (
        pytest.raises(
            OptionError, match=r"a\.csv: cannot be written \(No space left on device\); free some space there"
        ),
        atomic_path(tmp_path / "a.csv"),
        Path("/dev/full").open("wb", buffering=0) as stream,
    ):
        stream.write(b"x")


def test_a_read_only_disk_is_named_by_the_file_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a disk refuses to delete what is not there, too; none can be mounted here, so the calls are stand-ins."""

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(
        OptionError, match=r"/a\.csv: cannot be written \(Read-only file system\); choose another output"
    ):
        write_bytes(tmp_path / "a.csv", b"x")
    with pytest.raises(OptionError, match=r"cannot be written \(Read-only file system"):
        require_writable(tmp_path)


def test_leftovers_of_killed_writers_are_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    leftover = tmp_path / "sub" / f".x.wav.1.ab{TEMPORARY_SUFFIX}"
    leftover.write_bytes(b"half")
    (tmp_path / "sub" / "x.wav").write_bytes(b"whole")
    remove_temporaries(tmp_path)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["x.wav"]


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(content)
    assert sha256_of_file(tmp_path / "f") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a//b", "", ".", "a/./b", "a\\..\\b", "a\nb", "a/"]
)
def test_paths_that_could_leave_are_refused(path: str, tmp_path: Path) -> None:
    assert not is_safe_relative(path)
    with pytest.raises(AvsRobustError, match="expected a relative path"):
        resolve_inside(tmp_path, path, named_by="some.csv")


@given(st.lists(st.text(st.characters(exclude_characters="/\\", min_codepoint=32), min_size=1), min_size=1))
def test_any_accepted_path_resolves_below_its_root(parts: list[str]) -> None:
    path = "/".join(parts)
    if is_safe_relative(path):
        assert Path("/root/x") in (Path("/root/x") / path).parents


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OptionError, match="choose another output folder"):
        require_writable(tmp_path / "file" / "folder")
    with pytest.raises(OptionError, match="choose another output folder"):
        write_bytes(tmp_path / "file" / "folder" / "x", b"")


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a pipe, not a regular file"):
        open_regular(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a device, not a regular file"):
        open_regular(Path("/dev/zero"))


def test_a_file_above_its_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 101)
    with pytest.raises(AvsRobustError, match="found 101 bytes; expected at most 100"):
        read_regular(tmp_path / "big", Limit(100, "bytes", "enough"), AvsRobustError)


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
@pytest.mark.parametrize("size", [0, 1, 7, 50])
def test_a_file_is_read_whole_in_whatever_pieces_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, at_once: int
) -> None:
    monkeypatch.setattr("avsrobust.files._MOST_AT_ONCE", at_once)
    (tmp_path / "a").write_bytes(bytes(range(size)))
    assert read_regular(tmp_path / "a", Limit(100, "bytes", "enough"), AvsRobustError) == bytes(range(size))


def test_a_file_that_grows_above_its_limit_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    real = os.read

    def grown(descriptor: int, most: int) -> bytes:
        with (tmp_path / "a").open("ab") as stream:
            stream.write(b"x")
        return real(descriptor, most)

    monkeypatch.setattr(os, "read", grown)
    with pytest.raises(AvsRobustError, match="found 101 bytes; expected at most 100"):
        read_regular(tmp_path / "a", Limit(100, "bytes", "enough"), AvsRobustError)


def test_a_written_file_and_its_folder_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (flushed.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd)))
    write_bytes(tmp_path / "a", b"x")
    assert [Path(path).name.startswith(".a.") or Path(path) == tmp_path for path in flushed] == [True, True]


@pytest.mark.parametrize("name", ["standard", "m2f_v1.0", "s4-seed42", "a+b", "_x", "9", "a" * 100, "console", "com"])
def test_names_that_are_names(name: str) -> None:
    assert is_safe_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "/a",
        ".a",
        "-a",
        "+a",
        "=a",
        "a.",
        "a b",
        "a\n",
        "a\x1b[31m",
        "\u202ea",
        "é",
        "NUL",
        "con.txt",
        "Com1",
        "lpt9.x",
        "a" * 101,
        "a:b",
        "~",
        "$HOME",
        "*",
        None,
        3,
        ["a"],
        b"a",
    ],
)
def test_names_that_are_something_else(name: object) -> None:
    assert not is_safe_name(name)


@given(st.text("aZ9._+-/\\ \n", max_size=6))
def test_a_safe_name_is_one_part_of_a_path(name: str) -> None:
    if is_safe_name(name):
        assert is_safe_relative(name)
        assert "/" not in name
        assert name.isascii()
        assert name.isprintable()
