"""Scores of a data set under one protocol: one line of a report.

Conventions
    Scores are fractions in [0, 1]; None is undefined, never 0 or -1. `miou` and `f` are those under clean audio; ``_negative``
    is the mean over the negative conditions of G; G-mIoU = g_score(mIoU, mIoU-), G-F = g_score(F, F-), G-FPR = FPR-.
    A condition that was evaluated on fewer clips than clean is scored on the clips it has, and says how many these are.
    Other conditions have scores of their own and enter no G score. A negative of G is named by its condition, or by
    ``condition@level`` where it has levels; the default ones are `vocabulary.NEGATIVES`.
    Both tasks, binary and semantic, end in these types.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol as Interface

import numpy as np

from avsrobust.metrics.g_score import g_score
from avsrobust.metrics.rows import Flags, Floats, Strings, distinct_conditions
from avsrobust.vocabulary import CLEAN, NEGATIVES

MEASURES = ("miou", "f", "fpr")
# A condition and its level in dB; None where it has no levels.
ConditionKey = tuple[str, float | None]

# The score columns of a report, in its order, and whether more is better. Under a negative condition a mask is a mistake.
HIGHER_IS_BETTER: Mapping[str, bool] = MappingProxyType(
    {
        "mIoU": True,
        "F": True,
        **{f"{condition}_{measure}": False for condition in NEGATIVES for measure in ("mIoU", "F", "FPR")},
        "G_mIoU": True,
        "G_F": True,
        "G_FPR": False,
    }
)


class ScoringProtocol(Interface):
    """A protocol of either task: `metrics.Protocol` or `metrics.SemanticProtocol`."""

    @property
    def name(self) -> str:
        """Name on the command line and in results."""

    @property
    def beta2(self) -> float:
        """Weight of recall in F."""


@dataclass(frozen=True)
class ConditionScore:
    """Scores under one condition (at one level, where it has levels).

    Attributes:
        condition: Name of the condition.
        level: Its level in dB, or None.
        negative: Whether none of the picture's objects makes the sound.
        miou: Mean IoU, or None.
        f: Mean F-measure, or None.
        fpr: Mean activated share of the frame, or None.
        clips: Clips that the protocol counts.
        frames: Frames of these clips.
        empty_frames: Those of `frames` whose target is empty.
        skipped: Clips that the protocol skips.
    """

    condition: str
    level: float | None
    negative: bool
    miou: float | None
    f: float | None
    fpr: float | None
    clips: int
    frames: int
    empty_frames: int
    skipped: int

    @property
    def key(self) -> ConditionKey:
        """Condition and level."""
        return (self.condition, self.level)


@dataclass(frozen=True)
class DatasetScore:
    """Scores of one model on one data set under one protocol.

    Attributes:
        protocol: The protocol.
        conditions: Scores under each condition: clean, the negatives of G, then the others by name and level.
        miou: mIoU under clean audio.
        f: F under clean audio.
        miou_negative: Mean of mIoU over the negatives of G.
        f_negative: Mean of F over the negatives of G.
        fpr_negative: Mean of FPR over the negatives of G.
        g_miou: G-mIoU.
        g_f: G-F.
        g_fpr: G-FPR.
        clips: Clips that count, each once however many conditions it was evaluated under.
        clips_skipped: Clips that the protocol skips.
        empty_frames: Frames with an empty target, each once.
        missing: Conditions that the G scores need and that have no row.
        negatives: The negative conditions that G averages over.
    """

    protocol: ScoringProtocol
    conditions: tuple[ConditionScore, ...]
    miou: float | None
    f: float | None
    miou_negative: float | None
    f_negative: float | None
    fpr_negative: float | None
    g_miou: float | None
    g_f: float | None
    g_fpr: float | None
    clips: int
    clips_skipped: int
    empty_frames: int
    missing: tuple[str, ...]
    negatives: tuple[str, ...] = NEGATIVES

    def condition(self, name: str, level: float | None = None) -> ConditionScore | None:
        """Return the scores under one condition, or None where it was not evaluated."""
        found = (score for score in self.conditions if score.key == (name, level))
        return next(found, None)

    def columns(self) -> dict[str, float | None]:
        """Return the report's score columns by name, in the order of `HIGHER_IS_BETTER`; other negatives of G before G."""
        columns: dict[str, float | None] = {"mIoU": self.miou, "F": self.f}
        for name in dict.fromkeys((*NEGATIVES, *self.negatives)):
            score = self.condition(*negative_key(name))
            columns[f"{name}_mIoU"] = score.miou if score else None
            columns[f"{name}_F"] = score.f if score else None
            columns[f"{name}_FPR"] = score.fpr if score else None
        return {**columns, "G_mIoU": self.g_miou, "G_F": self.g_f, "G_FPR": self.g_fpr}


