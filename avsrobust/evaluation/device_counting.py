"""Counting on a GPU: from a checked output of a batch under one condition to the counts of its frames; only counts come back.

Conventions
    The same integers as `evaluation.counting`, of all clips of a group at once. Outputs are resized where they lie, in either way
    of counting. Nothing here waits for the GPU but `GroupCounter.result`: `GroupCounter.seal` starts one copy of all counts.
    F frames are those of the B clips, one after the other; of these the annotated ones are counted, N. Clips of a group agree in
    the number of annotated frames (`ClipSample.shapes`), so that the masks of two of their rows can be compared frame by frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avsrobust.adapters.outputs import ExtraValues
from avsrobust.evaluation.batches import ClipGroup
from avsrobust.evaluation.clip_data import ClipSample
from avsrobust.evaluation.counting import FrameOutput
from avsrobust.evaluation.scored_clips import Ints, RowCounts, is_compared, overlapping
from avsrobust.metrics.binary.counts import STORED_THRESHOLDS, FrameStatistics
from avsrobust.metrics.binary.thresholds import NUM_THRESHOLDS, UPWARD, thresholds
from avsrobust.metrics.semantic.counts import statistics_of_counts
from avsrobust.vocabulary import CLEAN, NEGATIVE, NUM_CLASSES

# Columns of the counts of a frame: histograms inside and outside the target, then (tp, fp) at each stored threshold.
_COUNTS = 2 * NUM_THRESHOLDS + 2 * len(STORED_THRESHOLDS)
# Counted at once: the index of a pixel takes eight bytes.
_MOST_PIXELS = 1 << 24
# Copies of a frame's bins, and the most bins of all copies.
_COPIES, _MOST_BINS = 32, 1 << 15


@dataclass(frozen=True)
class _Row:
    """The counts of one row on the device: columns of `counts`, int64 [N, K]."""

    counts: Tensor
    compared: bool
    others: tuple[int, ...]
    classes: bool
    masks: Tensor | None
    extras: Sequence[ExtraValues]


class GroupCounter:
    """Counts the clips of a group on the device that their outputs are on, condition by condition.

    Args:
        group: The clips.
        device: The device.
        keep_masks: Keep each row's binary masks.
    """

    def __init__(self, group: ClipGroup, device: torch.device, *, keep_masks: bool) -> None:
        self._group = group
        self._sample: ClipSample = group.clips[0].sample
        self._device = device
        self._keep_masks = keep_masks
        self._truths: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._indices: dict[int, Tensor | None] = {}
        self._clean: tuple[int, Tensor] | None = None
        self._negatives: dict[int, Tensor] = {}
        self._rows: dict[int, _Row] = {}
        self._sent: Tensor | None = None
        self._event: torch.cuda.Event | None = None

    def add(self, position: int, output: FrameOutput, extras: Sequence[ExtraValues]) -> None:
        """Count the output of the rows at `position`, [F, ...]; `extras` are further values [T] of each clip."""
        sample, device = self._sample, self._device
        number = sample.target_of[position]
        truth, true_classes = self._truth(number)
        placed = FrameOutput(
            output.values.to(device), output.classes, None if output.mask is None else output.mask.to(device)
        )
        probability, masks, ids = placed.read_out(*sample.of_row(position).target.shape[-2:])
        annotated = self._taken(masks, number)
        counts = [device_counts(self._taken(probability, number), truth, None if output.mask is None else annotated)]
        compared = self._clean is not None and is_compared(sample, position, self._clean[0])
        if compared and self._clean is not None:
            counts.append(_overlap(annotated, self._taken(self._clean[1], number)))
        row = sample.rows[position]
        if row.condition == CLEAN:
            self._clean = position, masks
        others: tuple[int, ...] = ()
        if row.polarity == NEGATIVE:
            others = tuple(overlapping(sample, position, list(self._negatives)))
            counts += [_sizes(annotated & self._negatives[other])[:, None] for other in others]
            self._negatives[position] = annotated
        has_classes = ids is not None and true_classes is not None
        if ids is not None and true_classes is not None:
            counts.append(count_classes(self._taken(ids, number), true_classes).flatten(1))
        kept = _to_host(masks) if self._keep_masks else None
        self._rows[position] = _Row(torch.cat(counts, dim=1), compared, others, has_classes, kept, extras)

    def seal(self) -> None:
        """Start the copy of all counts; nothing is added after it."""
        counts = [row.counts.flatten() for row in self._rows.values()]
        self._sent = _to_host(torch.cat(counts)) if counts else torch.zeros(0, dtype=torch.int64)
        self._truths.clear()
        self._negatives.clear()
        self._clean = None
        if self._device.type == "cuda":
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(self._device))

    def result(self) -> list[dict[int, RowCounts]]:
        """Return the counts of each clip's rows by position, once they have arrived; called after `seal`, in any thread."""
        if self._event is not None:
            self._event.synchronize()
        if self._sent is None:
            raise RuntimeError("result: the counts were not sealed")
        found: list[dict[int, RowCounts]] = [{} for _ in self._group.clips]
        counts, start = self._sent.numpy(), 0
        for position, row in self._rows.items():
            stop = start + row.counts.numel()
            of_row = counts[start:stop].reshape(row.counts.shape)
            start, frame = stop, 0
            masks = None if row.masks is None else row.masks.numpy().reshape(len(found), -1, *row.masks.shape[1:])
            for number, clip in enumerate(self._group.clips):
                target = clip.sample.of_row(position)
                frames = int(target.has_mask.sum())
                found[number][position] = _row_counts(
                    row,
                    of_row[frame : frame + frames],
                    target.target[0].numel(),
                    None if masks is None else masks[number],
                    row.extras[number] if row.extras else {},
                )
                frame += frames
        return found

    def _truth(self, number: int) -> tuple[Tensor, Tensor | None]:
        """Return the annotated frames of the group's masks of this number, bool [N, h, w], and of its class ids."""
        if number not in self._truths:
            targets = [clip.sample.targets[number] for clip in self._group.clips]
            has_mask = torch.cat([target.has_mask for target in targets])
            index = None if has_mask.all() else has_mask.nonzero()[:, 0].to(self._device)
            self._indices[number] = index
            held = (
                self._group.targets[number] if self._group.targets else torch.stack([each.target for each in targets])
            )
            classes = [target.classes for target in targets if target.classes is not None]
            self._truths[number] = (
                self._taken(held.to(self._device, non_blocking=self._device.type == "cuda").flatten(0, 1), number),
                self._taken(torch.cat(classes).to(self._device), number) if classes else None,
            )
        return self._truths[number]

    def _taken(self, frames: Tensor, number: int) -> Tensor:
        index = self._indices[number]
        return frames if index is None else frames.index_select(0, index)


