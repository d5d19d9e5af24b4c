"""Checks of stored scores beyond the types of their columns, and a checksum over all their values.

Conventions
    The checksum is of values, not of bytes on disk: a file that another program has written again with the same values has the
    same one. Raises `ResultsError`, in one line that names the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from avsrobust.errors import ResultsError
from avsrobust.files import is_safe_relative
from avsrobust.list_runs import run_starts
from avsrobust.mask_overlaps import stored_pairs
from avsrobust.metrics.binary.counts import FIELDS, HISTOGRAMS, FrameStatistics

_KEY = ["split", "clip_id", "condition", "level", "draw", "frame"]
_ITEMS_AT_ONCE = 1 << 14
# Histograms of 64 bits that fit the cache.
_HASHED_AT_ONCE = 128
_POLARITIES = ("positive", "negative")


def content_sha256(
    metadata: Mapping[str, str],
    names: Iterable[str],
    column: Callable[[str], pa.Array],
    histograms: Mapping[str, Iterable[npt.NDArray[np.integer[Any]]]],
) -> str:
    """Return a checksum of `metadata` and of all values of the columns `names`, in this order.

    `histograms` are the values of the columns of that name, a part of the rows at a time; `column` returns another column, and
    is called once for each, in order.
    """
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in names:
        digest.update(f"\n{name}\n".encode())
        if name in histograms:
            for block in histograms[name]:
                for first in range(0, len(block), _HASHED_AT_ONCE):
                    part = block[first : first + _HASHED_AT_ONCE]
                    digest.update(np.ascontiguousarray(part, dtype="<i8").data)
            continue
        for content in _plain_bytes(column(name)):
            digest.update(content)
    return digest.hexdigest()


@dataclass
class HistogramCheck:
    """Faults of a column of histograms, found while its parts pass by (`watch`).

    Attributes:
        pixels: Pixels of each frame, int64 [N]; -1 for one that has not passed.
        negative: A count is below 0.

    Args:
        rows: Number of frames, N.
    """

    rows: InitVar[int]
    pixels: npt.NDArray[np.int64] = field(init=False)
    negative: bool = False

    def __post_init__(self, rows: int) -> None:
        self.pixels = np.full(rows, -1, dtype=np.int64)

    def watch(self, parts: Iterable[npt.NDArray[np.int32]]) -> Iterator[npt.NDArray[np.int32]]:
        """Yield the parts as they come."""
        first = 0
        for part in parts:
            self.negative |= int(part.min(initial=0)) < 0
            part.sum(axis=1, dtype=np.int64, out=self.pixels[first : first + len(part)])
            first += len(part)
            yield part


def require_filled(path: Path, table: pa.Table, schema: pa.Schema) -> None:
    """Refuse empty cells where `schema` has none, and in lists."""
    for entry in schema:
        column = table.column(entry.name)
        missing = 0 if entry.nullable else column.null_count
        if pa.types.is_list(entry.type) or pa.types.is_fixed_size_list(entry.type):
            items = column.combine_chunks().flatten()
            missing += items.null_count
            if pa.types.is_struct(items.type):
                missing += sum(items.field(position).null_count for position in range(items.type.num_fields))
        if missing:
            raise ResultsError(f"{path}: column {entry.name} has empty cells; expected none; evaluate again")


def check_values(
    path: Path, index: pd.DataFrame, statistics: FrameStatistics, histograms: Mapping[str, HistogramCheck]
) -> None:
    """Refuse counts that no mask can have, and frames that are there twice; `histograms` have passed by already."""
    for found in (*_impossible_counts(statistics, histograms), *_impossible_rows(index, statistics)):
        raise ResultsError(f"{path}: has {found}; do not use results from a source you do not trust; evaluate again")


def check_overlaps(path: Path, overlaps: pa.ListArray, statistics: FrameStatistics) -> None:
    """Refuse intersections with other masks that the frame's own mask cannot have."""
    frame, _, both = stored_pairs(overlaps)
    activated = (statistics.tp_050 + statistics.fp_050)[frame]
    if (both < 0).any() or (both > activated).any():
        raise ResultsError(f"{path}: has an overlap of negatives that no two masks have; evaluate again")


