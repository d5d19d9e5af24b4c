"""Batches of clips: which clips go together, and reading the next ones while the model works.

Conventions
    Clips of a batch share number of frames, frame size, mask size and conditions, so that tensors stack and each call of the
    model is about one condition. The plan depends on the clips and the batch size alone.
    Clips are read in threads, one clip per task: decoding, checksums and numpy let other threads run. What is read ahead is
    bounded: two batches, or as many clips as there are threads, and one more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avsrobust.adapters.base import NativeSound
from avsrobust.adapters.calling import Audio
from avsrobust.checksums import Checksums
from avsrobust.errors import AvsRobustError
from avsrobust.evaluation.clip_data import ClipRows, ClipSample, load_clip, picture_order, picture_sizes
from avsrobust.evaluation.clip_views import ClipViewer
from avsrobust.evaluation.score_size import ScoreSize
from avsrobust.evaluation.sound import SoundReader
from avsrobust.manifest import Manifest
from avsrobust.processes import usable_cores
from avsrobust.results import FailedClip

Batch = tuple[ClipRows, ...]
# Two batches ahead keep a GPU busy; more would only hold memory.
_AHEAD = 2
READERS = 2
# On more, threads wait for one another.
_MOST_READERS = 8


@dataclass(frozen=True)
class LoadedClip:
    """One clip in memory.

    Attributes:
        sample: Frames and masks.
        sounds: Audio of each row; ``sounds[i]`` belongs to ``sample.rows[i]``.
        viewer: Makes views of the rows, for adapters that need them.
    """

    sample: ClipSample
    sounds: tuple[Tensor | NativeSound, ...]
    viewer: ClipViewer | None = None


@dataclass(frozen=True)
class ClipGroup:
    """Clips of one shape and the same conditions, with the tensors that a model is called with.

    Attributes:
        clips: The B clips.
        pictures: The different frames, each uint8 [B, T, 3, H, W]; row i has ``pictures[picture_of[i]]`` (`ClipSample`). H and W
            are 1 where they were not decoded.
        sounds: Audio of each row, [B, ...], or B native sounds.
        targets: Foreground of the different masks, each bool [B, T, h, w], where they are in pinned memory; else none.
    """

    clips: tuple[LoadedClip, ...]
    pictures: tuple[Tensor, ...]
    sounds: tuple[Audio, ...]
    targets: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, clips: Sequence[LoadedClip], *, pin: bool = False) -> ClipGroup:
        """Return clips of one shape as a group; `pin`: its tensors are in pinned memory."""
        samples = [clip.sample for clip in clips]
        pictures = [
            sample.pictures if sample.has_frames else [picture[..., :1, :1] for picture in sample.pictures]
            for sample in samples
        ]
        return cls(
            tuple(clips),
            tuple(_stacked(of_row, pin) for of_row in zip(*pictures, strict=True)),
            tuple(_together(sounds, pin) for sounds in zip(*(clip.sounds for clip in clips), strict=True)),
            tuple(
                _stacked([target.target for target in targets], pin)
                for targets in zip(*(sample.targets for sample in samples), strict=True)
            )
            if pin
            else (),
        )


@dataclass(frozen=True)
class ReadBatch:
    """A batch in memory.

    Attributes:
        failed: Clips that could not be read.
        groups: The others, by shape.
    """

    failed: tuple[FailedClip, ...]
    groups: tuple[ClipGroup, ...]


def plan_batches(clips: Sequence[ClipRows], build: Manifest, data_root: Path, batch_size: int) -> list[Batch]:
    """Return the batches of `each_batch`, all at once."""
    return list(each_batch(clips, build, data_root, batch_size))


def each_batch(clips: Iterable[ClipRows], build: Manifest, data_root: Path, batch_size: int) -> Iterator[Batch]:
    """Group clips into batches, each clip in exactly one; a batch is yielded when it is full, the others at the end.

    Args:
        clips: Clips, in order.
        build: The manifest they are of.
        data_root: Folder of the data set, where pictures' headers are read.
        batch_size: Most clips in a batch.
    """
    if batch_size == 1:
        yield from ((clip,) for clip in clips)
        return
    open_batches: dict[object, list[ClipRows]] = {}
    for clip in clips:
        conditions = tuple((row.condition, row.level, row.draw) for row in clip)
        key = (clip[0].num_frames, conditions, picture_order(clip), picture_sizes(clip, build, data_root))
        waiting = open_batches.setdefault(key, [])
        waiting.append(clip)
        if len(waiting) == batch_size:
            yield tuple(open_batches.pop(key))
    yield from (tuple(waiting) for waiting in open_batches.values())


def load_batch(
    batch: Batch,
    build: Manifest,
    data_root: Path,
    sounds: SoundReader,
    checksums: Checksums | None = None,
    score_size: ScoreSize | None = None,
    *,
    needs_frames: bool = True,
) -> list[LoadedClip | FailedClip]:
    """Read the clips of a batch.

    Args:
        batch: The clips.
        build: The manifest they are of.
        data_root: Folder of the data set.
        sounds: Reader of the rows' audio.
        checksums: Checksums that the files are compared with as they are read; None: none.
        score_size: Size of the masks; None: that of their files.
        needs_frames: Decode the frames (`load_clip`).

    Returns:
        A `FailedClip` for each clip that cannot be read, is not the one that was built, or has no mask.
    """
    return [_load(clip, build, data_root, sounds, checksums, score_size, needs_frames) for clip in batch]


def default_readers() -> int:
    """Return the number of threads that read clips on this machine: one core is the adapter's."""
    return max(1, min(_MOST_READERS, usable_cores() - 1))


