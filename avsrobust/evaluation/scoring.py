"""Running an adapter on a batch of clips, and what is kept of its masks.

Conventions
    Under `torch.no_grad`; `encode_frames` is called once per batch, `segment` once per condition, clean first.
    Each call gets tensors of its own, and results are copied at once: an adapter that works in place or returns a view of its
    own buffer does no harm to other calls, except by changing its own encoding, which is refused (`adapters.encodings`).
    Masks are scored at the size of the clip's mask files. Classes are scored where the clip has class ids, and as anything but
    background everywhere. Whatever an adapter raises becomes an `AdapterError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter
from avsrobust.adapters.encodings import EncodingGuard, changed_in_place
from avsrobust.adapters.outputs import check_output, is_classes, resize_classes, resize_probability
from avsrobust.adapters.surroundings import surroundings
from avsrobust.errors import AdapterError, AdapterOutputError, AvsRobustError
from avsrobust.evaluation.batches import LoadedClip
from avsrobust.evaluation.clip_data import ClipSample
from avsrobust.evaluation.extras import Values, check_extras, extras_entries
from avsrobust.manifest import Row
from avsrobust.metrics.binary.counts import FrameStatistics, concatenate, frame_statistics
from avsrobust.metrics.semantic.counts import ClassStatistics, class_statistics, concatenate_classes
from avsrobust.stored_masks import masks_table
from avsrobust.vocabulary import CLEAN, NUM_CLASSES

MASK_THRESHOLD = 0.5
Take = Callable[[int, Tensor, Values], None]
# Of torch.autograd, where a graph is missing.
_NEEDS_GRADIENTS = (
    "does not require grad",
    "does not have a grad_fn",
    "Inference tensors cannot be saved for backward",
    "computes gradients outside",
)
_LONGEST_MESSAGE = 400


@dataclass(frozen=True)
class ScoredClip:
    """The statistics of one clip's frames under all its conditions.

    ``index[i]`` holds the index columns of `avsrobust.results` for entry i of `statistics`, which belongs to frame i of `classes`
    (where adapter and clip have classes); `masks` holds the stored masks of each row where they are wanted; `extras` the rows
    of ``extras.parquet`` (`avsrobust.evaluation.extras`).
    """

    split: str
    clip_id: str
    index: tuple[dict[str, Any], ...]
    statistics: FrameStatistics
    masks: tuple[pa.Table, ...]
    extras: tuple[dict[str, Any], ...] = ()
    classes: ClassStatistics | None = None


class Scorer:
    """One adapter, ready to score batches; `name` is what messages call it.

    `classes` says whether it has returned classes so far (None: it has returned nothing yet); it must go on so.
    """

    def __init__(
        self,
        adapter: Adapter,
        name: str,
        device: torch.device,
        *,
        keep_masks: bool = False,
        classes: bool | None = None,
    ) -> None:
        self._adapter = adapter
        self._name = name
        self._device = device
        self._keep_masks = keep_masks
        self._classes = classes

    def score(self, batch: Sequence[LoadedClip]) -> list[ScoredClip]:
        """Score clips of one shape and the same conditions. Raises `AdapterError`."""
        collectors = [_Collector(clip.sample, self._keep_masks) for clip in batch]

        def take(position: int, checked: Tensor, extras: Values) -> None:
            classes = is_classes(checked)
            for clip, collector in enumerate(collectors):
                collector.add(position, checked[clip], classes=classes)
                collector.keep(position, {name: values[clip] for name, values in extras.items()})

        self.run(batch, range(len(batch[0].sample.rows)), take)
        return [collector.result() for collector in collectors]

    def run(
        self, batch: Sequence[LoadedClip], positions: Iterable[int], take: Take, *, compare_contents: bool = False
    ) -> None:
        """Encode clips of one shape and segment them under their conditions at `positions`, in this order.

        `take` is called with each position, the checked output of the batch and the adapter's extras. With `compare_contents`,
        changes of the encoding are looked for that tensors do not count. Raises `AdapterError`.
        """
        frames = torch.stack([clip.sample.frames for clip in batch]).to(self._device)
        num_frames = batch[0].sample.rows[0].num_frames
        with torch.no_grad():
            encoded = self._call("encode_frames", lambda: self._adapter.encode_frames(frames))
            untouched = frames.clone()
            with EncodingGuard(encoded, self._name, content=compare_contents) as guard:
                for position in positions:
                    output = self._segment(encoded, batch, position)
                    guard.check()
                    if not torch.equal(frames, untouched):
                        raise changed_in_place(self._name)
                    checked = self._check(output, batch, num_frames)
                    take(position, checked, self._extras(len(batch), num_frames))

    def _check(self, output: object, batch: Sequence[LoadedClip], num_frames: int) -> Tensor:
        checked = check_output(
            output,
            adapter=self._name,
            batch=len(batch),
            num_frames=num_frames,
            device=self._device,
            num_classes=None if batch[0].sample.classes is None else NUM_CLASSES,
        )
        found = is_classes(checked)
        if self._classes not in (None, found):
            kinds = ("probabilities", "classes")
            raise AdapterOutputError(
                f"{self._name}: returned {kinds[found]} after {kinds[not found]}; expected the same kind for every clip"
            )
        self._classes = found
        return checked

    def _segment(self, encoded: Any, batch: Sequence[LoadedClip], position: int) -> object:
        audio = torch.stack([clip.sounds[position] for clip in batch]).to(self._device)
        if not getattr(self._adapter, "needs_rows", False):
            return self._call("segment", lambda: self._adapter.segment(encoded, audio))
        views = [clip.sample.view(clip.sample.rows[position]) for clip in batch]
        return self._call("segment_rows", lambda: self._adapter.segment_rows(encoded, audio, views))

    def _extras(self, batch: int, num_frames: int) -> Values:
        """Return what the adapter gives beside its last masks; adapters need not have `extras`."""
        extras = getattr(self._adapter, "extras", None)
        if not callable(extras):
            return {}
        return check_extras(self._call("extras", extras), adapter=self._name, batch=batch, num_frames=num_frames)

    def _call(self, what: str, function: Callable[[], Any]) -> Any:
        try:
            with surroundings(type(self._adapter)):
                return function()
        except AvsRobustError:
            raise
        # A model may raise anything, and research code calls quit().
        except (Exception, SystemExit) as error:
            raise AdapterError(
                f"{self._name}: {what} raised {type(error).__name__}: {one_line(error)}{advice(error)}"
            ) from error


class _Collector:
    """Gathers one clip's statistics, condition by condition."""

    def __init__(self, sample: ClipSample, keep_masks: bool) -> None:
        self._sample = sample
        self._keep_masks = keep_masks
        self._has_mask = sample.has_mask.numpy()
        self._target = sample.target.numpy()[self._has_mask]
        self._clean: npt.NDArray[np.bool_] | None = None
        self._index: list[dict[str, Any]] = []
        self._statistics: list[FrameStatistics] = []
        self._masks: list[pa.Table] = []
        self._extras: list[dict[str, Any]] = []
        self._classes: list[ClassStatistics] = []

    def add(self, position: int, output: Tensor, *, classes: bool) -> None:
        """Keep what is needed of a checked output, [T, h, w] or [T, C, h, w], under the clip's row at `position`."""
        row = self._sample.rows[position]
        height, width = self._sample.target.shape[-2:]
        if classes:
            ids, probability = resize_classes(output, height, width)
            self._count_classes(ids)
        else:
            probability = resize_probability(output, height, width)
        resized = probability.cpu().numpy()
        masks = resized > MASK_THRESHOLD
        if row.condition == CLEAN:
            self._clean = masks
        self._index.extend(self._entries(row, masks))
        self._statistics.append(frame_statistics(np.ascontiguousarray(resized[self._has_mask]), self._target))
        if self._keep_masks:
            self._masks.append(masks_table(row, masks))

    def _count_classes(self, ids: Tensor) -> None:
        if self._sample.classes is not None:
            target = self._sample.classes.numpy()[self._has_mask]
            self._classes.append(class_statistics(ids.cpu().numpy()[self._has_mask], target))

    def keep(self, position: int, extras: Values) -> None:
        """Keep further values, float64 [T] by name, of the clip's row at `position`."""
        self._extras += extras_entries(self._sample.rows[position], extras)

    def _entries(self, row: Row, masks: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
        compared = None if row.condition == CLEAN else self._clean
        return [
            {
                "split": row.split,
                "clip_id": row.clip_id,
                "labels": list(row.labels),
                "condition": row.condition,
                "polarity": row.polarity,
                "level": row.level,
                "frame": int(frame),
                "clean_intersection": None if compared is None else int((masks[frame] & compared[frame]).sum()),
                "clean_union": None if compared is None else int((masks[frame] | compared[frame]).sum()),
            }
            for frame in np.flatnonzero(self._has_mask)
        ]

    def result(self) -> ScoredClip:
        """Return what was gathered."""
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


def advice(error: BaseException) -> str:
    """Return what to do about an exception that the way adapters are run may cause, "" where that is not known."""
    text = str(error)
    if any(sign in text for sign in _NEEDS_GRADIENTS):
        return "; adapters run under torch.no_grad(): put what needs gradients in a block 'with torch.enable_grad():'"
    if isinstance(error, ValueError) and "read-only" in text:
        return "; what encode_frames returned is used again for the next condition: copy it before it is changed"
    return ""


def one_line(error: BaseException) -> str:
    """Return an exception's message in one line of bounded length."""
    return " ".join(str(error).split())[:_LONGEST_MESSAGE]
