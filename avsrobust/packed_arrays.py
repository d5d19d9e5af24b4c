"""Pieces of a column in less memory than arrow's own: many different texts are compressed, few are numbered in 8 bits.

Conventions
    Paths of a data set repeat their folders: a piece of 16,384 rows of a manifest takes a tenth of its texts, and is unpacked in
    less than a millisecond. The piece that was asked for last is kept as it is, since rows are mostly read in order.
    Pieces are equal in value to the arrays that were given; the type of a dictionary's indices may be a smaller one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# Bytes of a dictionary from which on it is compressed.
_LARGE = 1 << 16
_FEW = 127
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")
_NAME = "values"


class PackedArrays(Sequence[pa.Array]):
    """Arrays, packed as they are taken.

    Args:
        arrays: The first of them.
    """

    def __init__(self, arrays: Iterable[pa.Array] = ()) -> None:
        self._sizes: list[int] = []
        self._held: list[pa.Array | bytes] = []
        self._unpacked: tuple[int, pa.Array] | None = None
        for array in arrays:
            self.append(array)

    def append(self, array: pa.Array) -> None:
        """Take one more array."""
        self._sizes.append(len(array))
        self._held.append(_packed(array))

    def append_pieces(self, array: pa.Array, rows: int) -> None:
        """Take an array: in one piece, or, where its dictionary is large, in pieces of so many rows, each with its own texts."""
        if not _is_large(array):
            self.append(array)
            return
        for first in range(0, len(array), rows):
            self.append(_compact(array.slice(first, rows)))

    def __len__(self) -> int:
        return len(self._held)

    @overload
    def __getitem__(self, index: int) -> pa.Array: ...
    @overload
    def __getitem__(self, index: slice) -> list[pa.Array]: ...
    def __getitem__(self, index: int | slice) -> pa.Array | list[pa.Array]:
        """Return an array, or those of a slice."""
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        held = self._held[index]
        if not isinstance(held, bytes):
            return held
        # One assignment: threads that read at once unpack it twice.
        last = self._unpacked
        if last is None or last[0] != index % len(self):
            last = self._unpacked = (index % len(self), _unpacked(held))
        return last[1]

    def __iter__(self) -> Iterator[pa.Array]:
        # Whoever goes through all of them needs none twice.
        return (_unpacked(held) if isinstance(held, bytes) else held for held in self._held)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_unpacked": None}

    @property
    def sizes(self) -> Sequence[int]:
        """The number of values of each array."""
        return self._sizes


def _is_large(array: pa.Array) -> bool:
    return bool(pa.types.is_dictionary(array.type)) and array.dictionary.nbytes > _LARGE


def _packed(array: pa.Array) -> pa.Array | bytes:
    if not _is_large(array):
        return _narrow(array)
    sink = pa.BufferOutputStream()
    schema = pa.schema([pa.field(_NAME, array.type)])
    with pa.ipc.new_stream(sink, schema, options=_OPTIONS) as writer:
        writer.write_batch(pa.record_batch([array], schema=schema))
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _unpacked(packed: bytes) -> pa.Array:
    with pa.ipc.open_stream(packed) as reader:
        return reader.read_next_batch().column(0)


def _narrow(array: pa.Array) -> pa.Array:
    """Return a dictionary of few texts with indices of 8 bits; other arrays as they are."""
    if not pa.types.is_dictionary(array.type) or len(array.dictionary) > _FEW:
        return array
    return pa.DictionaryArray.from_arrays(array.indices.cast(pa.int8()), array.dictionary)


def _compact(array: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return an array whose dictionary holds its own texts alone."""
    codes: NDArray[np.int32] = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    used, position = np.unique(codes, return_inverse=True)
    # An empty place comes first, and stands for no text.
    gaps = int(len(used) > 0 and used[0] < 0)
    indices = position.astype(np.int32) - gaps
    return pa.DictionaryArray.from_arrays(
        pa.array(indices, mask=indices < 0 if gaps else None), array.dictionary.take(pa.array(used[gaps:]))
    )
