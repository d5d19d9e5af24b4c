"""A bound on the size of all copies: files that were used longest ago go first, none that a process may still read.

Conventions
    The bound is ``$AVSROBUST_CACHE_GB`` (10^9 bytes each; default `DEFAULT_GB`). It is looked at before anything is fetched, and
    so may be exceeded by commands that fetch at the same time, and by one that needs more than it.
    A file's last use is its time of last access, which is set whenever a command asks for it: file systems that are mounted to
    note no reading keep that.
    A process that asks for files of a copy holds a locked file in ``uses/`` there until it ends, whose name says since when.
    Files used since the first of the processes that live are theirs. One that goes through more files than there may be room for
    lists those that it reads at present instead, in such a file that ends in ``.list`` (`hold`): these alone are its own.
    Who deletes files of a copy holds its folder's lock, as who fetches or lists them does, so that nobody begins to use them
    meanwhile; copies that are locked are passed over.
    Without `fcntl` (Windows) nothing is deleted.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

from avsrobust.errors import OptionError
from avsrobust.files import TEMPORARY_SUFFIX
from avsrobust.locks import acquire
from avsrobust.remote.addresses import FILES_NAME
from avsrobust.remote.store import size_text
from avsrobust.vocabulary import counted

ENVIRONMENT_CACHE_GB = "AVSROBUST_CACHE_GB"
DEFAULT_GB = 100.0
USES = "uses"
LIST_SUFFIX = ".list"
SPARE_BYTES = 1 << 28
# All copies are looked through to delete some: those who do so again and again delete this part of the bound at a time.
_SLACK = 0.05
# All are looked through again after so long: other processes fetch, too.
_BELIEVED_S = 300.0
# Some file systems keep times to two seconds.
_COARSEST_NS = 2_000_000_000

# Of this process: the files that say that it uses a copy, by the copy's folder; and what it believes all copies take.
_own: dict[Path, tuple[Path, int]] = {}
_own_lists: dict[Path, tuple[Path, int]] = {}
_readers: dict[Path, WeakKeyDictionary[object, frozenset[str]]] = {}
_believed: dict[Path, _Belief] = {}


@dataclass
class _Belief:
    """What all copies take, in bytes, as this process counts on since it has looked."""

    count: int
    since_s: float


def bound() -> float:
    """Return the bound in bytes.

    Raises:
        OptionError: It is no number above zero.
    """
    text = os.environ.get(ENVIRONMENT_CACHE_GB)
    try:
        found = DEFAULT_GB if not text else float(text)
    except ValueError:
        found = -1.0
    if not 0 < found < float("inf"):
        raise OptionError(f"{ENVIRONMENT_CACHE_GB}: found '{text}'; expected gigabytes, such as {DEFAULT_GB:g}")
    return found * 1e9


def begin_use(home: Path) -> None:
    """Say that this process uses a copy, until it ends; the caller holds the copy's folder."""
    if fcntl is not None and not _says(_own, home):
        _own[home] = _locked_file(home, "")


def hold(home: Path, names: Collection[str], reader: object) -> None:
    """Say that a reader in this process reads these files of a copy at present, and no others that it has listed so far.

    The caller holds the copy's folder. A process that has said `begin_use` as well keeps what it uses by that.
    """
    if fcntl is None:
        return
    if not _says(_own_lists, home):
        _own_lists[home] = _locked_file(home, LIST_SUFFIX)
    _readers.setdefault(home, WeakKeyDictionary())[reader] = frozenset(names)
    descriptor, listed = _own_lists[home][1], frozenset[str]().union(*_readers[home].values())
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(sorted(listed)).encode(), 0)


def _says(own: dict[Path, tuple[Path, int]], home: Path) -> bool:
    """Return whether one of this process's files for a copy is there; where somebody has deleted the copy, it is forgotten."""
    if home not in own:
        return False
    path, descriptor = own[home]
    try:
        if os.path.samestat(path.stat(), os.fstat(descriptor)):
            return True
    except FileNotFoundError:
        pass
    del own[home]
    os.close(descriptor)
    return False


def _locked_file(home: Path, suffix: str) -> tuple[Path, int]:
    folder = home / USES
    folder.mkdir(exist_ok=True)
    _uses(home)
    path = folder / f"{time.time_ns()}-{os.getpid()}-{secrets.token_hex(4)}{suffix}"
    # Never closed: forked processes use it too, and the system gives the lock up with the last of them.
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return path, descriptor


def note_use(paths: Iterable[Path]) -> None:
    """Set the last use of files that are there."""
    now = time.time_ns()
    for path in paths:
        try:
            found = path.stat()
            # Another machine of a shared disk may have a clock that is ahead.
            os.utime(path, ns=(max(now, found.st_atime_ns), found.st_mtime_ns))
        except OSError:
            continue


