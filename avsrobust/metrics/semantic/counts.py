"""Sufficient statistics of semantic segmentation: pixels per class and frame, only for classes that occur.

Conventions
    `pred` and `target` are class ids, integers [N, H, W], 0..70 (`NUM_CLASSES`); class 0 is background, the ids those of
    AVSBench-semantic's masks. All counts are pixels.
    K entries, one per (frame, class) that occurs in prediction or target, sorted by frame and class. The targets of a frame's
    classes add up to its pixels, and so do its predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from avsrobust.errors import MetricInputError
from avsrobust.metrics.rows import Flags, Ints
from avsrobust.vocabulary import BACKGROUND, NUM_CLASSES

COUNTS = ("intersection", "predicted", "target")
ClassIds = npt.NDArray[np.integer]


@dataclass(frozen=True)
class ClassStatistics:
    """Counts of N frames; every array is int64 [K].

    Attributes:
        num_frames: N.
        frame: Frame of each entry, 0..N-1.
        class_id: Class of each entry, 0..70.
        intersection: Pixels of the class in both prediction and target.
        predicted: Pixels of the class in the prediction.
        target: Pixels of the class in the target.

    Raises:
        MetricInputError: The arrays do not fit together.
    """

    num_frames: int
    frame: Ints
    class_id: Ints
    intersection: Ints
    predicted: Ints
    target: Ints

    def __post_init__(self) -> None:
        for name in ("class_id", *COUNTS):
            if getattr(self, name).shape != self.frame.shape:
                raise MetricInputError(
                    f"{name}: found shape {getattr(self, name).shape}; expected {self.frame.shape}, one entry per "
                    "frame and class"
                )
        for name, limit in (("frame", self.num_frames), ("class_id", NUM_CLASSES)):
            values = getattr(self, name)
            if len(values) and not (values.min() >= 0 and values.max() < limit):
                raise MetricInputError(f"{name}: found {values.min()}..{values.max()}; expected 0..{limit - 1}")

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def pixels(self) -> Ints:
        """Pixels of each frame, int64 [N]."""
        return self.per_frame(self.target)

    @property
    def union(self) -> Ints:
        """Pixels in prediction or target, int64 [K]."""
        return self.predicted + self.target - self.intersection

    def per_frame(self, values: Ints) -> Ints:
        """Sum `values` [K] over the entries of each frame, int64 [N]."""
        sums = np.zeros(self.num_frames, dtype=np.int64)
        np.add.at(sums, self.frame, values)
        return sums

    def of_class(self, name: str, class_id: int) -> Ints:
        """Return one of `COUNTS` of one class in every frame, int64 [N]; 0 where the class does not occur."""
        chosen = self.class_id == class_id
        counts = np.zeros(self.num_frames, dtype=np.int64)
        counts[self.frame[chosen]] = getattr(self, name)[chosen]
        return counts


def class_statistics(pred: ClassIds, target: ClassIds) -> ClassStatistics:
    """Return the statistics of N frames.

    Args:
        pred: Predicted class ids, integers 0..70 [N, H, W].
        target: True class ids, integers 0..70 [N, H, W].

    Raises:
        MetricInputError: One of the two is anything else, or their shapes differ.

    >>> import numpy as np
    >>> statistics = class_statistics(np.array([[[0, 3], [3, 3]]]), np.array([[[0, 0], [3, 3]]]))
    >>> statistics.class_id, statistics.intersection, statistics.union
    (array([0, 3]), array([1, 2]), array([2, 3]))
    """
    prediction, truth = _checked(pred, target)
    counts = [_counts(*pair) for pair in zip(prediction, truth, strict=True)]
    return statistics_of_counts(np.stack(counts) if counts else np.zeros((0, len(COUNTS), NUM_CLASSES), dtype=np.int64))


def statistics_of_counts(dense: Ints) -> ClassStatistics:
    """Return the statistics of N frames from the counts of all classes, int64 [N, 3, 71], in the order of `COUNTS`."""
    frame, class_id = np.nonzero(dense[:, 1:].any(axis=1))
    return ClassStatistics(
        len(dense),
        frame.astype(np.int64),
        class_id.astype(np.int64),
        *(dense[frame, position, class_id] for position in range(len(COUNTS))),
    )


def concatenate_classes(parts: Sequence[ClassStatistics]) -> ClassStatistics:
    """Return the statistics of all parts' frames, in order."""
    offsets = np.cumsum([0, *(part.num_frames for part in parts)])
    none = np.zeros(0, dtype=np.int64)
    columns = {name: np.concatenate([none, *(getattr(part, name) for part in parts)]) for name in ("class_id", *COUNTS)}
    frame = np.concatenate([none, *(part.frame + offset for part, offset in zip(parts, offsets, strict=False))])
    return ClassStatistics(int(offsets[-1]), frame, **columns)


