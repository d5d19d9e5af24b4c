"""Counting on the CPU: from a checked output of one clip under one condition to the counts of its frames.

Conventions
    Masks are counted at the size of the clip's mask files. The probability decides, above `MASK_THRESHOLD`, or the mask that the
    adapter returned apart (`adapters.base.Segmentation`): then the counts at every stored threshold are that mask's, and the
    histograms those of the probabilities.
    `evaluation.device_counting` counts the same on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avsrobust.adapters.checked_output import CheckedOutput
from avsrobust.adapters.outputs import ExtraValues, same_bytes
from avsrobust.adapters.resizing import resize_classes, resize_mask, resize_probability
from avsrobust.evaluation.clip_data import ClipSample, Target
from avsrobust.evaluation.scored_clips import Ints, RowCounts, is_compared, overlapping
from avsrobust.metrics.binary.counts import FrameStatistics, count_frames
from avsrobust.metrics.semantic.counts import ClassStatistics, class_statistics
from avsrobust.vocabulary import BACKGROUND, CLEAN, NEGATIVE

MASK_THRESHOLD = 0.5
_Value = TypeVar("_Value", bound=np.generic)
# Bits that are set in each byte.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


@dataclass(frozen=True)
class FrameOutput:
    """Checked output of F frames under one condition.

    Attributes:
        values: Probabilities or class ids [F, h, w], or class logits [F, C, h, w].
        classes: Whether these are classes.
        mask: A mask apart from them, bool or class ids [F, h, w], or None.
    """

    values: Tensor
    classes: bool
    mask: Tensor | None

    @classmethod
    def of_clip(cls, output: CheckedOutput, clip: int, *, as_foreground: bool) -> FrameOutput:
        """Return the output of the clip at position `clip` of a batch."""
        mask = None if output.mask is None else output.mask[clip]
        return cls._of(output.masks[clip], output.is_classes, mask, as_foreground)

    @classmethod
    def of_batch(cls, output: CheckedOutput, *, as_foreground: bool) -> FrameOutput:
        """Return the output of all clips of a batch, one after the other."""
        mask = None if output.mask is None else output.mask.flatten(0, 1)
        return cls._of(output.masks.flatten(0, 1), output.is_classes, mask, as_foreground)

    @classmethod
    def _of(cls, values: Tensor, classes: bool, mask: Tensor | None, as_foreground: bool) -> FrameOutput:
        if as_foreground and values.ndim == 4:
            values, classes = (values.argmax(dim=1) != BACKGROUND).to(torch.float32), False
            mask = None if mask is None else mask != BACKGROUND
        return cls(values, classes, mask)

    def read_out(self, height: int, width: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return probability, foreground (bool) and class ids (None without classes), each [F, height, width]."""
        mask = None if self.mask is None else resize_mask(self.mask, height, width)
        if not self.classes:
            probability = resize_probability(self.values, height, width)
            return probability, _above_threshold(probability) if mask is None else mask, None
        ids, probability = resize_classes(self.values, height, width)
        if mask is None:
            return probability, _above_threshold(probability), ids
        return probability, mask != BACKGROUND, mask


def _above_threshold(probability: Tensor) -> Tensor:
    if probability.device.type != "cpu":
        return probability > MASK_THRESHOLD
    # Six times as fast as torch on a single core.
    return torch.from_numpy(np.asarray(probability.numpy() > np.float32(MASK_THRESHOLD)))


class ClipCounter:
    """Counts one clip, condition by condition.

    Args:
        sample: The clip.
        keep_masks: Keep each row's binary masks.
    """

    def __init__(self, sample: ClipSample, *, keep_masks: bool) -> None:
        self._sample = sample
        self._keep_masks = keep_masks
        self._clean: tuple[int, npt.NDArray[np.bool_]] | None = None
        self._last: _Counted | None = None
        # Of each negative row, a bit per pixel: those of all are kept until the clip is finished.
        self._negatives: dict[int, npt.NDArray[np.uint8]] = {}
        self.rows: dict[int, RowCounts] = {}

    def add(self, position: int, output: FrameOutput, extras: ExtraValues) -> None:
        """Count the output of the row at `position`, and keep further values [T]."""
        sample = self._sample
        has_mask = sample.of_row(position).has_mask.numpy()
        counted = self._last
        if counted is None or not counted.is_of(sample.target_of[position], output):
            counted = self._last = _Counted.of(sample.target_of[position], sample.of_row(position), output)
        annotated = _taken(counted.masks, has_mask)
        clean = None
        if self._clean is not None and is_compared(sample, position, self._clean[0]):
            same = counted.masks is self._clean[1]
            clean = _overlap(annotated, annotated if same else _taken(self._clean[1], has_mask))
        if sample.rows[position].condition == CLEAN:
            self._clean = position, counted.masks
        overlaps: dict[int, Ints] = {}
        if sample.rows[position].polarity == NEGATIVE:
            packed = counted.packed(annotated)
            for other in overlapping(sample, position, list(self._negatives)):
                bits = self._negatives[other]
                overlaps[other] = counted.ones(annotated) if bits is packed else _common_bits(packed, bits)
            self._negatives[position] = packed
        kept = counted.masks if self._keep_masks else None
        self.rows[position] = RowCounts(counted.statistics, clean, overlaps, counted.classes, kept, extras)


