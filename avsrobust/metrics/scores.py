"""Scores of a data set: a line of the report under one protocol.

Conventions
    Fractions in [0, 1]. Undefined is None, never 0 or -1. `miou` and `f` are those of clean sound; ``_negative`` is the mean
    over silence, noise and offscreen; G-mIoU = g_score(mIoU, mIoU-), G-F = g_score(F, F-), G-FPR = FPR-. A condition that
    was evaluated on fewer clips than clean is scored on the clips it has, and says how many these are.
    Conditions beyond clean and the three negatives are scored by themselves and enter no G score.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from avsrobust.metrics.clips import MEASURES, ClipScores, clip_scores
from avsrobust.metrics.frames import empty_prediction
from avsrobust.metrics.gscores import CLEAN, NEGATIVES, g_score
from avsrobust.metrics.protocols import Protocol
from avsrobust.metrics.scored import Flags, Rows, ScoredFrames
from avsrobust.metrics.semantic_protocols import SemanticProtocol

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


@dataclass(frozen=True)
class ConditionScore:
    """Scores under one condition (at one level, where it has levels).

    `clips` counted, `left_out` did not (see the protocol); `frames` and `empty_frames` (with an empty target) are those of
    the clips that counted.
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
    left_out: int


@dataclass(frozen=True)
class DatasetScore:
    """Everything a line of the report says about one model, data set and protocol.

    `clips`, `clips_left_out`, `empty_frames`: clips that counted and did not, and frames with an empty target, each counted
    once however many conditions it was evaluated under. `missing` names what the G scores would need: of clean, silence,
    noise, offscreen those without any row.
    """

    protocol: Protocol | SemanticProtocol
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
    clips_left_out: int
    empty_frames: int
    missing: tuple[str, ...]

    def condition(self, name: str, level: float | None = None) -> ConditionScore | None:
        """Return the scores under one condition, or None where it was not evaluated."""
        found = (score for score in self.conditions if (score.condition, score.level) == (name, level))
        return next(found, None)

    def columns(self) -> dict[str, float | None]:
        """Return the report's score columns by name, in the order of `HIGHER_IS_BETTER`."""
        columns: dict[str, float | None] = {"mIoU": self.miou, "F": self.f}
        for name in NEGATIVES:
            score = self.condition(name)
            columns[f"{name}_mIoU"] = score.miou if score else None
            columns[f"{name}_F"] = score.f if score else None
            columns[f"{name}_FPR"] = score.fpr if score else None
        return {**columns, "G_mIoU": self.g_miou, "G_F": self.g_f, "G_FPR": self.g_fpr}


def dataset_score(frames: ScoredFrames, protocol: Protocol) -> DatasetScore:
    """Return the scores of all of `frames` under `protocol`."""
    return summarise(clip_scores(frames, protocol))


def floors(frames: ScoredFrames, protocol: Protocol) -> DatasetScore:
    """Return what a model that never activates a pixel would score on the same targets."""
    empty = ScoredFrames(
        empty_prediction(frames.statistics), frames.clip, frames.condition, frames.negative, frames.level
    )
    return dataset_score(empty, protocol)


def summarise(scores: ClipScores) -> DatasetScore:
    """Return the data set's scores from those of its rows; to score a part of the clips, select frames first."""
    return assemble(
        scores.protocol,
        tuple(_condition_score(scores, name, level, chosen) for name, level, chosen in conditions_of(scores)),
        clips=len(np.unique(scores.clip[~scores.left_out])),
        clips_left_out=len(np.unique(scores.clip[scores.left_out])),
        empty_frames=_empty_frames(scores),
    )


def assemble(
    protocol: Protocol | SemanticProtocol,
    conditions: tuple[ConditionScore, ...],
    clips: int,
    clips_left_out: int,
    empty_frames: int,
) -> DatasetScore:
    """Return the data set's scores from those under each condition: the means over the negatives and the G scores."""
    plain = {score.condition: score for score in conditions if score.level is None}
    clean = plain.get(CLEAN)
    negatives = [plain.get(name) for name in NEGATIVES]
    miou, f = (clean.miou, clean.f) if clean else (None, None)
    miou_negative, f_negative, fpr_negative = (
        _mean([None if score is None else getattr(score, measure) for score in negatives]) for measure in MEASURES
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
        clips_left_out=clips_left_out,
        empty_frames=empty_frames,
        missing=tuple(name for name in (CLEAN, *NEGATIVES) if name not in plain),
    )


def conditions_of(rows: Rows | ClipScores) -> Iterator[tuple[str, float | None, Flags]]:
    """Yield each condition, its level, and which rows are its: clean, the three negatives, the others by name and level."""
    level = np.where(np.isnan(rows.level), -np.inf, rows.level)
    found = sorted({(str(name), float(value)) for name, value in zip(rows.condition, level, strict=True)})
    known = (CLEAN, *NEGATIVES)
    found.sort(key=lambda key: known.index(key[0]) if key[0] in known else len(known))
    for name, value in found:
        yield name, None if math.isinf(value) else value, (rows.condition == name) & (level == value)


def _condition_score(scores: ClipScores, name: str, level: float | None, chosen: Flags) -> ConditionScore:
    numerator, denominator = scores.numerator[chosen].sum(axis=0), scores.denominator[chosen].sum(axis=0)
    miou, f, fpr = (
        float(above / below) if below > 0 else None for above, below in zip(numerator, denominator, strict=True)
    )
    counted = chosen & ~scores.left_out
    return ConditionScore(
        condition=name,
        level=level,
        negative=bool(scores.negative[chosen][0]),
        miou=miou,
        f=f,
        fpr=fpr,
        clips=int(np.count_nonzero(counted)),
        frames=int(scores.frames[counted].sum()),
        empty_frames=int(scores.empty_frames[counted].sum()),
        left_out=int(np.count_nonzero(chosen & scores.left_out)),
    )


def _empty_frames(scores: ClipScores) -> int:
    """Frames with an empty target; the rows of a clip share their targets, so the fullest row has them all."""
    clips, clip_index = np.unique(scores.clip, return_inverse=True)
    empty = np.zeros(len(clips), dtype=np.int64)
    np.maximum.at(empty, clip_index, scores.empty_frames)
    return int(empty.sum())


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(values) if len(present) == len(values) else None


def _g(positive: float | None, negative: float | None) -> float | None:
    return None if positive is None or negative is None else g_score(positive, negative)
