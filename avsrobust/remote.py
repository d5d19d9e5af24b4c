"""Folders on other machines, such as ``s3://bucket/folder``, read through a copy on this one.

Conventions
    A URL names a folder that fsspec opens; ``s3://`` needs s3fs (the extra `s3`), which takes keys and endpoint from the usual
    environment variables and files of AWS. Nothing is ever written there.
    The copy lies in ``$AVSROBUST_CACHE``, else ``~/.cache/avsrobust``, in a folder per URL, and may be deleted at any time. A
    file is fetched again where its size or its version there (ETag, or the time of its last change) is another than before.
    What a build vouches for by checksums is compared with these as everywhere; fetching itself compares sizes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from avsrobust.errors import DataSetError, OptionError
from avsrobust.files import TEMPORARY_SUFFIX, is_safe_relative, write_text
from avsrobust.locks import acquire
from avsrobust.textfiles import parse_json

ENVIRONMENT_CACHE = "AVSROBUST_CACHE"
_INDEX_NAME = "index.json"
_FILES_NAME = "files"
_AT_ONCE = 256
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_remote(place: object) -> bool:
    """Return whether a text names a folder on another machine.

    >>> is_remote("s3://bucket/robust"), is_remote("robust/s4-seed42"), is_remote("C:/data")
    (True, False, False)
    """
    return isinstance(place, str) and _URL.match(place) is not None


def local_copy(url: str, names: Collection[str] | None = None) -> Path:
    """Return a folder on this machine that holds files of a remote folder, fetched as far as they are not there.

    Args:
        url: The remote folder.
        names: Paths of the files, relative to it, with forward slashes; None: all that it has.

    Raises:
        OptionError: The URL cannot be opened.
        DataSetError: The folder lacks a file, or one cannot be fetched.
    """
    system, root = _open(url)
    folder = _cache_folder() / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    # Several processes of one machine fetch once.
    with acquire(folder, "avsrobust", wait=True):
        there = _listing(system, root, url)
        wanted = sorted(there if names is None else set(names))
        missing = [name for name in wanted if name not in there]
        if missing or not wanted:
            found = f"lacks {missing[0]} and {len(missing) - 1} more" if missing else "found no file"
            raise DataSetError(f"{url}: {found}; expected the files of a build or data set; check the address")
        _fetch(system, root, url, folder, {name: there[name] for name in wanted})
    return folder / _FILES_NAME


def _open(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise OptionError(f"{url}: fsspec is not installed; run: pip install 'avsrobust[s3]'") from error
    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise OptionError(
            f"{url}: cannot be opened ({' '.join(str(error).split())}); expected s3://bucket/folder, with the extra "
            "'avsrobust[s3]' installed, or another address that fsspec opens"
        ) from error
    return system, str(root).rstrip("/")


def _listing(system: Any, root: str, url: str) -> dict[str, Mapping[str, Any]]:
    """Return the files below a remote folder by relative path."""
    try:
        system.invalidate_cache()
        found = system.find(root, detail=True)
    # Each file system has errors of its own.
    except Exception as error:
        raise OptionError(f"{url}: cannot be listed ({_words(error)}); check address, keys and endpoint") from error
    files = {path[len(root) :].lstrip("/"): info for path, info in found.items() if path.startswith(f"{root}/")}
    return {name: info for name, info in files.items() if is_safe_relative(name)}


def _fetch(system: Any, root: str, url: str, folder: Path, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    known = _read_index(folder / _INDEX_NAME)
    versions = {name: _version(info) for name, info in wanted.items()}
    due = [
        name for name, version in versions.items() if known.get(name) != version or not _is_there(folder, name, wanted)
    ]
    for start in range(0, len(due), _AT_ONCE):
        names = due[start : start + _AT_ONCE]
        paths = [folder / _FILES_NAME / name for name in names]
        temporaries = [path.with_name(path.name + TEMPORARY_SUFFIX) for path in paths]
        try:
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
            system.get([f"{root}/{name}" for name in names], [str(path) for path in temporaries])
            for name, temporary, path in zip(names, temporaries, paths, strict=True):
                if temporary.stat().st_size != wanted[name].get("size"):
                    raise OSError(f"{name} came with {temporary.stat().st_size} of {wanted[name].get('size')} bytes")
                temporary.replace(path)
        except Exception as error:
            raise DataSetError(f"{url}: cannot be fetched ({_words(error)}); run the same command again") from error
        known.update({name: versions[name] for name in names})
        write_text(folder / _INDEX_NAME, json.dumps({"url": url, "files": known}, sort_keys=True))


def _is_there(folder: Path, name: str, wanted: Mapping[str, Mapping[str, Any]]) -> bool:
    path = folder / _FILES_NAME / name
    return path.is_file() and path.stat().st_size == wanted[name].get("size")


def _version(info: Mapping[str, Any]) -> str:
    """Return what changes when a remote file does."""
    return (
        f"{info.get('size')} {info.get('ETag') or info.get('LastModified') or info.get('mtime') or info.get('created')}"
    )


def _read_index(path: Path) -> dict[str, str]:
    try:
        files = parse_json(path.read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {str(name): str(version) for name, version in files.items()} if isinstance(files, dict) else {}


def _cache_folder() -> Path:
    named = os.environ.get(ENVIRONMENT_CACHE)
    return (Path(named) if named else Path.home() / ".cache" / "avsrobust").absolute() / "remote"


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
