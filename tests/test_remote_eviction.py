"""The bound on copies: what was used longest ago goes first, nothing that a living process may read; beside real processes."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import avsrobust as ar
from avsrobust.errors import OptionError
from avsrobust.locks import acquire
from avsrobust.manifest import Manifest
from avsrobust.remote import eviction, local_copy, telling
from avsrobust.remote.addresses import COPIES, local_home
from avsrobust.remote.inputs import local_data_root

fsspec = pytest.importorskip("fsspec")

READER = """
import os, sys, time
from pathlib import Path
from avsrobust.remote.copies import keep
then, folder, *names = sys.argv[1:]
assert keep(Path(folder), names)
print("ready", flush=True)
if then == "fork" and os.fork():
    sys.exit()
time.sleep(600)
"""
MB = 1_000_000


@pytest.fixture
def urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Remote folders a to d of two files of 0.5 MB each; the bound is 2.5 MB."""
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AVSROBUST_CACHE_GB", "0.0025")
    root, system = secrets.token_hex(4), fsspec.filesystem("memory")
    for folder in "abcd":
        for name in "xy":
            system.pipe_file(f"/{root}/{folder}/{name}", os.urandom(MB // 2))
    return {folder: f"memory://{root}/{folder}" for folder in "abcd"}


@pytest.fixture
def keeping(urls: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process that uses files of a copy until it is killed."""
    started: list[subprocess.Popen[str]] = []

    def keeping(folder: str, *names: str, then: str = "sleep") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", READER, then, str(home(urls[folder]) / "files"), *names]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield keeping
    for process in started:
        kill(process)
        process.stdout.close()  # type: ignore[union-attr]


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def earlier(url: str, *names: str) -> list[str]:
    """Copy files as a process did that has ended an hour ago; return what it told."""
    told: list[str] = []
    with telling(told.append):
        folder = local_copy(url, names or None)
    for path in folder.iterdir():
        if not names or path.name in names:
            os.utime(path, (path.stat().st_atime - 3600, path.stat().st_mtime))
    # As the end of a process does.
    for _, descriptor in eviction._own.values():
        os.close(descriptor)
    eviction._own.clear()
    eviction._believed.clear()
    return told


def there(urls: dict[str, str]) -> str:
    """Copies' files that are there, as "ax ay bx"."""
    found = [(folder, name) for folder, url in urls.items() for name in "xy" if (home(url) / "files" / name).is_file()]
    return " ".join(f"{folder}{name}" for folder, name in found)


def home(url: str) -> Path:
    return local_home(COPIES, url)


def test_what_was_used_longest_ago_goes_first(urls: dict[str, str]) -> None:
    earlier(urls["a"])
    earlier(urls["b"])
    local_copy(urls["a"], ["x"])
    told = earlier(urls["c"])
    assert there(urls) == "ax bx by cx cy"
    assert told[0] == "deleted 1 file (0.5 MB) of 1 copy, used longest ago"
    # What has gone is fetched again.
    local_copy(urls["a"])
    assert there(urls) in ("ax ay bx cx cy", "ax ay by cx cy")


def test_files_of_a_process_that_lives_stay(
    urls: dict[str, str], keeping: Callable[..., subprocess.Popen[str]]
) -> None:
    earlier(urls["a"])
    alive = keeping("a", "x")
    for folder in "bcd":
        earlier(urls[folder])
    # That of the same copy that it does not use has gone.
    assert "ax" in there(urls)
    assert "ay" not in there(urls)
    kill(alive)
    os.utime(home(urls["a"]) / "files" / "x", (0, 0))
    earlier(urls["b"])
    assert "ax" not in there(urls)


def test_a_forked_process_goes_on_using_them(
    urls: dict[str, str], keeping: Callable[..., subprocess.Popen[str]]
) -> None:
    earlier(urls["a"])
    parent = keeping("a", "x", "y", then="fork")
    parent.wait()
    for folder in "bcd":
        earlier(urls[folder])
    assert there(urls).startswith("ax ay")


def test_many_processes_at_once_keep_their_files(
    urls: dict[str, str], keeping: Callable[..., subprocess.Popen[str]]
) -> None:
    begun = []
    for folder in "abcd":
        earlier(urls[folder])
        begun += [keeping(folder, "x", "y") for _ in range(2)]
    assert there(urls) == "ax ay bx by cx cy dx dy"
    for process in begun:
        kill(process)
    os.utime(home(urls["d"]) / "files" / "x", (0, 0))
    local_copy(urls["a"], fresh=True)
    assert there(urls).startswith("ax ay")
    assert "dx" not in there(urls)
    # The traces of the dead go.
    assert len(list((home(urls["a"]) / eviction.USES).iterdir())) == 1


def test_a_copy_that_another_process_fetches_is_passed_over(urls: dict[str, str]) -> None:
    earlier(urls["a"])
    earlier(urls["b"])
    with acquire(home(urls["a"]), "another"):
        local_copy(urls["c"])
    assert there(urls) in ("ax ay bx cx cy", "ax ay by cx cy")


def test_one_command_may_need_more_than_the_bound(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    earlier(urls["a"])
    monkeypatch.setenv("AVSROBUST_CACHE_GB", "0.0005")
    told: list[str] = []
    with telling(told.append):
        local_copy(urls["b"])
        local_copy(urls["c"])
    assert there(urls) == "bx by cx cy"
    assert told[0].startswith("deleted 2 files (1.0 MB)")
    assert "copies take 2.0 MB, over the 0.5 MB of AVSROBUST_CACHE_GB: all else is in use" in told[2]


def test_a_full_disk_makes_room_too(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    earlier(urls["a"])
    # A full disk cannot be had here: one that has 1 MB too little, as long as a is there.
    usage = namedtuple("usage", "total used free")

    def disk_usage(_path: Path) -> usage:
        return usage(10**9, 10**9, eviction.SPARE_BYTES + (0 if there(urls) == "ax ay" else MB))

    monkeypatch.setattr("shutil.disk_usage", disk_usage)
    local_copy(urls["b"])
    assert there(urls) == "bx by"


@pytest.mark.parametrize("text", ["much", "0", "-1", "inf", "nan"])
def test_a_bound_that_is_none(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AVSROBUST_CACHE_GB", text)
    with pytest.raises(OptionError, match=f"AVSROBUST_CACHE_GB: found '{text}'; expected gigabytes, such as 100"):
        local_copy(urls["a"])


def test_a_build_that_remembers_a_copy_finds_its_files_again(
    s3: Any, tmp_path: Path, make_build: Callable[..., Manifest]
) -> None:
    build = make_build(clips=2)
    s3.put(f"{tmp_path / 'data'}/", "lab/data/", recursive=True)
    copy = local_copy("s3://lab/data")
    link = build.folder / "data_root"
    link.unlink(missing_ok=True)
    link.symlink_to(copy)
    picture = next(copy.rglob("*.png"))
    picture.unlink()
    assert local_data_root(None, [build]) is None
    assert picture.is_file()
    (report,) = ar.evaluate("visual_prior", build, output=tmp_path / "results")
    assert report.scores.is_file()


def test_a_copy_that_somebody_has_deleted_is_held_again(urls: dict[str, str]) -> None:
    local_copy(urls["a"])
    shutil.rmtree(home(urls["a"]))
    local_copy(urls["a"])
    held = list((home(urls["a"]) / eviction.USES).iterdir())
    assert len(held) == 1
    assert eviction.is_locked(held[0])


def test_a_long_session_counts_what_others_have_fetched_meanwhile(
    urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    local_copy(urls["a"], ["x"])
    # As another process does.
    theirs = home(urls["d"]) / "files" / "z"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(bytes(2 * MB))
    os.utime(theirs, (0, 0))
    local_copy(urls["b"], ["x"])
    assert theirs.exists()
    monkeypatch.setattr(eviction, "_BELIEVED_S", 0.0)
    local_copy(urls["c"], ["x"])
    assert not theirs.exists()
