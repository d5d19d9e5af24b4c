"""Writing to remote folders: put whole at the end, refused, continued, and never over what another has written."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.errors import OptionError
from avsrobust.folders import MARKER_NAME, ensure_output_dir
from avsrobust.limits import TEXT_BYTES
from avsrobust.locks import LOCK_NAME, OWNER_NAME
from avsrobust.remote import (
    lease,
    local_copy,
    output_folder,
    published,
    put_so_far,
    reconcile,
    stage,
    staging,
    telling,
    upload,
)
from avsrobust.remote.reconcile import HERE, THERE, Lineage, Sides, Verdict
from avsrobust.remote.store import Store

fsspec = pytest.importorskip("fsspec")
COMMAND = "avsrobust test"


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder of the file system that fsspec has in memory."""
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(lease, "_POLL_S", 0.02)
    return f"memory://{secrets.token_hex(4)}/results"


def there(url: str) -> dict[str, bytes]:
    system = fsspec.filesystem("memory")
    root = url.removeprefix("memory:/")
    return {path.removeprefix(f"{root}/"): system.cat_file(path) for path in system.find(root)}


def put(url: str, name: str, content: bytes) -> None:
    fsspec.filesystem("memory").pipe_file(f"{url.removeprefix('memory:/')}/{name}", content)


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What comes now comes from another machine: one that does not see this one's staging folders."""
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "elsewhere"))


def write(folder: Path, **contents: str) -> None:
    ensure_output_dir(folder, "results", 1)
    for name, content in contents.items():
        (folder / name.replace("__", "/")).parent.mkdir(parents=True, exist_ok=True)
        (folder / name.replace("__", "/")).write_text(content)


@pytest.fixture
def filled(url: str) -> str:
    with output_folder(url, COMMAND, "results") as folder:
        write(folder, a="1", b="1", deep__c="1")
    return url


def test_a_path_is_handed_through(tmp_path: Path) -> None:
    with output_folder(tmp_path / "x", COMMAND, "results") as folder:
        assert folder == tmp_path / "x"
    assert not folder.exists()


