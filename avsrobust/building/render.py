"""Working on a build's files: looking at the data set's, making sounds and pictures, checking what was made earlier.

Conventions
    A task is a small picklable value that names everything it needs, so that any process can do it; its result depends on
    nothing else. Files are written whole or not at all, and are on disk, noted in the journal, before their task returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.definitions import ReadFile
from avsrobust.audio.front_ends import MARGIN_S
from avsrobust.audio.io import read_samples, wav_bytes
from avsrobust.building.journal import record
from avsrobust.checksums import FileSum, sum_of_content, sum_of_file
from avsrobust.clips import Clip
from avsrobust.conditions.noise import ReleasedNoiseSound, with_states
from avsrobust.conditions.pictures import MadePicture
from avsrobust.conditions.sounds import MadeSound
from avsrobust.datasets.contents import ClipContents, read_contents, read_sound_contents
from avsrobust.errors import RecipeError
from avsrobust.files import put_bytes, resolve_inside
from avsrobust.manifest import DATA_PREFIX
from avsrobust.plugins import one_line

T = TypeVar("T")

_INSPECTED_AT_ONCE = 16
_MADE_AT_ONCE = 32
_CHECKED_AT_ONCE = 64


@dataclass(frozen=True)
class Roots:
    """The two folders that a manifest's paths start from, both absolute."""

    output: Path
    data: Path

    def read(self, name: str, seconds: float) -> tuple[NDArray[np.float64], int]:
        """Return the samples of a recording, float64 [S, channels], `seconds` of it at least, and its rate in Hz."""
        return read_samples(self.sound_path(name), longest_s=seconds + MARGIN_S)

    def sound_path(self, audio: str) -> Path:
        """Return the file of a manifest's `audio`."""
        if audio.startswith(DATA_PREFIX):
            return resolve_inside(self.data, audio.removeprefix(DATA_PREFIX), named_by="the plan")
        return resolve_inside(self.output, audio, named_by="the plan")


@dataclass(frozen=True)
class LookTask:
    """Clips whose files are to be looked at, or only their sounds."""

    data: Path
    clips: tuple[Clip, ...]
    sounds_only: bool = False


@dataclass(frozen=True)
class CheckTask:
    """Files of the build in `output` that are there, and what they should be."""

    output: Path
    files: tuple[FileSum, ...]


@dataclass(frozen=True)
class MakeTask:
    """Sounds to make."""

    roots: Roots
    sounds: tuple[MadeSound, ...]


@dataclass(frozen=True)
class PictureTask:
    """Pictures to make."""

    roots: Roots
    pictures: tuple[MadePicture, ...]


def look_tasks(data: Path, clips: Sequence[Clip], *, sounds_only: bool = False) -> list[LookTask]:
    """Return the tasks that look at the files of these clips, or only their sounds, below the data root `data`."""
    return [LookTask(data, part, sounds_only) for part in _parts(clips, _INSPECTED_AT_ONCE)]


def check_tasks(output: Path, files: Sequence[FileSum]) -> list[CheckTask]:
    """Return the tasks that check these files of the build."""
    return [CheckTask(output, part) for part in _parts(files, _CHECKED_AT_ONCE)]


def make_tasks(roots: Roots, sounds: Sequence[MadeSound]) -> list[MakeTask]:
    """Return the tasks that make these sounds."""
    # The released noise is one long sequence: its states are found in one pass here, not one pass per worker.
    released = [sound for sound in sounds if isinstance(sound, ReleasedNoiseSound)]
    ready = {sound.audio: sound for sound in with_states(released)}
    return [
        MakeTask(roots, part) for part in _parts([ready.get(sound.audio, sound) for sound in sounds], _MADE_AT_ONCE)
    ]


def picture_tasks(roots: Roots, pictures: Sequence[MadePicture]) -> list[PictureTask]:
    """Return the tasks that make these pictures."""
    return [PictureTask(roots, part) for part in _parts(pictures, _MADE_AT_ONCE)]


def look_at_clips(task: LookTask) -> list[ClipContents]:
    """Look at the files of clips."""
    look = read_sound_contents if task.sounds_only else read_contents
    return [look(task.data, clip) for clip in task.clips]


def check_files(task: CheckTask) -> list[FileSum]:
    """Return those files that are what they should be."""
    return [entry for entry in task.files if _is_as(task.output, entry)]


def make_sounds(task: MakeTask) -> list[FileSum]:
    """Make sounds and return their checksums. A file that holds the very bytes already stays as it is."""
    made = []
    for sound in task.sounds:
        path = task.roots.sound_path(sound.audio)
        content = wav_bytes(path, samples_of(sound, task.roots.read), sound.sample_rate)
        put_bytes(path, content)
        made.append(sum_of_content(sound.audio, content))
    record(task.roots.output, made)
    return made


def samples_of(sound: MadeSound, read: ReadFile) -> NDArray[np.int16]:
    """Return the samples of a sound, int16 [num_samples].

    Raises:
        RecipeError: A plug-in's sound raises, or returns anything else.
        AvsRobustError: A recording that it is made from cannot be read.
    """
    with one_line(f"{sound.audio}: making the sound", RecipeError):
        made: object = sound.samples(read)
    if isinstance(made, np.ndarray) and made.shape == (sound.num_samples,) and made.dtype == np.int16:
        return made
    found = f"{made.dtype} {list(made.shape)}" if isinstance(made, np.ndarray) else type(made).__name__
    raise RecipeError(
        f"{sound.audio}: found samples of {found}; expected int16 [{sound.num_samples}]; mend the plug-in"
    )


def make_pictures(task: PictureTask) -> list[FileSum]:
    """Make pictures and return their checksums. A file that holds the very bytes already stays as it is."""
    made = []
    for picture in task.pictures:
        content = picture.content(task.roots.data)
        put_bytes(resolve_inside(task.roots.output, picture.path, named_by="the plan"), content)
        made.append(sum_of_content(picture.path, content))
    record(task.roots.output, made)
    return made


def _is_as(output: Path, expected: FileSum) -> bool:
    path = resolve_inside(output, expected.path, named_by="the plan")
    try:
        return path.stat().st_size == expected.num_bytes and sum_of_file(expected.path, path) == expected
    except OSError:
        return False


def _parts(items: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    iterator = iter(items)
    while part := tuple(islice(iterator, size)):
        yield part
