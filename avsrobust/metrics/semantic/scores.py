"""Scores of semantic segmentation: IoU and F per class, their means, and the G scores over them.

Conventions
    The frames of a `ClassStatistics` and of its `ScoredFrames` are the same N, in the same order.
    Per class and frame IoU = intersection / union and F = (1 + beta2) P R / (beta2 P + R), 0 where nothing agrees. A frame
    counts for a class that is predicted or true in it; under `strict` and a negative condition only where it is true: the
    mask shown there is measured by FPR, and a wrong class must not lower (which would improve) IoU- and F-.
    mIoU and F of a condition are means over classes, not over clips. G-mIoU = g_score(mIoU clean, mean of mIoU over the three
    negatives), G-F alike. FPR is the share of pixels given any class but background (class 0, under every protocol).
    Fractions in [0, 1]; undefined is NaN in arrays and None in scores.

Agreement with the released AVSS test
    Its accumulation is a sum over frames and a count of frames per class, so its batch size changes nothing; agreement with
    golden/metrics_semantic.npz is a test. Not reproduced: its 224 x 224 pixels (we score at the masks' own size), and, under
    avsbench_padded, the masks that a model shows on padded frames (see `semantic.protocols`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from avsrobust.errors import MetricInputError
from avsrobust.metrics import ratios
from avsrobust.metrics.binary.frames import ScoredFrames
from avsrobust.metrics.dataset_score import ConditionScore, DatasetScore, assemble, conditions_of
from avsrobust.metrics.rows import Flags, Floats, Ints, Rows
from avsrobust.metrics.semantic.counts import ClassStatistics, background_prediction, perfect_prediction
from avsrobust.metrics.semantic.protocols import SemanticProtocol
from avsrobust.vocabulary import BACKGROUND, NEGATIVES, NUM_CLASSES, counted


@dataclass(frozen=True)
class ClassScores:
    """Scores of every class under one condition (at one level, where it has levels); arrays are [71].

    Attributes:
        condition: Name of the condition.
        level: Its level in dB, or None.
        negative: Whether none of the picture's objects makes the sound.
        iou: IoU of each class, float64; NaN where no frame counts for the class.
        f: F of each class, float64; NaN alike.
        frames: Frames that count for each class, int64.
        share: Share of the pixels that are given each class, float64.
        clips: Clips in which each class is true, int64.
        num_clips: Clips of the condition.
        num_frames: Frames of the condition.
        empty_frames: Frames in which nothing but background is true.
        padded: Frames that the protocol added, for background alone.
    """

    condition: str
    level: float | None
    negative: bool
    iou: Floats
    f: Floats
    frames: Ints
    share: Floats
    clips: Ints
    num_clips: int
    num_frames: int
    empty_frames: int
    padded: int


@dataclass(frozen=True)
class SemanticScores:
    """Scores of one model on one split under a semantic protocol.

    Attributes:
        protocol: The protocol.
        conditions: Scores of every class under each condition: clean, the negatives of G, then the others by name and level.
        clips: Clips scored under any condition.
        clip_has_class: Whether each clip has each class in a target, bool [clips, 71].
        empty_frames: Frames that have nothing but background in the target, each counted once.
        negatives: The negative conditions that G averages over.
    """

    protocol: SemanticProtocol
    conditions: tuple[ClassScores, ...]
    clips: int
    clip_has_class: Flags
    empty_frames: int
    negatives: tuple[str, ...] = NEGATIVES

    @property
    def class_clips(self) -> Ints:
        """Clips that have each class in a target, int64 [71]."""
        return np.asarray(np.count_nonzero(self.clip_has_class, axis=0), dtype=np.int64)

    @property
    def headline(self) -> DatasetScore:
        """The means that tables call mIoU and F (see `SemanticProtocol.headline`)."""
        return self.with_background if self.protocol.headline == "with background" else self.without_background

    @property
    def secondary(self) -> DatasetScore:
        """The other one of `with_background` and `without_background`."""
        return self.without_background if self.protocol.headline == "with background" else self.with_background

    @property
    def with_background(self) -> DatasetScore:
        """Means over all classes."""
        return self._means(range(NUM_CLASSES))

    @property
    def without_background(self) -> DatasetScore:
        """Means over all classes but the one that the protocol takes for background."""
        return self._means(class_id for class_id in range(NUM_CLASSES) if class_id != self.protocol.background)

    def of_class(self, class_id: int) -> DatasetScore:
        """Scores of one class; its FPR is the share of pixels that are given it (None for background)."""
        conditions = tuple(
            _condition_score(
                entry,
                _defined(entry.iou[class_id]),
                _defined(entry.f[class_id]),
                None if class_id == BACKGROUND else float(entry.share[class_id]),
                clips=int(entry.clips[class_id]),
                frames=int(entry.frames[class_id]),
            )
            for entry in self.conditions
        )
        clips = int(self.class_clips[class_id])
        return assemble(self.protocol, conditions, clips, 0, self.empty_frames, self.negatives)

    def occurring_classes(self) -> tuple[int, ...]:
        """Return the classes in a target, or predicted under a positive condition; background included."""
        occurs = self.class_clips > 0
        for entry in self.conditions:
            occurs |= (entry.frames > 0) & (not entry.negative)
        return tuple(int(class_id) for class_id in np.flatnonzero(occurs))

    def means_over(self, classes: Iterable[int]) -> DatasetScore:
        """Means over some classes, for example those of a zero-shot split; `clips` are those with one of them in a target."""
        chosen = list(classes)
        clips = int(np.count_nonzero(self.clip_has_class[:, chosen].any(axis=1)))
        return replace(self._means(chosen), clips=clips)

    def _means(self, classes: Iterable[int]) -> DatasetScore:
        chosen = np.fromiter(classes, dtype=np.int64)
        conditions = tuple(
            _condition_score(
                entry,
                _mean(entry.iou[chosen], self.protocol),
                _mean(entry.f[chosen], self.protocol),
                min(float(np.delete(entry.share, BACKGROUND).sum()), 1.0),
                clips=entry.num_clips,
                frames=entry.num_frames,
            )
            for entry in self.conditions
        )
        return assemble(self.protocol, conditions, self.clips, 0, self.empty_frames, self.negatives)


def semantic_scores(
    classes: ClassStatistics,
    frames: ScoredFrames,
    protocol: SemanticProtocol,
    negatives: Sequence[str] = NEGATIVES,
) -> SemanticScores:
    """Return the semantic scores of a data set.

    Args:
        classes: Pixels per class and frame.
        frames: Clip and condition of the same frames.
        protocol: The protocol.
        negatives: The negative conditions that G averages over.

    Raises:
        MetricInputError: `classes` and `frames` are not of the same frames.
    """
    rows = rows_of(classes, frames)
    row_of_frame = rows.of_frame
    conditions = tuple(
        _class_scores(classes, rows, row_of_frame, chosen, protocol) for _, _, chosen in conditions_of(rows, negatives)
    )
    is_true = (classes.target > 0) & (classes.class_id != BACKGROUND)
    empty = np.ones(len(frames), dtype=np.bool_)
    empty[classes.frame[is_true]] = False
    return SemanticScores(
        protocol,
        conditions,
        clips=len(np.unique(frames.clip)),
        clip_has_class=_clip_has_class(classes, frames.clip.astype(np.int64)),
        empty_frames=_most_per_clip(rows, rows.sum(empty[rows.order])),
        negatives=tuple(negatives),
    )


def rows_of(classes: ClassStatistics, frames: ScoredFrames) -> Rows:
    """Return the rows of `frames`. Raises `MetricInputError` where `classes` are not of as many frames."""
    if classes.num_frames != len(frames):
        raise MetricInputError(
            f"classes: found {counted(classes.num_frames, 'frame')} next to {len(frames)}; expected statistics of the same frames"
        )
    return frames.rows


def semantic_trivial_scores(
    classes: ClassStatistics,
    frames: ScoredFrames,
    protocol: SemanticProtocol,
    negatives: Sequence[str] = NEGATIVES,
) -> SemanticScores:
    """Return the `semantic_scores` of a model that calls every pixel background, on the same targets."""
    return semantic_scores(background_prediction(classes), frames, protocol, negatives)


def semantic_ceiling_scores(
    classes: ClassStatistics,
    frames: ScoredFrames,
    protocol: SemanticProtocol,
    negatives: Sequence[str] = NEGATIVES,
) -> SemanticScores:
    """Return the `semantic_scores` of a perfect model: the true classes under positive conditions, else background."""
    return semantic_scores(perfect_prediction(classes, ~frames.negative), frames, protocol, negatives)


def _class_scores(
    classes: ClassStatistics, rows: Rows, row_of_frame: Ints, chosen: Flags, protocol: SemanticProtocol
) -> ClassScores:
    """Scores under the condition whose rows are `chosen` [R]."""
    first = int(np.flatnonzero(chosen)[0])
    negative = bool(rows.negative[first])
    of_frames = chosen[row_of_frame]
    entries = of_frames[classes.frame]
    only_true = protocol.classes == "present" and negative
    counted = entries & (classes.target > 0) if only_true else entries
    padded = 0
    weight = rows.weight[row_of_frame]
    if protocol.padded_to is not None:
        missing = np.maximum(protocol.padded_to - rows.frames[chosen], 0)
        padded = round(float((missing * rows.weight[chosen]).sum()))
    if protocol.average == "pixels":
        iou, f, frames = _pooled(classes, entries, weight, protocol, only_true=only_true)
    else:
        iou, f, frames = _averaged(classes, counted, weight, protocol, padded)
    is_true = entries & (classes.target > 0) & (classes.class_id != BACKGROUND)
    num_frames = _whole(weight[of_frames])
    level = float(rows.level[first])
    return ClassScores(
        condition=str(rows.condition[first]),
        level=None if np.isnan(level) else level,
        negative=negative,
        iou=iou,
        f=f,
        frames=frames,
        share=_share(classes, rows, row_of_frame, chosen, entries, protocol),
        clips=_clips_per_class(classes, rows.clip[row_of_frame], of_frames),
        num_clips=_whole(rows.weight[chosen]),
        num_frames=num_frames,
        empty_frames=num_frames - _whole(weight[np.unique(classes.frame[is_true])]),
        padded=padded,
    )


def _averaged(
    classes: ClassStatistics, counted: Flags, weight: Floats, protocol: SemanticProtocol, padded: int
) -> tuple[Floats, Floats, Ints]:
    """Mean of IoU and F per class over its frames, and their number; `weight` [N] averages the draws of a clip."""
    class_id, share = classes.class_id[counted], weight[classes.frame[counted]]
    intersection, predicted, target = (
        getattr(classes, name)[counted] for name in ("intersection", "predicted", "target")
    )
    frames = np.bincount(class_id, weights=share, minlength=NUM_CLASSES)
    iou = np.bincount(class_id, weights=share * (intersection / classes.union[counted]), minlength=NUM_CLASSES)
    frame_f = ratios.f_measure(intersection, predicted, target, protocol.beta2)
    f = np.bincount(class_id, weights=share * frame_f, minlength=NUM_CLASSES)
    for sums in (frames, iou, f):
        sums[BACKGROUND] += padded
    return _ratio(iou, frames), _ratio(f, frames), np.rint(frames).astype(np.int64)


def _pooled(
    classes: ClassStatistics, entries: Flags, weight: Floats, protocol: SemanticProtocol, *, only_true: bool
) -> tuple[Floats, Floats, Ints]:
    """Ratio of sums per class, and the number of frames it occurs in; NaN for classes that do not count."""
    class_id, share = classes.class_id[entries], weight[classes.frame[entries]]
    intersection, predicted, target = (
        np.bincount(class_id, weights=share * getattr(classes, name)[entries], minlength=NUM_CLASSES)
        for name in ("intersection", "predicted", "target")
    )
    union = predicted + target - intersection
    absent = target == 0 if only_true else union == 0
    above, below = ratios.f_terms(intersection, predicted, target, protocol.beta2)
    frames = np.bincount(class_id, weights=share, minlength=NUM_CLASSES)
    iou, f = (_ratio(over, np.where(absent, 0, under)) for over, under in ((intersection, union), (above, below)))
    return iou, f, np.rint(frames).astype(np.int64)


def _share(
    classes: ClassStatistics,
    rows: Rows,
    row_of_frame: Ints,
    chosen: Flags,
    entries: Flags,
    protocol: SemanticProtocol,
) -> Floats:
    """Share of the pixels that are given each class, float64 [71]: over clips' frames, or over all pixels."""
    frame, class_id = classes.frame[entries], classes.class_id[entries]
    row = row_of_frame[frame]
    predicted = classes.predicted[entries] * rows.weight[row]
    if protocol.average == "pixels":
        weight = np.full(len(frame), 1.0 / predicted.sum())
    else:
        weight = 1.0 / (classes.pixels[frame] * rows.frames[row] * _whole(rows.weight[chosen]))
    share = np.asarray(np.bincount(class_id, weights=weight * predicted, minlength=NUM_CLASSES), dtype=np.float64)
    # Sums of rounded shares may end above 1.
    return np.minimum(share, 1.0)


