"""Reading and writing files safely: atomic writes, checksums, paths that stay inside their root.

Conventions
    Paths stored in any file of ours are relative, with forward slashes, and never contain ``..``.
    A file appears under its final name whole or not at all, and is flushed to disk, with its folder, before the call that wrote
    it returns: a checksum of it can be written after it.
    Only regular files are opened for reading: a pipe would never end, a device might never.
    A name that stands in a file (of a recipe, a data set, a split, a condition, a model) is a name and never a path: it is
    checked (`is_safe_name`) before it becomes part of one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from avsrobust.errors import AvsRobustError, OptionError
from avsrobust.limits import Limit

_CHUNK = 1 << 20
# No system reads more by one call than a little less than 2 GiB.
_MOST_AT_ONCE = 1 << 30
_FLUSHED_AT_ONCE = 16
_FULL = (errno.ENOSPC, errno.EDQUOT)
TEMPORARY_SUFFIX = ".avsrobust-tmp"
SAFE_NAME = "a name of at most 100 letters a-z, A-Z, digits and . _ + -, whose first is a letter, digit or _"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")
# Parts that are not empty, "." or "..", without backslashes and control characters.
_PART = r"(?!\.{0,2}(?:/|\Z))[^/\\\x00-\x1f]+"
_SAFE_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
# Windows takes these for devices, whatever follows the first dot.
_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)))
)


# Times of a file's last change and of that of its entry in ns, which nobody can set, its size in bytes, and its number.
FileState = tuple[int, int, int, int]


@contextmanager
def atomic_path(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` when the block succeeds, delete it when it fails.

    Args:
        path: The final name; parent folders are made.
        flush: Flush file and folder to disk. False where the caller flushes many files at once (`flush_files`).

    Raises:
        OptionError: The folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    make_folder(path.parent)
    try:
        yield temporary
        if flush and not temporary.is_symlink():
            _flush(temporary)
        temporary.replace(path)
        if flush:
            _flush(path.parent)
    except OSError as error:
        raise not_writable(path, error) from error
    finally:
        # A read-only disk refuses this too, and its first error is the one to show.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Write `content` to `path` atomically; `flush` as for `atomic_path`."""
    with atomic_path(path, flush=flush) as temporary:
        temporary.write_bytes(content)


def put_bytes(path: Path, content: bytes) -> bool:
    """Write `content` atomically unless the file holds it already; return whether it was written. The caller flushes it."""
    try:
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return False
    except OSError:
        pass
    write_bytes(path, content, flush=False)
    return True


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def make_folder(path: Path) -> None:
    """Make `path` and its parents.

    Raises:
        OptionError: That is impossible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            f"{path}: cannot be made a folder ({error.strerror or error}); choose another output folder"
        ) from error


def require_writable(path: Path) -> None:
    """Make the folder `path` and check that files can be made in it.

    Raises:
        OptionError: They cannot.
    """
    make_folder(path)
    probe = path / f".probe.{os.getpid()}{TEMPORARY_SUFFIX}"
    try:
        probe.write_bytes(b"")
    except OSError as error:
        raise not_writable(path, error) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def not_writable(path: Path, error: OSError) -> OptionError:
    """Return the error for a file or folder that cannot be written, with the remedy."""
    return OptionError(f"{path}: cannot be written ({error.strerror or error}); {remedy_for_writing(error)}")


def remedy_for_writing(error: OSError) -> str:
    """Return what a user can do where a file cannot be written.

    >>> remedy_for_writing(PermissionError(errno.EACCES, "denied"))
    'choose another output folder'
    """
    if error.errno in _FULL:
        return "free some space there and run the same command again, or choose another output folder"
    return "choose another output folder"


def flush_files(paths: Iterable[Path]) -> None:
    """Flush files that are there, and their folders, to disk.

    Raises:
        OSError: A file is missing or the disk fails.
    """
    paths = list(paths)
    # Side by side: a journalling file system then commits many at once, one after the other takes three times as long.
    with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as pool:
        list(pool.map(_flush, paths))
        list(pool.map(_flush, dict.fromkeys(path.parent for path in paths)))


def flush_folders(folder: Path) -> None:
    """Flush `folder` and all folders below it to disk: the names in them, not the files.

    Raises:
        OSError: The disk fails.
    """
    folders = [Path(path) for path, _, _ in os.walk(folder)]
    with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as pool:
        list(pool.map(_flush, folders))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, without waiting where it is something else.

    Raises:
        OSError: The file is missing, cannot be read, or is a pipe, device, socket or directory; the text says which.
    """
    return os.fdopen(_open_descriptor(path)[0], "rb")