def negative_key(name: str) -> ConditionKey:
    """Return the condition and level of a negative of G.

    >>> negative_key("silence"), negative_key("offscreen@-6")
    (('silence', None), ('offscreen', -6.0))
    """
    condition, separator, level = name.rpartition("@")
    try:
        return (condition, float(np.float32(level))) if separator else (name, None)
    except ValueError:
        return (name, None)


def assemble(
    protocol: ScoringProtocol,
    conditions: tuple[ConditionScore, ...],
    clips: int,
    clips_skipped: int,
    empty_frames: int,
    negatives: Sequence[str] = NEGATIVES,
) -> DatasetScore:
    """Return the data set's scores from those under each condition: the means over the negatives, and the G scores.

    Args:
        protocol: The protocol by which the conditions were scored.
        conditions: Scores under each condition.
        clips: Clips that count.
        clips_skipped: Clips that the protocol skips.
        empty_frames: Frames with an empty target.
        negatives: The negative conditions that G averages over.
    """
    found = {score.key: score for score in conditions}
    clean = found.get((CLEAN, None))
    of_negatives = [found.get(negative_key(name)) for name in negatives]
    miou, f = (clean.miou, clean.f) if clean else (None, None)
    miou_negative, f_negative, fpr_negative = (
        _mean([None if score is None else getattr(score, measure) for score in of_negatives]) for measure in MEASURES
    )
    return DatasetScore(
        protocol=protocol,
        conditions=conditions,
        miou=miou,
        f=f,
        miou_negative=miou_negative,
        f_negative=f_negative,
        fpr_negative=fpr_negative,
        g_miou=_g(miou, miou_negative),
        g_f=_g(f, f_negative),
        g_fpr=fpr_negative,
        clips=clips,
        clips_skipped=clips_skipped,
        empty_frames=empty_frames,
        missing=tuple(name for name in (CLEAN, *negatives) if negative_key(name) not in found),
        negatives=tuple(negatives),
    )


class HasConditions(Interface):
    """Rows, or scores of rows, each with a condition, str [R], and a level, float64 [R] (NaN: none)."""

    @property
    def condition(self) -> Strings:
        """Condition of each row."""

    @property
    def level(self) -> Floats:
        """Level of each row in dB."""


def conditions_of(
    rows: HasConditions, negatives: Sequence[str] = NEGATIVES
) -> Iterator[tuple[str, float | None, Flags]]:
    """Yield each condition, its level, and bool [R] of its rows: clean, `negatives`, then the others by name and level."""
    level = np.where(np.isnan(rows.level), -np.inf, rows.level)
    found = sorted(distinct_conditions(rows.condition, level))
    # A condition with levels follows the one of its name without.
    known = (CLEAN, *(negative_key(name)[0] for name in negatives))
    found.sort(key=lambda key: known.index(key[0]) if key[0] in known else len(known))
    for name, value in found:
        yield name, None if math.isinf(value) else value, (rows.condition == name) & (level == value)


def _mean(values: list[float | None]) -> float | None:
    """The mean; None where there is no value or one is undefined."""
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(values) if values and len(present) == len(values) else None


def _g(positive: float | None, negative: float | None) -> float | None:
    """The G score; None where one of the two is undefined."""
    return None if positive is None or negative is None else g_score(positive, negative)
