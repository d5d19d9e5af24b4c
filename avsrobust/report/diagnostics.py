"""What stands beside the scores: does the sound change anything, can one threshold do, and what is missing.

Conventions
    Fractions in [0, 1]; None is undefined. Overlap 1: the mask is the same as under clean sound. AUROC of the clips'
    activated area, clean against negative: 0.5 is chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avsrobust.metrics import (
    FrameStatistics,
    MaskOverlap,
    ThresholdCurve,
    activated_area,
    auroc,
    mask_overlap,
    threshold_curve,
)
from avsrobust.report.evaluations import Evaluation
from avsrobust.vocabulary import CLEAN, NEGATIVES

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ConditionDiagnostics:
    """One condition other than clean. `missing_clips`: scored under some condition, but not under this one.

    `auroc` is None under positive conditions: there both are meant to show a mask.
    """

    condition: str
    level: float | None
    missing_clips: int
    overlap: MaskOverlap
    auroc: float | None


@dataclass(frozen=True)
class Diagnostics:
    """Of one model on one split. `overlap` and `auroc` take silence, noise and offscreen together.

    `clips` have a scored frame; `frames` of these were scored, each counted once however often it was heard with another
    sound; of `empty_frames` the target is empty. `missing_clean` clips were not scored under clean sound. The recording of
    `muted_clips` is itself silent, so that clean is silence to them. `binary_masks`: every probability is 0 or 1 (or less than
    1/254 from 0), so that thresholds change nothing.
    """

    overlap: MaskOverlap
    auroc: float | None
    curve: ThresholdCurve | None
    conditions: tuple[ConditionDiagnostics, ...]
    clips: int
    frames: int
    empty_frames: int
    missing_clean: int
    muted_clips: int
    binary_masks: bool

    @property
    def missing_rows(self) -> int:
        """Rows that would be there had every clip been scored under every condition found."""
        return self.missing_clean + sum(entry.missing_clips for entry in self.conditions)

    def under(self, condition: str, level: float | None = None) -> ConditionDiagnostics | None:
        """Return what is known about one condition, or None where it was not evaluated."""
        found = (entry for entry in self.conditions if (entry.condition, entry.level) == (condition, level))
        return next(found, None)

    @property
    def best_threshold(self) -> float | None:
        """The single threshold with the largest strict G-mIoU."""
        return None if self.curve is None else self.curve.best_threshold

    @property
    def best_g_miou(self) -> float | None:
        """Strict G-mIoU at `best_threshold`."""
        return None if self.curve is None else float(self.curve.g_miou[self.curve.best_index])


def diagnose(evaluation: Evaluation) -> Diagnostics:
    """Return the diagnostics of an evaluation; an evaluation without frames has zeros and None."""
    frames = evaluation.frames
    rows = frames.rows
    area = activated_area(frames)
    clean_area = area[rows.condition == CLEAN]
    clips = np.unique(rows.clip)
    conditions = []
    for name, level in _conditions(evaluation):
        of_rows = _matches(rows.condition, rows.level, name, level)
        negative = bool(rows.negative[of_rows].any())
        conditions.append(
            ConditionDiagnostics(
                condition=name,
                level=level,
                missing_clips=len(clips) - int(np.count_nonzero(of_rows)),
                overlap=_overlap(evaluation, _matches(frames.condition, _level(evaluation), name, level)),
                auroc=auroc(clean_area, area[of_rows]) if negative else None,
            )
        )
    is_negative = np.isin(rows.condition, NEGATIVES)
    num_frames, empty_frames = _frames(evaluation)
    return Diagnostics(
        overlap=_overlap(evaluation, np.isin(frames.condition, NEGATIVES)),
        auroc=auroc(clean_area, area[is_negative]),
        curve=threshold_curve(frames),
        conditions=tuple(conditions),
        clips=len(clips),
        frames=num_frames,
        empty_frames=empty_frames,
        missing_clean=len(clips) - len(clean_area),
        muted_clips=len(evaluation.muted_clips),
        binary_masks=_is_binary(frames.statistics),
    )


def _is_binary(statistics: FrameStatistics) -> bool:
    """Return whether all pixels lie in the first and the last bin of the histograms; no frame is no mask."""
    return len(statistics) > 0 and not (statistics.inside[:, 1:-1].any() or statistics.outside[:, 1:-1].any())


def _conditions(evaluation: Evaluation) -> list[tuple[str, float | None]]:
    """The conditions other than clean, the three negatives first, then the others by name and level."""
    rows = evaluation.frames.rows
    found = {
        (str(name), None if np.isnan(level) else float(level))
        for name, level in zip(rows.condition, rows.level, strict=True)
        if name != CLEAN
    }
    return sorted(found, key=lambda key: (_place(key[0]), key[0], -np.inf if key[1] is None else key[1]))


def _place(condition: str) -> int:
    return NEGATIVES.index(condition) if condition in NEGATIVES else len(NEGATIVES)


def _level(evaluation: Evaluation) -> npt.NDArray[np.floating]:
    level = evaluation.frames.level
    return np.full(len(evaluation.frames), np.nan) if level is None else level


def _matches(
    conditions: npt.NDArray[np.str_], levels: npt.NDArray[np.floating], name: str, level: float | None
) -> Flags:
    at_level: Flags = np.isnan(levels) if level is None else levels == level
    matched: Flags = at_level & (conditions == name)
    return matched


def _overlap(evaluation: Evaluation, chosen: Flags) -> MaskOverlap:
    compared = chosen & ~np.isnan(evaluation.clean_union)
    return mask_overlap(
        evaluation.clean_intersection[compared].astype(np.int64),
        evaluation.clean_union[compared].astype(np.int64),
        evaluation.frames.clip[compared],
    )


def _frames(evaluation: Evaluation) -> tuple[int, int]:
    """Count the scored frames of all clips, and those with an empty target: of each clip under its fullest condition."""
    rows = evaluation.frames.rows
    if len(rows) == 0:
        return 0, 0
    empty = rows.sum(evaluation.frames.statistics.target_pixels[rows.order] == 0)
    most = np.zeros((2, int(rows.clip.max()) + 1), dtype=np.int64)
    np.maximum.at(most[0], rows.clip, rows.frames)
    np.maximum.at(most[1], rows.clip, empty.astype(np.int64))
    return int(most[0].sum()), int(most[1].sum())
