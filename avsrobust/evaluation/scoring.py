"""Scoring: from clips in memory, through the adapter, to the statistics of every frame; the loop of evaluation and of validation.

Conventions
    Clips of one shape form a group: `encode_frames` is called once per group and picture, `segment` once per row, clean first.
    Masks are scored at the size of the clip's mask files. Classes are scored where the clip has class ids; the foreground,
    any class but background, is scored everywhere. Each readout is scored as an output of its own.
    Three stages overlap: reading in threads (`evaluation.batches`), the adapter, in the thread of whoever iterates and in no
    other, and counting, in threads or on the GPU (`evaluation.counters`). What waits between them is bounded.
    `score_clips` is the only loop over clips; its results do not depend on the batches in which the clips come, nor on the number
    of threads, nor on where they are counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import groupby

from avsrobust.adapters.base import ClipView, RowView
from avsrobust.adapters.calling import AdapterCaller, message_of
from avsrobust.adapters.checked_output import CheckedOutput
from avsrobust.errors import AdapterError, AvsRobustError, ClipError, DataSetError
from avsrobust.evaluation.batches import READERS, Batch, ClipGroup, LoadedClip, read_ahead
from avsrobust.evaluation.counters import Counters
from avsrobust.evaluation.scored_clips import ScoredClip
from avsrobust.results import FailedClip
from avsrobust.vocabulary import NUM_CLASSES

__all__ = ["OutputCallback", "ScoredClip", "score_clips", "segment_batch"]
# Conditions of one picture that an adapter is asked for at once.
_MOST_TOGETHER = 8
# Groups whose outputs are being counted while the adapter works on the next one.
_MOST_COUNTED = 3
# Called with the position of a row in its clip, and the output of the batch under that row's condition.
OutputCallback = Callable[[int, CheckedOutput], None]


def score_clips(
    caller: AdapterCaller,
    batches: Iterable[Batch],
    load: Callable[[Batch], list[LoadedClip | FailedClip]],
    *,
    keep_masks: bool = False,
    as_foreground: bool = False,
    keep_going: bool = True,
    any_scored: bool = False,
    readers: int = READERS,
    counters: int | None = None,
) -> Generator[ScoredClip | FailedClip, None, None]:
    """Load and score clips batch by batch, reading the next and counting the last ones meanwhile; yield each when it is finished.

    Clips that fail in a batch are scored one by one, so that a bad clip takes no other with it.

    Args:
        caller: Caller of the adapter.
        batches: Clips that are loaded and, as far as their shapes agree, scored together.
        load: Reads clips of a batch; called in threads.
        keep_masks: Keep each row's binary masks.
        as_foreground: Score class logits by their largest class alone: 1 where it is not background, resized as a probability.
        keep_going: Yield a clip that fails as a `FailedClip`; otherwise its error is raised.
        any_scored: A clip was scored before. Until one is, an error that is no `ClipError` is raised: it would recur on all.
        readers: Threads that read.
        counters: Threads that count; None: by the number of cores.

    Raises:
        AdapterError: The adapter fails, and a failure is not to be listed.
        DataSetError: A clip cannot be read, without `keep_going`.
    """
    with Counters(counters, keep_masks=keep_masks, as_foreground=as_foreground) as counting:
        pipeline = _Pipeline(caller, counting, as_foreground, keep_going, any_scored)
        try:
            for batch in read_ahead(batches, load, readers=readers, pin=caller.device.type == "cuda"):
                for failed in batch.failed:
                    if not keep_going:
                        raise DataSetError(f"{failed.split}/{failed.clip_id}: {failed.error}")
                    yield failed
                for group in batch.groups:
                    yield from pipeline.score(group)
                del batch
            yield from pipeline.drain()
        except GeneratorExit:
            raise
        except BaseException:
            # Also when the user interrupts: clips that the adapter has answered need not be run again.
            yield from pipeline.drain()
            raise


class _Pipeline:
    """The stages behind reading: groups go to the adapter, and their outputs are counted while it works on the next one."""

    def __init__(
        self, caller: AdapterCaller, counting: Counters, as_foreground: bool, keep_going: bool, any_scored: bool
    ) -> None:
        self._caller = caller
        self._counting = counting
        self._as_foreground = as_foreground
        self._keep_going = keep_going
        self._any_scored = any_scored
        self._pending: deque[tuple[ClipGroup, Future[list[ScoredClip]]]] = deque()

    def score(self, group: ClipGroup) -> Iterator[ScoredClip | FailedClip]:
        """Let the adapter segment a group; yield the clips of earlier ones that are counted meanwhile."""
        try:
            counted = self._segment(group)
        except AvsRobustError as error:
            # Whether any clip was scored before decides what becomes of the error.
            yield from self.drain()
            yield from self._after(group, error)
            return
        self._pending.append((group, counted))
        while self._pending and (len(self._pending) > _MOST_COUNTED or self._pending[0][1].done()):
            yield from self._finish(*self._pending.popleft())

    def drain(self) -> Iterator[ScoredClip | FailedClip]:
        """Yield the clips that are still being counted."""
        while self._pending:
            yield from self._finish(*self._pending.popleft())

    def _segment(self, group: ClipGroup) -> Future[list[ScoredClip]]:
        with self._counting.group(group) as counter:
            positions = range(len(group.clips[0].sample.rows))
            segment_batch(self._caller, group, positions, counter.add, as_foreground=self._as_foreground)
            return counter.finish()

    def _finish(self, group: ClipGroup, counted: Future[list[ScoredClip]]) -> Iterator[ScoredClip | FailedClip]:
        try:
            scored = counted.result()
        except AvsRobustError as error:
            yield from self._after(group, error)
            return
        self._any_scored = True
        yield from scored

    def _after(self, group: ClipGroup, error: AvsRobustError) -> Iterator[ScoredClip | FailedClip]:
        """Score the clips of a group that failed one by one; of a single one, yield or raise its error."""
        try:
            if not self._keep_going:
                raise error
            if len(group.clips) > 1:
                for clip in group.clips:
                    alone = ClipGroup.of([clip])
                    try:
                        scored = self._segment(alone).result()
                    except AvsRobustError as its_own:
                        yield from self._after(alone, its_own)
                    else:
                        self._any_scored = True
                        yield from scored
                return
            if not self._any_scored and not isinstance(error, ClipError):
                raise error
            row = group.clips[0].sample.rows[0]
            yield FailedClip(row.split, row.clip_id, message_of(error))
        finally:
            # Its traceback holds this frame, and with it all that was read: they would stay until Python looks for cycles.
            del error


def segment_batch(
    caller: AdapterCaller,
    group: ClipGroup,
    positions: Iterable[int],
    take: OutputCallback,
    *,
    compare_contents: bool = False,
    as_foreground: bool = False,
) -> None:
    """Encode clips of one shape and segment them under some of their conditions, several at once where the adapter can.

    Args:
        caller: Caller of the adapter.
        group: The clips.
        positions: Positions of the rows in each clip, in the order of the calls.
        take: Takes each output.
        compare_contents: Also find changes of the encoding that tensors do not count.
        as_foreground: Any number of classes will do.

    Raises:
        AdapterError: The adapter fails, or its output is malformed.
    """
    batch = group.clips
    num_classes = None if as_foreground or batch[0].sample.classes is None else NUM_CLASSES
    picture_of = batch[0].sample.picture_of
    # Rows with the same frames one after the other: every picture is encoded once.
    ordered = sorted(positions, key=lambda position: picture_of[position])
    for picture, of_picture in groupby(ordered, key=lambda position: picture_of[position]):
        positions_of = list(of_picture)
        views = partial(_clip_views, batch, positions_of[0], caller, of_picture=True)
        with caller.encoded(group.pictures[picture], views, compare_contents=compare_contents) as encoded:
            for start in range(0, len(positions_of), _MOST_TOGETHER):
                together = positions_of[start : start + _MOST_TOGETHER]
                audio = [group.sounds[position] for position in together]
                targets = [partial(_views, batch, position) for position in together]
                clips = [partial(_clip_views, batch, position, caller) for position in together]
                outputs = encoded.segment_many(audio, targets, clips, num_classes=num_classes)
                for position, output in zip(together, outputs, strict=True):
                    take(position, output)


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
