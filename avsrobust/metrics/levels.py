"""Curves over the levels of a condition: how a score falls as the audio gets worse, and the area under it.

Conventions
    A condition with at least two levels has a curve; levels are in the condition's own unit (dB, kHz, s) and the curve is
    straight between them. The area is divided by the range of the levels, so that it is a mean score, in [0, 1]: the mean over
    a uniformly drawn level. The share kept is a score over the same score under clean audio: 1 where nothing is lost, above 1
    where more is found than under clean audio; None where the clean score is 0 or undefined, and under negative conditions.
    A model that predicts nothing has area 0 under IoU, and under F its trivial F.
    Source: avsrobust; the levels of AVRobustBench's noises and of VSSL-Eval's mixtures are curves of this kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avsrobust.metrics.dataset_score import ConditionScore, DatasetScore
from avsrobust.metrics.ratios import area_under

Scores = tuple[float | None, ...]


@dataclass(frozen=True)
class LevelCurve:
    """One score over the L levels of a condition.

    Attributes:
        condition: Name of the condition.
        negative: Whether none of the picture's objects makes the sound.
        measure: "miou" or "f".
        levels: The levels, rising.
        scores: The score at each level, or None.
        kept: The share of the clean score at each level, or None.
        area: Mean of the curve over the range of its levels; None where a score is undefined.
        area_kept: `area` over the clean score, or None.
        clips: The smallest number of clips at any level.
    """

    condition: str
    negative: bool
    measure: str
    levels: tuple[float, ...]
    scores: Scores
    kept: Scores
    area: float | None
    area_kept: float | None
    clips: int


def level_curves(score: DatasetScore, measures: Sequence[str] = ("miou", "f")) -> tuple[LevelCurve, ...]:
    """Return a curve for each condition with at least two levels and each measure, by condition.

    Args:
        score: Scores under every condition, of either task.
        measures: "miou", "f" or "fpr".
    """
    of: dict[str, list[ConditionScore]] = {}
    for entry in score.conditions:
        if entry.level is not None:
            of.setdefault(entry.condition, []).append(entry)
    curves = []
    for _, entries in sorted(of.items()):
        if len(entries) > 1:
            curves += [_curve(score, sorted(entries, key=_level), measure) for measure in measures]
    return tuple(curves)


def _curve(score: DatasetScore, entries: Sequence[ConditionScore], measure: str) -> LevelCurve:
    """The curve of one measure over a condition's `entries`, sorted by level."""
    negative = entries[0].negative
    clean = None if negative else getattr(score, measure, None)
    levels = tuple(_level(entry) for entry in entries)
    scores: Scores = tuple(getattr(entry, measure) for entry in entries)
    defined = [value for value in scores if value is not None]
    area = float(area_under(np.array(levels), np.array(defined))) if len(defined) == len(levels) else None
    return LevelCurve(
        condition=entries[0].condition,
        negative=negative,
        measure=measure,
        levels=levels,
        scores=scores,
        kept=tuple(_share(value, clean) for value in scores),
        area=area,
        area_kept=_share(area, clean),
        clips=min(entry.clips for entry in entries),
    )


def _level(entry: ConditionScore) -> float:
    """The level of a condition that has one."""
    return 0.0 if entry.level is None else entry.level


def _share(value: float | None, clean: float | None) -> float | None:
    """A score over the clean one; None where one of the two is undefined, or clean is 0."""
    return None if value is None or not clean else value / clean
