"""Zip archives whose declared sizes are checked before anything is unpacked: NPZ files and PyTorch's.

Conventions
    A member is never unpacked beyond the size that the archive's directory declares for it (`zipfile` stops there), so that
    bounding the declared sizes bounds the memory.
    The directory ends where the file ends, as numpy and torch write it: any two readers then find the same one.
"""

from __future__ import annotations

import struct
import zipfile
from typing import BinaryIO

from avsrobust.errors import AvsRobustError
from avsrobust.limits import TEXT_BYTES, Limit

# PKWARE, APPNOTE.TXT: 4.3.16 end of central directory record, 4.3.15 zip64 locator, 4.3.14 zip64 end record.
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_END_MARK, _LOCATOR_MARK, _END64_MARK = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"


def open_archive(stream: BinaryIO, where: object, limit: Limit, error: type[AvsRobustError]) -> zipfile.ZipFile:
    """Return an archive whose members together unpack to at most `limit` bytes; `where` names the file in messages.

    Raises `zipfile.BadZipFile` (or what else `zipfile` raises) for a file that is none, and `error` for one that declares
    too much.
    """
    # `zipfile` reads the whole directory, and makes an object of each entry.
    TEXT_BYTES.check(_directory_bytes(stream), f"{where}: directory of the archive", error)
    stream.seek(0)
    archive = zipfile.ZipFile(stream)
    limit.check(sum(member.file_size for member in archive.infolist()), f"{where}: unpacked", error)
    return archive


def is_stored(archive: zipfile.ZipFile, size: int) -> bool:
    """Return whether no member of an archive of `size` bytes is compressed, and all of them together fit into it."""
    members = archive.infolist()
    plain = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    return plain and sum(member.file_size for member in members) <= size


def _directory_bytes(stream: BinaryIO) -> int:
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _END.size - _LOCATOR.size - _END64.size))
    tail = stream.read()
    if len(tail) < _END.size or tail[-_END.size :][:4] != _END_MARK or tail[-2:] != b"\0\0":
        raise zipfile.BadZipFile("does not end with the directory of an archive")
    declared: int = _END.unpack(tail[-_END.size :])[5]
    before = tail[: -_END.size]
    if before[-_LOCATOR.size :][:4] != _LOCATOR_MARK:
        return declared
    record = before[: -_LOCATOR.size]
    offset = _LOCATOR.unpack(before[-_LOCATOR.size :])[2]
    if len(record) < _END64.size or record[:4] != _END64_MARK or offset != size - len(tail):
        raise zipfile.BadZipFile("the directory of the archive is not at its end")
    declared64: int = _END64.unpack(record)[8]
    return max(declared, declared64)
