"""One process at a time in a folder.

Conventions
    The lock is an advisory one of the operating system (`filelock`), on ``.avsrobust.lock`` in the folder: a process that dies,
    however, gives it up. Beside it, ``.avsrobust.owner`` says who holds it, for people.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from avsrobust.errors import OptionError

LOCK_NAME = ".avsrobust.lock"
OWNER_NAME = ".avsrobust.owner"


@contextmanager
def acquire(folder: Path, command: str, *, wait: bool = False) -> Iterator[None]:
    """Hold `folder`, which exists, for the block; `command` names the holder to others.

    `wait`: until another process gives it up. Raises `OptionError` that names the holder otherwise.
    """
    lock = FileLock(folder / LOCK_NAME, thread_local=False)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise OptionError(
            f"{folder}: is in use by {_owner(folder)}; wait until it is done, run again with --wait, or choose another folder"
        ) from error
    except OSError as error:
        raise OptionError(
            f"{folder}: cannot be locked ({error.strerror or error}); choose another output folder"
        ) from error
    try:
        _name_owner(folder, command)
        yield
    finally:
        (folder / OWNER_NAME).unlink(missing_ok=True)
        lock.release()


def _name_owner(folder: Path, command: str) -> None:
    (folder / OWNER_NAME).write_text(f"{command} (process {os.getpid()} on {socket.gethostname()})", encoding="utf-8")


def _owner(folder: Path) -> str:
    try:
        text = (folder / OWNER_NAME).read_text(encoding="utf-8")[:200]
    except (OSError, UnicodeDecodeError):
        return "another process"
    return "".join(character if character.isprintable() else "?" for character in text) or "another process"