def test_what_makes_a_folder_ours_comes_first_and_what_makes_it_whole_last(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[list[str]] = []
    put_files = Store.put

    def noted(self: Store, files: dict[str, Path], known: dict[str, str] | None) -> None:
        order.append(list(files))
        put_files(self, files, known)

    monkeypatch.setattr(Store, "put", noted)
    with output_folder(url, COMMAND, "results") as folder:
        write(folder, audio__x="1", manifest="no", b="2")
        (folder / "parts").mkdir()
        for name in (
            "parts/000001.scores.parquet",
            "parts/000001.masks.parquet",
            "manifest.parquet",
            "run.json",
            "seal.json",
            "scores.parquet",
            LOCK_NAME,
            OWNER_NAME,
            "x.avsrobust-tmp",
        ):
            (folder / name).write_text(name)
        (folder / "data_root").symlink_to(folder)
        assert list(there(url)) == [LOCK_NAME]
    assert order == [
        [MARKER_NAME],
        ["audio/x", "b", "manifest", "parts/000001.masks.parquet"],
        ["parts/000001.scores.parquet"],
        ["scores.parquet"],
        ["seal.json"],
        ["run.json"],
        ["manifest.parquet"],
    ]
    assert sorted(there(url)) == sorted(name for names in order for name in names)


def test_the_files_are_then_a_copy_for_reading(filled: str, tmp_path: Path) -> None:
    told: list[str] = []
    with telling(told.append):
        copy = local_copy(filled)
    assert told == []
    assert (copy / "a").read_text() == "1"
    (home,) = (tmp_path / "cache" / "staging").iterdir()
    assert published(home / "files" / "deep" / "c") == copy / "deep" / "c"
    assert not (home / "files").exists()
    assert published(tmp_path / "x") == tmp_path / "x"


def test_what_is_there_is_added_to(filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere(monkeypatch, tmp_path)
    with output_folder(filled, COMMAND, "results") as folder:
        assert (folder / "deep" / "c").read_text() == "1"
        (folder / "b").write_text("2")
        (folder / "deep" / "c").unlink()
        (folder / "d").write_text("3")
    contents = there(filled)
    del contents[MARKER_NAME]
    assert contents == {"a": b"1", "b": b"2", "d": b"3"}


def test_unfinished_work_stays_here_and_is_found_again(filled: str, tmp_path: Path) -> None:
    told: list[str] = []

    def interrupted() -> None:
        with output_folder(filled, COMMAND, "results") as folder:
            (folder / "half").write_text("done")
            raise KeyboardInterrupt

    with telling(told.append), pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(there(filled)) == sorted([MARKER_NAME, "a", "b", "deep/c"])
    (home,) = (tmp_path / "cache" / "staging").iterdir()
    assert told == [f"{filled}: what is finished is kept in {home}; the same command continues there"]
    with output_folder(filled, COMMAND, "results") as folder:
        assert (folder / "half").read_text() == "done"
    assert there(filled)["half"] == b"done"


def test_a_command_that_does_nothing_leaves_nothing(filled: str, tmp_path: Path) -> None:
    def refused() -> None:
        with output_folder(filled, COMMAND, "results"):
            raise OptionError("no")

    with pytest.raises(OptionError, match="no"):
        refused()
    (home,) = (tmp_path / "cache" / "staging").iterdir()
    assert not (home / "files").exists()
    assert LOCK_NAME not in there(filled)


def refuse(url: str, kind: str = "results", **choices: Any) -> str:
    """The message of the error with which a folder is refused before anything is done."""
    before = there(url)

    def try_it() -> None:
        with output_folder(url, COMMAND, kind, **choices):
            raise AssertionError

    with pytest.raises(OptionError) as caught:
        try_it()
    assert there(url) == before
    return str(caught.value)


def test_a_folder_of_somebody_else_is_refused(url: str, filled: str) -> None:
    assert f"{filled}: holds results of format 1; expected a build" in refuse(filled, "build")
    foreign = f"{url}-2"
    put(foreign, "thesis/chapter1.txt", b"mine")
    assert f"{foreign}: holds thesis, which avsrobust did not write there" in refuse(foreign)
    put(foreign, MARKER_NAME, b"{")
    assert f"{foreign}/{MARKER_NAME}: is damaged" in refuse(foreign)


def test_a_marker_of_any_size_is_not_read(url: str) -> None:
    put(url, MARKER_NAME, b" " * (TEXT_BYTES.value + 1))
    assert f"{url}/{MARKER_NAME}: found 8,388,609 bytes; expected at most 8,388,608" in refuse(url)


def test_two_machines_do_not_write_at_once(filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with output_folder(filled, "avsrobust evaluate", "results") as folder:
        # The same machine, told by the staging folder, and another one, by the lock that lies there.
        assert f"{filled}: is in use by avsrobust evaluate (process" in refuse(filled)
        elsewhere(monkeypatch, tmp_path)
        message = refuse(filled)
        assert f"{filled}: is in use by avsrobust evaluate (process" in message
        assert f"where that process is no more, delete {filled}/{LOCK_NAME}" in message
        monkeypatch.undo()
        monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "cache"))
        (folder / "a").write_text("2")
    assert there(filled)["a"] == b"2"
    assert LOCK_NAME not in there(filled)


def test_waiting_for_another_machine(filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waits, seen = threading.Event(), list[str]()
    holder = Store.read

    def read(self: Store, name: str) -> bytes | None:
        waits.set()
        return holder(self, name)

    def second() -> None:
        with output_folder(filled, COMMAND, "results", wait=True) as folder:
            seen.append((folder / "a").read_text())

    with output_folder(filled, COMMAND, "results") as folder:
        elsewhere(monkeypatch, tmp_path)
        waits.clear()
        monkeypatch.setattr(Store, "read", read)
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(20)
        monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "cache"))
        (folder / "a").write_text("2")
    thread.join(20)
    assert seen == ["2"]


