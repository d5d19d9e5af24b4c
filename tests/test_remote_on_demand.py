"""Files that are copied when they are asked for: each once, by threads and real processes; what cannot be had is said."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import avsrobust as ar
from avsrobust.errors import DataSetError, OptionError
from avsrobust.manifest import Manifest
from avsrobust.remote import eviction, local_copy, telling
from avsrobust.remote.addresses import COPIES, local_home
from avsrobust.remote.copies import ARRIVED
from avsrobust.remote.on_demand import OnDemand, listed_sizes, open_on_demand, opened
from avsrobust.remote.store import Store

fsspec = pytest.importorskip("fsspec")
NAMES = [f"{folder}/{number}.png" for folder in "ab" for number in range(4)]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "cache"))
    url = f"memory://{secrets.token_hex(4)}/data"
    for name in (*NAMES, "table.csv"):
        put(url, name, name.encode())
    return url


def put(url: str, name: str, content: bytes) -> None:
    fsspec.filesystem("memory").pipe_file(f"{url.removeprefix('memory:/')}/{name}", content)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often each file is fetched."""
    fetch, counts = Store.fetch, Counter[str]()

    def counted(self: Store, names: Sequence[str], paths: Sequence[Path]) -> None:
        fetch(self, names, paths)
        counts.update(names)

    monkeypatch.setattr(Store, "fetch", counted)
    return counts


def source(folder: Path) -> OnDemand:
    found = opened(folder)
    assert found is not None
    return found


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_files_come_when_they_are_asked_for(url: str, fetched: Counter[str]) -> None:
    told: list[str] = []
    with telling(told.append):
        folder = open_on_demand(url, NAMES, now=["b/3.png", "table.csv"])
        assert files(folder) == ["b/3.png", "table.csv"]
        found = source(folder)
        found.announce(NAMES[:3])
    home = local_home(COPIES, url)
    assert told == [
        f"copying 2 files (0.0 MB) of {url} to {home}",
        f"copying 3 files (0.0 MB) of {url} to {home}, as they are read",
    ]
    assert listed_sizes(folder) == {name: len(name) for name in (*NAMES, "table.csv")}
    assert found.bring(NAMES[:2]) == {}
    assert files(folder) == [*NAMES[:2], "b/3.png", "table.csv"]
    assert found.bring(NAMES[:3]) == {}
    assert fetched == Counter(["b/3.png", "table.csv", *NAMES[:3]])
    # Another command knows what is there, and the notes go into its index.
    assert local_copy(url) == folder
    assert set(fetched.values()) == {1}
    assert {name: (folder / name).read_text() for name in NAMES} == {name: name for name in NAMES}
    assert sorted(json.loads((home / "index.json").read_text())["files"]) == [*NAMES, "table.csv"]


def test_other_folders_are_none(tmp_path: Path, url: str) -> None:
    assert opened(tmp_path) is None
    assert opened(local_copy(url)) is None
    assert listed_sizes(tmp_path) == {}


def test_a_build_that_changed_since_it_was_listed(
    s3: Any, make_build: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = make_build(clips=2)
    (build.folder / "data_root").unlink(missing_ok=True)
    s3.put(f"{build.folder}/", "lab/build/", recursive=True)
    evaluation: dict[str, Any] = {"data_root": tmp_path / "data", "output": tmp_path / "results", "check": False}
    (before,) = ar.evaluate("visual_prior", "s3://lab/build", name="before", **evaluation)
    assert before.failed == ()
    assert opened(local_home(COPIES, "s3://lab/build") / "files") is not None
    # Another build, with a longer array, lies there by now.
    s3.rm("lab/build", recursive=True)
    shutil.rmtree(build.folder)
    other = make_build(clips=3)
    (other.folder / "data_root").unlink(missing_ok=True)
    s3.put(f"{other.folder}/", "lab/build/", recursive=True)
    manifest = ar.load_manifest("s3://lab/build")
    (after,) = ar.evaluate("visual_prior", manifest, name="after", **evaluation)
    assert (after.clips, after.failed) == (3, ())


def test_many_threads_fetch_each_file_once(url: str, fetched: Counter[str]) -> None:
    found = source(open_on_demand(url))
    begin = threading.Barrier(8)

    def bring(number: int) -> dict[str, str]:
        begin.wait()
        return found.bring([NAMES[(number + step) % 8] for step in range(5)])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(bring, range(8))) == [{}] * 8
    assert fetched == Counter(NAMES)