def take_classes(statistics: ClassStatistics, index: npt.NDArray[np.integer] | Flags) -> ClassStatistics:
    """Return the statistics of some frames; `index` is distinct integers, in the order of the result, or bool [N]."""
    chosen = np.arange(statistics.num_frames)[index]
    place = np.full(statistics.num_frames, -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    frame = place[statistics.frame]
    kept = np.flatnonzero(frame >= 0)
    order = kept[np.argsort(frame[kept], kind="stable")]
    columns = {name: getattr(statistics, name)[order] for name in ("class_id", *COUNTS)}
    return ClassStatistics(len(chosen), frame[order], **columns)


def background_prediction(statistics: ClassStatistics) -> ClassStatistics:
    """Return the statistics of a model that calls every pixel background, on the same targets."""
    background = statistics.of_class("target", BACKGROUND)
    seen = np.flatnonzero((statistics.class_id != BACKGROUND) & (statistics.target > 0))
    none = np.zeros(len(seen), dtype=np.int64)
    columns = {
        "frame": np.concatenate([np.arange(statistics.num_frames), statistics.frame[seen]]),
        "class_id": np.concatenate([np.full(statistics.num_frames, BACKGROUND), statistics.class_id[seen]]),
        "intersection": np.concatenate([background, none]),
        "predicted": np.concatenate([statistics.pixels, none]),
        "target": np.concatenate([background, statistics.target[seen]]),
    }
    order = np.lexsort((columns["class_id"], columns["frame"]))
    return ClassStatistics(statistics.num_frames, **{name: values[order] for name, values in columns.items()})


def perfect_prediction(statistics: ClassStatistics, shown: Flags) -> ClassStatistics:
    """Return the statistics of a model that shows the true classes of the frames `shown`, bool [N], and else background."""
    is_true = statistics.target > 0
    true = ClassStatistics(
        statistics.num_frames,
        statistics.frame[is_true],
        statistics.class_id[is_true],
        *[statistics.target[is_true]] * 3,
    )
    background = background_prediction(statistics)
    kept = [(true, shown[true.frame]), (background, ~shown[background.frame])]
    columns = {
        name: np.concatenate([getattr(part, name)[of] for part, of in kept]) for name in ("frame", "class_id", *COUNTS)
    }
    order = np.lexsort((columns["class_id"], columns["frame"]))
    return ClassStatistics(statistics.num_frames, **{name: values[order] for name, values in columns.items()})


def _counts(prediction: Ints, truth: Ints) -> Ints:
    """Counts of one frame, int64 [3, 71], in the order of `COUNTS`."""
    agreed = prediction[prediction == truth]
    return np.stack([np.bincount(ids.ravel(), minlength=NUM_CLASSES) for ids in (agreed, prediction, truth)])


def _checked(pred: ClassIds, target: ClassIds) -> tuple[Ints, Ints]:
    for name, array in (("pred", pred), ("target", target)):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
            found = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise MetricInputError(
                f"{name}: found {found}; expected class ids, a numpy array of integers [N, H, W]; of logits "
                "[N, C, H, W] these are 'logits.argmax(axis=1)'"
            )
        if array.ndim != 3 or 0 in array.shape[1:]:
            raise MetricInputError(f"{name}: found shape {array.shape}; expected [N, H, W]")
        if array.size and not (array.min() >= 0 and array.max() < NUM_CLASSES):
            raise MetricInputError(
                f"{name}: found ids {array.min()}..{array.max()}; expected 0..{NUM_CLASSES - 1}; is this a mask of 0 and "
                "255? that one is binary"
            )
    if pred.shape != target.shape:
        raise MetricInputError(f"target: found shape {target.shape} next to pred {pred.shape}; expected the same shape")
    return pred.astype(np.int64), target.astype(np.int64)
