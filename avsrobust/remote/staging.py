"""Writing to a remote folder: the work is done in a folder of this machine, and put there whole at the end.

Conventions
    The staging folder is ``<cache>/staging/<name of the URL>/files``. First it is given what the remote folder holds, so that a
    command adds to it, continues it or refuses it by the rules for local folders. When the command has succeeded, files that
    differ are put there, in an order by which nobody takes half for the whole (`upload_order`).
    Then the staging folder moves to the copy for reading. Where the command fails, is interrupted or killed, the staging folder
    stays, and the same command continues in it.
    A long command puts what it has so far there now and then (`put_so_far`), from copies of the files, while it goes on. Parts of
    an evaluation that never came there give way to those of a machine that continued without them.
    The remote folder holds ``.avsrobust.lock`` meanwhile (`avsrobust.remote.lease`): another machine is refused. A killed
    process leaves it; whoever continues its staging folder takes it over at once, others when its lease is over.
    Where something else changes the remote folder all the same, a file that both sides have changed is a conflict, and nothing
    more is put there. ``index.json`` holds version and SHA-256 of each file as both sides last had it. Where the store heeds
    conditions, each file is written, and deleted, only while it has that version there: a process that slept through the end of
    its lease just before it writes changes nothing of another's.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from threading import Thread

from avsrobust.errors import AvsRobustError, OptionError
from avsrobust.files import TEMPORARY_SUFFIX, make_folder, sha256_of_file, write_text
from avsrobust.folders import MARKER_NAME, check_owner, parse_marker
from avsrobust.locks import LOCK_NAME, acquire
from avsrobust.remote.addresses import (
    COPIES,
    FILES_NAME,
    INDEX_NAME,
    STAGING,
    is_remote_place,
    local_home,
    room_folders,
    url_of,
)
from avsrobust.remote.copies import adopt, make_copy, tell
from avsrobust.remote.lease import Lease, LostLeaseError, hold
from avsrobust.remote.store import Store
from avsrobust.remote.upload_order import batches, is_part, is_public
from avsrobust.textfiles import parse_json
from avsrobust.vocabulary import counted

SNAPSHOT_NAME = "snapshot"
# A machine that vanishes loses about as much.
PUT_EVERY_S = 30.0
_MOST_BYTES = 1 << 30
_TRIES = 3


@contextmanager
def output_folder(
    place: Path | str, command: str, kind: str, *, part: str = "", without: str = "", wait: bool = False
) -> Iterator[Path]:
    """Yield the local folder that a command writes to: a path itself, or the staging folder of a URL, put there at the end.

    Args:
        place: A path or a URL.
        command: Names the holder to others, such as "avsrobust build".
        kind: Kind of the folder (`avsrobust.folders`).
        part: A folder below the URL: the rest of the remote folder stays as it is, but for its marker.
        without: A folder below the URL that stays as it is.
        wait: Wait until another process gives the remote folder up.

    Raises:
        OptionError: The remote folder cannot be used: it is in use, holds what is not ours, has changed, or cannot be written.
    """
    if not is_remote_place(place):
        yield Path(place)
        return
    stage = _Stage(Store.open(str(place)), part, without)
    require_own(stage.store.url, kind)
    make_folder(stage.home)
    with ExitStack() as stack:
        try:
            stack.enter_context(acquire(stage.home, command, wait=wait))
        except OptionError as error:
            raise OptionError(str(error).replace(str(stage.home), stage.store.url)) from error
        stage.read()
        stage.lease = stack.enter_context(hold(stage.store, stage.lock, stage.token, command, wait=wait))
        stage.take()
        _ACTIVE[stage.files] = stage
        try:
            yield stage.files
            stage.publish()
        finally:
            del _ACTIVE[stage.files]
            stage.leave()


def put_so_far(folder: Path, *, often: bool = False) -> None:
    """Put the files that a staging folder holds now to its URL, in the background; nothing for other folders.

    While an earlier call still puts its files, nothing is begun: what is new goes with the next. Where it fails, people are told,
    and the next call tries again.

    Args:
        folder: The staging folder, in which nothing is written meanwhile but new files, each whole at once, and ends of journals.
        often: This is called often: nothing is begun within `PUT_EVERY_S` after the last time, or after the command began, and
            no more than `_MOST_BYTES` are put at once.

    Raises:
        LostLeaseError: Another process writes to the URL by now.
    """
    if (stage := _ACTIVE.get(folder)) is not None:
        stage.put_so_far(often=often)


def require_own(place: Path | str, kind: str) -> None:
    """Check that a remote folder can become, or is, one of ours of this kind, as `folders.ensure_own` does for local ones.

    Raises:
        OptionError: It holds anything that is not ours, or cannot be read.
    """
    store = Store.open(str(place))
    names = {name.partition("/")[0] for name in store.listing()}
    check_owner(store.url, kind, remote_marker(place) if MARKER_NAME in names else None, sorted(names))


def remote_marker(place: Path | str) -> tuple[str, int] | None:
    """Return kind and format of a remote folder of ours, None where it is not ours. Raises `OptionError` for a damaged marker."""
    store = Store.open(str(place))
    content = store.read(MARKER_NAME)
    return None if content is None else parse_marker(f"{store.url}/{MARKER_NAME}", content)


def published(path: Path) -> Path:
    """Return where a file of a staging folder lies after it was put to its URL; other paths as they are."""
    for room in room_folders(STAGING):
        if path.is_relative_to(room):
            home, *rest = path.relative_to(room).parts
            if (url := url_of(room / home)) is not None:
                return local_home(COPIES, url).joinpath(*rest)
    return path


# Staging folders that commands of this process work in.
_ACTIVE: dict[Path, _Stage] = {}


@dataclass(frozen=True)
class _Known:
    """A file as the remote folder and the staging folder both had it."""

    version: str
    sha256: str


@dataclass
class _Stage:
    """A staging folder.

    Attributes:
        store: The remote folder.
        part: The folder below it that is written; "": all.
        without: A folder below it that is not.
        token: Names the staging folder to others.
        known: Files as both sides last had them.
        lease: The remote lock while it is held.
        times: Time of the last change of files as they were last put, by `put_so_far`.
        putting: The thread that puts files there.
        began_s: When it began, by the clock of `time.monotonic`; before, when the folder was taken.
    """

    store: Store
    part: str
    without: str
    token: str = ""
    known: dict[str, _Known] = field(default_factory=dict)
    lease: Lease | None = None
    times: dict[str, int] = field(default_factory=dict)
    putting: Thread | None = None
    began_s: float = field(default_factory=time.monotonic)

    @property
    def home(self) -> Path:
        return local_home(STAGING, f"{self.store.url}/{self.part}")

    @property
    def files(self) -> Path:
        return self.home / FILES_NAME

    @property
    def snapshot(self) -> Path:
        return self.home / SNAPSHOT_NAME

    @property
    def lock(self) -> str:
        return f"{self.part}/{LOCK_NAME}" if self.part else LOCK_NAME

    def read(self) -> None:
        """Read what an earlier command left, or begin anew."""
        try:
            content = parse_json((self.home / INDEX_NAME).read_bytes())
            self.token = str(content["token"])
            self.known = {str(name): _Known(*map(str, entry)) for name, entry in content["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.token = secrets.token_hex(8)
        self.write()

    def write(self) -> None:
        files = {name: [entry.version, entry.sha256] for name, entry in self.known.items()}
        content = {"url": self.store.url, "token": self.token, "files": files}
        write_text(self.home / INDEX_NAME, json.dumps(content, sort_keys=True))

    def take(self) -> None:
        """Bring what is new in the remote folder to the staging folder; what is new here stays."""
        there = self._there()
        changed = [name for name in there if name not in self.known or self.known[name].version != there[name]]
        copy = make_copy(self.store.url, changed) if changed else None
        conflicts = []
        others = sorted({*changed, *(self.known.keys() - there.keys())})
        mine = {name: _sha256(self.files / name) for name in others}
        theirs = {name: None if copy is None or name not in there else _sha256(copy.files / name) for name in others}
        if any(is_part(name) and mine[name] != theirs[name] for name in others):
            self._give_way(others)
        for name in others:
            path, before = self.files / name, self.known.get(name)
            is_theirs = is_part(name) or mine[name] == (None if before is None else before.sha256)
            if (sha256 := theirs[name]) is None or copy is None:
                if is_theirs:
                    path.unlink(missing_ok=True)
                del self.known[name]
                continue
            if mine[name] != sha256 and not is_theirs:
                conflicts.append(name)
                continue
            if mine[name] != sha256:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
                shutil.copyfile(copy.files / name, temporary)
                temporary.replace(path)
            self.known[name] = _Known(there[name], sha256)
        self.write()
        if conflicts:
            raise self._conflict(conflicts)

    def _give_way(self, others: Collection[str]) -> None:
        """Delete parts that were never put there: another machine has continued without them, and has put `others` there."""
        mine = [name for name in self._here() if is_part(name) and name not in self.known]
        if mine:
            files = counted(len(mine), "file")
            tell(f"{self.store.url}: was continued elsewhere; {files} of parts that were here alone give way")
        for name in mine:
            if name not in others:
                (self.files / name).unlink()

    def put_so_far(self, *, often: bool) -> None:
        """Copy files that have changed, and put the copies to the remote folder in the background."""
        if self.lease is not None:
            self.lease.require()
        is_soon = often and time.monotonic() - self.began_s < PUT_EVERY_S
        if is_soon or (self.putting is not None and self.putting.is_alive()):
            return
        self.began_s = time.monotonic()
        names = self._here()
        found = {name: (self.files / name).stat() for name in names}
        times = {name: entry.st_mtime_ns for name, entry in found.items()}
        changed = [name for name in names if name not in self.known or self.times.get(name) != times[name]]
        if often:
            # The copies take room beside the files.
            ends = accumulate(found[name].st_size for name in changed)
            changed = [
                name for name, end in zip(changed, ends, strict=True) if end <= _MOST_BYTES or name == changed[0]
            ]
        shutil.rmtree(self.snapshot, ignore_errors=True)
        for name in changed:
            (self.snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.files / name, self.snapshot / name)
        times = {name: times[name] for name in changed}
        self.putting = Thread(target=copy_context().run, args=(self._put_snapshot, names, changed, times), name="put")
        self.putting.start()

    def _put_snapshot(self, names: list[str], changed: list[str], times: Mapping[str, int]) -> None:
        sums = {name: self.known[name].sha256 for name in names if name in self.known}
        sums |= {name: sha256_of_file(self.snapshot / name) for name in changed}
        try:
            self._put_changes(self.snapshot, sums)
            self.times.update(times)
        except LostLeaseError:
            # The next call, or the end, says so.
            pass
        except AvsRobustError as error:
            tell(f"{self.store.url}: what is finished could not be put there yet ({error})")
        finally:
            shutil.rmtree(self.snapshot, ignore_errors=True)

    def publish(self) -> None:
        """Put what is new to the remote folder, delete there what is gone here, and make the files the copy for reading."""
        self._join()
        self._put_changes(self.files, {name: sha256_of_file(self.files / name) for name in self._here()})
        adopt(self.store.url, self.files, {name: entry.version for name, entry in self.known.items()})
        shutil.rmtree(self.files)
        # What is left says of which URL the folder was.
        self.known = {}
        self.write()

    def _put_changes(self, root: Path, sums: Mapping[str, str]) -> None:
        """Put files below `root` that differ from what is known to be there; delete there those that `sums` does not name."""
        due = {name for name, sha256 in sums.items() if name not in self.known or self.known[name].sha256 != sha256}
        gone = self.known.keys() - sums.keys()
        self._renew()
        self._require_unchanged(sums)
        if not due and not gone:
            return
        count = sum((root / name).stat().st_size for name in due)
        tell(f"writing {counted(len(due), 'file')} ({count / 1e6:.1f} MB) to {self.store.url}")
        for batch in batches(due):
            self._put_batch(root, batch, sums)
        # What says that the rest is whole goes first.
        for batch in reversed(list(batches(gone))):
            self.store.remove_versions({name: self.known[name].version for name in batch}, fenced=self._fenced)
        for name in gone:
            del self.known[name]
        self.write()

    def _put_batch(self, root: Path, batch: list[str], sums: Mapping[str, str]) -> None:
        for left in reversed(range(_TRIES if self._fenced else 1)):
            there = {name: self.known[name].version for name in batch if name in self.known}
            try:
                self.store.put({name: root / name for name in batch}, there if self._fenced else None)
                break
            except OptionError:
                # Because of another's files, or of our own, whose request was repeated since its answer was lost?
                self._renew()
                self._require_unchanged(sums)
                batch = [name for name in batch if name not in self.known or self.known[name].sha256 != sums[name]]
                if not left:
                    raise
        self._note(root, batch, sums)

    def _join(self) -> None:
        if self.putting is not None:
            self.putting.join()
            self.putting = None
        shutil.rmtree(self.snapshot, ignore_errors=True)

    @property
    def _fenced(self) -> bool:
        return self.lease is not None and self.lease.fenced

    def _renew(self) -> None:
        if self.lease is not None:
            self.lease.renew()

    def leave(self) -> None:
        """Delete a staging folder that holds nothing new; say where the others are."""
        self._join()
        if not self.files.is_dir():
            return
        here = self._here()
        new = (name for name in here if name.rpartition("/")[2] != MARKER_NAME)
        if self.known.keys() - set(here) or any(name not in self.known or self._is_changed(name) for name in new):
            tell(f"{self.store.url}: what is finished is kept in {self.home}; the same command continues there")
            return
        shutil.rmtree(self.files, ignore_errors=True)
        self.known = {}
        self.write()

    def _is_changed(self, name: str) -> bool:
        return self.known[name].sha256 != sha256_of_file(self.files / name)

    def _here(self) -> list[str]:
        """Return the names of the files to put: no locks, unfinished files and links."""
        found = (path for path in self.files.rglob("*") if path.is_file() and not path.is_symlink())
        names = (path.relative_to(self.files).as_posix() for path in found if is_public(path.name))
        return sorted(name for name in names if self._is_mine(name))

    def _there(self) -> dict[str, str]:
        """Return the versions of the remote files that this folder is about."""
        listing = self.store.listing()
        return {
            name: file.version
            for name, file in listing.items()
            if self._is_mine(name) and is_public(name.rpartition("/")[2])
        }

    def _is_mine(self, name: str) -> bool:
        if self.part:
            return name == MARKER_NAME or name.startswith(f"{self.part}/")
        return not self.without or not name.startswith(f"{self.without}/")

    def _require_unchanged(self, sums: Mapping[str, str]) -> None:
        """Refuse where the remote folder is not as it was when the work began, but for files that are as ours."""
        there = self._there()
        changed = {
            name for name, version in there.items() if name not in self.known or self.known[name].version != version
        }
        gone = self.known.keys() - there.keys()
        if changed:
            copy = make_copy(self.store.url, changed)
            for name in sorted(changed):
                if sha256_of_file(copy.files / name) == sums.get(name):
                    self.known[name] = _Known(there[name], sums[name])
                    changed.discard(name)
        if changed or gone:
            raise self._conflict(sorted(changed | gone))

    def _note(self, root: Path, names: list[str], sums: Mapping[str, str]) -> None:
        """Note the versions that files have got; refuse where one has not arrived whole."""
        listing = self.store.listing()
        # Held until now: what is listed is ours.
        self._renew()
        for name in names:
            if name not in listing or listing[name].size != (root / name).stat().st_size:
                raise OptionError(
                    f"{self.store.url}/{name}: is not there as it was written; expected its {sums[name][:12]}..; run the same "
                    "command again"
                )
            self.known[name] = _Known(listing[name].version, sums[name])
        self.write()

    def _conflict(self, names: list[str]) -> OptionError:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return OptionError(
            f"{self.store.url}: {names[0]}{more} changed there while this command worked on it; expected nobody else to write "
            f"there; nothing more was put there, the finished work is kept in {self.home}; choose another --output, or delete "
            "that folder and run again to begin with what is there now"
        )


def _sha256(path: Path) -> str | None:
    return sha256_of_file(path) if path.is_file() else None