def _open_descriptor(path: Path) -> tuple[int, int]:
    """Return the descriptor of a regular file and its size in bytes; raises as `open_regular`."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    state = os.fstat(descriptor)
    if stat.S_ISREG(state.st_mode):
        return descriptor, state.st_size
    os.close(descriptor)
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(None, f"is {_kind_of(state.st_mode)}, not a regular file", str(path))


def read_regular(path: Path, limit: Limit, error: type[AvsRobustError]) -> bytes:
    """Read a regular file of bounded size.

    Args:
        path: The file.
        limit: The largest size in bytes.
        error: Class of the error for a larger one.

    Returns:
        Its bytes.

    Raises:
        OSError: The file is missing, cannot be read or is no regular file.
        AvsRobustError: `error`, where the file is above the limit.
    """
    # Without a stream, which takes as long to make as a picture to read.
    descriptor, size = _open_descriptor(path)
    try:
        limit.check(size, path, error)
        # One more than that, to notice a file that grows; no more, since so much memory is taken at once.
        parts, left = list[bytes](), size + 1
        while left and (part := os.read(descriptor, min(left, _MOST_AT_ONCE))):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(descriptor)
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(content) > size:
        limit.check(len(content), path, error)
    return content


def _kind_of(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "a device")


def remove_temporaries(folder: Path, *, but: Path | None = None) -> None:
    """Delete the half-written files that killed processes left below `folder`, ours and locked, except those below `but`."""
    for leftover in list(folder.rglob(f"*{TEMPORARY_SUFFIX}")):
        if but is not None and leftover.is_relative_to(but):
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def file_state(path: Path) -> FileState | None:
    """Return what tells a file at the same path from an earlier one without reading it; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def path_from_here(path: Path, whole: Path | None) -> Path:
    """Return a path that was given in some working folder as one that holds in the present one.

    Args:
        path: The path as it was given.
        whole: The same as an absolute path; None: nobody noted it.
    """
    return path if whole is None or path.absolute() == whole else whole


def is_safe_name(text: object) -> bool:
    """Return whether `text` can be the name of a file or folder on every system, and nothing else (see `SAFE_NAME`).

    >>> [is_safe_name(text) for text in ("m2f_v1.0", "../x", "a/b", ".hidden", "-o", "", "nul.txt", "end.", 3)]
    [True, False, False, False, False, False, False, False, False]
    """
    if not isinstance(text, str) or not _NAME.fullmatch(text) or text.endswith("."):
        return False
    return text.partition(".")[0].lower() not in _DEVICES


def is_safe_relative(path: str) -> bool:
    """Return whether `path` is relative, normal, and cannot leave the folder it is resolved in.

    >>> is_safe_relative("a/b.wav"), is_safe_relative("../b"), is_safe_relative("/b"), is_safe_relative("")
    (True, False, False, False)
    """
    return _SAFE_PATH.fullmatch(path) is not None


def resolve_inside(root: Path, relative: str, *, named_by: Path | str) -> Path:
    """Return ``root / relative``; refuse paths that would leave `root`.

    Args:
        root: The folder.
        relative: A path from a file, with forward slashes.
        named_by: The file that holds the path, for the message.

    Raises:
        AvsRobustError: The path is absolute, not normal, or contains ``..``.
    """
    if not is_safe_relative(relative):
        raise AvsRobustError(
            f"{named_by}: names the file '{relative}', which is not a path inside {root}; "
            "expected a relative path without '..'; do not use files from a source you do not trust"
        )
    return root / relative
