"""Overlap of the masks of one model under two sounds of one clip, clean or negative, from the stored intersections.

Conventions
    Masks at 0.5 of the same frames. Results hold the overlap of each mask with the one under clean audio; those of a newer
    evaluation also hold the overlaps of the negatives with one another, and others say nothing of these pairs.
    Two values: frames in which both masks are empty are skipped, as everywhere in a report, or count as 1, as in VSSL-Eval
    (arXiv 2410.01020). Means over clips of means over frames.
"""

from __future__ import annotations

import numpy as np

from avsrobust.mask_overlaps import other_name, stored_pairs
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
    return {**found, **_of_negatives(result)}


def _of_negatives(result: SplitResult) -> dict[Pair, tuple[MaskOverlap, MaskOverlap]]:
    """The overlap of each stored pair of negatives; two draws of one condition are a pair of it with itself."""
    frames, rows = result.frames, result.frames.rows
    if result.overlaps is None:
        return {}
    frame, others, both = stored_pairs(result.overlaps)
    keys = list(zip(rows.condition, rows.level, rows.draw, strict=True))
    names, code = np.unique(
        [other_name(str(name), level, int(draw)) for name, level, draw in keys], return_inverse=True
    )
    conditions = [(name, value) for name, value, _ in conditions_of(rows.clips)]
    of_row = [conditions.index((str(name), None if np.isnan(level) else float(level))) for name, level, _ in keys]
    # Condition of each name, by its position among `conditions`.
    position = np.empty(len(names), dtype=np.int64)
    position[code] = of_row
    other = (
        np.searchsorted(names, others.astype(str)).clip(max=len(names) - 1) if len(others) else np.zeros(0, np.int64)
    )
    paired = _frames_under(result, code[rows.of_frame], frame, other)
    known = (paired >= 0) & (names[other] == others.astype(str))
    frame, paired, both = frame[known], paired[known], both[known]
    activated = frames.statistics.tp_050 + frames.statistics.fp_050
    union = activated[frame] + activated[paired] - both
    sides = np.sort(np.stack([position[code[rows.of_frame[side]]] for side in (frame, paired)]), axis=0)
    found = {}
    for first, second in sorted(set(zip(*sides.tolist(), strict=True))):
        chosen = (sides[0] == first) & (sides[1] == second)
        clip = frames.clip[frame[chosen]].astype(np.int64)
        found[conditions[first], conditions[second]] = _both(both[chosen], union[chosen], clip)
    return found


def _frames_under(result: SplitResult, code: Ints, frame: Ints, other: Ints) -> Ints:
    """The frame of the same clip and number as each of `frame` [P] in the row of code `other` [P]; -1 where there is none."""
    keys = np.stack([result.frames.clip.astype(np.int64), result.frames.numbers])
    picture = np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)
    combined = picture * (int(code.max(initial=0)) + 1) + code
    order = np.argsort(combined)
    wanted = picture[frame] * (int(code.max(initial=0)) + 1) + other
    at = np.searchsorted(combined[order], wanted).clip(max=max(len(order) - 1, 0))
    paired: Ints = order[at] if len(order) else np.zeros(0, dtype=np.int64)
    return np.where(combined[paired] == wanted, paired, -1)


def _both(intersection: Ints, union: Ints, clip: Ints) -> tuple[MaskOverlap, MaskOverlap]:
    """The overlap with empty pairs skipped, and with these counted as 1."""
    both_empty: Flags = union == 0
    return mask_overlap(intersection, union, clip), mask_overlap(intersection + both_empty, union + both_empty, clip)