@dataclass
class _Counted:
    """The counts of one row's output, kept for the next row: a model that ignores the audio mostly gives that the same output.

    Attributes:
        target: Position of the row's masks in the clip.
        output: The output.
        masks: Its masks, bool [T, h, w].
        statistics: Counts of its annotated frames.
        classes: Counts per class of these, or None.
    """

    target: int
    output: FrameOutput
    masks: npt.NDArray[np.bool_]
    statistics: FrameStatistics
    classes: ClassStatistics | None
    _packed: npt.NDArray[np.uint8] | None = None
    _ones: Ints | None = None

    @classmethod
    def of(cls, number: int, target: Target, output: FrameOutput) -> _Counted:
        """Count an output; `number` is the position of `target` in its clip."""
        has_mask = target.has_mask.numpy()
        probability, foreground, ids = output.read_out(*target.target.shape[-2:])
        masks = foreground.cpu().numpy()
        truth = _taken(target.target.numpy(), has_mask)
        statistics = count_frames(np.ascontiguousarray(_taken(probability.cpu().numpy(), has_mask)), truth)
        if output.mask is not None:
            statistics = _counted_by(_taken(masks, has_mask), truth, statistics)
        classes = None
        if ids is not None and target.classes is not None:
            classes = class_statistics(_taken(ids.cpu().numpy(), has_mask), _taken(target.classes.numpy(), has_mask))
        return cls(number, output, masks, statistics, classes)

    def is_of(self, target: int, output: FrameOutput) -> bool:
        """Return whether an output has the same bytes, and its row the same target: then so are all counts."""
        if target != self.target or output.classes != self.output.classes:
            return False
        return same_bytes(output.values, self.output.values) and same_bytes(output.mask, self.output.mask)

    def packed(self, annotated: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        """Return the masks of the annotated frames as a bit per pixel."""
        if self._packed is None:
            self._packed = np.packbits(annotated.reshape(len(annotated), -1), axis=1)
        return self._packed

    def ones(self, annotated: npt.NDArray[np.bool_]) -> Ints:
        """Return how many pixels the masks of the annotated frames have, int64 [N]."""
        if self._ones is None:
            packed = self.packed(annotated)
            self._ones = _common_bits(packed, packed)
        return self._ones


def _common_bits(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> Ints:
    """Return how many bits two arrays [N, bytes] have in common, int64 [N]."""
    counts: Ints = _BITS[one & other].sum(axis=1, dtype=np.int64)
    return counts


def _taken(frames: npt.NDArray[_Value], has_mask: npt.NDArray[np.bool_]) -> npt.NDArray[_Value]:
    """Return the annotated ones of T frames, all of them without a copy."""
    return frames if has_mask.all() else frames[has_mask]


def _overlap(masks: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Return intersection and union of N pairs of masks [N, h, w]."""
    if masks is others:
        size = np.count_nonzero(masks, axis=(1, 2)).astype(np.int64)
        return size, size
    sizes = [(np.count_nonzero(a & b), np.count_nonzero(a | b)) for a, b in zip(masks, others, strict=True)]
    both = np.array(sizes, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _counted_by(
    masks: npt.NDArray[np.bool_], target: npt.NDArray[np.bool_], statistics: FrameStatistics
) -> FrameStatistics:
    """Return statistics of N frames with the counts of masks [N, H, W] in place of those at the stored thresholds."""
    true, false = ((masks & side).sum(axis=(1, 2), dtype=np.int64) for side in (target, ~target))
    return replace(statistics, tp_050=true, fp_050=false, tp_040=true, fp_040=false)
