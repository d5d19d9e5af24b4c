"""Scoring: from loaded clips, through the adapter, to the statistics of every frame; the loop of evaluation and of validation.

Conventions
    Clips of one shape form a batch: `encode_frames` is called once per batch and picture, `segment` once per row, clean first.
    Masks are scored at the size of the clip's mask files. Classes are scored where the clip has class ids; the foreground,
    any class but background, is scored everywhere. A mask is the pixels with a probability above `MASK_THRESHOLD`.
    `score_clips` is the only loop over clips; its results do not depend on the batches in which the clips come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from avsrobust.adapters.base import RowView
from avsrobust.adapters.calling import AdapterCaller, CheckedOutput, message_of
from avsrobust.adapters.outputs import ExtraValues, resize_classes, resize_probability
from avsrobust.errors import AvsRobustError, ClipError, DataSetError
from avsrobust.evaluation.batches import Batch, LoadedClip, of_one_shape, read_ahead
from avsrobust.evaluation.clip_data import ClipSample, Target
from avsrobust.evaluation.extras import extras_entries
from avsrobust.manifest import Row
from avsrobust.metrics.binary.counts import FrameStatistics, concatenate, frame_statistics
from avsrobust.metrics.semantic.counts import ClassStatistics, class_statistics, concatenate_classes
from avsrobust.results import FailedClip
from avsrobust.stored_masks import masks_table
from avsrobust.vocabulary import BACKGROUND, CLEAN, NUM_CLASSES

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
    """

    split: str
    clip_id: str
    index: tuple[dict[str, Any], ...]
    statistics: FrameStatistics
    masks: tuple[pa.Table, ...]
    extras: tuple[dict[str, Any], ...] = ()
    classes: ClassStatistics | None = None


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
        with caller.encoded(frames, compare_contents=compare_contents) as encoded:
            waiting = list(group)
            for start in range(0, len(waiting), _MOST_TOGETHER):
                together = waiting[start : start + _MOST_TOGETHER]
                audio = [torch.stack([clip.sounds[position] for clip in batch]) for position in together]
                views = [partial(_views, batch, position) for position in together]
                outputs = encoded.segment_many(audio, views, num_classes=num_classes)
                for position, output in zip(together, outputs, strict=True):
                    take(position, output)


def _views(batch: Sequence[LoadedClip], position: int) -> list[RowView]:
    return [clip.sample.view(position) for clip in batch]


def _score_together(
    caller: AdapterCaller, batch: Sequence[LoadedClip], *, keep_masks: bool, as_foreground: bool
) -> list[ScoredClip]:
    """Score clips of one shape and the same conditions. Raises `AdapterError`."""
    collectors = [_Collector(clip.sample, keep_masks) for clip in batch]

    def take(position: int, output: CheckedOutput) -> None:
        masks, classes = output.masks, output.is_classes
        if as_foreground and masks.ndim == 5:
            masks, classes = (masks.argmax(dim=2) != BACKGROUND).to(torch.float32), False
        for clip, collector in enumerate(collectors):
            extras = {name: values[clip] for name, values in output.extras.items()}
            collector.add(position, masks[clip], extras, classes=classes)

    segment_batch(caller, batch, range(len(batch[0].sample.rows)), take, as_foreground=as_foreground)
    return [collector.result() for collector in collectors]


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

    def add(self, position: int, output: Tensor, extras: ExtraValues, *, classes: bool) -> None:
        """Count a checked output, [T, h, w] or [T, C, h, w], and keep further values [T], of the row at `position`."""
        row, target = self._sample.rows[position], self._sample.of_row(position)
        has_mask = target.has_mask.numpy()
        self._extras += extras_entries(row, extras)
        height, width = target.target.shape[-2:]
        if classes:
            ids, probability = resize_classes(output, height, width)
            self._count_classes(ids, target)
        else:
            probability = resize_probability(output, height, width)
        resized = probability.cpu().numpy()
        masks = resized > MASK_THRESHOLD
        if row.condition == CLEAN:
            self._clean, self._clean_picture = masks, self._sample.picture_of[position]
        # Under another picture the mask under clean audio is the answer to another question.
        compared = (
            self._clean if row.condition != CLEAN and self._sample.picture_of[position] == self._clean_picture else None
        )
        self._index.extend(_entries(row, masks, compared, has_mask))
        self._statistics.append(
            frame_statistics(np.ascontiguousarray(resized[has_mask]), target.target.numpy()[has_mask])
        )
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
        )


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
