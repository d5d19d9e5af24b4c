"""The frames of many scores by column, in few bytes each, to be put together, sorted and written.

Conventions
    Results of 100,000 clips have two million frames; as a data frame they take several hundred bytes each, here sixty. Texts and
    labels are numbers of the different ones, counts 32-bit integers where they fit. Histograms stay where they are.
    Where several sources hold a row, the first one counts; of rows with and without the overlap with the clean mask, one with it;
    of these, one with the most overlaps with other negatives (`FrameTable.first_of_each_row`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from avsrobust.mask_overlaps import OVERLAPS_FIELD, pair_counts
from avsrobust.metrics.binary.counts import HISTOGRAMS, Counts, FrameStatistics
from avsrobust.metrics.binary.histograms import Histograms, joined
from avsrobust.metrics.semantic.counts import COUNTS as CLASS_COUNTS
from avsrobust.metrics.semantic.counts import ClassStatistics
from avsrobust.score_schema import (
    CLASSES_FIELD,
    COUNT_COLUMNS,
    DRAW_FIELD,
    SCHEMA,
    schema_with,
)
from avsrobust.vocabulary import CLEAN

_TEXTS = ("split", "clip_id", "condition", "polarity")
_CLEAN = ("clean_intersection", "clean_union")
_THERE = "clean_union is there"
_ROW = ("split", "clip_id", "condition", "level", "draw")
_CLASS_VALUES = ("class_id", *CLASS_COUNTS)
_OTHER, _BOTH = "other", "intersection"
_OVERLAPS = OVERLAPS_FIELD.name
_OVERLAPS_OTHER, _OVERLAPS_BOTH = f"{_OVERLAPS} {_OTHER}", f"{_OVERLAPS} {_BOTH}"
# Lists that have no entries, and those that are not there.
_NO_LIST = -1
Values = npt.NDArray[Any]
Positions = npt.NDArray[np.int64]


class _Growing:
    """An array that grows: memory that was asked for and not used yet is none, where many small arrays would leave gaps."""

    def __init__(self, values: Values) -> None:
        self._held = values
        self._count = len(values)

    def append(self, values: Values) -> None:
        if not len(values):
            return
        # What it began with may be somebody else's: there is no room behind it, so it is copied before it is written to.
        count, kind = self._count + len(values), np.promote_types(self._held.dtype, values.dtype)
        if count > len(self._held) or kind != self._held.dtype:
            held = np.empty(max(count, 2 * len(self._held)), dtype=kind)
            held[: self._count] = self.values
            self._held = held
        self._held[self._count : count] = values
        self._count = count

    @property
    def values(self) -> Values:
        return self._held[: self._count]


class FrameTable:
    """Frames of one or several scores.

    Attributes:
        has_classes: Its frames have counts of classes; None while there is no frame.
        sources: Number of scores with frames.
    """

    def __init__(self) -> None:
        self.has_classes: bool | None = None
        self.sources = 0
        self._rows = 0
        self._words: dict[str, dict[Any, int]] = {name: {} for name in (*_TEXTS, "labels", _OTHER)}
        self._parts: dict[str, _Growing] = {}
        self._histograms: dict[str, list[Counts | Histograms]] = {name: [] for name in HISTOGRAMS}

    def __len__(self) -> int:
        return self._rows

    def add(
        self,
        index: pd.DataFrame,
        statistics: FrameStatistics,
        classes: ClassStatistics | None = None,
        overlaps: pa.ListArray | None = None,
    ) -> None:
        """Take the frames of one source: what `avsrobust.results.Scores` holds of them."""
        count = len(index)
        if not count:
            return
        if self.has_classes not in (None, classes is not None):
            raise ValueError("frames with classes and frames without cannot be put together")
        self.has_classes = classes is not None
        for name in _TEXTS:
            codes, words = pd.factorize(index[name])
            self._put(name, self._numbers(name, words)[codes])
        self._put("labels", self._labels(index["labels"]))
        self._put("level", index["level"].to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32))
        self._put("frame", index["frame"].to_numpy(dtype=np.int32))
        has_draws = DRAW_FIELD.name in index.columns
        self._put("draw", index["draw"].to_numpy(np.int16) if has_draws else np.zeros(count, np.int16))
        for name in _CLEAN:
            values = index[name].to_numpy(dtype=np.float64, na_value=np.nan)
            self._put(f"{name} is there", ~np.isnan(values))
            self._put(name, np.nan_to_num(values).astype(np.int64))
        for name in COUNT_COLUMNS:
            self._put(name, getattr(statistics, name))
        for name in HISTOGRAMS:
            self._histograms[name].append(getattr(statistics, name))
        self._put("source", np.full(count, self.sources, dtype=np.int32))
        self._put_overlaps(count, overlaps)
        if classes is not None:
            self._put("classes", np.bincount(classes.frame, minlength=count))
            for name in _CLASS_VALUES:
                self._put(f"classes {name}", getattr(classes, name))
        self._rows += count
        self.sources += 1

    def extend(self, other: FrameTable, *, use_up: bool = False) -> None:
        """Take the frames of another table, its sources behind those that are here; `use_up`: it gives each column up."""
        if not len(other):
            return
        if self.has_classes not in (None, other.has_classes):
            raise ValueError("frames with classes and frames without cannot be put together")
        self.has_classes = other.has_classes
        for name in list(other._parts):
            values = other._column(name)
            if use_up:
                del other._parts[name]
            if name in self._words or name == _OVERLAPS_OTHER:
                values = self._numbers(_words_of(name), other._words[_words_of(name)])[values]
            self._put(name, values + self.sources if name == "source" else values)
        for name, histograms in other._histograms.items():
            self._histograms[name] += histograms
        self._rows += other._rows
        self.sources += other.sources

    def _put_overlaps(self, count: int, overlaps: pa.ListArray | None) -> None:
        self._put(_OVERLAPS, pair_counts(overlaps, count))
        if overlaps is not None:
            entries = overlaps.flatten()
            names = entries.field(_OTHER).dictionary_encode()
            words = self._numbers(_OTHER, names.dictionary.to_pylist())
            self._put(_OVERLAPS_OTHER, words[names.indices.to_numpy()])
            self._put(_OVERLAPS_BOTH, entries.field(_BOTH).to_numpy())

    def _put(self, name: str, values: Values) -> None:
        if name in self._parts:
            self._parts[name].append(_small(values))
        else:
            self._parts[name] = _Growing(_small(values))

    def _numbers(self, name: str, words: Iterable[Any]) -> npt.NDArray[np.int32]:
        known = self._words[name]
        return np.array([known.setdefault(word, len(known)) for word in words], dtype=np.int32)

    def _labels(self, column: pd.Series[Any]) -> npt.NDArray[np.int32]:
        known, numbers, before, number = self._words["labels"], np.empty(len(column), dtype=np.int32), None, 0
        for position, labels in enumerate(column):
            # Labels of frames that follow one another are mostly one object.
            if labels is not before:
                key = tuple(map(str, labels))
                number = known.setdefault(key, len(known))
                before = labels
            numbers[position] = number
        return numbers

    def _column(self, name: str) -> Values:
        """Return a column of all frames, or of all entries of their lists."""
        return self._parts[name].values if name in self._parts else np.zeros(0, dtype=np.int32)

    def _ranks(self, name: str) -> npt.NDArray[np.int32]:
        """Return the column of texts as their ranks among the different ones, sorted."""
        words = list(self._words[name])
        ranks = np.empty(len(words), dtype=np.int32)
        ranks[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words), dtype=np.int32)
        return ranks[self._column(name)] if self._rows else np.zeros(0, dtype=np.int32)

    def _levels(self) -> npt.NDArray[np.float32]:
        levels = self._column("level").astype(np.float32)
        return np.where(np.isnan(levels), np.float32(-np.inf), levels)

    def order(self, chosen: npt.NDArray[np.bool_] | None = None) -> Positions:
        """Return the positions of all frames, or of those chosen, in the order of the file."""
        keys = (
            self._column("frame"),
            self._column("draw"),
            self._levels(),
            self._ranks("condition"),
            self._ranks("clip_id"),
            self._ranks("split"),
        )
        order = np.lexsort(keys)
        return order if chosen is None else order[chosen[order]]

    def first_of_each_row(self) -> npt.NDArray[np.bool_]:
        """Return which frames stay where several sources hold a row, bool [N]; the module's conventions say which."""
        if self.sources < 2:
            return np.ones(self._rows, dtype=np.bool_)
        order = self.order()
        starts = np.flatnonzero(self._begins(order))
        clean = self._words["condition"].get(CLEAN, -1)
        lacks_clean = (self._column("condition") != clean) & ~self.is_compared
        pairs = self._column(_OVERLAPS).astype(np.int64)
        most = int(pairs.max()) + 2
        rank = (
            self._column("source").astype(np.int64)
            + self.sources * (most - 2 - pairs)
            + self.sources * most * lacks_clean
        )
        rank = rank[order]
        first = np.minimum.reduceat(rank, starts)
        stays = np.empty(self._rows, dtype=np.bool_)
        stays[order] = rank == np.repeat(first, np.diff(np.append(starts, self._rows)))
        return stays

    def _begins(self, frames: Positions) -> npt.NDArray[np.bool_]:
        """Return which of some frames are of another row than the one before, bool [N]."""
        begins = np.zeros(len(frames), dtype=np.bool_)
        begins[:1] = True
        for name in _ROW:
            values = (self._levels() if name == "level" else self._column(name))[frames]
            begins[1:] |= values[1:] != values[:-1]
        return begins

    def row_columns(
        self, chosen: npt.NDArray[np.bool_] | None = None
    ) -> tuple[pa.DictionaryArray, pa.DictionaryArray, pa.DictionaryArray, npt.NDArray[np.float32], Values]:
        """Return split, clip, condition, level (minus infinity: none) and draw of the rows, an entry or more for each."""
        here = np.arange(self._rows) if chosen is None else np.flatnonzero(chosen)
        # Frames of a row mostly follow one another.
        here = here[self._begins(here)]
        split, clip_id, condition = (
            pa.DictionaryArray.from_arrays(
                pa.array(self._column(name)[here].astype(np.int32)), pa.array(list(self._words[name]), pa.string())
            )
            for name in _ROW[:3]
        )
        return split, clip_id, condition, self._levels()[here], self._column("draw")[here]

    @property
    def is_compared(self) -> npt.NDArray[np.bool_]:
        """Which frames have their overlap with the clean mask, bool [N]."""
        return self._column(_THERE).astype(np.bool_)

    def distinct(self, name: str, chosen: npt.NDArray[np.bool_]) -> list[str]:
        """Return the different texts of a column, sorted."""
        words = list(self._words[name])
        return sorted(words[code] for code in np.unique(self._column(name)[chosen]).tolist())

    def count_clips(self, chosen: npt.NDArray[np.bool_]) -> int:
        """Return the number of clips."""
        return len(np.unique(self._clip_numbers()[chosen]))

    def count_frames(self, chosen: npt.NDArray[np.bool_]) -> tuple[int, int]:
        """Return the number of frames, those of a clip counted once for all its rows, and of those without a target.

        Whether there is a target is that of the row that comes first.
        """
        frames = self._column("frame").astype(np.int64)
        numbers = (self._clip_numbers() * (int(frames.max(initial=0)) + 1) + frames)[chosen]
        _, first = np.unique(numbers, return_index=True)
        return len(first), int((self._column("target_pixels")[chosen][first] == 0).sum())

    def _clip_numbers(self) -> npt.NDArray[np.int64]:
        clips = self._column("clip_id").astype(np.int64)
        return clips * max(1, len(self._words["split"])) + self._column("split")

    def sorted(self, chosen: npt.NDArray[np.bool_] | None = None, *, use_up: bool = False) -> SortedFrames:
        """Return the frames, or those chosen, in the order of the file; `use_up`: the table gives up what they are asked for."""
        return SortedFrames(self, self.order(chosen), use_up=use_up)


