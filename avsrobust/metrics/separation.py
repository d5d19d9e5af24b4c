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
from avsrobust.metrics.binary.protocols import PROTOCOLS
from avsrobust.metrics.binary.thresholds import NUM_THRESHOLDS, at_least, thresholds
from avsrobust.metrics.dataset_score import negative_key
from avsrobust.metrics.g_score import g_scores
from avsrobust.metrics.rows import CACHED_FRAMES, Flags, Floats, Ints, blocks_of, in_place, sums_from
from avsrobust.vocabulary import CLEAN, NEGATIVES


def auroc(clean_area: npt.NDArray[np.floating], negative_area: npt.NDArray[np.floating]) -> float | None:
    """Return the probability that a clean clip's area exceeds a negative one's, ties counting one half.

    This is the area under the ROC curve (Mann and Whitney's U over the number of pairs; equal to
    `sklearn.metrics.roc_auc_score`, whose import takes longer than a report): 1 separates perfectly, 0.5 is chance.

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
    ordered = np.sort(negative_area, axis=None)
    below, not_above = (np.searchsorted(ordered, clean_area.ravel(), side) for side in ("left", "right"))
    return float((below + not_above).sum() / (2 * clean_area.size * negative_area.size))


def area_auroc(frames: ScoredFrames, negatives: Sequence[str] = NEGATIVES) -> float | None:
    """Return `auroc` of the clips' activated area, clean against `negatives` taken together; None where one is missing."""
    area, rows = activated_area(frames), frames.rows.clips
    of_negatives = np.zeros(len(rows), dtype=np.bool_)
    for name in negatives:
        of_negatives |= rows.under(negative_key(name))
    return auroc(area[rows.under((CLEAN, None))], area[of_negatives])


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
    index = clip[defined]
    if len(index) and not (index.min() >= 0 and index.max() < clip.size):
        index = np.unique(index, return_inverse=True)[1]
    number = np.bincount(index)
    per_clip = np.bincount(index, weights=frame_overlap)[number > 0] / number[number > 0]
    return MaskOverlap(
        value=float(per_clip.mean()) if len(per_clip) else None,
        clips=len(per_clip),
        frames=int(np.count_nonzero(defined)),
        undefined_frames=int(np.count_nonzero(~defined)),
    )


@dataclass(frozen=True)
class ThresholdCurve:
    """Scores over the 255 thresholds, counted as protocol `strict` does; all arrays are float64 [255].

    Attributes:
        threshold: The thresholds; a pixel is activated where ``p >= threshold``.
        miou: mIoU under clean audio.
        miou_negative: Mean of mIoU over the negatives of G.
        g_miou: G-mIoU.
        f: F under clean audio.
        f_negative: Mean of F over the negatives of G.
        g_f: G-F.
        fpr_negative: Mean of FPR over the negatives of G: G-FPR.
    """

    threshold: Floats
    miou: Floats
    miou_negative: Floats
    g_miou: Floats
    f: Floats
    f_negative: Floats
    g_f: Floats
    fpr_negative: Floats

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
    keys = [(CLEAN, None), *map(negative_key, negatives)]
    chosen = [rows.under(key) for key in keys]
    sums = np.zeros((len(keys), 3, NUM_THRESHOLDS))
    counted = _rows_with_target(frames)
    needed = np.any(chosen, axis=0) & counted
    group = np.zeros(len(rows), dtype=np.int64)
    for block, _, _ in rows.blocks():
        group[block] = block.start
    # Where the frames lie, since histograms may have to be read, unless that changes the order in which numbers are added.
    visited, order, starts = in_place(rows.order, rows.start)
    if any((np.diff(visited[flags[visited]]) < 0).any() for flags in chosen):
        visited, order, starts = np.arange(len(rows)), rows.order, rows.start
    totals = [_GroupedSum(total) for total in sums]
    for block, index, start in blocks_of(order, starts, CACHED_FRAMES):
        number = visited[block]
        if not needed[number].any():
            continue
        scores = _strict_scores(frames, index, start) * rows.weight[number, None, None]
        for total, flags in zip(totals, chosen, strict=True):
            of = flags[number] & counted[number]
            total.add(scores[of], group[number[of]])
    for total in totals:
        total.close()
    clips = np.array([rows.weight[flags & counted].sum() for flags in chosen])
    if (clips == 0).any():
        return None
    means = sums / clips[:, None, None]
    (miou, f, _), (miou_negative, f_negative, fpr_negative) = means[0], means[1:].mean(axis=0)
    return ThresholdCurve(
        threshold=thresholds().astype(np.float64),
        miou=miou,
        miou_negative=miou_negative,
        g_miou=g_scores(miou, miou_negative),
        f=f,
        f_negative=f_negative,
        g_f=g_scores(f, f_negative),
        fpr_negative=fpr_negative,
    )


class _GroupedSum:
    """Adds the sums of groups of values to `total`, one group after the other: the same to the last digit however they come."""

    def __init__(self, total: Floats) -> None:
        self._total, self._group, self._sum = total, -1, np.zeros_like(total)

    def add(self, values: Floats, groups: Ints) -> None:
        """Add values [K, ...], those of a group behind one another, in the order of the groups [K]."""
        for group in np.unique(groups):
            part = values[groups == group]
            if group == self._group:
                part = np.concatenate([self._sum[None], part])
            else:
                self.close()
            self._group, self._sum = int(group), part.sum(axis=0)

    def close(self) -> None:
        """Add the last group."""
        self._total += self._sum
        self._sum = np.zeros_like(self._sum)


def _rows_with_target(frames: ScoredFrames) -> Flags:
    """Rows with a frame whose target is not empty, bool [R]."""
    has_target = frames.statistics.target_pixels[frames.rows.order] > 0
    return frames.rows.sum(has_target) > 0


def _strict_scores(frames: ScoredFrames, index: Ints, start: Ints) -> Floats:
    """Mean IoU, F and FPR [rows, 3, 255] of the rows whose frames are `index` and begin at `start`, as in `strict`."""
    statistics = frames.statistics
    target, pixels = statistics.target_pixels[index, None], statistics.pixels[index, None]
    tp, fp = at_least(statistics.inside[index]), at_least(statistics.outside[index])
    activated = tp + fp
    has_target = target > 0
    scored = has_target | ~frames.negative[index, None]
    beta2 = PROTOCOLS["strict"].beta2
    values = (
        (ratios.iou(tp, fp, target, pixels), scored),
        (ratios.f_measure(tp, activated, target, beta2), has_target),
        (activated / pixels, np.ones_like(scored)),
    )
    means = [
        sums_from(value if of.all() else value * of, start) / np.maximum(sums_from(of, start), 1.0)
        for value, of in values
    ]
    return np.stack(means, axis=1)
