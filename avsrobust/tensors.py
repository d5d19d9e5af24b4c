"""Writing safetensors files: the same bytes every time, and the rights of any other file.

Conventions
    The library puts a file's metadata in an order of the moment and makes files that only their owner may read; here keys are
    sorted and rights are those that the user's umask leaves. Tensors stand in the library's own order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from avsrobust.files import atomic_path

_LENGTH = 8
_METADATA = "__metadata__"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write `tensors`, contiguous and on the CPU, to `path`, atomically and flushed, with `metadata` in the header."""
    from safetensors.torch import save

    content = memoryview(save(dict(tensors), None if metadata is None else dict(metadata)))
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(bytes(content[_LENGTH:end]))
    if _METADATA in header:
        header = {_METADATA: dict(sorted(header.pop(_METADATA).items())), **header}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    # Values begin at a multiple of 8 bytes.
    text += b" " * (-len(text) % _LENGTH)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(len(text).to_bytes(_LENGTH, "little"))
        stream.write(text)
        stream.write(content[end:])
