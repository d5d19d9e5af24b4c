"""Files of weights, looked at before a library reads them: safetensors, PyTorch's archives, and PyTorch's older pickles.

Conventions
    A file may not declare more than it holds: neither the tensors of a safetensors header (the library checks that itself),
    nor the members of an archive (torch stores them uncompressed), nor a pickle in it.
    Whether a file is safetensors is told by its name or by its first bytes.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from avsrobust.archives import is_stored, open_archive
from avsrobust.beginnings import is_lfs_pointer, is_web_page
from avsrobust.errors import AvsRobustError
from avsrobust.files import open_regular
from avsrobust.limits import TEXT_BYTES, WEIGHTS_BYTES

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
_LENGTH = struct.Struct("<Q")
_ZIP_MARK = b"PK\x03\x04"
_PICKLE_NAME = "data.pkl"
# The one thing that torch calls for a pickle of tensors and that takes memory by a number: bytearray(10**11).
_GREEDY = b"\nbytearray\n"
# Weights that several layers share, and prepared views of them, count once each.
_MOST_SHARED = 8
_SMALL = 1 << 20
_BEGINNING = 256


def is_safetensors(path: Path) -> bool:
    """Return whether a file is meant as safetensors. Raises `OSError`."""
    with open_regular(path) as stream:
        return path.suffix == SUFFIX or stream.read(_LENGTH.size + 1)[_LENGTH.size :] == b"{"


def check_weights_file(path: Path, error: type[AvsRobustError]) -> None:
    """Raise `error` for a file of weights that declares more than it holds or than the limits allow.

    Raises `OSError`, and `ValueError` for a damaged archive. What passes can still be damaged in every other way.
    """
    with open_regular(path) as stream:
        size = stream.seek(0, 2)
        WEIGHTS_BYTES.check(size, path, error)
        stream.seek(0)
        if (instead := _instead_of_weights(stream.read(_BEGINNING))) is not None:
            raise error(f"{path}: {instead}")
        stream.seek(0)
        head = stream.read(_LENGTH.size + 1)
        if path.suffix == SUFFIX or head[_LENGTH.size :] == b"{":
            _check_header(path, head, size, error)
        elif head.startswith(_ZIP_MARK):
            _check_archive(stream, path, size, error)
        elif size and _is_greedy(stream):
            raise _greedy(path, error)


def _instead_of_weights(beginning: bytes) -> str | None:
    """Return what is often saved under the name of a file of weights instead of it, and what to do; None: something else."""
    if is_lfs_pointer(beginning):
        return "is a pointer of Git LFS, not the file itself; fetch that with 'git lfs pull', or download it"
    if is_web_page(beginning):
        return "is a web page, not a file of weights; download it again, in a browser if a log-in or a confirmation is needed"
    return None


def check_tensors(path: Path, tensors: Mapping[str, Tensor], error: type[AvsRobustError]) -> None:
    """Raise `error` where tensors from a file are none of plain numbers in memory, or are together far larger than it.

    A tensor of a pickle can be a view that repeats one number without end.
    """
    import torch

    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise error(
                f"{path}: tensor '{name[:100]}' is no plain array of numbers; expected the weights of a network"
            )
    declared, held = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()), path.stat().st_size
    if declared > _MOST_SHARED * held + _SMALL:
        largest = max(tensors, key=lambda name: tensors[name].numel() * tensors[name].element_size())
        raise error(
            f"{path}: declares tensors of {declared:,} bytes and holds {held:,}; the largest is '{largest[:100]}' "
            f"{list(tensors[largest].shape)}; expected a file that holds its numbers; save it again"
        )


def _check_header(path: Path, head: bytes, size: int, error: type[AvsRobustError]) -> None:
    if len(head) < _LENGTH.size:
        return
    (declared,) = _LENGTH.unpack(head[: _LENGTH.size])
    # Beyond the file's end it is damage, which the library names.
    if declared <= size - _LENGTH.size:
        TEXT_BYTES.check(declared, f"{path}: header", error)


def _check_archive(stream: BinaryIO, path: Path, size: int, error: type[AvsRobustError]) -> None:
    try:
        with open_archive(stream, path, WEIGHTS_BYTES, error) as archive:
            if not is_stored(archive, size):
                raise error(
                    f"{path}: is an archive that unpacks to more than it holds, which torch never writes; "
                    "expected the file as torch.save writes it; save it again"
                )
            for member in archive.infolist():
                if member.filename.rpartition("/")[2] == _PICKLE_NAME and _GREEDY in archive.read(member):
                    raise _greedy(path, error)
    except AvsRobustError:
        raise
    # What `zipfile` raises on damaged archives has no bounds.
    except Exception as cause:
        raise ValueError(f"truncated or no archive ({' '.join(str(cause).split())[:200]})") from cause


def _is_greedy(stream: BinaryIO) -> bool:
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_GREEDY) >= 0


def _greedy(path: Path, error: type[AvsRobustError]) -> AvsRobustError:
    return error(f"{path}: holds a bytearray, which was not made; expected tensors only; save it as safetensors")
