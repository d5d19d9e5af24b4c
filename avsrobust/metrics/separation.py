"""Separation of clean and negative masks of one model: does the audio change the mask?

Conventions
    The activated area of a clip is the share of its frames' pixels with ``p > 0.5``, averaged over its frames
    (`binary.clip_scores.activated_area`). Fractions in [0, 1]; undefined is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avsrobust.errors import MetricInputError
from avsrobust.metrics import ratios
from avsrobust.metrics.binary.clip_scores import activated_area
from avsrobust.metrics.binary.frames import ScoredFrames
from avsrobust.metrics.binary.thresholds import NUM_THRESHOLDS, at_least, thresholds
from avsrobust.metrics.g_score import g_scores
from avsrobust.metrics.rows import Flags, Floats, Ints, sums_from
from avsrobust.vocabulary import CLEAN, NEGATIVES


def auroc(clean_area: npt.NDArray[np.floating], negative_area: npt.NDArray[np.floating]) -> float | None:
    """Return the probability that a clean clip's area exceeds a negative one's, ties counting one half.

    This is the area under the ROC curve (`sklearn.metrics.roc_auc_score`): 1 separates perfectly, 0.5 is chance.

    Args:
        clean_area: Activated area of each clip under clean audio, [C].
        negative_area: Activated area of each row under negative conditions, [M].

    Returns:
        A float in [0, 1], or None where one of the two is empty.

    Raises:
        MetricInputError: An area is NaN or infinite.

    >>> import numpy as np
    >>> auroc(np.array([0.3, 0.2]), np.array([0.1, 0.2])), auroc(np.array([0.3]), np.array([]))
    (0.875, None)
    """
    for name, area in (("clean_area", clean_area), ("negative_area", negative_area)):
        if not np.isfinite(area).all():
            raise MetricInputError(f"{name}: found NaN or infinite values; expected one finite area per clip")
    if clean_area.size == 0 or negative_area.size == 0:
        return None
    # Imported here: it takes most of a second, and `avsrobust.metrics` is imported by all that scores.
    from sklearn.metrics import roc_auc_score

    is_clean = np.repeat([True, False], [clean_area.size, negative_area.size])
    return float(roc_auc_score(is_clean, np.concatenate([clean_area, negative_area])))


def area_auroc(frames: ScoredFrames, negatives: Sequence[str] = NEGATIVES) -> float | None:
    """Return `auroc` of the clips' activated area, clean against `negatives` taken together; None where one is missing."""
    area = activated_area(frames)
    condition = frames.rows.clips.condition
    return auroc(area[condition == CLEAN], area[np.isin(condition, list(negatives))])


@dataclass(frozen=True)
class MaskOverlap:
    """Overlap of two masks of the same frames: 1 where audio changed nothing.

    Attributes:
        value: Mean over clips of the mean over frames of intersection / union; None where no frame has a union.
        clips: Clips that count.
        frames: Frames that count.
        undefined_frames: Frames in which both masks are empty.
    """

    value: float | None
    clips: int
    frames: int
    undefined_frames: int


def mask_overlap(
    intersection: npt.NDArray[np.integer], union: npt.NDArray[np.integer], clip: npt.NDArray[np.integer]
) -> MaskOverlap:
    """Return the overlap of N pairs of masks; frames in which both are empty are undefined and skipped.

    Args:
        intersection: Pixels in both masks, int [N].
        union: Pixels in either mask, int [N].
        clip: Clip of each pair, int [N].

    Raises:
        MetricInputError: The arrays do not fit together.

    >>> import numpy as np
    >>> mask_overlap(np.array([2, 4, 0]), np.array([4, 4, 0]), np.array([7, 7, 8]))
    MaskOverlap(value=0.75, clips=1, frames=2, undefined_frames=1)
    """
    if not intersection.shape == union.shape == clip.shape:
        raise MetricInputError(
            f"intersection, union, clip: found shapes {intersection.shape}, {union.shape}, {clip.shape}; expected one [N]"
        )
    if (intersection < 0).any() or (intersection > union).any():
        raise MetricInputError("intersection: found values below 0 or above union; expected counts of pixels")
    defined = union > 0
    frame_overlap = intersection[defined] / union[defined]
    clips, index = np.unique(clip[defined], return_inverse=True)
    per_clip = np.bincount(index, weights=frame_overlap) / np.bincount(index) if len(clips) else np.zeros(0)
    return MaskOverlap(
        value=float(per_clip.mean()) if len(clips) else None,
        clips=len(clips),
        frames=int(np.count_nonzero(defined)),
        undefined_frames=int(np.count_nonzero(~defined)),
    )


@dataclass(frozen=True)
class ThresholdCurve:
    """Scores over the 255 thresholds; all arrays are float64 [255].

    Attributes:
        threshold: The thresholds; a pixel is activated where ``p >= threshold``.
        miou: mIoU under clean audio.
        miou_negative: Mean of mIoU over the negatives of G.
        g_miou: G-mIoU.
    """

    threshold: Floats
    miou: Floats
    miou_negative: Floats
    g_miou: Floats

    @property
    def best_index(self) -> int:
        """Index of the single threshold with the largest G-mIoU over all conditions; of equal ones the smallest."""
        return int(np.argmax(self.g_miou))

    @property
    def best_threshold(self) -> float:
        """The threshold at `best_index`."""
        return float(self.threshold[self.best_index])


def threshold_curve(frames: ScoredFrames, negatives: Sequence[str] = NEGATIVES) -> ThresholdCurve | None:
    """Return G-mIoU over the thresholds, counted as protocol `strict` does, but with ``p >= threshold``.

    Args:
        frames: All scored frames of a model.
        negatives: The negative conditions that G averages over.

    Returns:
        The curve, or None where clean or one of `negatives` has no clip that counts.
    """
    rows = frames.rows
    names = (CLEAN, *negatives)
    chosen = [(rows.condition == name) & np.isnan(rows.level) for name in names]
    sums = np.zeros((len(names), NUM_THRESHOLDS))
    counted = _rows_with_target(frames)
    for block, index, start in rows.blocks():
        miou = _strict_miou(frames, index, start)
        for position, flags in enumerate(chosen):
            of_block = flags[block] & counted[block]
            sums[position] += (miou * rows.weight[block, None])[of_block].sum(axis=0)
    clips = np.array([rows.weight[flags & counted].sum() for flags in chosen])
    if (clips == 0).any():
        return None
    means = sums / clips[:, None]
    negative = means[1:].mean(axis=0)
    return ThresholdCurve(thresholds().astype(np.float64), means[0], negative, g_scores(means[0], negative))


def _rows_with_target(frames: ScoredFrames) -> Flags:
    """Rows with a frame whose target is not empty, bool [R]."""
    has_target = frames.statistics.target_pixels[frames.rows.order] > 0
    return frames.rows.sum(has_target) > 0


def _strict_miou(frames: ScoredFrames, index: Ints, start: Ints) -> Floats:
    """Mean IoU [rows, 255] of the rows whose frames are `index` and begin at `start`; frames count as in `strict`."""
    statistics = frames.statistics
    target = statistics.target_pixels[index, None]
    iou = ratios.iou(
        at_least(statistics.inside[index]),
        at_least(statistics.outside[index]),
        target,
        statistics.pixels[index, None],
    )
    scored = (target > 0) | ~frames.negative[index, None]
    ratio: Floats = sums_from(iou * scored, start) / np.maximum(sums_from(scored, start), 1.0)
    return ratio