def test_the_lock_of_a_killed_process_is_taken_over(
    filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (home,) = (tmp_path / "cache" / "staging").iterdir()
    token = json.loads((home / "index.json").read_text())["token"]
    put(filled, LOCK_NAME, json.dumps({"holder": token, "who": "avsrobust build (process 1 on x)"}).encode())
    with output_folder(filled, COMMAND, "results") as folder:
        (folder / "a").write_text("2")
    assert there(filled)["a"] == b"2"
    put(filled, LOCK_NAME, b"no lock of ours")
    assert "is in use by another process" in refuse(filled)


def test_a_store_that_says_otherwise_that_there_is_a_lock(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def precondition(_self: object, _path: str, _value: bytes, mode: str = "overwrite") -> None:
        # As s3fs raises the answer of stores that do not say which condition failed.
        raise OSError(22, "PreconditionFailed")

    put(filled, LOCK_NAME, b'{"who": "somebody"}')
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "pipe_file", precondition)
    assert "is in use by somebody" in refuse(filled)


def test_a_lock_that_is_lost_is_noticed(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def overrun() -> None:
        with output_folder(filled, COMMAND, "results") as folder:
            (folder / "a").write_text("2")
            put(filled, LOCK_NAME, b'{"who": "somebody"}')

    with pytest.raises(OptionError, match=rf"{filled}: its lock was taken by somebody while this command was paused"):
        overrun()
    assert there(filled)["a"] == b"1"
    # The other one's lock stays.
    assert there(filled)[LOCK_NAME] == b'{"who": "somebody"}'
    # A store that makes a file where there is one already.
    monkeypatch.setattr(Store, "create", lambda *_: True)
    with pytest.raises(OptionError, match="its lock was taken by somebody"), output_folder(filled, COMMAND, "results"):
        raise AssertionError


def test_a_change_by_others_is_a_conflict(filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def disturbed() -> None:
        with output_folder(filled, COMMAND, "results") as folder:
            (folder / "a").write_text("mine")
            put(filled, "a", b"theirs")

    with pytest.raises(OptionError, match=rf"{filled}: a changed there while this command worked on it"):
        disturbed()
    contents = there(filled)
    assert contents["a"] == b"theirs"
    assert LOCK_NAME not in contents
    # So is it when the same command runs again, until somebody decides.
    message = refuse(filled)
    (home,) = (tmp_path / "cache" / "staging").iterdir()
    assert f"is kept in {home}" in message
    assert (home / "files" / "a").read_text() == "mine"
    # What others have written that is the same is no conflict.
    put(filled, "a", b"mine")
    with output_folder(filled, COMMAND, "results") as folder:
        (folder / "b").write_text("mine too")
        put(filled, "b", b"mine too")
    assert there(filled)["b"] == b"mine too"


def test_new_files_there_join_unfinished_work(filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted() -> None:
        with output_folder(filled, COMMAND, "results") as folder:
            (folder / "mine").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    elsewhere(monkeypatch, tmp_path)
    with output_folder(filled, COMMAND, "results") as folder:
        (folder / "theirs").write_text("1")
        (folder / "a").write_text("2")
        (folder / "b").unlink()
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "cache"))
    with output_folder(filled, COMMAND, "results") as folder:
        names = sorted(path.name for path in folder.iterdir())
        assert names == sorted([MARKER_NAME, "a", "deep", "mine", "theirs"])
        assert (folder / "a").read_text() == "2"
    assert sorted(there(filled)) == sorted([MARKER_NAME, "a", "deep/c", "mine", "theirs"])


def test_an_upload_that_broke_off_is_finished(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_files = Store.put

    def breaks(self: Store, files: dict[str, Path], known: dict[str, str] | None) -> None:
        if "run.json" in files:
            raise OptionError("the network is gone")
        put_files(self, files, known)

    def broken() -> None:
        with output_folder(url, COMMAND, "results") as folder:
            write(folder, **{"a": "1", "run.json": "1"})

    monkeypatch.setattr(Store, "put", breaks)
    with pytest.raises(OptionError, match="the network is gone"):
        broken()
    assert "run.json" not in there(url)
    monkeypatch.setattr(Store, "put", put_files)
    with output_folder(url, COMMAND, "results") as folder:
        assert (folder / "run.json").read_text() == "1"
    assert sorted(there(url)) == sorted([MARKER_NAME, "a", "run.json"])


def settled(folder: Path) -> None:
    """Put what there is so far, and wait until it is there."""
    put_so_far(folder)
    thread = staging._ACTIVE[folder].putting
    assert thread is not None
    thread.join(20)


def test_a_long_command_puts_what_it_has_so_far(url: str, tmp_path: Path) -> None:
    told: list[str] = []
    with telling(told.append), output_folder(url, COMMAND, "results") as folder:
        write(folder, log="1\n", checkpoints__1="weights")
        settled(folder)
        assert there(url) | {MARKER_NAME: b"", LOCK_NAME: b""} == {
            MARKER_NAME: b"",
            LOCK_NAME: b"",
            "log": b"1\n",
            "checkpoints/1": b"weights",
        }
        with (folder / "log").open("a") as stream:
            stream.write("2\n")
        (folder / "checkpoints" / "1").unlink()
        (folder / "checkpoints" / "2").write_text("others")
        settled(folder)
        assert (there(url)["log"], there(url)["checkpoints/2"]) == (b"1\n2\n", b"others")
        assert "checkpoints/1" not in there(url)
        # Nothing is new.
        lines = len(told)
        settled(folder)
        assert len(told) == lines
        (folder / "log").write_text("1\n2\n3\n")
    assert there(url)["log"] == b"1\n2\n3\n"
    assert LOCK_NAME not in there(url)
    put_so_far(tmp_path)
    assert not list((tmp_path / "cache" / "staging").glob(f"*/{stage.SNAPSHOT_NAME}"))


def test_a_command_that_calls_often_puts_now_and_then(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(upload, "PUT_EVERY_S", 30.0)
    monkeypatch.setattr(upload, "_MOST_BYTES", 5)
    monkeypatch.setattr(upload, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def after(seconds: float) -> set[str]:
        now[0] += seconds
        put_so_far(folder, often=True)
        thread = staging._ACTIVE[folder].putting
        if thread is not None:
            thread.join()
        return there(url).keys() - {LOCK_NAME}

    with output_folder(url, COMMAND, "results") as folder:
        staging._ACTIVE[folder].began_s = now[0]
        write(folder, a="aaa", b="bb", c="c", d="a larger one")
        assert after(29.0) == set()
        # The marker takes part: the first file goes, however large it is.
        assert after(1.0) == {MARKER_NAME}
        assert after(29.0) == {MARKER_NAME}
        assert after(1.0) == {MARKER_NAME, "a", "b"}
        assert after(30.0) == {MARKER_NAME, "a", "b", "c"}
        assert after(30.0) == {MARKER_NAME, "a", "b", "c", "d"}


def test_parts_give_way_to_those_of_a_machine_that_continued(
    filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[str] = []

    def interrupted(there_too: dict[str, str], here_alone: dict[str, str]) -> None:
        with output_folder(filled, COMMAND, "results") as folder:
            write(folder, **there_too)
            settled(folder)
            write(folder, **here_alone)
            raise KeyboardInterrupt

    def parts() -> dict[str, str]:
        with telling(told.append), output_folder(filled, COMMAND, "results") as folder:
            return {path.name: path.read_text() for path in (folder / "parts").iterdir()}

    with pytest.raises(KeyboardInterrupt):
        interrupted({"parts__0": "first"}, {"parts__1": "mine", "parts__2": "mine", "other": "mine"})
    cache = os.environ["AVSROBUST_CACHE"]
    elsewhere(monkeypatch, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        interrupted({"parts__1": "theirs", "parts__3": "theirs"}, {})
    monkeypatch.setenv("AVSROBUST_CACHE", cache)
    assert parts() == {"0": "first", "1": "theirs", "3": "theirs"}
    assert told[1] == f"{filled}: was continued elsewhere; 2 files of parts that were here alone give way"
    # All else stays.
    assert there(filled)["other"] == b"mine"


def test_parts_that_nobody_continued_stay(filled: str) -> None:
    def interrupted() -> None:
        with output_folder(filled, COMMAND, "results") as folder:
            write(folder, parts__0="first")
            settled(folder)
            write(folder, parts__1="mine")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    # Killed when they were there, before that was noted.
    put(filled, "parts/1", b"mine")
    with output_folder(filled, COMMAND, "results") as folder:
        write(folder, parts__2="more")
        assert (folder / "parts" / "1").read_text() == "mine"
    assert there(filled)["parts/2"] == b"more"


def compare(sides: Sides) -> Verdict:
    """By the number in a file; there is none once it was set aside."""
    here, there = (int(path.read_text()) if path.is_file() else 0 for path in (sides.here / "a", sides.there / "a"))
    return Verdict("" if here == there else HERE if here > there else THERE, f"here {here}, there {there}")


@pytest.mark.parametrize("died", ["", "while files are set aside", "before the others are brought"])
def test_of_a_folder_that_tells_how_far_it_is_the_side_ahead_wins(
    filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, died: str
) -> None:
    told: list[str] = []

    def interrupted(**contents: str) -> None:
        with output_folder(filled, COMMAND, "results", lineage=Lineage(("a",), compare)) as folder:
            write(folder, **contents)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(a="2", b="mine", deep__c="mine", d="mine")
    cache = os.environ["AVSROBUST_CACHE"]
    elsewhere(monkeypatch, tmp_path)
    with output_folder(filled, COMMAND, "results") as folder:
        write(folder, a="3", d="theirs")
    monkeypatch.setenv("AVSROBUST_CACHE", cache)
    if died:
        with monkeypatch.context() as patch:
            patch.setattr(reconcile, "tell" if died.startswith("while") else "_restore", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                interrupted()
    with telling(told.append), output_folder(filled, COMMAND, "results", lineage=Lineage(("a",), compare)) as folder:
        assert {name: (folder / name).read_text() for name in ("a", "b", "deep/c", "d")} == {
            "a": "3",
            "b": "1",
            "deep/c": "1",
            "d": "theirs",
        }
    (stale,) = (tmp_path / "cache" / "staging").glob("*/stale-*")
    assert {path.name: path.read_text() for path in stale.rglob("*") if path.is_file()} == {
        "a": "2",
        "b": "mine",
        "c": "mine",
        "d": "mine",
    }
    if not died:
        assert next(line for line in told if "moved" in line).endswith(
            f"here 2, there 3; goes on from there; 4 files (0.0 MB) that this machine alone had moved to {stale}; delete that "
            "folder when you need nothing of it"
        )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_is_ahead_here_stays_and_two_histories_are_refused(
    filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lineage = Lineage(("a",), compare)

    def interrupted(**contents: str) -> None:
        with output_folder(filled, COMMAND, "results", lineage=lineage) as folder:
            write(folder, **contents)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(a="4", d="mine")
    put(filled, "a", b"4")
    put(filled, "d", b"theirs")
    message = refuse(filled, lineage=lineage)
    assert f"{filled}: here 4, there 4; expected nobody else to write there; nothing more was put there" in message
    put(filled, "a", b"3")
    put(filled, "b", b"2")
    with output_folder(filled, COMMAND, "results", lineage=lineage) as folder:
        assert (folder / "b").read_text() == "2"
    assert (there(filled)["a"], there(filled)["d"]) == (b"4", b"mine")
    assert not list((tmp_path / "cache" / "staging").glob("*/stale-*"))


def test_what_cannot_be_put_yet_is_put_later(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    put_files = Store.put

    def broken(_self: Store, *_: object) -> None:
        raise OptionError("the network is gone")

    with telling(told.append), output_folder(url, COMMAND, "results") as folder:
        write(folder, a="1")
        monkeypatch.setattr(Store, "put", broken)
        settled(folder)
        assert told[-1] == f"{url}: what is finished could not be put there yet (the network is gone)"
        assert "a" not in there(url)
        monkeypatch.setattr(Store, "put", put_files)
        settled(folder)
        assert there(url)["a"] == b"1"


def test_a_long_command_ends_where_its_lock_is_lost(url: str) -> None:
    def overrun() -> None:
        with output_folder(url, COMMAND, "results") as folder:
            write(folder, a="1")
            settled(folder)
            put(url, LOCK_NAME, b'{"who": "somebody"}')
            (folder / "a").write_text("2")
            settled(folder)
            put_so_far(folder)
            raise AssertionError

    with pytest.raises(OptionError, match="its lock was taken by somebody"):
        overrun()
    assert there(url)["a"] == b"1"


def test_parts_of_a_folder_are_written_side_by_side(
    filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with output_folder(filled, COMMAND, "results", part="shards/1-of-2") as first:
        write(first, shards__one="no part of it")
        write(first / "shards" / "1-of-2", x="1")
        assert not (first / "a").exists()
        with output_folder(filled, COMMAND, "results", part="shards/2-of-2") as second:
            write(second / "shards" / "2-of-2", x="2")
    assert sorted(there(filled)) == sorted(
        [MARKER_NAME, "a", "b", "deep/c", *(f"shards/{n}-of-2/{name}" for n in (1, 2) for name in (MARKER_NAME, "x"))]
    )
    with output_folder(filled, COMMAND, "results", without="shards") as folder:
        assert not (folder / "shards").exists()
        (folder / "a").write_text("2")
    assert there(filled)["shards/1-of-2/x"] == b"1"


def test_stores_that_cannot_be_written_safely_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    system = type(fsspec.filesystem("memory"))
    monkeypatch.setattr(system, "pipe_file", lambda _self, _path, _value: None)
    expected = rf"{url}: cannot be written safely .* write to a folder of this machine"
    with pytest.raises(OptionError, match=expected), output_folder(url, COMMAND, "results"):
        raise AssertionError
    for place, expected in (
        (f"file://{tmp_path}", "is on this machine; expected the path itself"),
        ("s3://", "names no folder"),
        ("gs9://x/y", "cannot be opened"),
    ):
        with pytest.raises(OptionError, match=expected), output_folder(place, COMMAND, "results"):
            raise AssertionError


FILES = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"))


@settings(max_examples=25, deadline=None)
@given(before=FILES, mine=FILES, theirs=FILES)
def test_no_writer_loses_what_another_wrote(
    before: dict[str, str], mine: dict[str, str], theirs: dict[str, str]
) -> None:
    """Whatever two machines do to the files from one state: both have their way, or the second is refused and keeps its work."""
    with pytest.MonkeyPatch.context() as patch, _folder() as cache:
        url = f"memory://{secrets.token_hex(4)}/x"
        patch.setenv("AVSROBUST_CACHE", str(cache / "one"))
        _replace(url, before)

        def interrupted() -> None:
            with output_folder(url, COMMAND, "results") as folder:
                _fill(folder, mine)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        patch.setenv("AVSROBUST_CACHE", str(cache / "other"))
        _replace(url, theirs)
        patch.setenv("AVSROBUST_CACHE", str(cache / "one"))
        if before == mine:
            expected: dict[str, str] | None = theirs
        else:
            merged = {
                name: theirs.get(name) if mine.get(name) == before.get(name) else mine.get(name) for name in "abc"
            }
            clash = any(
                theirs.get(name) not in (before.get(name), mine.get(name), None) and mine.get(name) != before.get(name)
                for name in "abc"
            )
            expected = None if clash else {name: content for name, content in merged.items() if content is not None}
        if expected is None:
            with pytest.raises(OptionError, match="changed there"), output_folder(url, COMMAND, "results"):
                raise AssertionError
            assert _texts(url) == theirs
        else:
            with output_folder(url, COMMAND, "results"):
                pass
            assert _texts(url) == expected


def _folder() -> Any:
    import contextlib
    import tempfile

    @contextlib.contextmanager
    def folder() -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)

    return folder()


def _replace(url: str, contents: dict[str, str]) -> None:
    with output_folder(url, COMMAND, "results") as folder:
        _fill(folder, contents)


def _fill(folder: Path, contents: dict[str, str]) -> None:
    write(folder, **contents)
    for name in "abc":
        if name not in contents:
            (folder / name).unlink(missing_ok=True)


def _texts(url: str) -> dict[str, str]:
    return {name: content.decode() for name, content in there(url).items() if name in "abc"}


def test_the_clock_of_a_lock_is_said(filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    year = time.gmtime().tm_year
    with output_folder(filled, COMMAND, "results"):
        elsewhere(monkeypatch, tmp_path)
        assert f"since {year}-" in refuse(filled) or f"since {year + 1}-" in refuse(filled)
        monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "cache"))