def read_ahead(
    batches: Iterable[Batch],
    load: Callable[[Batch], list[LoadedClip | FailedClip]],
    *,
    readers: int = READERS,
    pin: bool = False,
) -> Iterator[ReadBatch]:
    """Yield each batch with its clips in memory, in order, reading the next ones in threads meanwhile.

    Args:
        batches: The batches.
        load: Reads some clips of a batch; called in threads, with one clip at a time.
        readers: Number of threads.
        pin: Hold the tensors in memory that a GPU copies from without waiting.
    """
    with ThreadPoolExecutor(max_workers=readers, thread_name_prefix="avsrobust-reader") as pool:
        pending: deque[tuple[int, Future[ReadBatch]]] = deque()
        clips: list[Future[list[LoadedClip | FailedClip]]] = []
        try:
            for batch in batches:
                clips = [future for future in clips if not future.done()]
                clips += (of_batch := [pool.submit(load, (clip,)) for clip in batch])
                # Its clips were submitted before it, so that what it waits for is under way or done.
                pending.append((len(batch), pool.submit(_gather, of_batch, pin)))
                if sum(count for count, _ in pending) > max((_AHEAD + 1) * len(batch) - 1, readers + 1):
                    yield pending.popleft()[1].result()
            while pending:
                yield pending.popleft()[1].result()
        finally:
            for clip in clips:
                clip.cancel()
            for _, read in pending:
                read.cancel()


def _gather(clips: Sequence[Future[list[LoadedClip | FailedClip]]], pin: bool) -> ReadBatch:
    outcomes = [outcome for clip in clips for outcome in clip.result()]
    loaded = of_one_shape([outcome for outcome in outcomes if isinstance(outcome, LoadedClip)])
    return ReadBatch(
        tuple(outcome for outcome in outcomes if isinstance(outcome, FailedClip)),
        tuple(ClipGroup.of(clips, pin=pin) for clips in loaded),
    )


def of_one_shape(clips: Sequence[LoadedClip]) -> list[list[LoadedClip]]:
    """Split the clips of a batch where, against their pictures' headers, their shapes differ after all."""
    ordered = sorted(clips, key=_shapes)
    return [list(group) for _, group in groupby(ordered, key=_shapes)]


def _shapes(clip: LoadedClip) -> tuple[tuple[int, ...], ...]:
    return clip.sample.shapes


def _load(
    clip: ClipRows,
    build: Manifest,
    data_root: Path,
    sounds: SoundReader,
    checksums: Checksums | None,
    score_size: ScoreSize | None,
    needs_frames: bool,
) -> LoadedClip | FailedClip:
    try:
        sample = load_clip(clip, build, data_root, checksums, needs_frames=needs_frames)
        if not sample.has_mask.any():
            return FailedClip(clip[0].split, clip[0].clip_id, "no frame has a mask: there is nothing to score")
        if score_size is not None:
            sample = score_size.resized(sample)
        viewer = ClipViewer(build, data_root)
        return LoadedClip(sample, tuple(sounds.read_sound(row) for row in clip), viewer)
    except AvsRobustError as error:
        return FailedClip(clip[0].split, clip[0].clip_id, " ".join(str(error).split()))


def _stacked(tensors: Sequence[Tensor], pin: bool) -> Tensor:
    if not pin:
        # Not by torch, whose threads would take the model's cores.
        return torch.from_numpy(np.stack([tensor.numpy() for tensor in tensors]))
    first = tensors[0]
    held = torch.empty((len(tensors), *first.shape), dtype=first.dtype, pin_memory=True)
    return torch.stack(list(tensors), out=held)


def _together(sounds: Sequence[Tensor | NativeSound], pin: bool) -> Audio:
    """Return the audio of several clips: one tensor, or the list of native sounds."""
    tensors = [sound for sound in sounds if isinstance(sound, Tensor)]
    return _stacked(tensors, pin) if tensors else [sound for sound in sounds if isinstance(sound, NativeSound)]
