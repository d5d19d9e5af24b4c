"""Copies of remote folders on this machine, for reading.

Conventions
    A copy is ``<cache>/remote/<name of the URL>/files``. A file is fetched again where its size or version there is another than
    that of the copy; one that is gone there goes here too. What a build vouches for by checksums is compared with these as
    everywhere; fetching compares sizes.
    Nothing is fetched that the disk has no room for, and whoever listens (`telling`) is told how much is. Files stay until others
    need their room (`avsrobust.remote.eviction`), or somebody deletes them.
    ``index.json`` has the versions. Who fetches files one after the other (`avsrobust.remote.on_demand`) notes them in a file of
    its own in ``arrived/``, lines of name, version and the file's time of change: that of a file that was replaced says nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from avsrobust.errors import DataSetError, OptionError
from avsrobust.files import TEMPORARY_SUFFIX, write_text
from avsrobust.locks import LOCK_NAME, acquire
from avsrobust.remote.addresses import COPIES, ENVIRONMENT_CACHE, FILES_NAME, INDEX_NAME, copy_home, local_home
from avsrobust.remote.eviction import (
    SPARE_BYTES,
    begin_use,
    bound,
    could_hold,
    hold,
    is_locked,
    make_room,
    note_use,
)
from avsrobust.remote.failures import advice_of_fetching
from avsrobust.remote.messages import tell
from avsrobust.remote.store import RemoteFile, Store, size_text
from avsrobust.textfiles import parse_json
from avsrobust.vocabulary import counted

# Chosen files: by name, by a test of the name, or (None) all.
Names = Collection[str] | Callable[[str], bool] | None

ARRIVED = "arrived"
_AT_ONCE = 256
_FEW = 8
_TRIES = 4
_TELL_EVERY_S = 30.0


@dataclass(eq=False)
class Copy:
    """The copy of a remote folder.

    Attributes:
        home: Its folder; the files lie in ``files/``.
        url: The remote folder.
        versions: Version of each file that was fetched.
        there: The remote files at the last listing.
        held: Files that a process which fetches others later needs all the time.
        unsettled: Files that were fetched, and not compared with what is there since.
    """

    home: Path
    url: str
    versions: dict[str, str] = field(default_factory=dict)
    there: Mapping[str, RemoteFile] = field(default_factory=dict)
    held: Collection[str] = frozenset()
    unsettled: Mapping[str, RemoteFile] = field(default_factory=dict)

    @classmethod
    def read(cls, url: str) -> Copy:
        """Return the copy of a remote folder as far as it is there; the caller holds its folder."""
        url = url.rstrip("/")
        home = local_home(COPIES, url)
        try:
            files = parse_json((home / INDEX_NAME).read_bytes())["files"]
            versions = {str(name): str(version) for name, version in files.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            versions = {}
        copy = cls(home, url, versions)
        for notes in sorted((home / ARRIVED).glob("*")):
            copy.learn(notes.read_bytes())
        return copy

    @property
    def files(self) -> Path:
        """Folder of the files."""
        return self.home / FILES_NAME

    def write(self) -> None:
        """Note on disk which versions the copy has; the caller holds its folder."""
        write_text(self.home / INDEX_NAME, json.dumps({"url": self.url, "files": self.versions}, sort_keys=True))

    def merge_notes(self) -> None:
        """Write the index, and delete notes of processes that are no more: they are in it."""
        self.write()
        for notes in (self.home / ARRIVED).glob("*"):
            if not is_locked(notes):
                notes.unlink(missing_ok=True)

    def learn(self, notes: bytes) -> None:
        """Take versions from notes; lines that are torn, or about a file that is another one by now, say nothing."""
        for line in notes.splitlines():
            try:
                name, version, time_ns = json.loads(line)
                if (self.files / name).stat().st_mtime_ns == time_ns:
                    self.versions[name] = version
            except (OSError, ValueError, TypeError):
                continue

    def has(self, name: str, file: RemoteFile) -> bool:
        """Return whether the copy has this version of a file, whole."""
        try:
            size = (self.files / name).stat().st_size
        except OSError:
            return False
        return self.versions.get(name) == file.version and size == file.size

    def forget(self, names: Collection[str]) -> None:
        """Delete files that are gone there, and folders that this leaves empty."""
        for name in names:
            path = self.files / name
            path.unlink(missing_ok=True)
            del self.versions[name]
            with suppress(OSError):
                for parent in path.parents:
                    if parent == self.files:
                        break
                    parent.rmdir()

    def make_folders(self, wanted: Collection[PurePosixPath]) -> None:
        """Make folders, and take away empty ones that are not among them."""
        for folder, _, _ in os.walk(self.files, topdown=False):
            if PurePosixPath(Path(folder).relative_to(self.files).as_posix()) not in wanted:
                with suppress(OSError):
                    Path(folder).rmdir()
        for name in wanted:
            (self.files / name).mkdir(parents=True, exist_ok=True)

    def require_room(self, due: Mapping[str, RemoteFile]) -> None:
        """Make room for files that will be fetched, and tell of them; the caller holds the copy's folder.

        Raises:
            OptionError: The disk has no room for them.
        """
        total = sum(file.size for file in due.values())
        if line := make_room(self.home, total):
            tell(line)
        if total + SPARE_BYTES > shutil.disk_usage(self.home).free:
            raise self.no_room(total)
        tell(f"copying {counted(len(due), 'file')} ({size_text(total)}) of {self.url} to {self.home}")

    def announce(self, due: Mapping[str, RemoteFile]) -> None:
        """Tell of files that will be fetched one after the other, and may go when they have been read.

        Raises:
            OptionError: The disk has no room for those of them that may be here at once.
        """
        total, limit = sum(file.size for file in due.values()), int(bound())
        if not could_hold(self.home, min(total, limit)):
            raise self.no_room(min(total, limit))
        tell(f"copying {counted(len(due), 'file')} ({size_text(total)}) of {self.url} to {self.home}, as they are read")

    def no_room(self, count: int) -> OptionError:
        """Return the error of a disk that has no room for so many bytes."""
        free = shutil.disk_usage(self.home).free
        return OptionError(
            f"{self.url}: its copy takes {size_text(count)}, but {self.home} has {size_text(free)} left; name a folder on a "
            f"larger disk with {ENVIRONMENT_CACHE}, or delete copies below {self.home.parent}"
        )

    def fetch(self, store: Store, due: Mapping[str, RemoteFile]) -> None:
        """Fetch files.

        Raises:
            OptionError: The disk has no room for them.
            DataSetError: One cannot be fetched.
        """
        self.require_room(due)
        names, told = list(due), time.monotonic()
        try:
            for start in range(0, len(names), _AT_ONCE):
                self._fetch_batch(store, names[start : start + _AT_ONCE], due)
                if time.monotonic() - told > _TELL_EVERY_S:
                    told = time.monotonic()
                    tell(f"copied {min(start + _AT_ONCE, len(names)):,} of {counted(len(names), 'file')} of {self.url}")
                    self.write()
        finally:
            self.write()

    def _fetch_batch(self, store: Store, names: Sequence[str], due: Mapping[str, RemoteFile]) -> None:
        paths = [self.files / name for name in names]
        temporaries = [path.with_name(path.name + TEMPORARY_SUFFIX) for path in paths]
        try:
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
            store.fetch_patiently(names, temporaries)
            for name, temporary, path in zip(names, temporaries, paths, strict=True):
                # One that has another size has changed since it was listed: the next listing says so.
                if temporary.stat().st_size == due[name].size:
                    temporary.replace(path)
                    self.versions[name] = due[name].version
                else:
                    temporary.unlink()
        except OSError as error:
            cause = error if error.__cause__ is None else error.__cause__
            raise DataSetError(f"{self.url}: cannot be fetched ({error}); {advice_of_fetching(cause)}") from error


def local_copy(
    url: str, names: Names = None, *, fresh: bool = False, lenient: bool = False, folders: bool = False
) -> Path:
    """Return a folder on this machine that holds files of a remote folder, fetched as far as they are not there.

    Args:
        url: The remote folder.
        names: Paths of the files, relative to it, with forward slashes, or a test of such paths; None: all that it has.
        fresh: Fetch them again in any case.
        lenient: Do without those that are not there.
        folders: Make the folders of all other files too.

    Raises:
        OptionError: The URL cannot be opened, or there is no room for the copy.
        DataSetError: The folder lacks a file, one cannot be fetched, or they change all the time.
    """
    return make_copy(url, names, fresh=fresh, lenient=lenient, folders=folders).files


def make_copy(
    url: str,
    names: Names = None,
    *,
    fresh: bool = False,
    lenient: bool = False,
    folders: bool = False,
    later: Names = (),
    since: Copy | None = None,
    settled: bool = True,
) -> Copy:
    """Return the copy whose files `local_copy` returns, with the same arguments and errors.

    `later`: files that others fetch (`avsrobust.remote.on_demand`): they are looked for, and stay where they are here already.
    `since`: what this command copied of the folder before, which it does not list again. `settled`: compare what was fetched
    with what is there then; where it is not, a call with `since` does so.
    """
    is_for_later = later is None or callable(later) or len(later) > 0
    store = Store.open(url)
    home = local_home(COPIES, store.url)
    home.mkdir(parents=True, exist_ok=True)
    # Several processes of one machine fetch once.
    with acquire(home, "avsrobust", wait=True):
        copy = Copy.read(store.url)
        if not is_for_later:
            begin_use(home)
        there: Mapping[str, RemoteFile] = {} if since is None else since.there
        unsettled: dict[str, RemoteFile] = {} if since is None else dict(since.unsettled)
        due: dict[str, RemoteFile] = {}
        for attempt in range(_TRIES):
            few = names if isinstance(names, Collection) and len(names) <= _FEW and not is_for_later else None
            if since is None or attempt > 0:
                if unsettled and few is None:
                    # What was fetched is compared with what is there now: it may have changed meanwhile.
                    there = {name: file for name, file in there.items() if name not in unsettled} | store.look_again(
                        unsettled, len(there)
                    )
                else:
                    there = store.listing() if few is None else store.look(few)
                there = {name: file for name, file in there.items() if name.rpartition("/")[2] != LOCK_NAME}
                unsettled = {}
            copy.forget({name for name in copy.versions if name not in there and (few is None or name in few)})
            wanted = _wanted(store.url, there, names, lenient=lenient or is_for_later)
            anew = fresh and attempt == 0
            if attempt == 0:
                coming = _wanted(store.url, there, later, lenient=lenient) if is_for_later else []
                note_use(copy.files / name for name in (*wanted, *coming))
                copy.there = there
                if is_for_later:
                    copy.held = frozenset(wanted)
                    hold(home, copy.held, copy)
            due = {name: there[name] for name in wanted if anew or not copy.has(name, there[name])}
            if not due and not unsettled:
                break
            if due:
                copy.fetch(store, due)
            unsettled |= due
            if not settled:
                break
        else:
            raise DataSetError(
                f"{store.url}: {min(due)} changed each time that it was fetched; expected files that stay; run the same command "
                "again when nobody writes there"
            )
        copy.unsettled = unsettled
        copy.files.mkdir(exist_ok=True)
        if folders:
            copy.make_folders({parent for name in there for parent in PurePosixPath(name).parents})
        copy.merge_notes()
    return copy


def adopt(url: str, folder: Path, versions: Mapping[str, str]) -> Path:
    """Move files that were just put to a remote folder into its copy; return the folder of its files."""
    home = local_home(COPIES, url)
    home.mkdir(parents=True, exist_ok=True)
    with acquire(home, "avsrobust", wait=True):
        copy = Copy.read(url)
        begin_use(home)
        note_use(folder / name for name in versions)
        if line := make_room(home, sum((folder / name).stat().st_size for name in versions), fetched=False):
            tell(line)
        try:
            for name, version in versions.items():
                path = copy.files / name
                path.parent.mkdir(parents=True, exist_ok=True)
                (folder / name).replace(path)
                copy.versions[name] = version
        finally:
            copy.write()
    return copy.files


def keep(path: Path, names: Collection[str] | None = None) -> bool:
    """Keep files of a copy from being deleted while this process lives; return whether they are there.

    Args:
        path: The folder of the copy's files, or a file or folder in it.
        names: The files, below `path`; None: it alone, or all that is in it.
    """
    place = copy_home(path)
    if place is None or not path.exists():
        return path.exists()
    with acquire(place[0], "avsrobust", wait=True):
        begin_use(place[0])
        found = [path, *path.rglob("*")] if names is None else [path / name for name in names]
        note_use(found)
        return all(entry.exists() for entry in found)


def _wanted(url: str, there: Collection[str], names: Names, *, lenient: bool) -> list[str]:
    if names is None:
        wanted = sorted(there)
    elif callable(names):
        wanted = sorted(filter(names, there))
    else:
        wanted = sorted(set(names))
    missing = [name for name in wanted if name not in there]
    if lenient:
        return [name for name in wanted if name in there]
    if missing or not wanted:
        found = f"lacks {missing[0]} and {len(missing) - 1} more" if missing else "found no file of what is needed"
        raise DataSetError(f"{url}: {found}; expected the files of a build, results or data set; check the address")
    return wanted