def test_what_is_missing_when_it_is_opened(url: str) -> None:
    with pytest.raises(DataSetError, match=rf"{url}: lacks c/1.png and 0 more"):
        open_on_demand(url, [*NAMES, "c/1.png"])
    with pytest.raises(DataSetError, match="found no file"):
        open_on_demand(f"{url}/nothing")
    folder = open_on_demand(url, [*NAMES, "c/1.png"], lenient=True)
    assert source(folder).bring(["a/1.png", "c/1.png"]) == {"c/1.png": "not found"}
    assert files(folder) == ["a/1.png"]


def test_single_files_that_cannot_be_had(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_on_demand(url)
    found = source(folder)
    fsspec.filesystem("memory").rm_file(f"{url.removeprefix('memory:/')}/a/1.png")
    put(url, "a/2.png", b"longer than it was")
    failed = found.bring(NAMES)
    assert sorted(failed) == ["a/1.png", "a/2.png"]
    assert failed["a/1.png"].startswith("FileNotFoundError: ")
    assert failed["a/2.png"] == "changed there: found 18 bytes; expected 7"
    # The others are there, and nothing is left of these.
    assert files(folder) == [name for name in NAMES if name not in failed]
    put(url, "a/1.png", b"a/1.png")
    assert found.bring(["a/1.png"]) == {}


def test_a_store_that_does_not_answer_is_tried_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, fetch, answers = open_on_demand(url), Store.fetch, iter([False, False, True])

    def busy(self: Store, names: Sequence[str], paths: Sequence[Path]) -> None:
        if not next(answers, False):
            raise OSError("EndpointConnectionError: no route")
        fetch(self, names, paths)

    monkeypatch.setattr(Store, "fetch", busy)
    monkeypatch.setattr("avsrobust.remote.store.PAUSES_S", (0.0, 0.0))
    assert source(folder).bring(["a/1.png"]) == {}
    with pytest.raises(OptionError, match=rf"{url}/b/1.png: cannot be read \(Endpoint.*\); what is finished is kept"):
        source(folder).bring(["b/1.png"])
    assert files(folder) == ["a/1.png"]


def test_there_is_room_or_nothing_is_begun(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = source(open_on_demand(url))
    # A full disk cannot be had here.
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("usage", (), {"free": 10**6}))
    for look in (found.announce, found.hold):
        with pytest.raises(OptionError, match=r"its copy takes 0\.0 MB, but .* has 1\.0 MB left"):
            look(NAMES)
    found.announce([])
    found.hold([])


def make_others_room(url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have a file copied for which all must go that may; return what is told."""
    other = f"{url}-{secrets.token_hex(2)}"
    put(other, "x", b"x")
    monkeypatch.setenv("AVSROBUST_CACHE_GB", "1e-9")
    eviction._believed.clear()
    told: list[str] = []
    with telling(told.append):
        local_copy(other)
    return told


def test_what_is_held_stays_and_what_is_released_may_go(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_on_demand(url, NAMES, now=["table.csv"])
    found = source(folder)
    found.hold(NAMES[:3])
    assert found.bring(NAMES[:3]) == {}
    assert found.held_bytes == sum(map(len, (*NAMES[:3], "table.csv")))
    assert make_others_room(url, monkeypatch)[0].endswith("over the 0.0 MB of AVSROBUST_CACHE_GB: all else is in use")
    assert files(folder) == [*NAMES[:3], "table.csv"]
    # Held twice, as the sound that several clips are made from.
    found.hold(NAMES[2:4])
    found.release(NAMES[:3])
    found.hold(NAMES[4:5])
    make_others_room(url, monkeypatch)
    assert files(folder) == [NAMES[2], "table.csv"]
    # What has gone comes again.
    found.hold(NAMES[:1])
    assert found.bring(NAMES[:1]) == {}
    assert (folder / NAMES[0]).read_text() == NAMES[0]
    found.release((NAMES[0], *NAMES[2:5]))
    assert found.held_bytes == len("table.csv")


def test_each_who_has_opened_a_folder_holds_its_own_files(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = source(open_on_demand(url, NAMES))
    first.hold(NAMES[:1])
    second = source(folder := open_on_demand(url, NAMES))
    second.hold(NAMES[1:2])
    first.bring(NAMES[:1])
    second.bring(NAMES[:3])
    make_others_room(url, monkeypatch)
    assert files(folder) == NAMES[:2]


HOLDER = """
import sys, time
from avsrobust.remote.on_demand import open_on_demand, opened
url, name = sys.argv[1:]
found = opened(open_on_demand(url, [name]))
found.hold([name])
assert found.bring([name]) == {}
print("ready", flush=True)
time.sleep(600)
"""


def test_what_another_process_holds_stays_until_it_ends(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "s3://lab/held"
    for name in NAMES:
        s3.pipe_file(f"lab/held/{name}", name.encode())
    folder = local_copy(url, NAMES[:3])
    with subprocess.Popen([sys.executable, "-c", HOLDER, url, NAMES[0]], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            # As the end of a process does.
            for _, descriptor in eviction._own.values():
                os.close(descriptor)
            eviction._own.clear()
            make_others_room("memory://others", monkeypatch)
            assert files(folder) == NAMES[:1]
        finally:
            holder.kill()
    make_others_room("memory://others", monkeypatch)
    assert files(folder) == []


def test_torn_notes_and_those_of_replaced_files_say_nothing(url: str, fetched: Counter[str]) -> None:
    folder = open_on_demand(url)
    source(folder).bring(["a/1.png", "a/2.png"])
    (notes,) = (local_home(COPIES, url) / ARRIVED).iterdir()
    with notes.open("ab") as stream:
        stream.write(b'["a/3.png", "7 x"\n[]\n\xff\n["b/')
    (folder / "a/2.png").unlink()
    (folder / "a/2.png").write_bytes(b"rotten!")
    local_copy(url)
    assert fetched == Counter([*NAMES, "a/2.png", "table.csv"])
    assert (folder / "a/2.png").read_bytes() == b"a/2.png"


READER = """
import sys
from avsrobust.remote.on_demand import open_on_demand, opened
from avsrobust.remote.store import Store
fetch, wait = Store.fetch, sys.argv[1]
def told(self, names, paths):
    print(*names, flush=True)
    if wait == "wait":
        input()
    fetch(self, names, paths)
Store.fetch = told
folder = open_on_demand("s3://lab/data")
print("ready", flush=True)
input()
found = opened(folder)
for name in sys.argv[2:]:
    assert found.bring(name.split(",")) == {}
print("done", flush=True)
"""


@pytest.fixture
def readers(s3: Any) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to be: they are killed at the end."""
    for name in NAMES:
        s3.pipe_file(f"lab/data/{name}", name.encode())
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(readers: list[subprocess.Popen[str]], how: str, *names: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", READER, how, *names]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    readers.append(process)
    assert said(process) == "ready"
    return process


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def answer(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_processes_fetch_each_file_once(readers: list[subprocess.Popen[str]]) -> None:
    # In other orders, some at a time.
    orders = ([*NAMES], [*reversed(NAMES)], [",".join(NAMES[1:5]), ",".join(NAMES)])
    processes = [start(readers, "go", *names) for names in orders]
    for process in processes:
        answer(process)
    told = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [words[-1] for words in told] == ["done"] * 3
    assert Counter(word for words in told for word in words[:-1]) == Counter(NAMES)
    folder = local_home(COPIES, "s3://lab/data") / "files"
    assert files(folder) == NAMES


def test_a_process_that_waits_for_one_that_dies_fetches_itself(readers: list[subprocess.Popen[str]]) -> None:
    first = start(readers, "wait", "a/1.png,a/2.png")
    answer(first)
    assert said(first) == "a/1.png a/2.png"
    second = start(readers, "go", "a/1.png,a/3.png")
    answer(second)
    assert said(second) == "a/3.png"
    first.send_signal(signal.SIGKILL)
    assert said(second) == "a/1.png"
    assert said(second) == "done"
    folder = local_home(COPIES, "s3://lab/data") / "files"
    assert [name for name in files(folder) if name.endswith(".png")] == ["a/1.png", "a/3.png"]
