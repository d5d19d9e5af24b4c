"""Files of training that lie on other machines: copied when the readers come to them, the next ones meanwhile.

Conventions
    Paths stay what they are: files are in the copies of build and data (`avsrobust.remote.on_demand`) once they were brought.
    Builds and data of this machine have nothing to bring.
    What is brought for batches stays while this process lives: it is read again in the next epoch. What is brought for one pass
    (`passing`) may go when it was read.
    The process that trains brings the files; those that read wait for it (`avsrobust.training.loading`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from avsrobust.errors import DataSetError
from avsrobust.manifest import DATA_PREFIX
from avsrobust.remote import join
from avsrobust.remote.on_demand import OnDemand, opened

Work = TypeVar("Work")
# Works whose files are under way while one is done.
_AHEAD = 2


@dataclass(frozen=True)
class BuildFiles:
    """Files that a build's rows name, as ``checksums.parquet`` does: with ``data:`` below the data root, else the build.

    Attributes:
        build: Number of the build.
        names: The files.
    """

    build: int
    names: frozenset[str]


class TrainingArrivals:
    """The files of builds, as far as they lie on other machines.

    Args:
        folders: Of each build, the folder of its data set and its own.
    """

    def __init__(self, folders: Iterable[tuple[Path, Path]]) -> None:
        self._sources = [(opened(data), opened(build)) for data, build in folders]
        self._kept: set[tuple[int, str]] = set()

    @property
    def is_local(self) -> bool:
        """Whether there is nothing to bring."""
        return not any(source is not None for sources in self._sources for source in sources)

    def announce(self, files: Iterable[BuildFiles]) -> None:
        """Tell of files that will be brought.

        Raises:
            OptionError: The disk has no room.
        """
        for source, names in self._by_source(files):
            source.announce(names)

    def passing(self, works: Iterable[tuple[Work, Sequence[BuildFiles]]]) -> Iterator[Work]:
        """Yield works once their files are here, which may go when the next one is asked for.

        Raises:
            DataSetError: A file cannot be had.
            OptionError: The store of the files does not answer, or the disk has no room.
        """
        for work, files in _ahead(self, works, keep=False):
            try:
                yield work
            finally:
                self.release(files)

    def staying(self, works: Iterable[tuple[Work, Sequence[BuildFiles]]]) -> Iterator[Work]:
        """Yield works once their files are here, which stay while this process lives; raises as `passing` does."""
        for work, _ in _ahead(self, works, keep=True):
            yield work

    def hold(self, files: Sequence[BuildFiles], *, keep: bool) -> None:
        """Hold files, or keep them for good."""
        for source, names in self._by_source(files):
            if keep:
                source.keep(names)
            else:
                source.hold(names)

    def bring(self, files: Sequence[BuildFiles]) -> None:
        """Fetch files that are held, as far as they are not here; raises as `passing` does."""
        for source, names in self._by_source(files):
            for name, reason in sorted(source.bring(names).items()):
                raise DataSetError(
                    f"{join(source.url, name)}: cannot be had ({reason}); restore it, and run the same command again"
                )

    def release(self, files: Sequence[BuildFiles]) -> None:
        """Let go of files that were held."""
        for source, names in self._by_source(files):
            source.release(names)

    def unkept(self, files: Sequence[BuildFiles]) -> list[BuildFiles]:
        """Return those of some files that this was not called with before."""
        found = []
        for entry in files:
            names = frozenset(name for name in entry.names if (entry.build, name) not in self._kept)
            self._kept.update((entry.build, name) for name in names)
            if names:
                found.append(BuildFiles(entry.build, names))
        return found

    def _by_source(self, files: Iterable[BuildFiles]) -> list[tuple[OnDemand, set[str]]]:
        found: dict[OnDemand, set[str]] = {}
        for entry in files:
            data, build = self._sources[entry.build]
            of_data = {name for name in entry.names if name.startswith(DATA_PREFIX)}
            for source, names in (
                (data, {name.removeprefix(DATA_PREFIX) for name in of_data}),
                (build, entry.names - of_data),
            ):
                if source is not None and names:
                    found.setdefault(source, set()).update(names)
        return list(found.items())


def _arrived(
    under_way: deque[tuple[Work, Sequence[BuildFiles], Future[None]]],
) -> tuple[Work, Sequence[BuildFiles]]:
    """Wait for the first of the works that are under way, and take it out."""
    work, files, arrival = under_way[0]
    arrival.result()
    under_way.popleft()
    return work, files


def _ahead(
    arrivals: TrainingArrivals, works: Iterable[tuple[Work, Sequence[BuildFiles]]], *, keep: bool
) -> Iterator[tuple[Work, Sequence[BuildFiles]]]:
    """Yield works and their files, which are held and here, while the files of the next ones are brought in a thread."""
    under_way: deque[tuple[Work, Sequence[BuildFiles], Future[None]]] = deque()
    pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="avsrobust-arrivals")
    try:
        for work, files in works:
            due = arrivals.unkept(files) if keep else files
            arrivals.hold(due, keep=keep)
            under_way.append((work, files, pool.submit(arrivals.bring, due)))
            if len(under_way) > _AHEAD:
                yield _arrived(under_way)
        while under_way:
            yield _arrived(under_way)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if not keep:
            for _, files, _ in under_way:
                arrivals.release(files)
