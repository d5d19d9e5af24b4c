"""Scoring: from loaded clips, through the adapter, to the statistics of every frame; the loop of evaluation and of validation.

Conventions
    Clips of one shape form a batch: `encode_frames` is called once per batch and picture, `segment` once per row, clean first.
    Masks are scored at the size of the clip's mask files. Classes are scored where the clip has class ids; the foreground,
    any class but background, is scored everywhere. A mask is the pixels with a probability above `MASK_THRESHOLD`, or the one
    that the adapter returned apart (`adapters.base.Segmentation`): then the counts at every stored threshold are that
    mask's, and the histograms those of the probabilities. Each readout is scored as an output of its own.
    `score_clips` is the only loop over clips; its results do not depend on the batches in which the clips come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from avsrobust.adapters.base import ClipView, NativeSound, RowView
from avsrobust.adapters.calling import AdapterCaller, Audio, CheckedOutput, message_of
from avsrobust.adapters.outputs import ExtraValues, resize_classes, resize_mask, resize_probability
from avsrobust.errors import AdapterError, AvsRobustError, ClipError, DataSetError
from avsrobust.evaluation.batches import Batch, LoadedClip, of_one_shape, read_ahead
from avsrobust.evaluation.clip_data import ClipSample, Target
from avsrobust.evaluation.extras import extras_entries
from avsrobust.manifest import Row
from avsrobust.mask_overlaps import FrameOverlaps, other_name
from avsrobust.metrics.binary.counts import FrameStatistics, concatenate, frame_statistics
from avsrobust.metrics.semantic.counts import ClassStatistics, class_statistics, concatenate_classes
from avsrobust.results import FailedClip
from avsrobust.row_keys import RowKey, key_of
from avsrobust.stored_masks import masks_table
from avsrobust.vocabulary import BACKGROUND, CLEAN, NEGATIVE, NUM_CLASSES

MASK_THRESHOLD = 0.5
# Conditions of one picture that an adapter is asked for at once.
_MOST_TOGETHER = 8
# Called with the position of a row in its clip, and the output of the batch under that row's condition.
OutputCallback = Callable[[int, CheckedOutput], None]


@dataclass(frozen=True)
class ScoredClip:
    """Statistics of one clip's frames under all its conditions.

    Attributes:
        split: Split of the clip.
        clip_id: Id of the clip.
        index: Entry i holds the index columns (`avsrobust.results`) of frame i of `statistics` and of `classes`.
        statistics: Counts of foreground pixels per frame.
        masks: The stored masks of each row, where they are kept.
        extras: The rows of ``extras.parquet`` (`avsrobust.evaluation.extras`).
        classes: Counts of pixels per frame and class, where both adapter and clip have classes.
        overlaps: Overlaps of the frame's mask with those under other negatives (`avsrobust.mask_overlaps`), of each of `index`.
        readouts: The same of the adapter's further readouts, by name, without masks and further values.
    """

    split: str
    clip_id: str
    index: tuple[dict[str, Any], ...]
    statistics: FrameStatistics
    masks: tuple[pa.Table, ...]
    extras: tuple[dict[str, Any], ...] = ()
    classes: ClassStatistics | None = None
    overlaps: tuple[FrameOverlaps, ...] = ()
    readouts: Mapping[str, ScoredClip] = field(default_factory=dict)


def score_clips(
    caller: AdapterCaller,
    batches: Iterable[Batch],
    load: Callable[[Batch], list[LoadedClip | FailedClip]],
    *,
    keep_masks: bool = False,
    as_foreground: bool = False,
    keep_going: bool = True,
    any_scored: bool = False,
) -> Iterator[ScoredClip | FailedClip]:
    """Load and score clips batch by batch, reading the next batches meanwhile; yield each clip as it is finished.

    Clips that fail in a batch are scored one by one, so that a bad clip takes no other with it.

    Args:
        caller: Caller of the adapter.
        batches: Clips that are loaded and, as far as their shapes agree, scored together.
        load: Reads a batch; called in threads.
        keep_masks: Keep each row's binary masks.
        as_foreground: Score class logits by their largest class alone: 1 where it is not background, resized as a probability.
        keep_going: Yield a clip that fails as a `FailedClip`; otherwise its error is raised.
        any_scored: A clip was scored before. Until one is, an error that is no `ClipError` is raised: it would recur on all.

    Raises:
        AdapterError: The adapter fails, and a failure is not to be listed.
        DataSetError: A clip cannot be read, without `keep_going`.
    """
    for loaded in read_ahead(batches, load):
        for clip in loaded:
            if isinstance(clip, FailedClip):
                if not keep_going:
                    raise DataSetError(f"{clip.split}/{clip.clip_id}: {clip.error}")
                yield clip
        for together in of_one_shape([clip for clip in loaded if isinstance(clip, LoadedClip)]):
            score = partial(_score_together, caller, keep_masks=keep_masks, as_foreground=as_foreground)
            outcomes = _score_apart(score, together, any_scored) if keep_going else score(together)
            for outcome in outcomes:
                any_scored |= isinstance(outcome, ScoredClip)
                yield outcome


def segment_batch(
    caller: AdapterCaller,
    batch: Sequence[LoadedClip],
    positions: Iterable[int],
    take: OutputCallback,
    *,
    compare_contents: bool = False,
    as_foreground: bool = False,
) -> None:
    """Encode clips of one shape and segment them under some of their conditions, several at once where the adapter can.

    Args:
        caller: Caller of the adapter.
        batch: Clips of one shape and the same conditions.
        positions: Positions of the rows in each clip, in the order of the calls.
        take: Takes each output.
        compare_contents: Also find changes of the encoding that tensors do not count.
        as_foreground: Any number of classes will do.

    Raises:
        AdapterError: The adapter fails, or its output is malformed.
    """
    num_classes = None if as_foreground or batch[0].sample.classes is None else NUM_CLASSES
    picture_of = batch[0].sample.picture_of
    # Rows with the same frames one after the other: every picture is encoded once.
    ordered = sorted(positions, key=lambda position: picture_of[position])
    for picture, group in groupby(ordered, key=lambda position: picture_of[position]):
        frames = torch.stack([clip.sample.pictures[picture] for clip in batch])
        positions_of = list(group)
        views = partial(_clip_views, batch, positions_of[0], caller, of_picture=True)
        with caller.encoded(frames, views, compare_contents=compare_contents) as encoded:
            for start in range(0, len(positions_of), _MOST_TOGETHER):
                together = positions_of[start : start + _MOST_TOGETHER]
                audio = [_together([clip.sounds[position] for clip in batch]) for position in together]
                targets = [partial(_views, batch, position) for position in together]
                clips = [partial(_clip_views, batch, position, caller) for position in together]
                outputs = encoded.segment_many(audio, targets, clips, num_classes=num_classes)
                for position, output in zip(together, outputs, strict=True):
                    take(position, output)


def _together(sounds: Sequence[Tensor | NativeSound]) -> Audio:
    """Return the audio of several clips: one tensor, or the list of native sounds."""
    tensors = [sound for sound in sounds if isinstance(sound, Tensor)]
    return torch.stack(tensors) if tensors else [sound for sound in sounds if isinstance(sound, NativeSound)]


def _clip_views(
    batch: Sequence[LoadedClip], position: int, caller: AdapterCaller, *, of_picture: bool = False
) -> list[ClipView]:
    views = []
    for clip in batch:
        if clip.viewer is None:
            raise AdapterError(f"{caller.name}: needs views of the clips (needs_clips), which nothing here can make")
        row = clip.sample.rows[position]
        views.append(clip.viewer.of_picture(row) if of_picture else clip.viewer.of_row(row))
    return views


def _views(batch: Sequence[LoadedClip], position: int) -> list[RowView]:
    return [clip.sample.view(position) for clip in batch]


def _score_together(
    caller: AdapterCaller, batch: Sequence[LoadedClip], *, keep_masks: bool, as_foreground: bool
) -> list[ScoredClip]:
    """Score clips of one shape and the same conditions. Raises `AdapterError`."""
    collectors = [_Collector(clip.sample, keep_masks) for clip in batch]
    readouts: list[dict[str, _Collector]] = [{} for _ in batch]

    def take(position: int, output: CheckedOutput) -> None:
        for clip, collector in enumerate(collectors):
            extras = {name: values[clip] for name, values in output.extras.items()}
            collector.add(position, _ClipOutput.of(output, clip, as_foreground=as_foreground), extras)
            for name, readout in output.readouts.items():
                further = readouts[clip].setdefault(name, _Collector(batch[clip].sample, keep_masks=False))
                further.add(position, _ClipOutput.of(readout, clip, as_foreground=as_foreground), {})

    segment_batch(caller, batch, range(len(batch[0].sample.rows)), take, as_foreground=as_foreground)
    return [
        replace(collector.result(), readouts={name: further.result() for name, further in of_clip.items()})
        for collector, of_clip in zip(collectors, readouts, strict=True)
    ]


def _score_apart(
    score: Callable[[Sequence[LoadedClip]], list[ScoredClip]], clips: Sequence[LoadedClip], any_scored: bool
) -> Iterator[ScoredClip | FailedClip]:
    """Yield the outcome of each clip, scored together or, where that fails, one by one."""
    try:
        scored = score(clips)
    except AvsRobustError as error:
        if len(clips) == 1:
            if not any_scored and not isinstance(error, ClipError):
                raise
            row = clips[0].sample.rows[0]
            yield FailedClip(row.split, row.clip_id, message_of(error))
            return
    else:
        yield from scored
        return
    for clip in clips:
        for outcome in _score_apart(score, [clip], any_scored):
            any_scored |= isinstance(outcome, ScoredClip)
            yield outcome


@dataclass(frozen=True)
class _ClipOutput:
    """Checked output of one clip under one condition.

    Attributes:
        values: Probabilities or class ids [T, h, w], or class logits [T, C, h, w].
        classes: Whether these are classes.
        mask: A mask apart from them, bool or class ids [T, h, w], or None.
    """

    values: Tensor
    classes: bool
    mask: Tensor | None

    @classmethod
    def of(cls, output: CheckedOutput, clip: int, *, as_foreground: bool) -> _ClipOutput:
        """Return the output of the clip at position `clip` of a batch."""
        values, classes = output.masks[clip], output.is_classes
        mask = None if output.mask is None else output.mask[clip]
        if as_foreground and values.ndim == 4:
            values, classes = (values.argmax(dim=1) != BACKGROUND).to(torch.float32), False
            mask = None if mask is None else mask != BACKGROUND
        return cls(values, classes, mask)

    def read_out(self, height: int, width: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return probability, foreground (bool) and class ids (None without classes), each [T, height, width]."""
        mask = None if self.mask is None else resize_mask(self.mask, height, width)
        if not self.classes:
            probability = resize_probability(self.values, height, width)
            return probability, probability > MASK_THRESHOLD if mask is None else mask, None
        ids, probability = resize_classes(self.values, height, width)
        if mask is None:
            return probability, probability > MASK_THRESHOLD, ids
        return probability, mask != BACKGROUND, mask


