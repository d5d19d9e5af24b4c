"""Clips whose files lie on other machines: copied when the readers come to them, the next ones meanwhile.

Conventions
    Paths stay what they are: a clip's files are in the copies of build and data (`avsrobust.remote.on_demand`) once its arrival
    was waited for. Builds and data of this machine have no arrivals.
    `_AHEAD` clips after the last that was waited for are under way or here, the files of `_AT_ONCE` clips at a time, each clip's
    side by side. So the first clip can be scored when its own files are here, and a killed evaluation has not copied everything.
    Files of a clip are held from when they are sent for until it is finished (`Arrivals.done`); then they may go for the room of
    others. Where the bound on copies is too small for `_AHEAD` clips, fewer are sent for; those that are waited for always are.
    Of a clip's sounds those alone are sent for that are read: the files, or the log-mels (`Forms`).
    A clip whose files cannot be had fails, as one that cannot be read here does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from avsrobust.adapters.base import AudioInput
from avsrobust.evaluation.batches import Batch, LoadedClip
from avsrobust.evaluation.clip_data import ClipRows
from avsrobust.manifest import DATA_PREFIX, Manifest, Row, used_files
from avsrobust.remote.addresses import join
from avsrobust.remote.eviction import ENVIRONMENT_CACHE_GB, bound
from avsrobust.remote.messages import tell
from avsrobust.remote.on_demand import OnDemand, opened
from avsrobust.remote.store import size_text
from avsrobust.results import FailedClip
from avsrobust.row_keys import ClipKey

_AHEAD = 24
_AT_ONCE = 4


@dataclass(frozen=True)
class Forms:
    """The forms of a row's sound that are read.

    Attributes:
        sound: The file of the sound.
        log_mel: The array of its log-mel.
    """

    sound: bool = True
    log_mel: bool = True

    @classmethod
    def of(cls, adapter: object) -> Forms:
        """Return the forms that are read for an adapter."""
        log_mel = AudioInput.of(getattr(adapter, "audio", None)).kind in ("log_mel", "embedding")
        # One that is told where a clip's files lie may read its sound, whatever it is given.
        return cls(sound=not log_mel or bool(getattr(adapter, "needs_clips", False)), log_mel=log_mel)

    def files_of(self, rows: Iterable[Row]) -> set[str]:
        """Return the files of rows that are read, as `manifest.used_files` names them."""
        return used_files(rows, sound=self.sound, log_mel=self.log_mel)


class Arrivals:
    """The files of clips, as far as they lie on other machines.

    Args:
        build: The manifest that the clips are of.
        data_root: Folder of the data set.

    Attributes:
        forms: The forms of sounds that are read; all, until it is set.
    """

    def __init__(self, build: Manifest, data_root: Path) -> None:
        self._build = opened(build.folder)
        self._data = opened(data_root)
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._expected: Sequence[ClipRows] = ()
        self._positions: dict[ClipKey, int] = {}
        self._begun = 0
        self._under_way: dict[ClipKey, Future[str]] = {}
        self._held: dict[ClipKey, list[tuple[OnDemand, set[str]]]] = {}
        self.forms = Forms()

    @property
    def _sources(self) -> list[OnDemand]:
        return [source for source in (self._build, self._data) if source is not None]

    @property
    def is_local(self) -> bool:
        """Whether there is nothing to wait for."""
        return self._build is None and self._data is None

    def expect(self, clips: Sequence[ClipRows]) -> None:
        """Take notice of the clips that will be waited for, about in this order.

        Raises:
            OptionError: The disk has no room.
        """
        if self.is_local or clips is self._expected:
            return
        total = 0
        for source, names in self._files(row for clip in clips for row in clip):
            source.announce(names)
            total += sum(source.sizes.get(name, 0) for name in names)
        if total > (limit := bound()):
            tell(
                f"the clips take {size_text(total)}, more than the {size_text(int(limit))} of {ENVIRONMENT_CACHE_GB}: files of "
                "finished ones go as others come"
            )
        with self._lock:
            self._positions = {_key(clip): position for position, clip in enumerate(clips)}
            self._expected, self._begun = clips, 0
            self._under_way.clear()
            self._release(list(self._held))

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
            self._send_for(self._positions.get(key, -1), self._pool)
            # One that nobody expects, or that is read again.
            self._hold([clip])
            arrival = self._under_way.get(key)
        # One that nobody expects, or that was read before, does not wait for others.
        return self._bring(clip) if arrival is None else arrival.result()

    def done(self, key: ClipKey) -> None:
        """Let the files of a clip go, which is finished."""
        with self._lock:
            self._release([key])

    def end(self) -> None:
        """Begin to fetch nothing more."""
        with self._lock:
            self._release(list(self._held))
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None

    def _send_for(self, position: int, pool: ThreadPoolExecutor) -> None:
        """Have clips up to this position and `_AHEAD` further ones brought; the caller holds the lock."""
        # Several at a time: each time the list of files that are held is written.
        if self._begun > position + _AHEAD + 1 - max(1, _AHEAD // 4):
            return
        following: list[ClipRows] = []
        room = bound() - sum(source.held_bytes for source in self._sources)
        for number in range(self._begun, min(position + _AHEAD + 1, len(self._expected))):
            clip = self._expected[number]
            room -= sum(source.sizes.get(name, 0) for source, names in self._files(clip) for name in names)
            if room < 0 and number > position:
                break
            following.append(clip)
        self._hold(following)
        for clip in following:
            self._under_way[_key(clip)] = pool.submit(self._bring, clip)
        self._begun += len(following)

    def _hold(self, clips: Iterable[ClipRows]) -> None:
        """Hold the files of clips that are not held yet; the caller holds the lock."""
        of_clips = {_key(clip): list(self._files(clip)) for clip in clips if _key(clip) not in self._held}
        for source in self._sources:
            names = [name for files in of_clips.values() for of, some in files if of is source for name in some]
            if names:
                source.hold(names)
        self._held.update(of_clips)

    def _release(self, keys: Iterable[ClipKey]) -> None:
        for key in keys:
            for source, names in self._held.pop(key, ()):
                source.release(names)

    def _bring(self, clip: ClipRows) -> str:
        for source, names in self._files(clip):
            for name, reason in sorted(source.bring(names).items()):
                return f"{join(source.url, name)}: cannot be had ({reason}); restore it, and run the same command again"
        return ""

    def _files(self, rows: Iterable[Row]) -> Iterator[tuple[OnDemand, set[str]]]:
        used = self.forms.files_of(rows)
        of_data = {name for name in used if name.startswith(DATA_PREFIX)}
        if self._data is not None:
            yield self._data, {name.removeprefix(DATA_PREFIX) for name in of_data}
        if self._build is not None:
            yield self._build, used - of_data


def _key(clip: ClipRows) -> ClipKey:
    return clip[0].split, clip[0].clip_id
