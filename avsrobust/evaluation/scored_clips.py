"""The statistics of one clip's frames, put together from the counts of its rows.

Conventions
    Counts are those of the annotated frames of a row, in order: n of them. They may come from the CPU (`evaluation.counting`) or
    from a GPU (`evaluation.device_counting`): the same integers.
    Overlaps of masks under negatives are counted once per pair of rows of one picture, and stored with the row whose key is the
    later of the two (`avsrobust.mask_overlaps`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from avsrobust.adapters.outputs import ExtraValues
from avsrobust.evaluation.clip_data import ClipSample
from avsrobust.evaluation.extras import extras_entries
from avsrobust.manifest import Row
from avsrobust.mask_overlaps import FrameOverlaps, other_name
from avsrobust.metrics.binary.counts import FrameStatistics, concatenate
from avsrobust.metrics.semantic.counts import ClassStatistics, concatenate_classes
from avsrobust.row_keys import key_of
from avsrobust.stored_masks import masks_table
from avsrobust.vocabulary import CLEAN, NEGATIVE

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowCounts:
    """Counts of one row.

    Attributes:
        statistics: Counts of foreground pixels of the n annotated frames.
        clean: Intersection and union with the mask under clean audio, each int64 [n]; None: not compared.
        overlaps: Intersection with the mask of other negatives that were counted before, int64 [n], by their position.
        classes: Counts of pixels per frame and class, or None.
        masks: The masks of all frames, bool [T, h, w], where they are kept.
        extras: Further values by name, float64 [T].
    """

    statistics: FrameStatistics
    clean: tuple[Ints, Ints] | None = None
    overlaps: Mapping[int, Ints] = field(default_factory=dict)
    classes: ClassStatistics | None = None
    masks: npt.NDArray[np.bool_] | None = None
    extras: ExtraValues = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredClip:
    """Statistics of one clip's frames under all its conditions.

    Attributes:
        split: Split of the clip.
        clip_id: Id of the clip.
        index: Entry i holds the index columns (`avsrobust.results`) of frame i of `statistics` and of `classes`.
        statistics: Counts of foreground pixels per frame.
        masks: The stored masks of each row, where they are kept.
        extras: The rows of ``extras.parquet`` (`avsrobust.evaluation.extras`).
        classes: Counts of pixels per frame and class, where both adapter and clip have classes.
        overlaps: Overlaps of the frame's mask with those under other negatives (`avsrobust.mask_overlaps`), of each of `index`.
        readouts: The same of the adapter's further readouts, by name, without masks and further values.
    """

    split: str
    clip_id: str
    index: tuple[dict[str, Any], ...]
    statistics: FrameStatistics
    masks: tuple[pa.Table, ...]
    extras: tuple[dict[str, Any], ...] = ()
    classes: ClassStatistics | None = None
    overlaps: tuple[FrameOverlaps, ...] = ()
    readouts: Mapping[str, ScoredClip] = field(default_factory=dict)


def scored_clip(
    sample: ClipSample, rows: Mapping[int, RowCounts], readouts: Mapping[str, ScoredClip] | None = None
) -> ScoredClip:
    """Return a clip's statistics.

    Args:
        sample: The clip.
        rows: Counts of each row, by its position in the clip.
        readouts: Statistics of the adapter's further readouts, by name.
    """
    first = sample.rows[0]
    of_rows = [(position, sample.rows[position], counts) for position, counts in rows.items()]
    classes = [counts.classes for counts in rows.values() if counts.classes is not None]
    return ScoredClip(
        first.split,
        first.clip_id,
        tuple(entry for position, row, counts in of_rows for entry in _entries(row, sample, position, counts)),
        concatenate([counts.statistics for counts in rows.values()]),
        tuple(masks_table(row, counts.masks) for _, row, counts in of_rows if counts.masks is not None),
        tuple(entry for _, row, counts in of_rows for entry in extras_entries(row, counts.extras)),
        concatenate_classes(classes) if classes else None,
        tuple(_overlaps(sample, rows)),
        readouts or {},
    )


def _entries(row: Row, sample: ClipSample, position: int, counts: RowCounts) -> list[dict[str, Any]]:
    """Return the index columns of each annotated frame of a row."""
    frames = np.flatnonzero(sample.of_row(position).has_mask.numpy()).tolist()
    none = [None] * len(frames)
    intersections, unions = (none, none) if counts.clean is None else (side.tolist() for side in counts.clean)
    return [
        {
            "split": row.split,
            "clip_id": row.clip_id,
            "labels": list(row.labels),
            "condition": row.condition,
            "polarity": row.polarity,
            "level": row.level,
            "draw": row.draw,
            "frame": frame,
            "clean_intersection": intersection,
            "clean_union": union,
        }
        for frame, intersection, union in zip(frames, intersections, unions, strict=True)
    ]


def is_compared(sample: ClipSample, position: int, clean: int | None) -> bool:
    """Return whether a row's mask is compared with that of the row `clean`.

    Under another picture the mask under clean audio is the answer to another question.
    """
    if clean is None or sample.rows[position].condition == CLEAN:
        return False
    return sample.picture_of[position] == sample.picture_of[clean]


def overlapping(sample: ClipSample, position: int, others: Sequence[int]) -> list[int]:
    """Return those of other rows, by position, whose masks the mask of a negative row is compared with."""
    if sample.rows[position].polarity != NEGATIVE:
        return []
    mine = _compared_with(sample, position)
    return [
        other for other in others if sample.rows[other].polarity == NEGATIVE and _compared_with(sample, other) == mine
    ]


def _compared_with(sample: ClipSample, position: int) -> tuple[int, tuple[int, ...]]:
    target = sample.of_row(position)
    return sample.picture_of[position], (target.num_annotated, *target.target.shape[-2:])


def _overlaps(sample: ClipSample, rows: Mapping[int, RowCounts]) -> list[FrameOverlaps]:
    """Return the overlaps of each of a clip's frames with the masks of earlier negatives of the same picture."""
    start, starts = 0, {}
    for position, counts in rows.items():
        starts[position] = start
        start += len(counts.statistics)
    found: list[FrameOverlaps] = [None] * start
    negatives = [position for position in rows if sample.rows[position].polarity == NEGATIVE]
    negatives.sort(key=lambda position: (_compared_with(sample, position), key_of(sample.rows[position])))
    for (_, (annotated, *_)), group in groupby(negatives, key=lambda position: _compared_with(sample, position)):
        members = list(group)
        names = [other_name(*key_of(sample.rows[position])[2:]) for position in members]
        for number, position in enumerate(members):
            both = [_pair(rows, position, other).tolist() for other in members[:number]]
            for frame in range(annotated):
                found[starts[position] + frame] = [
                    (name, counts[frame]) for name, counts in zip(names, both, strict=False)
                ]
    return found


def _pair(rows: Mapping[int, RowCounts], one: int, other: int) -> Ints:
    """Return the overlap of two rows, which the one that was counted later holds."""
    found = rows[one].overlaps
    return found[other] if other in found else rows[other].overlaps[one]
