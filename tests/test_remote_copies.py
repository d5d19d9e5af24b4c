"""Copies of remote folders: only what is needed, fetched again where it has changed, told and within the disk."""

from __future__ import annotations

import errno
import secrets
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from avsrobust.errors import DataSetError, OptionError
from avsrobust.remote import local_copy, telling
from avsrobust.remote.copies import make_copy
from avsrobust.remote.store import RemoteFile, Store

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "cache"))
    url = f"memory://{secrets.token_hex(4)}/data"
    for name in ("a/1.png", "a/2.png", "b/3.png", "table.csv"):
        put(url, name, name.encode())
    return url


def put(url: str, name: str, content: bytes) -> None:
    fsspec.filesystem("memory").pipe_file(f"{url.removeprefix('memory:/')}/{name}", content)


def delete(url: str, name: str) -> None:
    fsspec.filesystem("memory").rm_file(f"{url.removeprefix('memory:/')}/{name}")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_only_what_is_needed_is_copied_and_somebody_is_told(url: str, tmp_path: Path) -> None:
    told: list[str] = []
    with telling(told.append):
        folder = local_copy(url, lambda name: name.endswith(".csv"), folders=True)
        assert names(folder) == ["table.csv"]
        assert sorted(path.name for path in folder.iterdir()) == ["a", "b", "table.csv"]
        assert local_copy(url, ["a/1.png"]) == folder
        assert names(folder) == ["a/1.png", "table.csv"]
        local_copy(url)
        local_copy(url)
    home = next((tmp_path / "cache" / "remote").iterdir())
    assert told == [f"copying {count} (0.0 MB) of {url} to {home}" for count in ("1 file", "1 file", "2 files")]


def test_what_is_gone_there_goes_here(url: str) -> None:
    folder = local_copy(url)
    delete(url, "b/3.png")
    delete(url, "a/2.png")
    assert local_copy(url) == folder
    assert names(folder) == ["a/1.png", "table.csv"]
    assert not (folder / "b").exists()
    with pytest.raises(DataSetError, match=rf"{url}: lacks b/3.png and 0 more"):
        local_copy(url, ["b/3.png", "a/1.png"])
    assert local_copy(url, ["b/3.png"], lenient=True) == folder
    # Folders that are no more there do not stay either.
    (folder / "gone" / "deep").mkdir(parents=True)
    local_copy(url, folders=True)
    assert not (folder / "gone").exists()


def test_fresh_files_are_fetched_whatever_the_copy_says(url: str) -> None:
    folder = local_copy(url)
    (folder / "a" / "1.png").write_bytes(b"rotten!")
    assert (local_copy(url) / "a" / "1.png").read_bytes() == b"rotten!"
    assert (local_copy(url, fresh=True) / "a" / "1.png").read_bytes() == b"a/1.png"


def test_a_file_that_changes_while_it_is_fetched_is_fetched_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch, changes = Store.fetch, iter([b"2nd", b"third"])

    def changing(self: Store, found: Sequence[str], paths: Sequence[Path]) -> None:
        fetch(self, found, paths)
        if content := next(changes, b""):
            put(url, "a/1.png", content)

    monkeypatch.setattr(Store, "fetch", changing)
    assert (local_copy(url) / "a" / "1.png").read_bytes() == b"third"
    changes = (b"%d" % count for count in range(1000, 2000))
    put(url, "a/1.png", b"again")
    with pytest.raises(DataSetError, match=rf"{url}: a/1.png changed each time that it was fetched"):
        local_copy(url)


def test_a_file_that_is_listed_with_another_size_is_no_copy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = Store.fetch

    def cut_off(self: Store, found: Sequence[str], paths: Sequence[Path]) -> None:
        fetch(self, found, paths)
        paths[0].write_bytes(b"")

    monkeypatch.setattr(Store, "fetch", cut_off)
    with pytest.raises(DataSetError, match="changed each time"):
        local_copy(url, ["a/1.png"])
    monkeypatch.setattr(Store, "fetch", fetch)
    assert (local_copy(url, ["a/1.png"]) / "a" / "1.png").read_bytes() == b"a/1.png"


def test_a_copy_that_the_disk_has_no_room_for_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A full disk cannot be had here.
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(10**9, 10**9, 10**6))
    with pytest.raises(OptionError, match=r"its copy takes 0\.0 MB, but .* has 1\.0 MB left; .* AVSROBUST_CACHE"):
        local_copy(url)


def test_names_that_would_leave_the_folder_are_no_files(url: str) -> None:
    put(url, "a/../../../evil", b"x")
    assert names(local_copy(url)) == ["a/1.png", "a/2.png", "b/3.png", "table.csv"]


def test_without_the_package_of_a_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_url: str, **_: object) -> None:
        raise ImportError("Install s3fs to access S3")

    # Environments without s3fs are others than this one.
    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(OptionError, match=r"\(Install s3fs to access S3\); run: pip install 'avsrobust\[s3\]'"):
        Store.open("s3://lab/x")
    with pytest.raises(OptionError, match=r"is not here \(.*[Ii]nstall .*\); run: pip install gcsfs"):
        Store.open("gs://lab/x")


def test_a_folder_that_is_copied_in_two_steps_is_listed_once_before_and_once_after(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings: list[str] = []
    listing, fetch = Store.listing, Store.fetch

    def counted(store: Store) -> dict[str, RemoteFile]:
        listings.append(store.url)
        return listing(store)

    def overtaken(store: Store, found: Sequence[str], paths: Sequence[Path]) -> None:
        fetch(store, found, paths)
        # While the pictures come, somebody writes another table.
        if "a/1.png" in found:
            put(url, "table.csv", b"another")

    monkeypatch.setattr(Store, "listing", counted)
    monkeypatch.setattr(Store, "fetch", overtaken)
    tables = make_copy(url, lambda name: name.endswith(".csv"), settled=False)
    assert (tables.files / "table.csv").read_bytes() == b"table.csv"
    assert make_copy(url, since=tables).files == tables.files
    assert (tables.files / "table.csv").read_bytes() == b"another"
    assert names(tables.files) == ["a/1.png", "a/2.png", "b/3.png", "table.csv"]
    # The table was looked at alone.
    assert listings == [url, url]


def test_a_store_that_is_out_of_order_for_a_while_is_tried_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avsrobust.remote.store.PAUSES_S", (0.0, 0.0))
    get = type(fsspec.filesystem("memory")).get
    answers: list[Exception | None] = [RuntimeError("FlexibleChecksumError: no match"), OSError("reset"), None]
    asked: list[int] = []

    def moody(self: Any, names: list[str], paths: list[str], **options: Any) -> None:
        asked.append(len(names))
        if (answer := answers.pop(0)) is not None:
            raise answer
        get(self, names, paths, **options)

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "get", moody)
    assert names(local_copy(url)) == ["a/1.png", "a/2.png", "b/3.png", "table.csv"]
    assert asked == [4, 4, 4]
    for failures, asked_for, expected in (
        ([OSError("reset")] * 3, 3, r"cannot be fetched \(OSError: reset\); run the same command again"),
        (
            [PermissionError("The token has expired")],
            1,
            "the keys have expired: renew them, and run the same command again",
        ),
        (
            [PermissionError("Access Denied")],
            1,
            "check the keys, and what they may do there; run the same command again",
        ),
        ([OSError(errno.ENOSPC, "No space left on device")], 1, "No space left"),
    ):
        asked.clear()
        answers[:] = failures
        with pytest.raises(DataSetError, match=expected):
            local_copy(url, fresh=True)
        assert len(asked) == asked_for
