"""Files of remote folders that are copied when somebody comes to them, so that work begins before all are here.

Conventions
    A folder is opened once (`open_on_demand`): what it holds is listed. Which of its files are needed, and when, the reader says,
    in as many threads as it likes: it holds them, has them brought to the copy (`avsrobust.remote.copies`), reads them, and lets
    them go (`OnDemand.hold`, `bring`, `release`). Those that nobody holds may be deleted for others' room, and are fetched again.
    Versions and sizes are those of the listing. What changes there later is what it is on a disk: another file, that the build's
    checksums tell.
    A file is fetched once, whoever asks: threads wait for one another, and processes of one machine (or of a shared disk) too,
    by a locked file beside it, which a process that dies gives up. Without `fcntl` (Windows) processes do not wait.
    Nothing holds the copy's lock while it waits for the network. What arrived is noted in a file of this process
    (``arrived/``), which others read.
    A single file that cannot be had is the reader's matter; a store that does not answer ends the command.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
import weakref
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

from avsrobust.errors import OptionError
from avsrobust.files import TEMPORARY_SUFFIX
from avsrobust.locks import acquire
from avsrobust.remote.addresses import copy_home
from avsrobust.remote.copies import ARRIVED, Copy, Names, make_copy
from avsrobust.remote.eviction import SPARE_BYTES, begin_use, hold, make_room, note_use
from avsrobust.remote.failures import advice_of_fetching, is_expired
from avsrobust.remote.messages import tell
from avsrobust.remote.store import RemoteFile, Store

_TELL_EVERY_S = 60.0
# Folders that this process has opened, by the copy's folder.
_OPENED: dict[Path, OnDemand] = {}


def open_on_demand(url: str, later: Names = None, *, now: Names = (), lenient: bool = False) -> Path:
    """Return the folder of a remote folder's copy, in which files appear when they are brought.

    Args:
        url: The remote folder.
        later: Files that will be read (`copies.Names`): they must be there, unless `lenient`.
        now: Files to fetch at once.
        lenient: Do without those that are not there.

    Raises:
        OptionError: The URL cannot be opened, or there is no room.
        DataSetError: The folder lacks a file.
    """
    copy = make_copy(url, now, later=later, lenient=lenient)
    _OPENED[copy.home.resolve()] = OnDemand(copy)
    return copy.files


def close(folder: Path) -> Path:
    """Return a folder whose files are here, so that none is fetched by what was once listed."""
    found = copy_home(folder)
    if found is not None:
        _OPENED.pop(found[0].resolve(), None)
    return folder


def opened(folder: Path) -> OnDemand | None:
    """Return the remote folder whose copy lies in a folder, where this process has opened it."""
    found = copy_home(folder)
    return None if found is None else _OPENED.get(found[0].resolve())


def listed_sizes(folder: Path) -> Mapping[str, int]:
    """Return the sizes, in bytes, of all files of a folder that was opened, fetched or not; nothing for other folders."""
    found = opened(folder)
    return {} if found is None else found.sizes


class OnDemand:
    """A remote folder whose files are fetched when they are asked for; all methods may be called in several threads.

    Attributes:
        url: Its address.
        sizes: Sizes of its files in bytes.

    Args:
        copy: Its copy, with the listing.
    """

    def __init__(self, copy: Copy) -> None:
        self.url = copy.url
        self.sizes = {name: file.size for name, file in copy.there.items()}
        self._copy = copy
        self._there = copy.there
        self._store = Store.open(copy.url)
        self._lock = threading.Lock()
        self._coming: dict[str, Future[Mapping[str, str]]] = {}
        self._read: dict[Path, int] = {}
        self._notes: int | None = None
        self._held: Counter[str] = Counter()
        self._held_bytes = sum(self.sizes.get(name, 0) for name in copy.held)
        self._told_s = -_TELL_EVERY_S
        self._context = copy_context()

    def missing(self, names: Collection[str]) -> list[str]:
        """Return those of some files that are not in the copy, or are of another version there; sorted."""
        return sorted(name for name in names if not self._has(name))

    @property
    def held_bytes(self) -> int:
        """Size of the files that are held."""
        with self._lock:
            return self._held_bytes

    def announce(self, names: Collection[str]) -> None:
        """Tell of files that will be held and brought, as far as they are not here.

        Raises:
            OptionError: The disk has no room.
        """
        due = {name: self._there[name] for name in self.missing(names) if name in self._there}
        if due:
            self._copy.announce(due)

    def hold(self, names: Collection[str]) -> None:
        """Keep files from being deleted until they are released as often as they were held; make room for those that are missing.

        Raises:
            OptionError: The disk has no room.
        """
        with acquire(self._copy.home, "avsrobust", wait=True), self._lock:
            new = [name for name in set(names) if name not in self._held]
            self._held.update(names)
            self._held_bytes += sum(self.sizes.get(name, 0) for name in new)
            hold(self._copy.home, {*self._copy.held, *self._held}, self._copy)
            self._make_room(new)

    def keep(self, names: Collection[str]) -> None:
        """Keep files from being deleted while this process lives, without a list of them; make room for those that are missing.

        Raises:
            OptionError: The disk has no room.
        """
        with acquire(self._copy.home, "avsrobust", wait=True), self._lock:
            begin_use(self._copy.home)
            note_use(self._copy.files / name for name in names)
            self._make_room(names)

    def release(self, names: Collection[str]) -> None:
        """Let go of files that were held; they may be deleted once others are held."""
        with self._lock:
            for name in names:
                self._held[name] -= 1
                if not self._held[name]:
                    del self._held[name]
                    self._held_bytes -= self.sizes.get(name, 0)

    def _make_room(self, names: Collection[str]) -> None:
        """Make room for files as far as they are missing; the caller holds the copy's folder and the lock of threads."""
        due = sum(self.sizes[name] for name in self.missing(names) if name in self.sizes)
        if due and (line := make_room(self._copy.home, due, coming=lambda: _coming(but=names, of=self))):
            self._tell_now_and_then(line)
        if due and due + SPARE_BYTES > shutil.disk_usage(self._copy.home).free:
            raise self._copy.no_room(due)

    def _tell_now_and_then(self, line: str) -> None:
        now = time.monotonic()
        if now - self._told_s >= _TELL_EVERY_S:
            self._told_s = now
            # Readers are threads of others, which have nobody who listens.
            self._context.run(tell, line)

    def bring(self, names: Collection[str]) -> dict[str, str]:
        """Fetch those of some files, which are held, that are not here, and wait for those that others fetch.

        Returns:
            Files that cannot be had, with the reasons.

        Raises:
            OptionError: The store does not answer, or the disk cannot be written.
        """
        if not self.missing(names):
            return {}
        arrival: Future[Mapping[str, str]] = Future()
        with self._lock:
            self._learn()
            due = self.missing(names)
            others = {name: self._coming[name] for name in due if name in self._coming}
            mine = [name for name in due if name not in others]
            self._coming.update(dict.fromkeys(mine, arrival))
        try:
            failed = self._fetch_all(mine)
            arrival.set_result(failed)
        except BaseException as error:
            arrival.set_exception(error)
            raise
        finally:
            with self._lock:
                for name in mine:
                    del self._coming[name]
        return failed | {name: other.result()[name] for name, other in others.items() if name in other.result()}

    def coming_bytes(self, but: Collection[str] = ()) -> int:
        """Return the size of the files that are held and not here."""
        # A list is made in one step, whatever other threads hold meanwhile.
        return sum(
            self.sizes[name] for name in self.missing(list(self._held)) if name in self.sizes and name not in but
        )

    def _has(self, name: str) -> bool:
        return name in self._there and self._copy.has(name, self._there[name])

    def _fetch_all(self, names: Collection[str]) -> dict[str, str]:
        failed = {name: "not found" for name in names if name not in self._there}
        due = {name: self._there[name] for name in names if name in self._there}
        with _claimed({name: self._beside(name, "claim") for name in due}) as claims:
            failed |= self._fetch({name: due[name] for name in sorted(claims)})
        # Those that another process had begun to fetch: it has done so when they are free, or is no more.
        for name in sorted(due.keys() - claims):
            with _claimed({name: self._beside(name, "claim")}, wait=True):
                failed |= self._fetch({name: due[name]})
        return failed

    def _fetch(self, due: Mapping[str, RemoteFile]) -> dict[str, str]:
        """Fetch files that this process has claimed; return the reasons of those that it cannot."""
        with self._lock:
            self._learn()
        due = {name: due[name] for name in self.missing(due)}
        # Without claims other processes write files of their own.
        kind = "coming" if fcntl is not None else str(os.getpid())
        temporaries = {name: self._beside(name, kind) for name in due}
        failed: dict[str, str] = {}
        try:
            if due:
                self._store.fetch(list(due), list(temporaries.values()))
        except OSError:
            failed = self._fetch_singly(temporaries)
        notes = []
        try:
            for name, temporary in temporaries.items():
                found = temporary.stat() if name not in failed else None
                if found is not None and found.st_size == due[name].size:
                    temporary.replace(self._copy.files / name)
                    notes.append((name, due[name].version, found.st_mtime_ns))
                    continue
                temporary.unlink(missing_ok=True)
                if found is not None:
                    failed[name] = f"changed there: found {found.st_size:,} bytes; expected {due[name].size:,}"
        except OSError as error:
            raise OptionError(f"{self._copy.home}: cannot be written ({error}); see to the disk") from error
        self._note(notes)
        return failed

    def _fetch_singly(self, temporaries: Mapping[str, Path]) -> dict[str, str]:
        failed = {}
        for name, temporary in temporaries.items():
            if reason := self._fetch_one(name, temporary):
                failed[name] = reason
        return failed

    def _fetch_one(self, name: str, temporary: Path) -> str:
        try:
            self._store.fetch_patiently([name], [temporary])
        except OSError as error:
            if isinstance(error.__cause__, FileNotFoundError | PermissionError) and not is_expired(error):
                return str(error)
            raise OptionError(
                f"{self.url}/{name}: cannot be read ({error}); what is finished is kept; {advice_of_fetching(error)}"
            ) from error
        return ""

    def _beside(self, name: str, kind: str) -> Path:
        path = self._copy.files / name
        return path.with_name(f"{path.name}.{kind}{TEMPORARY_SUFFIX}")

    def _note(self, notes: Collection[tuple[str, str, int]]) -> None:
        """Note files that are here now: first for other processes, then for this one."""
        if not notes:
            return
        lines = "".join(json.dumps(note) + "\n" for note in notes)
        with self._lock:
            if self._notes is None:
                self._notes = self._begin_notes()
            os.write(self._notes, lines.encode())
            self._copy.versions.update((name, version) for name, version, _ in notes)

    def _begin_notes(self) -> int:
        path = self._copy.home / ARRIVED / f"{os.getpid()}-{secrets.token_hex(4)}"
        path.parent.mkdir(exist_ok=True)
        # Open for as long as this is used: whoever finds it unlocked knows that nothing more will be noted.
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o666)
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        weakref.finalize(self, os.close, descriptor)
        self._read[path] = -1
        return descriptor

    def _learn(self) -> None:
        """Read what other processes have noted since; the caller holds the lock of threads."""
        for path in (self._copy.home / ARRIVED).glob("*"):
            start = self._read.get(path, 0)
            try:
                if start < 0 or path.stat().st_size <= start:
                    continue
                with path.open("rb") as stream:
                    stream.seek(start)
                    content = stream.read()
            except OSError:
                continue
            whole = content.rfind(b"\n") + 1
            self._copy.learn(content[:whole])
            self._read[path] = start + whole


def _coming(but: Collection[str], of: OnDemand) -> int:
    """Return the size of all files that this process holds and that are not here, `but` some `of` one folder."""
    names = frozenset(but)
    return sum(found.coming_bytes(names if found is of else ()) for found in {*_OPENED.values(), of})


@contextmanager
def _claimed(files: Mapping[str, Path], *, wait: bool = False) -> Iterator[set[str]]:
    """Hold the claims of some names, by these files, for the block; yield the names of those that nobody else holds."""
    if fcntl is None:
        yield set(files)
        return
    held: dict[str, tuple[Path, int]] = {}
    try:
        for name, path in files.items():
            descriptor = _claim(path, wait=wait)
            if descriptor is not None:
                held[name] = path, descriptor
        yield set(held)
    finally:
        for path, descriptor in held.values():
            if _is_at(descriptor, path):
                path.unlink(missing_ok=True)
            os.close(descriptor)


def _claim(path: Path, *, wait: bool) -> int | None:
    """Return a descriptor that holds a file, made where it is not there; None where another thread or process holds it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            # Empty folders may be taken away.
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        # Who held it before has deleted it.
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
