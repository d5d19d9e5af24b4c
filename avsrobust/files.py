"""Reading and writing files safely: atomic writes, checksums, paths that stay inside their root.

Conventions
    Paths stored in any file of ours are relative, with forward slashes, and never contain ``..``.
    A file appears under its final name whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from avsrobust.errors import AvsRobustError, OptionError

_CHUNK = 1 << 20
TEMPORARY_SUFFIX = ".avsrobust-tmp"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds, delete it when it fails.

    Parent folders are made. Raises `OptionError` where the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    make_folder(path.parent)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OptionError(
            f"{path}: cannot be written ({error.strerror or error}); choose another output folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def make_folder(path: Path) -> None:
    """Make `path` and its parents. Raises `OptionError` where that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(
            f"{path}: cannot be made a folder ({error.strerror or error}); choose another output folder"
        ) from error


def require_writable(path: Path) -> None:
    """Make the folder `path` and check that files can be made in it. Raises `OptionError` otherwise."""
    make_folder(path)
    probe = path / f".probe.{os.getpid()}{TEMPORARY_SUFFIX}"
    try:
        probe.write_bytes(b"")
    except OSError as error:
        raise OptionError(
            f"{path}: cannot be written ({error.strerror or error}); choose another output folder"
        ) from error
    finally:
        probe.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Delete what killed processes left half written below `folder`."""
    for leftover in folder.rglob(f"*{TEMPORARY_SUFFIX}"):
        leftover.unlink(missing_ok=True)


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def is_safe_relative(path: str) -> bool:
    """Tell whether `path` is relative, normal, and cannot leave the folder it is resolved in.

    >>> is_safe_relative("a/b.wav"), is_safe_relative("../b"), is_safe_relative("/b"), is_safe_relative("")
    (True, False, False, False)
    """
    if not path or "\\" in path or any(ord(character) < 32 for character in path):
        return False
    parts = path.split("/")
    return not PurePosixPath(path).is_absolute() and all(part not in ("", ".", "..") for part in parts)


def resolve_inside(root: Path, relative: str, *, named_by: Path | str) -> Path:
    """Return ``root / relative``; refuse paths that would leave `root`.

    `named_by` is the file that holds the path, for the message. Raises `AvsRobustError`.
    """
    if not is_safe_relative(relative):
        raise AvsRobustError(
            f"{named_by}: names the file '{relative}', which is not a path inside {root}; "
            "expected a relative path without '..'; do not use files from a source you do not trust"
        )
    return root / relative