class SortedFrames:
    """Frames of a table in the order of the file; columns are given as arrow has them.

    Args:
        table: The table.
        order: Positions in it, int64 [N].
        use_up: Each column is asked for once, and then given up.
    """

    def __init__(self, table: FrameTable, order: Positions, *, use_up: bool = False) -> None:
        self._table = table
        self._order = order
        self._use_up = use_up

    def __len__(self) -> int:
        return len(self._order)

    @property
    def schema(self) -> pa.Schema:
        """The file's columns."""
        table = self._table
        return schema_with(
            draws=bool(table._column("draw")[self._order].any()),
            overlaps=bool((table._column(_OVERLAPS)[self._order] != _NO_LIST).any()),
            classes=table.has_classes is True,
        )

    def histograms(self, name: str, part: slice) -> Counts:
        """Return the histograms of some frames, [K, 255]."""
        parts = self._table._histograms[name]
        if len(parts) != 1:
            self._table._histograms[name] = parts = [joined(parts)]
        return cast("Counts", parts[0][self._order[part]])

    def column(self, name: str) -> pa.Array:
        """Return a column in one piece; texts as numbers of different ones."""
        found = self._made(name)
        if self._use_up:
            for part in [part for part in self._table._parts if part == name or part.startswith(f"{name} ")]:
                del self._table._parts[part]
        return found

    def _made(self, name: str) -> pa.Array:
        table, order = self._table, self._order
        if name in _TEXTS:
            codes = table._column(name)[order].astype(np.int32)
            return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(table._words[name]), pa.string()))
        if name == "labels":
            lists = pa.array([list(labels) for labels in table._words[name]], type=SCHEMA.field(name).type)
            return lists.take(pa.array(table._column(name)[order]))
        if name == _OVERLAPS:
            other = pa.array(list(table._words[_OTHER]), pa.string())
            return self._lists(
                OVERLAPS_FIELD,
                lambda entries: [
                    other.take(pa.array(table._column(_OVERLAPS_OTHER)[entries])),
                    _integers(table._column(_OVERLAPS_BOTH)[entries]),
                ],
            )
        if name == CLASSES_FIELD.name:
            return self._lists(
                CLASSES_FIELD,
                lambda entries: [
                    pa.array(table._column(f"classes {entry.name}")[entries], type=entry.type)
                    for entry in CLASSES_FIELD.type.value_type
                ],
            )
        values = table._column(name)[order]
        if name == "level":
            return pa.array(values, type=pa.float32(), mask=np.isnan(values))
        if name in _CLEAN:
            return pa.array(values.astype(np.int64), mask=~table._column(f"{name} is there").astype(np.bool_)[order])
        kind = DRAW_FIELD.type if name == DRAW_FIELD.name else SCHEMA.field(name).type
        return pa.array(values, type=kind)

    def _lists(self, field: pa.Field, entries_at: Callable[[Positions], list[pa.Array]]) -> pa.ListArray:
        """Return a column of lists of structs, whose entries at some positions `entries_at` returns, a field each."""
        lengths = self._table._column(field.name).astype(np.int64)
        counts = np.maximum(lengths, 0)
        begins = (np.cumsum(counts) - counts)[self._order]
        counts, is_null = counts[self._order], lengths[self._order] == _NO_LIST
        ends = np.cumsum(counts)
        entries = np.arange(ends[-1] if len(ends) else 0) + np.repeat(begins - (ends - counts), counts)
        names = [entry.name for entry in field.type.value_type]
        structs = pa.StructArray.from_arrays(entries_at(entries), names=names)
        offsets = pa.array(np.concatenate([[0], ends]), type=pa.int32())
        mask = pa.array(is_null) if is_null.any() else None
        return pa.ListArray.from_arrays(offsets, structs, mask=mask).cast(field.type)


def _words_of(name: str) -> str:
    return _OTHER if name == _OVERLAPS_OTHER else name


def _integers(values: Values) -> pa.Array:
    return pa.array(values.astype(np.int64))


def _small(values: Values) -> Values:
    """Return integers in 32 bits where they fit, in 16 where they are few; others as they are."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 4 or not len(values):
        return values
    low, high = int(values.min()), int(values.max())
    if low >= np.iinfo(np.int16).min and high <= np.iinfo(np.int16).max:
        return values.astype(np.int16)
    if low >= np.iinfo(np.int32).min and high <= np.iinfo(np.int32).max:
        return values.astype(np.int32)
    return values