class _Collector:
    """Gathers one clip's statistics, condition by condition."""

    def __init__(self, sample: ClipSample, keep_masks: bool) -> None:
        self._sample = sample
        self._keep_masks = keep_masks
        self._clean: npt.NDArray[np.bool_] | None = None
        self._clean_picture = -1
        self._index: list[dict[str, Any]] = []
        self._statistics: list[FrameStatistics] = []
        self._masks: list[pa.Table] = []
        self._extras: list[dict[str, Any]] = []
        self._classes: list[ClassStatistics] = []
        self._negatives: list[_NegativeMasks] = []

    def add(self, position: int, output: _ClipOutput, extras: ExtraValues) -> None:
        """Count the output, and keep further values [T], of the row at `position`."""
        row, target = self._sample.rows[position], self._sample.of_row(position)
        has_mask = target.has_mask.numpy()
        self._extras += extras_entries(row, extras)
        probability, foreground, ids = output.read_out(*target.target.shape[-2:])
        if ids is not None:
            self._count_classes(ids, target)
        resized, masks = probability.cpu().numpy(), foreground.cpu().numpy()
        if row.condition == CLEAN:
            self._clean, self._clean_picture = masks, self._sample.picture_of[position]
        # Under another picture the mask under clean audio is the answer to another question.
        compared = (
            self._clean if row.condition != CLEAN and self._sample.picture_of[position] == self._clean_picture else None
        )
        if row.polarity == NEGATIVE:
            picture = self._sample.picture_of[position]
            self._negatives.append(_NegativeMasks.of(key_of(row), picture, len(self._index), masks[has_mask]))
        self._index.extend(_entries(row, masks, compared, has_mask))
        statistics = frame_statistics(np.ascontiguousarray(resized[has_mask]), target.target.numpy()[has_mask])
        if output.mask is not None:
            statistics = _counted_by(masks[has_mask], target.target.numpy()[has_mask], statistics)
        self._statistics.append(statistics)
        if self._keep_masks:
            self._masks.append(masks_table(row, masks))

    def _count_classes(self, ids: Tensor, target: Target) -> None:
        if target.classes is not None:
            has_mask = target.has_mask.numpy()
            self._classes.append(class_statistics(ids.cpu().numpy()[has_mask], target.classes.numpy()[has_mask]))

    def result(self) -> ScoredClip:
        """Return the gathered statistics."""
        first = self._sample.rows[0]
        statistics = concatenate(self._statistics)
        return ScoredClip(
            first.split,
            first.clip_id,
            tuple(self._index),
            statistics,
            tuple(self._masks),
            tuple(self._extras),
            concatenate_classes(self._classes) if self._classes else None,
            tuple(_overlaps(self._negatives, len(self._index))),
        )


