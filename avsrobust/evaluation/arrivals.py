"""Clips whose files lie on other machines: copied when the readers come to them, the next ones meanwhile.

Conventions
    Paths stay what they are: a clip's files are in the copies of build and data (`avsrobust.remote.on_demand`) once its arrival
    was waited for. Builds and data of this machine have no arrivals.
    `_AHEAD` clips after the last that was waited for are under way or here, the files of `_AT_ONCE` clips at a time, each clip's
    side by side. So the first clip can be scored when its own files are here, and a killed evaluation has not copied everything.
    A clip whose files cannot be had fails, as one that cannot be read here does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from avsrobust.evaluation.batches import Batch, LoadedClip
from avsrobust.evaluation.clip_data import ClipRows
from avsrobust.manifest import DATA_PREFIX, Manifest, Row, used_files
from avsrobust.remote.addresses import join
from avsrobust.remote.on_demand import OnDemand, opened
from avsrobust.results import FailedClip
from avsrobust.row_keys import ClipKey

_AHEAD = 24
_AT_ONCE = 4


class Arrivals:
    """The files of clips, as far as they lie on other machines.

    Args:
        build: The manifest that the clips are of.
        data_root: Folder of the data set.
    """

    def __init__(self, build: Manifest, data_root: Path) -> None:
        self._build = opened(build.folder)
        self._data = opened(data_root)
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._expected: Sequence[ClipRows] = ()
        self._coming: Iterator[ClipRows] = iter(())
        self._positions: dict[ClipKey, int] = {}
        self._begun = 0
        self._under_way: dict[ClipKey, Future[str]] = {}

    @property
    def is_local(self) -> bool:
        """Whether there is nothing to wait for."""
        return self._build is None and self._data is None

    def expect(self, clips: Sequence[ClipRows]) -> None:
        """Take notice of the clips that will be waited for, about in this order; make room for them.

        Raises:
            OptionError: The disk has no room.
        """
        if self.is_local or clips is self._expected:
            return
        for source, names in self._files(row for clip in clips for row in clip):
            source.reserve(names)
        with self._lock:
            self._positions = {_key(clip): position for position, clip in enumerate(clips)}
            self._expected, self._coming, self._begun = clips, iter(clips), 0
            self._under_way.clear()

    def wait_for(self, clips: Iterable[ClipRows]) -> None:
        """Wait until the files of some clips are here, or cannot be had."""
        for clip in clips:
            self.wait(clip)

    def awaited(self, clips: Iterable[ClipRows]) -> Iterator[ClipRows]:
        """Yield clips once their files are here, or cannot be had."""
        for clip in clips:
            self.wait(clip)
            yield clip

    def loaded(
        self, batch: Batch, load: Callable[[Batch], list[LoadedClip | FailedClip]]
    ) -> list[LoadedClip | FailedClip]:
        """Return what a reader makes of clips whose files are here, and those that fail since theirs cannot be had.

        Raises:
            OptionError: The store of the files does not answer.
        """
        if self.is_local:
            return load(batch)
        errors = {_key(clip): self.wait(clip) for clip in batch}
        with self._lock:
            for key in errors:
                self._under_way.pop(key, None)
        failed = [FailedClip(*key, error) for key, error in errors.items() if error]
        here = tuple(clip for clip in batch if not errors[_key(clip)])
        return [*(load(here) if here else ()), *failed]

    def wait(self, clip: ClipRows) -> str:
        """Wait until a clip's files are here; return why they cannot be had, "" where they can.

        Raises:
            OptionError: The store of the files does not answer.
        """
        if self.is_local:
            return ""
        key = _key(clip)
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="avsrobust-arrivals")
            while self._begun <= self._positions.get(key, -1) + _AHEAD and (following := next(self._coming, None)):
                self._under_way[_key(following)] = self._pool.submit(self._bring, following)
                self._begun += 1
            # One that nobody expects, or that was read before.
            arrival = self._under_way.get(key) or self._pool.submit(self._bring, clip)
        return arrival.result()

    def end(self) -> None:
        """Begin to fetch nothing more."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None

    def _bring(self, clip: ClipRows) -> str:
        for source, names in self._files(clip):
            for name, reason in sorted(source.bring(names).items()):
                return f"{join(source.url, name)}: cannot be had ({reason}); restore it, and run the same command again"
        return ""

    def _files(self, rows: Iterable[Row]) -> Iterator[tuple[OnDemand, set[str]]]:
        used = used_files(rows)
        of_data = {name for name in used if name.startswith(DATA_PREFIX)}
        if self._data is not None:
            yield self._data, {name.removeprefix(DATA_PREFIX) for name in of_data}
        if self._build is not None:
            yield self._build, used - of_data


def _key(clip: ClipRows) -> ClipKey:
    return clip[0].split, clip[0].clip_id
