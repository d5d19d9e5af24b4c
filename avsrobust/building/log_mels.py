"""Making a build's log-mel arrays, so that each recording is opened once for all log-mels that are made of it.

Conventions
    A recording has several log-mels where clips of different lengths share it (AVSS has clips of 5 and of 10 frames), or where
    conditions have different front ends. The shards are made in rounds, and no two shards of a round share a recording.
    The one in the earliest round reads the recording, and hands the log-mels that are not its own on to the others, in
    temporary files; each goes once its shard is made. What was handed on does not outlive its build: the next one reads again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.front_ends import log_mels_of_file
from avsrobust.building.engine import Engine
from avsrobust.building.journal import record
from avsrobust.building.layout import Shard
from avsrobust.building.render import Roots
from avsrobust.checksums import FileSum, sum_of_file
from avsrobust.files import TEMPORARY_SUFFIX, atomic_path


@dataclass(frozen=True)
class ShardTask:
    """A log-mel shard to make.

    Attributes:
        roots: The folders.
        shard: The shard.
        given: Log-mels of it that shards of earlier rounds have made, in temporary files.
        handed_on: Log-mels that shards of later rounds need of the recordings that this one reads, and where to put them.
    """

    roots: Roots
    shard: Shard
    given: tuple[Shard, ...] = ()
    handed_on: tuple[Shard, ...] = ()


def make_shards(engine: Engine, roots: Roots, shards: Sequence[Shard]) -> Iterator[tuple[Shard, FileSum]]:
    """Make log-mel shards on an engine; yield each with its file's checksum once it is on disk."""
    rounds = shard_tasks(roots, shards)
    try:
        for tasks in rounds:
            for task, entry in zip(tasks, engine.map(make_shard, tasks), strict=True):
                yield task.shard, entry
    finally:
        for part in (part for tasks in rounds for task in tasks for part in task.handed_on):
            (roots.output / part.path).unlink(missing_ok=True)


def shard_tasks(roots: Roots, shards: Sequence[Shard]) -> list[list[ShardTask]]:
    """Return the tasks that make these shards, in rounds, in each in the order of `shards`."""
    readers: dict[str, dict[int, Shard]] = defaultdict(dict)
    round_of: dict[str, int] = {}
    # The longest first: what is handed on is shorter then.
    for shard in sorted(shards, key=lambda shard: -shard.num_frames):
        busy = {number for audio, _ in shard.sounds for number in readers[audio]}
        round_of[shard.path] = next(number for number in count() if number not in busy)
        for audio, _ in shard.sounds:
            readers[audio][round_of[shard.path]] = shard
    handed_on: dict[str, list[Shard]] = defaultdict(list)
    given: dict[str, list[Shard]] = defaultdict(list)
    for shard in shards:
        of_reader: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for sound in shard.sounds:
            reader = readers[sound[0]][min(readers[sound[0]])]
            if reader.path != shard.path:
                of_reader[reader.path].append(sound)
        for number, (reader_path, sounds) in enumerate(of_reader.items()):
            path = PurePosixPath(shard.path)
            part = Shard(
                str(path.with_name(f".{path.stem}-{number}{TEMPORARY_SUFFIX}")), shard.num_frames, tuple(sounds)
            )
            handed_on[reader_path].append(part)
            given[shard.path].append(part)
    rounds: list[list[ShardTask]] = [[] for _ in range(max(round_of.values(), default=-1) + 1)]
    for shard in shards:
        task = ShardTask(roots, shard, tuple(given[shard.path]), tuple(handed_on[shard.path]))
        rounds[round_of[shard.path]].append(task)
    return rounds


def make_shard(task: ShardTask) -> FileSum:
    """Compute a shard's log-mels, and those that it hands on, and write them; return the shard's checksum."""
    output, shard = task.roots.output, task.shard
    made = [(part, np.empty(part.shape, dtype=np.float32)) for part in (shard, *task.handed_on)]
    ready = _read_parts(output, task.given)
    to_read: dict[str, list[tuple[str, int, NDArray[np.float32]]]] = defaultdict(list)
    for part, array in made:
        for index, sound in enumerate(part.sounds):
            if sound in ready:
                array[index] = ready[sound]
            else:
                audio, front_end = sound
                to_read[audio].append((front_end, part.num_frames, array[index]))
    for audio, places in to_read.items():
        log_mels = log_mels_of_file(task.roots.sound_path(audio), [place[:2] for place in places])
        for (_, _, place), log_mel in zip(places, log_mels, strict=True):
            place[:] = log_mel
    for part, array in reversed(made):
        with atomic_path(output / part.path, flush=False) as temporary, temporary.open("wb") as stream:
            np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    entry = sum_of_file(shard.path, output / shard.path)
    record(output, [entry])
    for part in task.given:
        (output / part.path).unlink(missing_ok=True)
    return entry


def _read_parts(output: Path, parts: Sequence[Shard]) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Return the log-mels that were handed on, by their sounds."""
    ready: dict[tuple[str, str], NDArray[np.float32]] = {}
    for part in parts:
        ready.update(zip(part.sounds, np.load(output / part.path, allow_pickle=False), strict=True))
    return ready