@dataclass(frozen=True)
class _NegativeMasks:
    """Masks of one negative row, of `shape` [n, h, w], a bit per pixel; its first frame is `start` among the clip's frames."""

    key: RowKey
    picture: int
    start: int
    shape: tuple[int, ...]
    packed: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, key: RowKey, picture: int, start: int, masks: npt.NDArray[np.bool_]) -> _NegativeMasks:
        """Return the masks packed: those of all negatives of a clip are kept until it is finished."""
        return cls(key, picture, start, masks.shape, np.packbits(masks.reshape(len(masks), -1), axis=1))


def _overlaps(negatives: Sequence[_NegativeMasks], frames: int) -> list[FrameOverlaps]:
    """Return the overlaps of each of a clip's frames with the masks of earlier negatives of the same picture."""
    found: list[FrameOverlaps] = [None] * frames
    ordered = sorted(negatives, key=lambda row: (row.picture, row.shape, row.key))
    for (_, (annotated, height, width)), group in groupby(ordered, key=lambda row: (row.picture, row.shape)):
        rows = list(group)
        names = [other_name(*row.key[2:]) for row in rows]
        for frame in range(annotated):
            flat = np.stack([np.unpackbits(row.packed[frame], count=height * width) for row in rows])
            flat = flat.astype(np.float32 if flat.shape[1] <= 1 << 24 else np.float64)
            # Sums of ones in float32 are exact up to 2^24.
            both = np.rint(flat @ flat.T).astype(np.int64)
            for position, row in enumerate(rows):
                found[row.start + frame] = [(names[other], int(both[position, other])) for other in range(position)]
    return found


def _counted_by(
    masks: npt.NDArray[np.bool_], target: npt.NDArray[np.bool_], statistics: FrameStatistics
) -> FrameStatistics:
    """Return statistics of N frames with the counts of masks [N, H, W] in place of those at the stored thresholds."""
    true, false = ((masks & side).sum(axis=(1, 2), dtype=np.int64) for side in (target, ~target))
    return replace(statistics, tp_050=true, fp_050=false, tp_040=true, fp_040=false)


def _entries(
    row: Row, masks: npt.NDArray[np.bool_], compared: npt.NDArray[np.bool_] | None, has_mask: npt.NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Return the index columns of each annotated frame; `compared` is the mask under clean audio, [T, h, w]."""
    return [
        {
            "split": row.split,
            "clip_id": row.clip_id,
            "labels": list(row.labels),
            "condition": row.condition,
            "polarity": row.polarity,
            "level": row.level,
            "draw": row.draw,
            "frame": int(frame),
            "clean_intersection": None if compared is None else int((masks[frame] & compared[frame]).sum()),
            "clean_union": None if compared is None else int((masks[frame] | compared[frame]).sum()),
        }
        for frame in np.flatnonzero(has_mask)
    ]
