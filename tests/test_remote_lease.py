"""The lock of a remote folder: free of the dead, kept by the living, never overrun; by threads, and by processes on S3."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from avsrobust.errors import OptionError
from avsrobust.locks import LOCK_NAME
from avsrobust.remote import conditional, lease, telling
from avsrobust.remote.conditional import S3Writer
from avsrobust.remote.store import Store

fsspec = pytest.importorskip("fsspec")
COMMAND = "avsrobust test"


class MemoryWriter:
    """Conditional requests of fsspec's files in memory, which have none: a lock of this process stands for the server's."""

    impossible = "never"
    one_at_a_time = threading.RLock()

    def write(self, system: Any, path: str, content: bytes, mark: str) -> None:
        with self.one_at_a_time:
            self._check(system, path, mark)
            system.pipe_file(path, content)

    def put(self, system: Any, local: Path, path: str, mark: str) -> None:
        self.write(system, path, local.read_bytes(), mark)

    def remove(self, system: Any, path: str, mark: str) -> None:
        with self.one_at_a_time:
            self._check(system, path, mark)
            system.rm_file(path)

    def _check(self, system: Any, path: str, mark: str) -> None:
        if str(system.info(path)["created"].timestamp()) != mark:
            raise OSError(22, "At least one of the pre-conditions you specified did not hold")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty folder in memory, with conditional writes, and leases of a second."""
    monkeypatch.setitem(conditional.WRITERS, "memory", MemoryWriter())
    monkeypatch.setattr(lease, "LEASE_S", 1.0)
    monkeypatch.setattr(lease, "_POLL_S", 0.1)
    return Store.open(f"memory://{secrets.token_hex(4)}/results")


def lock(store: Store) -> dict[str, Any]:
    content = store.read(LOCK_NAME)
    return {} if content is None else dict(json.loads(content))


def hold(store: Store, token: str = "mine", *, wait: bool = False) -> Any:
    return lease.hold(store, LOCK_NAME, token, COMMAND, wait=wait)


def leave_lock(store: Store, **entries: object) -> None:
    """What a process of another machine leaves that was killed."""
    content = {"holder": "theirs", "who": "avsrobust build (process 7 on x)", "since": "2026-01-01", **entries}
    store.write(LOCK_NAME, json.dumps(content).encode())


def test_a_lock_is_renewed_while_it_is_held_and_gone_after(store: Store) -> None:
    with hold(store) as held:
        assert held.fenced
        first = lock(store)
        assert (first["lease_s"], first["holder"]) == (1.0, "mine")
        while lock(store)["renewal"] == first["renewal"]:
            time.sleep(0.02)
        assert lock(store)["claim"] == first["claim"]
    assert lock(store) == {}


def test_the_lock_of_a_dead_process_is_taken_when_its_lease_is_over(store: Store) -> None:
    told: list[str] = []
    leave_lock(store, lease_s=0.5)
    with telling(told.append), hold(store):
        assert lock(store)["holder"] == "mine"
    assert told == [
        f"{store.url}: is locked by avsrobust build (process 7 on x); free if that gives no sign of life for 0.5 s",
        f"{store.url}: its lock is taken over from avsrobust build (process 7 on x), which gives no sign of life",
    ]


@pytest.mark.parametrize("lease_s", [None, 0, -1, "soon", "nan", 1e9])
def test_a_lock_that_is_no_lease_stays(store: Store, lease_s: object) -> None:
    leave_lock(store, **({} if lease_s is None else {"lease_s": lease_s}))
    before = lock(store)
    with (
        pytest.raises(OptionError, match=rf"is in use by .*; where that process is no more, delete {store.url}/"),
        hold(store),
    ):
        raise AssertionError
    assert lock(store) == before


def test_a_lock_that_is_renewed_is_in_use(store: Store) -> None:
    with hold(store, "theirs"), pytest.raises(OptionError) as caught, hold(store):
        raise AssertionError
    assert "is in use by avsrobust test (process" in str(caught.value)
    assert "delete" not in str(caught.value)


