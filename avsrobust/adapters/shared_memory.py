"""Memory that a worker maps too: arrays pass through it instead of through the pipe.

Conventions
    An area is an anonymous file of Linux (``memfd_create``) of fixed size, which the worker opens by its path under ``/proc``:
    that holds behind ``conda run`` too, and needs no room in ``/dev/shm``. Its name is drawn anew, and the worker compares it.
    Where there is no such thing (macOS, Windows), or the worker sees another ``/proc`` (a container, another machine), arrays
    go through the pipe.
    Nothing that a worker writes is trusted. It cannot shrink an area, which would end whoever reads it: areas are sealed, and
    their memory is taken when they are made. Arrays of floating point are views of an area, whose bytes may still change under
    whoever looks: they are copied before they are checked (`adapters.outputs`). All others are copied at once.
    An area is used again when nothing shows it any more.
"""

from __future__ import annotations

import collections
import mmap
import os
import secrets
import sys
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avsrobust.adapters.remote import avsrobust_worker as protocol

# Areas have whole multiples of that many bytes.
_STEP = 1 << 20
_NAME_BYTES = 12
Array = np.ndarray[Any, np.dtype[Any]]


class Area:
    """One area.

    Attributes:
        number: Its number among those of one worker.
        size: Bytes.

    Args:
        number: Initial value of the attribute.
        size: Initial value of the attribute.

    Raises:
        OSError: There is no such memory.
    """

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        if sys.platform != "linux":
            raise OSError("no anonymous files on this system")
        import fcntl

        self._descriptor = os.memfd_create(
            f"avsrobust-{secrets.token_hex(_NAME_BYTES)}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        )
        try:
            # Taken now: memory that runs out later would end the process.
            os.posix_fallocate(self._descriptor, 0, size)
            fcntl.fcntl(
                self._descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            )
            self._map = mmap.mmap(self._descriptor, size)
        except (OSError, ValueError):
            os.close(self._descriptor)
            raise
        path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        self.named = [number, path, str(Path(path).readlink()), size]

    def contents(self) -> Array:
        """Return the area as uint8 [size], an object of its own."""
        return np.frombuffer(self._map, dtype=np.uint8)

    def close(self) -> None:
        """Give the area up; what shows it keeps its memory."""
        os.close(self._descriptor)


class AreaPool:
    """Areas of one worker, for one direction.

    Args:
        most: Most areas.
        most_bytes: Most bytes that they have together.
        numbers: Gives each area its number.
        closed: Takes the numbers of areas that are given up.
    """

    def __init__(self, most: int, most_bytes: int, numbers: Iterator[int], closed: list[int]) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._numbers = numbers
        self._closed = closed
        self._areas: list[Area] = []
        # Areas come back in whatever thread lets go of an array.
        self._free: collections.deque[Area] = collections.deque()
        self._ended = False

    def take(self, count: int) -> Area | None:
        """Return a free area of at least `count` bytes; None where there is none and none can be made."""
        if self._ended or not 0 < count <= self._most_bytes:
            return None
        free = [self._free.popleft() for _ in range(len(self._free))]
        chosen = next((area for area in free if area.size >= count), None)
        if chosen is None:
            # Too small, all of them: one is made in their place.
            for area in free:
                self._close(area)
            return self._make(count)
        self._free.extend(area for area in free if area is not chosen)
        return chosen

    def give(self, area: Area) -> None:
        """Take an area back."""
        if not self._ended:
            self._free.append(area)

    def close(self) -> None:
        """Give all areas up."""
        self._ended = True
        self._free.clear()
        for area in list(self._areas):
            self._close(area)

    def _make(self, count: int) -> Area | None:
        size = -(-count // _STEP) * _STEP
        if len(self._areas) >= self._most or sum(area.size for area in self._areas) + size > self._most_bytes:
            return None
        try:
            area = Area(next(self._numbers), size)
        except (OSError, ValueError, AttributeError):
            # No memory is left, say; the pipe is slower, not wrong.
            return None
        self._areas.append(area)
        return area

    def _close(self, area: Area) -> None:
        self._areas.remove(area)
        self._closed.append(area.number)
        area.close()


def view_arrays(pool: AreaPool, area: Area, described: Sequence[Sequence[Any]]) -> list[Array]:
    """Return the arrays that a worker has laid into an area; the pool gets it back when nothing shows it any more.

    Args:
        pool: The area's.
        area: The area.
        described: Data type and shape of each array, checked.

    Raises:
        ProtocolError: They do not fit into the area.
    """
    contents = area.contents()
    weakref.finalize(contents, pool.give, area).atexit = False
    starts, end = protocol.place(list(described))
    if end > area.size:
        raise protocol.ProtocolError(f"arrays of {end} bytes in {area.size} bytes of shared memory")
    arrays = []
    for start, (dtype, shape) in zip(starts, described, strict=True):
        part = contents[start : start + protocol.array_bytes(dtype, shape)]
        if np.dtype(dtype).kind != "f" or not len(part):
            arrays.append(protocol.as_array(bytearray(part), dtype, shape))
        else:
            arrays.append(part.view(dtype).reshape(shape))
    return arrays
