"""The audio source of a manifest row: a file of the data set, or a sound that is made.

Conventions
    `audio` is the manifest's value: relative to the build's folder, or with the prefix ``data:`` to the data root, or with
    ``made:`` for a sound that has no file (`unstored`). Two rows with equal `audio` share one sound.
    A made sound is mono int16 [S] at `sample_rate` Hz, and its samples follow from its own fields (and the files it names), so
    that any worker makes the same bytes.
    `home` groups sounds on disk: a split, or `SHARED` for sounds that no split owns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.definitions import Definition, ReadFile, Recording, files_of, render
from avsrobust.clips import Clip
from avsrobust.manifest import DATA_PREFIX, MADE_PREFIX

SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound file: its path, rate in Hz and samples per channel."""

    audio: str
    home: str
    sample_rate: int
    num_samples: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def definition(self) -> Definition | None:
        """Definition of the sound, where a manifest can hold it."""
        return None


@dataclass(frozen=True, slots=True)
class MadeSound(Sound):
    """A sound that the build makes."""

    def samples(self, read: ReadFile) -> NDArray[np.int16]:
        """Return the samples, int16 [num_samples]; `read` reads the recordings it is made from."""
        raise NotImplementedError(f"{type(self).__name__} must define samples(read)")

    @property
    def files(self) -> tuple[str, ...]:
        """The recordings it is made from, as in a manifest."""
        return ()


@dataclass(frozen=True, slots=True)
class DefinedSound(MadeSound):
    """A sound that a definition makes (`avsrobust.audio.definitions`)."""

    text: Definition

    @classmethod
    def of(cls, clip: Clip, condition: str, definition: Definition, detail: str = "") -> DefinedSound:
        """Return the sound that `definition` makes for a row of `clip`, at the clip's rate and of its length."""
        audio = made_path(clip, condition, detail)
        return cls(audio, clip.split, clip.sound.sample_rate, clip.sound.num_samples, definition)

    @property
    def definition(self) -> Definition:
        """Definition of the sound."""
        return self.text

    @property
    def files(self) -> tuple[str, ...]:
        """The recordings it is made from."""
        return tuple(dict.fromkeys(files_of(self.text)))

    def samples(self, read: ReadFile) -> NDArray[np.int16]:
        """Return the samples, int16 [num_samples]."""
        return render(self.text, read).samples


def sound_of(clip: Clip) -> Sound:
    """Return the clip's own sound, the file of the data set."""
    return Sound(DATA_PREFIX + clip.audio, clip.split, clip.sound.sample_rate, clip.sound.num_samples)


def own_sound(clip: Clip) -> Recording:
    """Return the clip's own sound as an operation: mono, at its own rate and of its own length."""
    return Recording(
        file=DATA_PREFIX + clip.audio, sample_rate=clip.sound.sample_rate, num_samples=clip.sound.num_samples
    )


def lent_sound(clip: Clip, source: Clip) -> Recording:
    """Return the sound of `source` at the rate of `clip` and of the length of its sound; repeated where it is shorter."""
    return Recording(
        file=DATA_PREFIX + source.audio, sample_rate=clip.sound.sample_rate, num_samples=clip.sound.num_samples
    )


def made_path(clip: Clip, condition: str, detail: str = "") -> str:
    """Return the path of a row's sound in the build's folder, whether or not it is stored."""
    return "/".join(part for part in ("audio", condition, detail, clip.split, f"{clip.clip_id}.wav") if part)


def detail_of(level: float | None, draw: int) -> str:
    """Return the part of a path that tells the rows of one clip and condition apart; empty for one without level and draw.

    Levels that differ as float32, as the manifest stores them, differ here.

    >>> detail_of(-3.0, 0), detail_of(0.1, 1), detail_of(None, 2), detail_of(None, 0)
    ('-3', '0.1-draw1', 'draw2', '')
    """
    return "-".join(part for part in ("" if level is None else f"{level:.9g}", f"draw{draw}" if draw else "") if part)


def unstored(sound: Sound) -> Sound:
    """Return a sound that a definition makes as one without a file; others as they are."""
    if sound.definition is None or not isinstance(sound, MadeSound):
        return sound
    return replace(sound, audio=MADE_PREFIX + sound.audio)


def is_unstored(sound: Sound) -> bool:
    """Return whether a sound has no file."""
    return sound.audio.startswith(MADE_PREFIX)
