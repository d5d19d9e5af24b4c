"""Journal of an unfinished build: the files that were made and flushed to disk, with their checksums.

Conventions
    Lines are appended (and flushed) only after the files they are about were flushed. So a file is taken over from an interrupted
    build only where a line vouches for it and its bytes still are those: a power cut may leave a file of the right size and
    name that holds zeros. Lines that are torn or damaged vouch for nothing.
    Every process has a file of its own in the folder `JOURNAL_NAME`, which goes when the manifest is written.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from avsrobust.checksums import FileSum
from avsrobust.errors import OptionError
from avsrobust.files import flush_files, make_folder, not_writable, read_regular
from avsrobust.limits import TABLE_BYTES
from avsrobust.textfiles import parse_json

JOURNAL_NAME = ".journal"
_SUFFIX = ".jsonl"


def record(output: Path, files: Iterable[FileSum]) -> None:
    """Note that these files of the build in `output` are on disk: flushes them first, and the journal after."""
    files = list(files)
    flush_files(output / entry.path for entry in files)
    lines = "".join(json.dumps([entry.path, entry.num_bytes, entry.sha256]) + "\n" for entry in files)
    path = output / JOURNAL_NAME / f"{_own_name(os.getpid())}{_SUFFIX}"
    make_folder(path.parent)
    try:
        with path.open("ab") as stream:
            stream.write(lines.encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise not_writable(path, error) from error


def read_journal(output: Path) -> dict[str, FileSum]:
    """Return what the journal of the build in `output` vouches for, by path; nothing where there is none."""
    known: dict[str, FileSum] = {}
    for path in sorted((output / JOURNAL_NAME).glob(f"*{_SUFFIX}")):
        try:
            lines = read_regular(path, TABLE_BYTES, OptionError).splitlines()
        except (OSError, OptionError):
            continue
        for line in lines:
            entry = _parse(line)
            if entry is not None:
                known[entry.path] = entry
    return known


def remove_journal(output: Path) -> None:
    """Delete the journal of the build in `output`."""
    shutil.rmtree(output / JOURNAL_NAME, ignore_errors=True)


@cache
def _own_name(_process: int) -> str:
    """Return a name that no other process has, on whichever machine."""
    return secrets.token_hex(8)


def _parse(line: bytes) -> FileSum | None:
    try:
        path, num_bytes, sha256 = parse_json(line)
    except (ValueError, TypeError):
        return None
    if isinstance(path, str) and isinstance(num_bytes, int) and isinstance(sha256, str):
        return FileSum(path, num_bytes, sha256)
    return None