def make_room(home: Path, count: int, *, fetched: bool = True, coming: Callable[[], int] | None = None) -> str:
    """Delete what was used longest ago until so many bytes more are within the bound, and on the disk, as far as that goes.

    Args:
        home: The copy that they are for, whose folder the caller holds.
        count: The bytes.
        fetched: Whether the disk must have room for them; else they lie there already.
        coming: Returns the bytes for which room was made before, and which are not here yet; of who asks again and again. Where
            anything is deleted for it, some more is.

    Returns:
        What to tell people; "" for nothing.

    Raises:
        OptionError: The bound is no number.
    """
    limit, root = bound(), home.parent
    free = shutil.disk_usage(home).free if fetched else count + SPARE_BYTES
    short = count + SPARE_BYTES - free
    belief = _believed.get(root)
    if belief is not None and time.monotonic() - belief.since_s > _BELIEVED_S:
        # Others have fetched since.
        belief = None
    if fcntl is None or (short <= 0 and belief is not None and belief.count + count <= limit):
        if belief is not None:
            belief.count += count
        return ""
    # First: what arrives in between is counted twice rather than not at all.
    expected = 0 if coming is None else coming()
    found = sorted(_files(root), key=lambda file: file.used_ns)
    total = sum(file.size for file in found) + expected
    due = max(int(total + count - limit), short + expected)
    deleted = _delete(found, home, due if coming is None or due <= 0 else due + int(_SLACK * limit))
    freed, copies = sum(file.size for file in deleted), {file.home for file in deleted}
    taken = total - freed + count
    _believed[root] = _Belief(taken, time.monotonic())
    lines = []
    if deleted:
        lines.append(
            f"deleted {counted(len(deleted), 'file')} ({size_text(freed)}) of {counted(len(copies), 'copy')}, used longest ago"
        )
    if taken > limit:
        lines.append(
            f"copies take {size_text(taken)}, over the {size_text(int(limit))} of {ENVIRONMENT_CACHE_GB}: all else is "
            "in use"
        )
    return "; ".join(lines)


def could_hold(home: Path, count: int) -> bool:
    """Return whether the disk of a copy has room for bytes more, where all other files of copies are deleted."""
    free = shutil.disk_usage(home).free
    return count + SPARE_BYTES <= free or count + SPARE_BYTES <= free + sum(file.size for file in _files(home.parent))


@dataclass(frozen=True)
class _File:
    home: Path
    path: Path
    size: int
    used_ns: int


def _files(root: Path) -> Iterator[_File]:
    for home in sorted(root.iterdir()):
        for folder, _, names in os.walk(home / FILES_NAME):
            for name in names:
                path = Path(folder, name)
                try:
                    found = path.stat(follow_symlinks=False)
                except OSError:
                    continue
                yield _File(home, path, found.st_size, found.st_atime_ns)


@dataclass(frozen=True)
class _Uses:
    """The files of a copy that living processes use: all used since a time, and some by name.

    Attributes:
        since: The time, in ns.
        names: The names.
        has_users: Whether there is such a process.
    """

    since: int
    names: frozenset[str]
    has_users: bool

    def has(self, file: _File) -> bool:
        if file.used_ns >= self.since or (self.has_users and file.path.name.endswith(TEMPORARY_SUFFIX)):
            return True
        return file.path.relative_to(file.home / FILES_NAME).as_posix() in self.names


def _delete(found: Iterable[_File], own: Path, count: int) -> list[_File]:
    """Delete files, in this order, until they make `count` bytes; return them."""
    deleted: list[_File] = []
    uses: dict[Path, _Uses] = {}
    with ExitStack() as stack:
        for file in found:
            if count <= 0:
                break
            if file.home not in uses:
                uses[file.home] = _take(file.home, own, stack)
            if uses[file.home].has(file):
                continue
            file.path.unlink(missing_ok=True)
            deleted.append(file)
            count -= file.size
    return deleted


def _take(home: Path, own: Path, stack: ExitStack) -> _Uses:
    """Hold the folder of a copy; return which of its files are in use: all where others hold it."""
    if home != own:
        try:
            stack.enter_context(acquire(home, "avsrobust"))
        except OptionError:
            return _Uses(0, frozenset(), has_users=True)
    return _uses(home)


def _uses(home: Path) -> _Uses:
    """Return the files of a copy that living processes use, and delete the traces of others."""
    mine = [own[home][0] for own in (_own, _own_lists) if home in own]
    since, names, found = time.time_ns() * 2, set[str](), False
    for path in (home / USES).glob("*"):
        if path not in mine and not is_locked(path):
            path.unlink(missing_ok=True)
            continue
        found = True
        began = path.name.partition("-")[0]
        listed = _listed(path) if path.name.endswith(LIST_SUFFIX) else None
        if listed is None:
            since = min(since, int(began) - _COARSEST_NS if began.isdecimal() else 0)
        else:
            names |= listed
    return _Uses(since, frozenset(names), has_users=found)


def _listed(path: Path) -> set[str] | None:
    """Return the names in a list, None where it is none."""
    try:
        content = path.read_bytes()
        return set(map(str, json.loads(content))) if content else set()
    except (OSError, ValueError, TypeError):
        return None


def is_locked(path: Path) -> bool:
    """Return whether a process that lives holds a lock on a file; True where that cannot be known."""
    if fcntl is None:
        return True
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        # Another user's.
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
