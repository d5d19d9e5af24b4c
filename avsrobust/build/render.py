"""Making the files of a plan: sounds, checksums, log-mel shards; every function can run in any process.

Conventions
    A task is a small picklable value that names everything it needs; its result depends on nothing else. Files are written
    whole or not at all, so what is there under its name is good and is not made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from avsrobust.audio.features import FRONT_ENDS
from avsrobust.audio.io import read_samples, write_wav
from avsrobust.build.layout import Shard
from avsrobust.conditions.noise import ReleasedNoiseSound, with_states
from avsrobust.conditions.sounds import MadeSound
from avsrobust.errors import AudioError
from avsrobust.files import atomic_path, resolve_inside, sha256_of_file
from avsrobust.manifest import DATA_PREFIX

T = TypeVar("T")

_INSPECTED_AT_ONCE = 32
_MADE_AT_ONCE = 32
_WAV_HEADER = 44


@dataclass(frozen=True)
class Roots:
    """The two folders that a manifest's paths start from, both absolute."""

    output: Path
    data: Path

    def sound_path(self, audio: str) -> Path:
        """Return the file of a manifest's `audio`."""
        if audio.startswith(DATA_PREFIX):
            return resolve_inside(self.data, audio.removeprefix(DATA_PREFIX), named_by="the plan")
        return resolve_inside(self.output, audio, named_by="the plan")


@dataclass(frozen=True)
class InspectTask:
    """Sounds of the data set to decode and sum up."""

    roots: Roots
    audio: tuple[str, ...]


@dataclass(frozen=True)
class Inspected:
    """A sound's checksum, or what is wrong with it."""

    audio: str
    sha256: str
    problem: str | None = None


@dataclass(frozen=True)
class MakeTask:
    """Sounds to make."""

    roots: Roots
    sounds: tuple[MadeSound, ...]


@dataclass(frozen=True)
class ShardTask:
    """A log-mel shard to make."""

    roots: Roots
    shard: Shard


@dataclass(frozen=True)
class MadeFile:
    """A sound of the build: its checksum, and whether it was made now or was there."""

    audio: str
    sha256: str
    now: bool


def inspect_tasks(roots: Roots, audio: Sequence[str]) -> list[InspectTask]:
    """Return the tasks that look at these sounds of the data set."""
    return [InspectTask(roots, part) for part in _parts(audio, _INSPECTED_AT_ONCE)]


def make_tasks(roots: Roots, sounds: Sequence[MadeSound]) -> list[MakeTask]:
    """Return the tasks that make these sounds."""
    missing = {sound.audio for sound in sounds if not sound_is_there(roots, sound)}
    # The released noise is one long sequence: its states are found in one pass here, not one pass per worker.
    released = [sound for sound in sounds if isinstance(sound, ReleasedNoiseSound) and sound.audio in missing]
    ready = {sound.audio: sound for sound in with_states(released)}
    return [
        MakeTask(roots, part) for part in _parts([ready.get(sound.audio, sound) for sound in sounds], _MADE_AT_ONCE)
    ]


def inspect_sounds(task: InspectTask) -> list[Inspected]:
    """Decode sounds of the data set and return their checksums."""
    return [_inspect(task.roots, audio) for audio in task.audio]


def make_sounds(task: MakeTask) -> list[MadeFile]:
    """Make the sounds that are not there, and return the checksums of all."""
    return [_make_sound(task.roots, sound) for sound in task.sounds]


def make_shard(task: ShardTask) -> int:
    """Compute a shard's log-mels and write them; return how many."""
    shard = task.shard
    array = np.empty(shard.shape, dtype=np.float32)
    for index, (audio, front_end) in enumerate(shard.sounds):
        array[index] = FRONT_ENDS[front_end](task.roots.sound_path(audio), shard.num_frames)
    with atomic_path(task.roots.output / shard.path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return len(shard.sounds)


def sound_is_there(roots: Roots, sound: MadeSound) -> bool:
    """Tell whether a made sound's file is there, by its size."""
    try:
        return roots.sound_path(sound.audio).stat().st_size == _WAV_HEADER + 2 * sound.num_samples
    except OSError:
        return False


def shard_is_there(roots: Roots, shard: Shard) -> bool:
    """Tell whether a shard's file is there, by its size and header."""
    try:
        array = np.load(roots.output / shard.path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return False
    return bool(array.shape == shard.shape and array.dtype == np.float32)


def _inspect(roots: Roots, audio: str) -> Inspected:
    path = roots.sound_path(audio)
    try:
        read_samples(path)
        return Inspected(audio, sha256_of_file(path))
    except AudioError as error:
        return Inspected(audio, "", str(error))


def _make_sound(roots: Roots, sound: MadeSound) -> MadeFile:
    path = roots.sound_path(sound.audio)
    there = sound_is_there(roots, sound)
    if not there:
        write_wav(path, sound.samples(roots.data), sound.sample_rate)
    return MadeFile(sound.audio, sha256_of_file(path), not there)


def _parts(items: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    iterator = iter(items)
    while part := tuple(islice(iterator, size)):
        yield part
