"""Overlap of the masks of one model under two sounds of one clip, clean or negative, from the stored intersections.

Conventions
    Masks at 0.5 of the same frames. Results hold the overlap of each mask with the one under clean audio; those of a newer
    evaluation also hold the overlaps of the negatives with one another, and others say nothing of these pairs.
    Two values: frames in which both masks are empty are skipped, as everywhere in a report, or count as 1, as in VSSL-Eval
    (arXiv 2410.01020). Means over clips of means over frames.
"""

from __future__ import annotations

import numpy as np

from avsrobust.metrics import CLEAN, MaskOverlap, mask_overlap
from avsrobust.metrics.dataset_score import ConditionKey, conditions_of
from avsrobust.metrics.rows import Flags, Ints, rows_under
from avsrobust.reporting.split_results import SplitResult

Pair = tuple[ConditionKey, ConditionKey]
_CLEAN_KEY: ConditionKey = (CLEAN, None)


def pair_overlaps(result: SplitResult) -> dict[Pair, tuple[MaskOverlap, MaskOverlap]]:
    """Return the overlap of each stored pair of conditions, with empty pairs skipped and with these counted as 1."""
    frames = result.frames
    level = np.full(len(frames), np.nan) if frames.level is None else frames.level.astype(np.float64)
    is_stored = ~np.isnan(result.clean_union)
    found: dict[Pair, tuple[MaskOverlap, MaskOverlap]] = {}
    for name, value, _ in conditions_of(frames.rows.clips):
        chosen = is_stored & frames.negative & rows_under(frames.condition, level, (name, value))
        if chosen.any():
            both, either = (
                values[chosen].astype(np.int64) for values in (result.clean_intersection, result.clean_union)
            )
            found[_CLEAN_KEY, (name, value)] = _both(both, either, frames.clip[chosen].astype(np.int64))
    return found


def _both(intersection: Ints, union: Ints, clip: Ints) -> tuple[MaskOverlap, MaskOverlap]:
    """The overlap with empty pairs skipped, and with these counted as 1."""
    both_empty: Flags = union == 0
    return mask_overlap(intersection, union, clip), mask_overlap(intersection + both_empty, union + both_empty, clip)
