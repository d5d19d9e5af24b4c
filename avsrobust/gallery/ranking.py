"""Worst first: which clips of an evaluation are worth a look.

Conventions
    Three orders: the largest mask under a negative, the lowest IoU under clean audio, the least change between sounds. Scores are
    means over the clip's scored frames, of masks at 0.5; IoU counts frames whose target is not empty.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from avsrobust.reporting.media import ClipRanks
from avsrobust.results import Scores, with_draws
from avsrobust.row_keys import ClipKey, RowKey, row_key
from avsrobust.vocabulary import CLEAN, NEGATIVE


@dataclass(frozen=True)
class RowScores:
    """Scores of one clip under one condition; None is undefined."""

    negative: bool
    iou: float | None
    area: float | None
    overlap: float | None


def row_scores(scores: Scores) -> dict[RowKey, RowScores]:
    """Return the scores of every row of some results."""
    index, counts = with_draws(scores.index.reset_index(drop=True)), scores.statistics
    predicted = counts.tp_050 + counts.fp_050
    union = counts.target_pixels + counts.fp_050
    with np.errstate(divide="ignore", invalid="ignore"):
        frames = index[["split", "clip_id", "condition", "level", "draw", "polarity"]].assign(
            iou=np.where(counts.target_pixels > 0, counts.tp_050 / union, np.nan),
            area=predicted / counts.pixels,
            overlap=(index["clean_intersection"] / index["clean_union"]).astype(float),
        )
    keys = ["split", "clip_id", "condition", "level", "draw", "polarity"]
    means = frames.groupby(keys, dropna=False, sort=True)[["iou", "area", "overlap"]].mean()
    return {
        row_key(split, clip_id, condition, level, int(draw)): RowScores(polarity == NEGATIVE, *map(_number, values))
        for (split, clip_id, condition, level, draw, polarity), values in zip(
            means.index, means.itertuples(index=False, name=None), strict=True
        )
    }


def rank_clips(source: str, rows: Mapping[RowKey, RowScores]) -> dict[ClipKey, ClipRanks]:
    """Return how bad each clip is for the model whose row scores these are."""
    clips: dict[ClipKey, list[tuple[RowKey, RowScores]]] = {}
    for key, entry in rows.items():
        clips.setdefault(key[:2], []).append((key, entry))
    return {
        clip: ClipRanks(
            source,
            max((entry.area for _, entry in found if entry.negative and entry.area is not None), default=None),
            next((entry.iou for key, entry in found if key[2] == CLEAN), None),
            min(
                (1 - entry.overlap for _, entry in found if entry.negative and entry.overlap is not None), default=None
            ),
        )
        for clip, found in clips.items()
    }


def worst_clips(ranks: Sequence[Mapping[ClipKey, ClipRanks]], number: int) -> list[ClipKey]:
    """Return the worst clips: in turn the next one of each order, and in each order of each model.

    Args:
        ranks: The ranks of each model.
        number: Clips to return at most.
    """
    queues = [list(order) for order in zip(*(_orders(model) for model in ranks), strict=True)]
    turns = [queue for kind in queues for queue in kind]
    chosen: dict[ClipKey, None] = {}
    for position in range(max(map(len, turns), default=0)):
        for queue in turns:
            if len(chosen) >= number:
                return list(chosen)
            if position < len(queue):
                chosen.setdefault(queue[position])
    return list(chosen)


def _orders(ranks: Mapping[ClipKey, ClipRanks]) -> Iterator[list[ClipKey]]:
    """The clips by each order, worst first; ties by id, undefined ones last."""
    yield sorted(ranks, key=lambda clip: (_last(ranks[clip].largest, -1), clip))
    yield sorted(ranks, key=lambda clip: (_last(ranks[clip].clean_iou, 1), clip))
    yield sorted(ranks, key=lambda clip: (_last(ranks[clip].change, 1), clip))


def _last(value: float | None, sign: int) -> float:
    return math.inf if value is None else sign * value


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