def _impossible_counts(counts: FrameStatistics, histograms: Mapping[str, HistogramCheck]) -> Iterator[str]:
    background = counts.pixels - counts.target_pixels
    plain = (getattr(counts, name) for name in FIELDS if name not in HISTOGRAMS)
    if any((values < 0).any() for values in plain) or any(check.negative for check in histograms.values()):
        yield "a negative count of pixels"
    if (counts.tp_050 > counts.target_pixels).any() or (counts.tp_040 > counts.target_pixels).any():
        yield "more true positives than pixels of the target"
    if (counts.fp_050 > background).any() or (counts.fp_040 > background).any():
        yield "more false positives than pixels outside the target"
    if (histograms["inside"].pixels != counts.target_pixels).any() or (
        histograms["outside"].pixels != background
    ).any():
        yield "histograms that do not count every pixel once"


def _impossible_rows(index: pd.DataFrame, counts: FrameStatistics) -> Iterator[str]:
    both = ("clean_intersection", "clean_union")
    overlap, union = (index[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in both)
    if (np.isnan(overlap) != np.isnan(union)).any() or (overlap < 0).any() or (overlap > union).any():
        yield "an overlap with the clean mask that no two masks have"
    if (union > counts.pixels).any():
        yield "an overlap with the clean mask of more pixels than the frame has"
    if np.isinf(index["level"].to_numpy(dtype=np.float64, na_value=np.nan)).any():
        yield "a level that is no number"
    if (index["frame"] < 0).any():
        yield "a negative frame"
    if (index["draw"] < 0).any():
        yield "a negative draw"
    if not index["polarity"].isin(_POLARITIES).all():
        yield f"a polarity other than {' and '.join(_POLARITIES)}"
    for name in ("split", "clip_id", "condition"):
        if not all(is_safe_relative(str(value)) for value in index[name].unique()):
            yield f"a {name} that is no safe path"
    if has_duplicates(row_numbers(index, _KEY)):
        yield "the same frame twice"


def row_numbers(index: pd.DataFrame, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return a number for each row, int64 [N]: equal where the rows agree in the columns `names` (NaN is equal to NaN)."""
    numbers = np.zeros(len(index), dtype=np.int64)
    for name in names:
        column = pd.to_numeric(index[name]) if name == "level" else index[name]
        codes, values = pd.factorize(column, use_na_sentinel=False)
        if numbers.max(initial=0) >= 2**62 // max(1, len(values)):
            numbers = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
        numbers = numbers * len(values) + codes
    return numbers


def has_duplicates(numbers: npt.NDArray[np.int64]) -> bool:
    """Return whether a number is there twice."""
    ordered = np.sort(numbers)
    return bool((ordered[1:] == ordered[:-1]).any())


def _plain_bytes(column: pa.Array) -> Iterator[bytes]:
    """Yield the values of a column in bytes that do not depend on how they are stored."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        yield _numbers(column.flatten())
    elif pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        entries = column.flatten()
        yield _numbers(column.value_lengths())
        for position in range(entries.type.num_fields):
            yield from _plain_bytes(entries.field(position))
    elif pa.types.is_integer(kind) and column.null_count == 0:
        yield _numbers(column)
    else:
        # The text of one list, a part of its items at a time.
        yield b"["
        words = _json_words(column.dictionary) if pa.types.is_dictionary(kind) else None
        for first in range(0, len(column), _ITEMS_AT_ONCE):
            text = _json_items(column.slice(first, _ITEMS_AT_ONCE), words)
            yield (", " if first else "").encode() + text.encode()
        yield b"]"


def _json_words(dictionary: pa.Array) -> npt.NDArray[np.object_]:
    """Return the JSON of each text of a dictionary, and behind them that of an empty cell."""
    return np.array([*map(json.dumps, dictionary.to_pylist()), "null"], dtype=object)


def _json_items(items: pa.Array, words: npt.NDArray[np.object_] | None) -> str:
    """Return what `json.dumps` writes between the brackets; `words`: those of `_json_words` where `items` index a dictionary."""
    if words is not None:
        codes = np.asarray(items.indices.fill_null(-1).to_numpy(zero_copy_only=False))
        return ", ".join(words[codes].tolist())
    if pa.types.is_list(items.type) and pa.types.is_string(items.type.value_type) and items.null_count == 0:
        starts = run_starts(items)
        texts = np.array([json.dumps(entry) for entry in items.take(pa.array(starts)).to_pylist()], dtype=object)
        return ", ".join(np.repeat(texts, np.diff(np.append(starts, len(items)))).tolist())
    is_empty = pa.types.is_floating(items.type) and items.null_count == len(items)
    if is_empty or pa.types.is_integer(items.type):
        return ", ".join(items.cast(pa.string()).fill_null("null").to_pylist())
    return json.dumps(items.to_pylist())[1:-1]


def _numbers(values: pa.Array) -> bytes:
    return np.asarray(values.fill_null(-1).to_numpy(zero_copy_only=False)).astype("<i8").tobytes()
