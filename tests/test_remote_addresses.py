"""Addresses: told from paths, joined, and put in place of the local folders that stand for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avsrobust.errors import DataSetError, OptionError
from avsrobust.remote import address_of, is_remote, is_remote_place, join, naming_addresses, with_addresses
from avsrobust.remote.addresses import COPIES, STAGING, local_home, origin
from avsrobust.remote.store import Store


@pytest.mark.parametrize(
    ("place", "expected"),
    [("s3://a/b", True), ("gs://a", True), ("a/b", False), ("C:/a", False), (Path("s3:/a"), False), (None, False)],
)
def test_addresses_are_told_from_paths(place: object, expected: bool) -> None:
    assert is_remote(place) is expected


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3:/lab/x", "s3://lab/x, with two slashes"),
        ("S3:lab/x", "s3://lab/x, with two slashes"),
        ("file:/tmp", "file://tmp, with two slashes"),
        (Path("s3://lab/x"), "s3://lab/x, as text: a Path loses a slash"),
    ],
)
def test_addresses_with_a_slip_are_no_folders_here(place: Path | str, expected: str) -> None:
    with pytest.raises(OptionError, match=f"{place}: is no address; expected {expected}"):
        is_remote_place(place)


@pytest.mark.parametrize("place", ["a/b", "C:/a", "./s3:/x", "s3", "gs-data/x", Path("s3"), Path("/s3:/x"), None])
def test_paths_are_no_slips(place: object) -> None:
    assert not is_remote_place(place)
    assert is_remote_place("s3://lab/x")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("S3://lab/x", "S3://lab/x: cannot be opened; .*; write 's3://'"),
        (
            "sftp://host/x",
            r"sftp://host/x: cannot be opened; expected s3://bucket/folder, gs://bucket/folder \(Google\) or",
        ),
        ("file:///tmp", "is on this machine; expected the path itself; leave 'file://' out"),
        ("s3:///", "names no folder"),
    ],
)
def test_addresses_that_no_store_opens(url: str, expected: str) -> None:
    with pytest.raises(OptionError, match=expected):
        Store.open(url)


def test_places_below_a_path_or_an_address() -> None:
    assert join("s3://lab/robust/", "s4", "x") == "s3://lab/robust/s4/x"
    assert join("robust", "s4") == Path("robust/s4")
    assert join(Path("robust"), "s4") == Path("robust/s4")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The copy of s3://lab/data, in a cache whose path is a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "cache"))
    home = local_home(COPIES, "s3://lab/data/")
    home.mkdir(parents=True)
    (home / "index.json").write_text(json.dumps({"url": "s3://lab/data"}))
    return home


def test_texts_name_addresses(home: Path) -> None:
    files = home / "files"
    assert with_addresses(f"{files}/a/b.png: found 3") == "s3://lab/data/a/b.png: found 3"
    assert with_addresses(f"--data-root {files}: no") == "--data-root s3://lab/data: no"
    assert with_addresses(f"{files.resolve()}/x and '{files}'") == "s3://lab/data/x and 's3://lab/data'"
    assert address_of(files / "x") == "s3://lab/data/x"
    # What is no folder of files stays, and so does what nobody knows.
    other = local_home(STAGING, "s3://lab/data") / "files"
    for text in (f"kept in {home}", f"{files}-2/x", f"{other}/x", "nothing"):
        assert with_addresses(text) == text
    (home / "index.json").write_text('{"url": "/etc"}')
    assert with_addresses(f"{files}/x") == f"{files}/x"


def test_errors_name_addresses(home: Path) -> None:
    with pytest.raises(DataSetError) as caught, naming_addresses():
        raise DataSetError(f"{home}/files: bad", [f"{home}/files/x: worse"])
    assert (str(caught.value), caught.value.findings) == ("s3://lab/data: bad", ("s3://lab/data/x: worse",))
    with pytest.raises(OptionError, match=r"^s3://lab/data/y$"), naming_addresses():
        raise OptionError(f"{home}/files/y")


def test_where_a_copy_comes_from(home: Path, tmp_path: Path) -> None:
    assert origin(home / "files" / "a" / "b") == ("s3://lab/data", "a/b")
    assert origin((home / "files").resolve() / "a") == ("s3://lab/data", "a")
    assert origin(tmp_path / "a") is None
    assert origin(home.parent / "unknown" / "files" / "a") is None


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("AVSROBUST_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert with_addresses("/a/b") == "/a/b"
    assert origin(Path("/a/b")) is None
    with pytest.raises(OptionError, match="AVSROBUST_CACHE: is not set, and there is no home folder"):
        local_home(COPIES, "s3://lab/data")
