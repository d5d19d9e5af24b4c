"""A GPU of its own for each worker of a machine.

Conventions
    A process claims a GPU by a lock of the operating system on a file named after the GPU's UUID, in a folder of the user's
    temporary files, and holds it until it ends, however that is. Where there are more processes than GPUs, each GPU gets a second
    process only when all have one, and so on.
    GPUs are tried in the order in which the process sees them: one that ``CUDA_VISIBLE_DEVICES`` lists first is claimed first.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from avsrobust.errors import OptionError

_MOST_PER_GPU = 64
# Held until the process ends.
_HELD: list[FileLock] = []


@cache
def own_gpu() -> int:
    """Return the index of the GPU that this process has for itself; always the same one.

    Raises:
        OptionError: No GPU can be claimed.
    """
    uuids = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    return claim(uuids, Path(tempfile.gettempdir()) / f"avsrobust-gpus-{os.getuid()}")


def claim(uuids: Sequence[str], folder: Path) -> int:
    """Return the index of the GPU that fewest processes have claimed, the first of these; it is this one's until it ends.

    Args:
        uuids: The GPUs.
        folder: Folder of the locks, which all processes share.

    Raises:
        OptionError: None can be claimed.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for turn in range(_MOST_PER_GPU):
            for index, uuid in enumerate(uuids):
                lock = FileLock(folder / f"{uuid}-{turn}.lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                _HELD.append(lock)
                return index
    except OSError as error:
        raise OptionError(
            f"{folder}: cannot be used to share the GPUs of this machine ({error.strerror or error}); remove it, or name a GPU "
            "with --device cuda:N"
        ) from error
    raise OptionError(
        f"--device cuda: found {len(uuids)} GPUs, each with {_MOST_PER_GPU} processes; expected one that is free"
    )