def test_our_own_lock_is_taken_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_POLL_S", 60.0)
    leave_lock(store, holder="mine", lease_s=60.0)
    with hold(store):
        assert lock(store)["who"].startswith(COMMAND)


def test_many_that_wait_for_a_dead_one_come_in_turn(store: Store) -> None:
    leave_lock(store, lease_s=0.3)
    inside, most, done = 0, 0, list[int]()

    def one(number: int) -> None:
        nonlocal inside, most
        with hold(store, f"token{number}", wait=True) as held:
            inside += 1
            most = max(most, inside)
            held.renew()
            time.sleep(0.05)
            inside -= 1
            done.append(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, sorted(done)) == (1, list(range(6)))


def test_a_holder_that_was_replaced_says_so_and_leaves_the_others_lock(store: Store) -> None:
    told: list[str] = []
    with telling(told.append), hold(store) as held:
        leave_lock(store, lease_s=60.0)
        before = lock(store)
        while not told:
            time.sleep(0.02)
        with pytest.raises(OptionError, match=r"its lock was taken by avsrobust build .* puts nothing more there"):
            held.renew()
    assert len(told) == 1
    assert lock(store) == before


def test_a_lock_that_was_deleted_by_hand_is_lost(store: Store) -> None:
    with hold(store) as held:
        store.remove([LOCK_NAME])
        with pytest.raises(
            OptionError, match=r"its lock was taken while this command was paused .* or deleted by hand"
        ):
            held.renew()
    assert lock(store) == {}


def test_a_renewal_that_fails_is_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    replace, calls = Store.replace, count()

    def flaky(self: Store, *arguments: Any) -> str | None:
        if next(calls) in (1, 2):
            raise OptionError("the network is gone")
        return replace(self, *arguments)

    monkeypatch.setattr(Store, "replace", flaky)
    with telling(told.append), hold(store) as held:
        before = lock(store)["renewal"]
        while lock(store)["renewal"] == before:
            time.sleep(0.02)
        held.renew()
    assert told == [f"{store.url}/{LOCK_NAME}: cannot be renewed, and is tried again (the network is gone)"]


