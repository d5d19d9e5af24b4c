"""NumPy's files, read without trusting them: no pickles, and no memory for numbers that are not in the file.

Conventions
    `OSError` (not there, no rights, no regular file) passes through; anything wrong with the content raises the caller's
    `error`, in one line that names the file. Arrays hold plain numbers (bool, integer, floating point), in the machine's own
    order of bytes where they are read, in the file's where they are mapped.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from avsrobust.archives import open_archive
from avsrobust.errors import AvsRobustError
from avsrobust.files import open_regular
from avsrobust.limits import ARRAY_BYTES, Limit

_PLAIN = "biuf"
_MOST_DIMENSIONS = 32
# Bytes of a header's length by the format's version; numpy reads no longer headers of files that are not trusted.
_LENGTHS = {(1, 0): 2, (2, 0): 4}
_LONGEST_HEADER = 10_000
# Whole numbers as numpy under Python 2 wrote them.
_LONG = re.compile(rb"(?<=\d)L\b")
# An escape, a number that runs into a word, a name of a type that numpy has dropped.
_ODD = re.compile(rb"\\|(?<![\w<>|=])\d+[A-Za-z_]|descr['\"]\s*:\s*['\"][<>|=]?a\d*['\"]")


def read_npz(
    path: Path, error: type[AvsRobustError], names: Collection[str] | None = None, limit: Limit = ARRAY_BYTES
) -> dict[str, NDArray[Any]]:
    """Return the arrays of an NPZ file: those of `names`, all of which it must have, or all.

    Members are bounded together by `limit` before one is unpacked; each must hold just the numbers that it declares.
    """
    with open_regular(path) as stream:
        try:
            with open_archive(stream, path, limit, error) as archive:
                members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
                wanted = list(members) if names is None else list(names)
                missing = [name for name in wanted if name not in members]
                if missing:
                    raise _damaged(path, f"has no array '{missing[0]}'", error)
                return {name: _read_member(archive, members[name]) for name in wanted}
        except AvsRobustError:
            raise
        # What the readers of damaged archives and headers raise has no bounds: zlib.error, struct.error, RecursionError, OSError
        # of a place that is not in the file, ...
        except Exception as cause:
            raise _damaged(path, _reason(cause), error) from cause


def read_npy(path: Path, error: type[AvsRobustError], limit: Limit = ARRAY_BYTES) -> NDArray[Any]:
    """Return the array of an NPY file, which holds just the numbers that it declares, at most `limit` bytes."""
    with open_regular(path) as stream:
        size = stream.seek(0, 2)
        limit.check(size, path, error)
        stream.seek(0)
        try:
            return _read_array(stream, size)
        except OSError:
            raise
        except Exception as cause:
            raise _damaged(path, _reason(cause), error) from cause


def map_npy(path: Path, error: type[AvsRobustError], remedy: str = "write it again") -> NDArray[Any]:
    """Return the array of an NPY file as a read-only map of the file, which holds just the numbers that it declares.

    `remedy` ends the message of the `error` that a damaged file raises.
    """
    with open_regular(path) as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        try:
            shape, fortran, dtype = _read_header(stream, size)
            order: Any = "F" if fortran else "C"
            if 0 in shape:
                return np.empty(shape, dtype, order)
            return np.memmap(stream, dtype, "r", stream.tell(), shape, order)
        except OSError:
            raise
        except Exception as cause:
            raise _damaged(path, _reason(cause), error, remedy) from cause


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        return _read_array(stream, member.file_size)


def _read_array(stream: IO[bytes], size: int) -> NDArray[Any]:
    """Read one array from a stream that holds `size` bytes from its start to its end. Raises `ValueError`."""
    shape, fortran, dtype = _read_header(stream, size)
    # To the end, where the checksum of an archive's member is verified. As a bytearray it can be written to.
    content = bytearray(stream.read(size))
    array = np.frombuffer(content, dtype) if content else np.empty(0, dtype)
    return array.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="), copy=False)


def _read_header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"found version {version} of the format; expected 1.0 or 2.0")
    shape, fortran, dtype = readers[version](_plain_header(stream, _LENGTHS[version]))
    if dtype.kind not in _PLAIN or dtype.subdtype is not None:
        raise ValueError(f"found values of type {dtype}; expected plain numbers")
    if len(shape) > _MOST_DIMENSIONS or any(isinstance(length, bool) or length < 0 for length in shape):
        raise ValueError(f"found the shape {str(shape)[:80]}")
    # In Python's own integers, which do not wrap.
    declared, found = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if declared != found:
        raise ValueError(f"declares {declared:,} bytes of numbers and holds {found:,}")
    return shape, fortran, dtype


def _plain_header(stream: IO[bytes], length: int) -> IO[bytes]:
    """Return a header as a stream of its own, without what numpy and Python would warn of.

    Warnings cannot be silenced in threads: `warnings.catch_warnings` changes the filters of them all.
    """
    declared = int.from_bytes(stream.read(length), "little")
    if declared > _LONGEST_HEADER:
        raise ValueError(f"Header info length ({declared}) is large")
    found = stream.read(declared)
    if len(found) < declared:
        raise ValueError("EOF in its header")
    header = _LONG.sub(b"", found)
    if _ODD.search(header):
        raise ValueError("its header is no plain literal")
    return io.BytesIO(len(header).to_bytes(length, "little") + header)


def _damaged(path: Path, reason: str, error: type[AvsRobustError], remedy: str = "write it again") -> AvsRobustError:
    return error(f"{path}: cannot be read as numpy's arrays ({reason}); {remedy}")


def _reason(cause: Exception) -> str:
    return (" ".join(str(cause).split()) or type(cause).__name__)[:200]
