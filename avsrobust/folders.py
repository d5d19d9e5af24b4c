"""Folders of ours: a marker file says what a folder holds, so that nothing of the user's is ever taken for it.

Conventions
    ``.avsrobust.json`` is the first file in a folder of ours and names its kind ("build", "results", ..) and that kind's
    format. A folder without it is ours only if it is empty or does not exist. Only files whose names the kind's own code
    writes are ever replaced or deleted, and only in a folder with the marker, while its lock is held.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from avsrobust.defaults import NO_TEXT, is_text
from avsrobust.errors import AvsRobustError, OptionError
from avsrobust.files import TEMPORARY_SUFFIX, flush_files, is_safe_name, make_folder, write_text
from avsrobust.locks import LOCK_NAME, OWNER_NAME, acquire, require_held
from avsrobust.textfiles import parse_json

MARKER_NAME = ".avsrobust.json"
_MOST_NAMED = 5
_MOST_BYTES = 4096
_LONGEST_NAME = 80
_KINDS_OF_OURS = (".parquet", ".json")
_OURS = (LOCK_NAME, OWNER_NAME, MARKER_NAME)
_TITLES = {
    "build": "a build",
    "results": "results",
    "training": "a training run",
    "classes": "class files",
    "pictures": "resized pictures",
    "overlays": "overlays",
}


def ensure_own(folder: Path, kind: str) -> tuple[str, int] | None:
    """Return the marker of a folder that can become, or is, one of ours of this kind; None where it has none yet.

    Raises `OptionError` where it holds anything that is not ours, or is of another kind, or where its path is no text. Nothing
    is changed.
    """
    if not is_text(path := str(folder.absolute())):
        raise OptionError(f"{path!a}: is a folder {NO_TEXT}")
    found = read_marker(folder)
    foreign = foreign_entries(folder) if found is None else []
    if foreign:
        # Another process may have marked it, and begun to fill it, in between.
        found = read_marker(folder)
    check_owner(folder, kind, found, foreign)
    return found


def check_owner(folder: Path | str, kind: str, marker: tuple[str, int] | None, entries: Sequence[str]) -> None:
    """Check that a folder with this marker and these entries can become, or is, one of ours of this kind.

    Raises `OptionError`, which names `folder`, where it holds anything that is not ours, or is of another kind.
    """
    foreign = [name for name in entries if name not in _OURS and not name.endswith(TEMPORARY_SUFFIX)]
    if marker is None and foreign:
        names = ", ".join(foreign[:_MOST_NAMED]) + (", .." if len(foreign) > _MOST_NAMED else "")
        raise OptionError(
            f"{folder}: holds {names}, which avsrobust did not write there (no {MARKER_NAME}); "
            "expected a new, an empty or an own folder; choose another one"
        )
    if marker is not None and marker[0] != kind:
        raise OptionError(
            f"{folder}: holds {_title(marker[0])} of format {marker[1]}; expected {_title(kind)}; choose another folder"
        )


def require_root(option: str, marker: tuple[str, int] | None, kind: str) -> None:
    """Check the folder below which those of a kind are made. Raises `OptionError`, after `option`, where it is one of another."""
    if marker is not None and marker[0] != kind:
        raise OptionError(
            f"{option}: holds {_title(marker[0])}; expected a folder below which {_title(kind)} may lie; choose another one"
        )


def ensure_output_dir(folder: Path, kind: str, format_version: int, *, replace: bool = False) -> None:
    """Make `folder` ours: make it, or check that it is empty or marked as one of this kind and format, and mark it.

    `replace`: one of the same kind and another format is marked anew. Raises `OptionError` where it holds anything that is
    not ours, or is of another kind or format. Nothing is changed then.
    """
    found = ensure_own(folder, kind)
    if found == (kind, format_version):
        return
    if found is not None and not replace:
        raise OptionError(
            f"{folder}: holds {_title(found[0])} of format {found[1]}; expected {_title(kind)} of format {format_version}; "
            "choose another folder"
        )
    make_folder(folder)
    write_text(folder / MARKER_NAME, json.dumps({"kind": kind, "format": format_version}, sort_keys=True) + "\n")


@contextmanager
def hold_output_dir(
    folder: Path, kind: str, format_version: int, command: str, *, wait: bool = False, replace: bool = False
) -> Iterator[None]:
    """Make `folder` ours (`ensure_output_dir`) and hold its lock for the block; `command` names the holder to others.

    A folder that was not there before, and where the block leaves nothing, goes again. Raises `OptionError` as
    `ensure_output_dir` and `locks.acquire` do.
    """
    absent = _absent(folder)
    with ExitStack() as stack:
        while True:
            ensure_output_dir(folder, kind, format_version, replace=replace)
            try:
                stack.enter_context(acquire(folder, command, wait=wait))
            except OptionError:
                if wait and not folder.exists():
                    continue
                raise
            if read_marker(folder) is not None:
                break
            # Its holder has given it up and taken it away meanwhile.
            stack.pop_all().close()
        try:
            yield
        except (OSError, AvsRobustError):
            # A folder that is gone is named, rather than the file that was wanted next.
            require_held(folder)
            raise
        else:
            require_held(folder)
        finally:
            _give_up(folder, absent)


@contextmanager
def hold_any_dir(folder: Path, command: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder that may hold other people's files as well, and leave neither marker nor lock behind in it.

    Raises `OptionError` where it is one of ours, of any kind: that holds its own files alone.
    """
    if (marker := read_marker(folder)) is not None:
        raise OptionError(
            f"{folder}: holds {_title(marker[0])}; expected a folder that '{command}' may write into; choose another one"
        )
    absent = _absent(folder)
    make_folder(folder)
    with acquire(folder, command, wait=wait):
        try:
            yield
        finally:
            (folder / LOCK_NAME).unlink(missing_ok=True)
            _give_up(folder, absent)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `folder`, which takes its name when the block succeeds and is deleted when it fails.

    For what other programs read: neither marker nor lock is in it. Raises `OptionError` where `folder` is there already and is
    not empty, or cannot be made.
    """
    _require_new(folder)
    make_folder(folder.absolute().parent)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    make_folder(temporary)
    try:
        yield temporary
        flush_files([path for path in temporary.rglob("*") if path.is_file()])
        _require_new(folder)
        try:
            temporary.replace(folder)
        except OSError as error:
            raise OptionError(
                f"{folder}: cannot be written ({error.strerror or error}); choose another folder"
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _require_new(folder: Path) -> None:
    if folder.name in ("", ".."):
        raise OptionError(f"{folder}: cannot be made; expected the name of a new folder")
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(f"{folder}: is there already; expected a new or an empty folder; choose another one")


def require_no_file_of_ours(path: Path) -> None:
    """Raise `OptionError` where a file to be written would take the place of one that a build or results consist of.

    Those are parquet and JSON files (a folder of ours may hold other people's tables beside them).
    """
    if path.suffix in _KINDS_OF_OURS and path.exists() and (marker := read_marker(path.parent)) is not None:
        raise OptionError(
            f"--output {path}: is there already, in a folder that holds {_title(marker[0])}; expected a new file, or one "
            "somewhere else; choose another name"
        )


def read_marker(folder: Path) -> tuple[str, int] | None:
    """Return kind and format of a folder of ours, None where it is not ours. Raises `OptionError` for a damaged marker."""
    path = folder / MARKER_NAME
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES)
    except OSError as error:
        raise OptionError(
            f"{path}: is damaged ({error}); expected avsrobust's own marker; choose another folder"
        ) from error
    return parse_marker(path, content)


def parse_marker(path: Path | str, text: bytes) -> tuple[str, int]:
    """Return kind and format that the bytes of a marker name. Raises `OptionError`, which names `path`, for damaged ones."""
    try:
        content = parse_json(text[:_MOST_BYTES])
        kind, version = content["kind"], content["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"{path}: is damaged ({error}); expected avsrobust's own marker; choose another folder"
        ) from error
    if not (isinstance(kind, str) and kind.isidentifier() and isinstance(version, int)):
        raise OptionError(f"{path}: is damaged; expected a kind and a format; choose another folder")
    return kind, version


def foreign_entries(folder: Path) -> list[str]:
    """Return the sorted names in a folder that are not leftovers of ours; empty where there is no folder."""
    try:
        entries = sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        if not folder.exists():
            # Below a file: whoever makes the folder says so.
            return []
        raise OptionError(
            f"{folder}: cannot be used ({error.strerror or error}); expected a folder; choose another one"
        ) from error
    return [name for name in entries if name not in _OURS and not name.endswith(TEMPORARY_SUFFIX)]


def folder_name(name: str) -> str:
    """Return the folder's name for a name that people gave: the same where it is safe, else what is safe of it and a checksum.

    Two names give one folder only where a file system takes upper and lower case for the same (`same_folder`).

    >>> folder_name("m2f_v1.0"), folder_name("a/b"), folder_name("a_b")
    ('m2f_v1.0', 'a_b-c14cddc033f6', 'a_b')
    """
    if is_safe_name(name) and len(name) <= _LONGEST_NAME:
        return name
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[:_LONGEST_NAME]
    return f"{plain if is_safe_name(plain) else '_'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def same_folder(path: Path | str) -> str:
    """Return a key that is equal for paths which some file system takes for one (upper and lower case, Unicode's forms)."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _title(kind: str) -> str:
    return _TITLES.get(kind, f"a {kind}")


def _absent(folder: Path) -> list[Path]:
    """Return the folder and those above it that do not exist, from below."""
    folder = folder.absolute()
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _give_up(folder: Path, absent: list[Path]) -> None:
    """Take away, from below, folders that were made for the block and are as good as empty. The lock is still held."""
    try:
        entries = [entry.name for entry in folder.iterdir()]
    except OSError:
        return
    if any(name not in _OURS for name in entries):
        return
    with suppress(OSError):
        # The lock's file last: whoever waits for it finds no folder, or one that is not marked, and begins anew.
        for name in (MARKER_NAME, OWNER_NAME, LOCK_NAME):
            (folder / name).unlink(missing_ok=True)
        for path in absent:
            path.rmdir()
