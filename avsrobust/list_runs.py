"""Runs of equal lists in a column: the frames of a clip follow one another, and have the same labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def run_starts(lists: pa.ListArray) -> npt.NDArray[np.int64]:
    """Return the positions of the lists of texts, none of them null, that differ from the one before; the first is one.

    >>> run_starts(pa.array([["a"], ["a"], ["a", "b"], ["b", "a"], [], []])).tolist()
    [0, 2, 3, 4]
    """
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    codes = lists.flatten().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    same = np.zeros(len(lists), dtype=np.bool_)
    same[1:] = lengths[1:] == lengths[:-1]
    # Where lengths agree, an item's counterpart lies so many items before it.
    row = np.repeat(np.arange(len(lists)), lengths)
    item = np.flatnonzero(same[row])
    differ = codes[item] != codes[item - lengths[row[item]]]
    same[row[item[differ]]] = False
    return np.flatnonzero(~same)
