"""One process at a time in a folder.

Conventions
    The lock is an advisory one of the operating system (`filelock`), on ``.avsrobust.lock`` in the folder: a process that dies,
    however, gives it up. Beside it, ``.avsrobust.owner`` says who holds it, for people.
    Some shared file systems are mounted without such locks. There a folder is refused, in place of weaker ones that nobody gives
    up for a process that died.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows has locks of its own.
    fcntl = None  # type: ignore[assignment]

from avsrobust.errors import OptionError
from avsrobust.files import TEMPORARY_SUFFIX

LOCK_NAME = ".avsrobust.lock"
OWNER_NAME = ".avsrobust.owner"
# Of each folder that this process holds: device and number of the lock's file.
_HELD: dict[Path, tuple[int, int]] = {}
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def acquire(folder: Path, command: str, *, wait: bool = False) -> Iterator[None]:
    """Hold `folder`, which exists, for the block; `command` names the holder to others.

    `wait`: until another process gives it up. Raises `OptionError` that names the holder otherwise.
    """
    lock = FileLock(folder / LOCK_NAME, thread_local=False)
    try:
        _require_locks(folder)
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise OptionError(
            f"{folder}: is in use by {_owner(folder)}; wait until it is done, run again with --wait, or choose another folder"
        ) from error
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise OptionError(
                f"{folder}: its file system has no locks ({error.strerror}), by which one process keeps others out; have it "
                "mounted with them (NFS: its lock service; Lustre: -o flock), or choose a folder on another file system"
            ) from error
        raise OptionError(
            f"{folder}: cannot be locked ({error.strerror or error}); choose another output folder"
        ) from error
    place = folder.absolute()
    try:
        _HELD[place] = _file_of(folder)
        _name_owner(folder, command)
        yield
    finally:
        _HELD.pop(place, None)
        (folder / OWNER_NAME).unlink(missing_ok=True)
        lock.release()


def require_held(folder: Path) -> None:
    """Check that a folder which this process holds is still the one it was: a share may go away, or be moved.

    Files written to its path then would be a part of the whole that nobody can tell from it.

    Raises:
        OptionError: It is another one, or gone.
    """
    place = folder.absolute()
    if place not in _HELD:
        return
    try:
        is_same = _file_of(folder) == _HELD[place]
    except OSError:
        is_same = False
    if not is_same:
        raise OptionError(
            f"{folder}: is no more the folder that this command began to write to (a share that went away, or a folder that was "
            "moved); nothing more is written; bring it back under this path, in place of what may lie there, and run the same "
            "command again"
        )


def _file_of(folder: Path) -> tuple[int, int]:
    found = (folder / LOCK_NAME).stat()
    return found.st_dev, found.st_ino


def _require_locks(folder: Path) -> None:
    """Raise the `OSError` of a file system without locks: `filelock` takes weaker ones, or takes the refusal for a holder."""
    if fcntl is None:
        return
    # A file of its own: a trial on the lock itself would be in the way of others.
    with NamedTemporaryFile(prefix=".", suffix=TEMPORARY_SUFFIX, dir=folder) as trial:
        fcntl.flock(trial.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _name_owner(folder: Path, command: str) -> None:
    (folder / OWNER_NAME).write_text(f"{command} (process {os.getpid()} on {socket.gethostname()})", encoding="utf-8")


def _owner(folder: Path) -> str:
    try:
        text = (folder / OWNER_NAME).read_text(encoding="utf-8")[:200]
    except (OSError, UnicodeDecodeError):
        return "another process"
    return "".join(character if character.isprintable() else "?" for character in text) or "another process"
