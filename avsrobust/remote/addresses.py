"""URLs of folders on other machines, the local folders that stand for them, and the way back, for messages.

Conventions
    A local folder that stands for a URL is ``<cache>/<room>/<name>/files``; ``index.json`` beside it says of which.
    A text that names a file in such a folder is put right by `with_addresses`: in whatever process, since the index is on disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from avsrobust.errors import AvsRobustError, DataSetError, OptionError
from avsrobust.folders import folder_name
from avsrobust.textfiles import parse_json

ENVIRONMENT_CACHE = "AVSROBUST_CACHE"
COPIES, STAGING = "remote", "staging"
FILES_NAME = "files"
INDEX_NAME = "index.json"
_FILES = rf"([A-Za-z0-9._+-]+)/{FILES_NAME}(?![^/\s:;,'\")\]])"
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_SLIP = re.compile(r"(s3a?|gs|gcs|abfss?|az|memory|file|https?):/?(?!/)", re.IGNORECASE)


def is_remote(place: object) -> bool:
    """Return whether a text names a folder on another machine.

    >>> is_remote("s3://bucket/robust"), is_remote("robust/s4-seed42"), is_remote("C:/data")
    (True, False, False)
    """
    return isinstance(place, str) and _URL.match(place) is not None


def is_remote_place(place: object) -> bool:
    """Return `is_remote` of what a user names as a place.

    Raises:
        OptionError: It is an address with a slip, which would else be a folder of this machine called ``s3:``.
    """
    if is_remote(place):
        return True
    text = place.as_posix() if isinstance(place, Path) else place
    if isinstance(text, str) and (found := _SLIP.match(text)) is not None:
        form = "as text: a Path loses a slash" if isinstance(place, Path) else "with two slashes"
        raise OptionError(
            f"{text}: is no address; expected {found[1].lower()}://{text[found.end() :].lstrip('/')}, {form}"
        )
    return False


def join(place: Path | str, *names: str) -> Path | str:
    """Return what lies below a path or a URL.

    >>> join("s3://bucket/robust/", "s4-seed42")
    's3://bucket/robust/s4-seed42'
    """
    if is_remote(place):
        return "/".join((str(place).rstrip("/"), *names))
    return Path(place, *names)


def cache_folder() -> Path:
    """Return the folder of copies and staging folders.

    Raises:
        OptionError: None is named, and this user has no home.
    """
    named = os.environ.get(ENVIRONMENT_CACHE)
    try:
        return (Path(named) if named else Path.home() / ".cache" / "avsrobust").absolute()
    except RuntimeError as error:
        raise OptionError(
            f"{ENVIRONMENT_CACHE}: is not set, and there is no home folder; name a folder with it"
        ) from error


def room_folders(room: str) -> tuple[Path, ...]:
    """Return the folder of a room, also as what it is a link to, such as a larger disk; nothing where there is no cache."""
    try:
        folder = cache_folder() / room
    except OptionError:
        return ()
    return (folder, folder.resolve())


def local_home(room: str, url: str) -> Path:
    """Return the folder of a room (`COPIES` or `STAGING`) that stands for a URL."""
    return cache_folder() / room / folder_name(url.rstrip("/"))


def with_addresses(text: str) -> str:
    """Return a text with URLs in place of the local folders that stand for them."""
    for room in (COPIES, STAGING):
        for folder in room_folders(room):
            if str(folder) in text:
                text = re.sub(rf"{re.escape(str(folder))}/{_FILES}", partial(_address, folder), text)
    return text


def address_of(path: Path | str) -> str:
    """Return a path as a text: the URL where it lies in a folder that stands for one."""
    return with_addresses(str(path))


def copy_home(path: Path) -> tuple[Path, str] | None:
    """Return the folder of the copy that a file lies in, and its name in the copy; None for other paths."""
    for written in (path.absolute(), path.resolve()):
        for root in room_folders(COPIES):
            if written.is_relative_to(root) and len(parts := written.relative_to(root).parts) > 1:
                return root / parts[0], "/".join(parts[2:])
    return None


def origin(path: Path) -> tuple[str, str] | None:
    """Return URL and relative name of a file in the copy of a remote folder, None for other paths."""
    if (found := copy_home(path)) is None:
        return None
    url = url_of(found[0])
    return None if url is None else (url, found[1])


@contextmanager
def naming_addresses() -> Iterator[None]:
    """Let the errors that leave the block name URLs."""
    try:
        yield
    except AvsRobustError as error:
        error.args = tuple(with_addresses(entry) if isinstance(entry, str) else entry for entry in error.args)
        if isinstance(error, DataSetError):
            error.findings = tuple(map(with_addresses, error.findings))
        raise


def _address(folder: Path, found: re.Match[str]) -> str:
    return url_of(folder / found[1]) or found[0]


def url_of(home: Path) -> str | None:
    """Return the URL that a folder of a room stands for, None where that is not known."""
    try:
        url = parse_json((home / INDEX_NAME).read_bytes())["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if is_remote(url) else None
