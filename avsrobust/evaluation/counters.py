"""Counting beside the adapter: outputs on the CPU are counted in threads, those on a GPU on it, and only counts come back.

Conventions
    Outputs of one group are counted in their order, those of several groups at once. `GroupCounting.add` takes an output and
    returns; where more than `_MOST_WAITING` bytes of outputs wait to be counted, it waits first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Protocol, Self

import torch
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from avsrobust.adapters.checked_output import CheckedOutput
from avsrobust.adapters.outputs import ExtraValues
from avsrobust.errors import AdapterError
from avsrobust.evaluation.batches import ClipGroup
from avsrobust.evaluation.counting import ClipCounter, FrameOutput
from avsrobust.evaluation.device_counting import GroupCounter
from avsrobust.evaluation.scored_clips import RowCounts, ScoredClip, scored_clip
from avsrobust.processes import usable_cores

# More cores than that wait for memory.
_MOST_THREADS = 4
_MOST_WAITING = 1 << 28


class Counters:
    """The counting of an evaluation; its threads end with its with block.

    Args:
        threads: Number of threads; None: by the number of cores.
        keep_masks: Keep each row's binary masks.
        as_foreground: Count class logits as foreground.
    """

    def __init__(self, threads: int | None, *, keep_masks: bool, as_foreground: bool) -> None:
        # One core is the adapter's: a thread more than there are cores costs more than it does.
        cores = max(1, usable_cores() - 1)
        count = min(_MOST_THREADS, cores) if threads is None else threads
        share = max(1, cores // count)
        self._pool = ThreadPoolExecutor(
            count, thread_name_prefix="avsrobust-counter", initializer=_limit_torch, initargs=(share,)
        )
        self._keep_masks = keep_masks
        self._as_foreground = as_foreground
        self._budget = _Budget(_MOST_WAITING)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    @contextmanager
    def group(self, group: ClipGroup) -> Iterator[GroupCounting]:
        """Yield the counting of a group; an error in the block drops what waits."""
        counting = GroupCounting(group, _Strand(self._pool), self._budget, self._keep_masks, self._as_foreground)
        try:
            yield counting
        except BaseException:
            counting.drop()
            raise


class GroupCounting:
    """Counts the outputs of one group, and those of each readout; made by `Counters.group`."""

    def __init__(
        self, group: ClipGroup, strand: _Strand, budget: _Budget, keep_masks: bool, as_foreground: bool
    ) -> None:
        self._group = group
        self._strand = strand
        self._budget = budget
        self._keep_masks = keep_masks
        self._as_foreground = as_foreground
        self._counters: dict[str, _Counter] = {}

    def add(self, position: int, output: CheckedOutput) -> None:
        """Count the output of the group under the row at `position`."""
        extras: list[ExtraValues] = [
            {name: values[clip] for name, values in output.extras.items()} for clip in range(len(self._group.clips))
        ]
        self._add("", position, output, extras)
        for name, readout in output.readouts.items():
            self._add(name, position, readout, [{}] * len(self._group.clips))

    def finish(self) -> Future[list[ScoredClip]]:
        """Return the statistics of the clips, which are ready when all outputs are counted."""
        for counter in self._counters.values():
            counter.seal()
        return self._strand.finish(self._results)

    def drop(self) -> None:
        """Count nothing more."""
        self._strand.drop()

    def _add(self, name: str, position: int, output: CheckedOutput, extras: list[ExtraValues]) -> None:
        counter = self._counters.get(name)
        if counter is None:
            keep_masks = self._keep_masks and not name
            counter = self._counters[name] = (
                _OnCpu(self._group, keep_masks, self._as_foreground)
                if output.masks.device.type != "cuda"
                else _OnDevice(self._group, output.masks.device, keep_masks, self._as_foreground)
            )
        if not counter.in_thread:
            try:
                counter.add(position, output, extras)
            except torch.cuda.OutOfMemoryError as error:
                raise AdapterError(
                    f"no memory is left on {output.masks.device}; take a smaller --batch-size"
                ) from error
            return
        held = output.masks.nbytes + (0 if output.mask is None else output.mask.nbytes)
        self._budget.take(held)
        self._strand.run(lambda: counter.add(position, output, extras), lambda: self._budget.give(held))

    def _results(self) -> list[ScoredClip]:
        found = {name: counter.result() for name, counter in self._counters.items()}
        scored = []
        for number, clip in enumerate(self._group.clips):
            readouts = {name: scored_clip(clip.sample, rows[number]) for name, rows in found.items() if name}
            scored.append(scored_clip(clip.sample, found[""][number], readouts))
        return scored


class _Counter(Protocol):
    """Counts the outputs of a group: in a thread, or where `add` is called."""

    in_thread: bool

    def add(self, position: int, output: CheckedOutput, extras: list[ExtraValues]) -> None: ...

    def seal(self) -> None: ...

    def result(self) -> list[dict[int, RowCounts]]: ...


class _OnCpu:
    in_thread = True

    def __init__(self, group: ClipGroup, keep_masks: bool, as_foreground: bool) -> None:
        self._clips = [ClipCounter(clip.sample, keep_masks=keep_masks) for clip in group.clips]
        self._as_foreground = as_foreground

    def add(self, position: int, output: CheckedOutput, extras: list[ExtraValues]) -> None:
        for number, clip in enumerate(self._clips):
            of_clip = FrameOutput.of_clip(output, number, as_foreground=self._as_foreground)
            clip.add(position, of_clip, extras[number])

    def seal(self) -> None:
        pass

    def result(self) -> list[dict[int, RowCounts]]:
        return [clip.rows for clip in self._clips]


class _OnDevice:
    in_thread = False

    def __init__(self, group: ClipGroup, device: torch.device, keep_masks: bool, as_foreground: bool) -> None:
        self._counter = GroupCounter(group, device, keep_masks=keep_masks)
        self._as_foreground = as_foreground

    def add(self, position: int, output: CheckedOutput, extras: list[ExtraValues]) -> None:
        self._counter.add(position, FrameOutput.of_batch(output, as_foreground=self._as_foreground), extras)

    def seal(self) -> None:
        self._counter.seal()

    def result(self) -> list[dict[int, RowCounts]]:
        return self._counter.result()


class _Strand:
    """Runs tasks one after the other in the threads of a pool; after an error, or `drop`, it runs no more of them."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._tasks: deque[tuple[Callable[[], object], Callable[[], object]]] = deque()
        self._running = False
        self._dropped = False
        self._error: BaseException | None = None

    def run(self, task: Callable[[], object], afterwards: Callable[[], object] = lambda: None) -> None:
        """Run a task after those before it; `afterwards` runs whether it was run or not."""
        with self._lock:
            self._tasks.append((task, afterwards))
            if self._running:
                return
            self._running = True
        self._pool.submit(self._work)

    def finish(self, task: Callable[[], list[ScoredClip]]) -> Future[list[ScoredClip]]:
        """Run the last task; its result, or the first error of the strand, is the future's."""
        future: Future[list[ScoredClip]] = Future()

        def last() -> None:
            future.set_result(task())

        def settle() -> None:
            if not future.done():
                future.set_exception(self._error or RuntimeError("the counting of a group was dropped"))

        self.run(last, settle)
        return future

    def drop(self) -> None:
        """Run none of the tasks that wait."""
        self._dropped = True

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._tasks:
                    self._running = False
                    return
                task, afterwards = self._tasks.popleft()
            try:
                if not self._dropped:
                    task()
            # It is raised where the result is asked for.
            except BaseException as error:
                self._error, self._dropped = error, True
            finally:
                # What a task holds is given back before anybody is told.
                del task
                afterwards()


def _limit_torch(threads: int) -> None:
    """Let torch use so many threads for what the calling thread computes, and for nothing else.

    All of its own, they would spin on the cores where the model runs.
    """
    # An error would break the pool, and whoever waits for its counts would wait for ever; without the limit it is slower.
    with suppress(Exception):
        # Torch sets its number when a thread first asks, once.
        torch.get_num_threads()
        ThreadpoolController().limit(limits=threads, user_api="openmp")


class _Budget:
    """Bytes that may wait; a single larger amount may wait alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._free = threading.Condition()

    def take(self, amount: int) -> None:
        with self._free:
            self._free.wait_for(lambda: self._held == 0 or self._held + amount <= self._most)
            self._held += amount

    def give(self, amount: int) -> None:
        with self._free:
            self._held -= amount
            self._free.notify_all()