def device_counts(probability: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the counts of N frames that `metrics.binary.counts.frame_statistics` returns, int64 [N, 514].

    Args:
        probability: Probabilities in [0, 1], float32 [N, H, W].
        target: bool [N, H, W].
        mask: A mask that is counted at every stored threshold instead of the probabilities, bool [N, H, W].

    Returns:
        Histograms inside and outside the target (255 each), then true and false positives at 0.5 and at 0.4.
    """
    if probability.numel() > _MOST_PIXELS and len(probability) > 1:
        step = max(1, _MOST_PIXELS // probability[0].numel())
        slices = [slice(start, start + step) for start in range(0, len(probability), step)]
        return torch.cat(
            [device_counts(probability[at], target[at], None if mask is None else mask[at]) for at in slices]
        )
    table = _thresholds(probability.device)
    # As in `metrics.binary.thresholds.bin_index`: the product errs upwards only, by less than a bin.
    index = (probability * float(np.float32((NUM_THRESHOLDS - 1) * UPWARD))).to(torch.int64)
    index -= (probability < table[index]).to(torch.int64)
    index += torch.where(target, 0, NUM_THRESHOLDS)
    histograms = _histograms(index.flatten(1), 2 * NUM_THRESHOLDS)
    marked = [probability > float(np.float32(threshold)) if mask is None else mask for threshold in STORED_THRESHOLDS]
    stored = [_sizes(each & side) for each in marked for side in (target, ~target)]
    return torch.cat([histograms, torch.stack(stored, dim=1)], dim=1)


def count_classes(ids: Tensor, truth: Tensor) -> Tensor:
    """Return intersection, predicted and true pixels of each class of N frames, int64 [N, 3, 71]; ids [N, H, W]."""
    pairs = _histograms((truth.to(torch.int64) * NUM_CLASSES + ids).flatten(1), NUM_CLASSES**2)
    pairs = pairs.reshape(-1, NUM_CLASSES, NUM_CLASSES)
    return torch.stack([pairs.diagonal(dim1=1, dim2=2), pairs.sum(dim=1), pairs.sum(dim=2)], dim=1)


def _histograms(bins: Tensor, num: int) -> Tensor:
    """Return how often each of `num` values occurs in the rows of `bins`, int64 [N, P] -> int64 [N, num]."""
    # int32 atomics; torch.bincount would wait for the GPU. Most pixels of a frame fall into one bin, and would queue up for it:
    # each of several copies counts every so many pixels.
    copies = max(1, min(_COPIES, _MOST_BINS // num))
    lane = torch.arange(bins.shape[1], device=bins.device) % copies * num
    counts = torch.zeros((len(bins), copies * num), dtype=torch.int32, device=bins.device)
    one = torch.ones((), dtype=torch.int32, device=bins.device).expand_as(bins)
    counts.scatter_add_(1, bins + lane, one)
    return counts.view(len(bins), copies, num).sum(dim=1, dtype=torch.int64)


def _sizes(masks: Tensor) -> Tensor:
    return masks.flatten(1).sum(dim=1, dtype=torch.int64)


def _overlap(masks: Tensor, others: Tensor) -> Tensor:
    return torch.stack([_sizes(masks & others), _sizes(masks | others)], dim=1)


@lru_cache(maxsize=16)
def _thresholds(device: torch.device) -> Tensor:
    return torch.tensor(thresholds(NUM_THRESHOLDS), device=device)


def _to_host(values: Tensor) -> Tensor:
    """Return a copy of values on the CPU, which arrives later where they are on a GPU."""
    if values.device.type != "cuda":
        return values.cpu()
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)


def _row_counts(
    row: _Row, counts: Ints, pixels: int, masks: npt.NDArray[np.bool_] | None, extras: Mapping[str, Any]
) -> RowCounts:
    """Return the counts of one clip under a row from their columns, int64 [n, K]."""
    inside, outside = counts[:, :NUM_THRESHOLDS], counts[:, NUM_THRESHOLDS : 2 * NUM_THRESHOLDS]
    tp_050, fp_050, tp_040, fp_040 = counts[:, 2 * NUM_THRESHOLDS : _COUNTS].T
    statistics = FrameStatistics(
        np.full(len(counts), pixels, dtype=np.int64),
        inside.sum(axis=1),
        tp_050,
        fp_050,
        tp_040,
        fp_040,
        inside,
        outside,
    )
    column = _COUNTS
    clean = None
    if row.compared:
        clean = counts[:, column], counts[:, column + 1]
        column += 2
    overlaps = {other: counts[:, column + number] for number, other in enumerate(row.others)}
    column += len(row.others)
    classes = None
    if row.classes:
        classes = statistics_of_counts(counts[:, column:].reshape(len(counts), -1, NUM_CLASSES))
    return RowCounts(statistics, clean, overlaps, classes, masks, extras)