def test_an_answer_that_was_lost_is_no_lost_lease(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write = MemoryWriter.write

    def repeated(self: MemoryWriter, *arguments: Any) -> None:
        # The store carries it out, the answer does not arrive, and the client asks again.
        write(self, *arguments)
        write(self, *arguments)

    with hold(store) as held:
        monkeypatch.setattr(MemoryWriter, "write", repeated)
        held.renew()
        held.renew()
        monkeypatch.undo()


def test_time_in_which_nobody_could_look_does_not_count(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_lock(store, lease_s=60.0)
    clock = iter([0.0, 1.0, 1000.0, 1001.0])
    monkeypatch.setattr(lease, "_POLL_S", 2.0)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    watched = lease._Watched(store, LOCK_NAME)
    for expected in (0.0, 1.0, 5.0, 6.0):
        watched.look()
        assert watched.unchanged_s == expected


@pytest.mark.parametrize("refuses", [False, True])
def test_a_store_that_does_not_heed_conditions_has_no_leases(
    store: Store, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    def write(_self: object, system: Any, path: str, content: bytes, _mark: str) -> None:
        if refuses:
            raise OSError(38, "A header you provided implies functionality that is not implemented")
        system.pipe_file(path, content)

    # Servers that pass over If-Match, or refuse it: moto's is none.
    monkeypatch.setattr(MemoryWriter, "write", write)
    with hold(store) as held:
        assert not held.fenced
        assert "lease_s" not in lock(store)
        with pytest.raises(OptionError, match=f"delete {store.url}/"), hold(store, "theirs"):
            raise AssertionError
        held.renew()
    assert lock(store) == {}


HOLDER = Path(__file__).parent / "samples" / "remote_holder.py"
URL = "s3://lab/results"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(s3: Any, tmp_path: Path) -> Iterator[Start]:
    """Starts a process of a machine of its own that writes results to S3."""
    assert s3.exists("lab")
    started: list[subprocess.Popen[str]] = []

    def start(machine: str, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "AVSROBUST_CACHE": str(tmp_path / machine)}
        command = [sys.executable, str(HOLDER), URL, *arguments]
        started.append(subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def contents(system: Any) -> dict[str, str]:
    system.invalidate_cache()
    return {path.rpartition("/")[2]: system.cat_file(path).decode() for path in system.find("lab/results")}


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, told = process.communicate(timeout=120)
    return process.returncode, told.strip()


def wait_until_stopped(process: subprocess.Popen[str]) -> None:
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


def test_the_folder_of_a_killed_machine_is_taken_over(s3: Any, start: Start, tmp_path: Path) -> None:
    holder = start("one", "sleeping", "1")
    while not (tmp_path / "begun").exists():
        assert holder.poll() is None
        time.sleep(0.05)
    # Alive, however long it takes.
    status, told = finish(start("two", "no", "2"))
    assert status == 1
    assert told.startswith(f"{URL}: is in use by avsrobust holder (process {holder.pid} on")
    waiting = start("three", "no", "3", "wait")
    time.sleep(5)
    assert waiting.poll() is None
    holder.send_signal(signal.SIGKILL)
    assert finish(waiting) == (0, "")
    there = contents(s3)
    assert (there["a"], there["b"]) == ("3", "3")
    assert LOCK_NAME not in there


@pytest.mark.parametrize("pause", ["working", "putting"])
@pytest.mark.parametrize("before", [False, True])
def test_a_holder_that_wakes_up_changes_nothing_of_the_next_one(
    s3: Any, start: Start, pause: str, before: bool
) -> None:
    if before:
        assert finish(start("zero", "no", "0")) == (0, "")
        s3.pipe_file("lab/results/old", b"0")
    holder = start("one", pause, "1")
    wait_until_stopped(holder)
    assert finish(start("two", "no", "2")) == (0, "")
    there = contents(s3)
    assert (there["a"], there["b"]) == ("2", "2")
    holder.send_signal(signal.SIGCONT)
    status, told = finish(holder)
    assert status == 1
    assert told.startswith(f"{URL}: its lock was taken while this command was paused")
    assert contents(s3) == there


def test_a_holder_that_wakes_up_with_nobody_else_goes_on(s3: Any, start: Start) -> None:
    holder = start("one", "putting", "1")
    wait_until_stopped(holder)
    time.sleep(3)
    holder.send_signal(signal.SIGCONT)
    assert finish(holder) == (0, "")
    assert contents(s3)["a"] == "1"


def test_the_version_of_what_was_written_is_that_of_what_is_listed(s3: Any) -> None:
    s3.pipe_file("lab/x/a", b"1")
    store = Store.open("s3://lab/x")
    before = store.look(["a"])["a"].version
    after = store.replace("a", b"22", before)
    assert after == store.look(["a"])["a"].version == store.listing()["a"].version
    assert store.replace("a", b"333", before) is None
    assert s3.cat_file("lab/x/a") == b"22"


def test_a_deletion_by_one_that_wakes_up_takes_nothing_away(s3: Any) -> None:
    s3.pipe_file("lab/x/a", b"1")
    store = Store.open("s3://lab/x")
    (version,) = [file.version for file in store.look(["a"]).values()]
    s3.pipe_file("lab/x/a", b"theirs")
    with pytest.raises(OptionError, match="cannot be written"):
        store.remove_versions({"a": version}, fenced=True)
    assert s3.cat_file("lab/x/a") == b"theirs"


def test_a_large_file_goes_in_parts(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # S3's smallest part.
    monkeypatch.setattr(conditional, "_PART_BYTES", 5 << 20)
    content = os.urandom(11 << 20)
    (tmp_path / "large").write_bytes(content)
    s3.pipe_file("lab/x/large", b"1")
    mark = s3.info("lab/x/large")["ETag"]
    S3Writer().put(s3, tmp_path / "large", "lab/x/large", mark)
    s3.invalidate_cache()
    assert s3.cat_file("lab/x/large") == content
    # moto does not look at the condition of an upload in parts; a small file shows it.
    (tmp_path / "small").write_bytes(b"2")
    with pytest.raises(OSError, match="pre-conditions"):
        S3Writer().put(s3, tmp_path / "small", "lab/x/large", mark)