def _clips_per_class(classes: ClassStatistics, clip: Ints, of_frames: Flags) -> Ints:
    """In how many clips each class is true, int64 [71]; `clip` [N] is each frame's, `of_frames` [N] those to look at."""
    is_true = (classes.target > 0) & of_frames[classes.frame]
    pairs = np.unique(np.stack([classes.class_id[is_true], clip[classes.frame[is_true]]]), axis=1)
    return np.bincount(pairs[0], minlength=NUM_CLASSES).astype(np.int64)


def _clip_has_class(classes: ClassStatistics, clip: Ints) -> Flags:
    """Whether each clip has each class in a target, bool [clips, 71]; `clip` [N] is each frame's."""
    clips, index = np.unique(clip, return_inverse=True)
    has_class = np.zeros((len(clips), NUM_CLASSES), dtype=np.bool_)
    is_true = classes.target > 0
    has_class[index[classes.frame[is_true]], classes.class_id[is_true]] = True
    return has_class


def _most_per_clip(rows: Rows, counts: Floats) -> int:
    """Sum over clips of the largest count [R] among a clip's rows, which share their targets."""
    clips, index = np.unique(rows.clip, return_inverse=True)
    most = np.zeros(len(clips))
    np.maximum.at(most, index, counts)
    return int(most.sum())


def _whole(weights: Floats) -> int:
    """Number of clips or frames, each with all its draws counted once: a sum of weights that is a whole number."""
    return round(float(weights.sum()))


def _mean(scores: Floats, protocol: SemanticProtocol) -> float | None:
    """The protocol's mean over classes; None where no class counts."""
    defined = scores[~np.isnan(scores)]
    if protocol.classes == "all":
        return float(defined.sum() / len(scores))
    return float(defined.mean()) if len(defined) else None


def _condition_score(
    entry: ClassScores, miou: float | None, f: float | None, fpr: float | None, *, clips: int, frames: int
) -> ConditionScore:
    """Scores under the condition of `entry`."""
    return ConditionScore(
        condition=entry.condition,
        level=entry.level,
        negative=entry.negative,
        miou=miou,
        f=f,
        fpr=fpr,
        clips=clips,
        frames=frames,
        empty_frames=entry.empty_frames,
        skipped=0,
    )


def _defined(value: float) -> float | None:
    """The value; None for NaN."""
    return None if np.isnan(value) else float(value)


def _ratio(above: Floats | Ints, below: Floats | Ints) -> Floats:
    """The ratio; NaN where the denominator is 0."""
    ratio: Floats = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) > 0)
    return ratio
