"""Batches of clips: which clips go together, and reading the next ones while the model works.

Conventions
    Clips of a batch share number of frames, frame size, mask size and conditions, so that tensors stack and each call of the
    model is about one condition. The plan depends on the clips and the batch size alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from torch import Tensor

from avsrobust.adapters.base import NativeSound
from avsrobust.checksums import Checksums
from avsrobust.errors import AvsRobustError
from avsrobust.evaluation.clip_data import ClipRows, ClipSample, load_clip, picture_order, picture_sizes
from avsrobust.evaluation.clip_views import ClipViewer
from avsrobust.evaluation.score_size import ScoreSize
from avsrobust.evaluation.sound import SoundReader
from avsrobust.manifest import Manifest
from avsrobust.results import FailedClip

Batch = tuple[ClipRows, ...]
# Two batches ahead keep a GPU busy; more would only hold memory.
_AHEAD = 2


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


def plan_batches(clips: Sequence[ClipRows], build: Manifest, data_root: Path, batch_size: int) -> list[Batch]:
    """Group clips into batches, each clip in exactly one.

    Args:
        clips: Clips, in order.
        build: The manifest they are of.
        data_root: Folder of the data set, where pictures' headers are read.
        batch_size: Most clips in a batch.
    """
    if batch_size == 1:
        return [(clip,) for clip in clips]
    open_batches: dict[object, list[ClipRows]] = {}
    batches: list[Batch] = []
    for clip in clips:
        conditions = tuple((row.condition, row.level, row.draw) for row in clip)
        key = (clip[0].num_frames, conditions, picture_order(clip), picture_sizes(clip, build, data_root))
        waiting = open_batches.setdefault(key, [])
        waiting.append(clip)
        if len(waiting) == batch_size:
            batches.append(tuple(open_batches.pop(key)))
    return [*batches, *(tuple(waiting) for waiting in open_batches.values())]


def load_batch(
    batch: Batch,
    build: Manifest,
    data_root: Path,
    sounds: SoundReader,
    checksums: Checksums | None = None,
    score_size: ScoreSize | None = None,
) -> list[LoadedClip | FailedClip]:
    """Read the clips of a batch.

    Args:
        batch: The clips.
        build: The manifest they are of.
        data_root: Folder of the data set.
        sounds: Reader of the rows' audio.
        checksums: Checksums that the files are compared with as they are read; None: none.
        score_size: Size of the masks; None: that of their files.

    Returns:
        A `FailedClip` for each clip that cannot be read, is not the one that was built, or has no mask.
    """
    return [_load(clip, build, data_root, sounds, checksums, score_size) for clip in batch]


def read_ahead(
    batches: Iterable[Batch], load: Callable[[Batch], list[LoadedClip | FailedClip]]
) -> Iterator[list[LoadedClip | FailedClip]]:
    """Yield ``load(batch)`` for each batch, in order, reading the next ones in threads meanwhile."""
    with ThreadPoolExecutor(max_workers=_AHEAD) as pool:
        pending: deque[Future[list[LoadedClip | FailedClip]]] = deque()
        try:
            for batch in batches:
                pending.append(pool.submit(load, batch))
                if len(pending) > _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


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
) -> LoadedClip | FailedClip:
    try:
        sample = load_clip(clip, build, data_root, checksums)
        if not sample.has_mask.any():
            return FailedClip(clip[0].split, clip[0].clip_id, "no frame has a mask: there is nothing to score")
        if score_size is not None:
            sample = score_size.resized(sample)
        viewer = ClipViewer(build, data_root)
        return LoadedClip(sample, tuple(sounds.read_sound(row) for row in clip), viewer)
    except AvsRobustError as error:
        return FailedClip(clip[0].split, clip[0].clip_id, " ".join(str(error).split()))
