"""What a row is heard with: a file of the data set, or one that the build makes.

Conventions
    `audio` is the manifest's value: relative to the build's folder, or with the prefix ``data:`` to the data root.
    Two rows with equal `audio` share one file. A made sound is mono int16 [S] at `sample_rate` Hz, and its samples follow
    from its own fields (and the data set's files), so that any worker makes the same bytes.
    `home` groups sounds on disk: a split, or `SHARED` for sounds that no split owns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsrobust.datasets.clips import Clip
from avsrobust.manifest import DATA_PREFIX

SHARED = "shared"


@dataclass(frozen=True)
class Sound:
    """A sound file: where it is, its rate in Hz and its samples per channel."""

    audio: str
    home: str
    sample_rate: int
    num_samples: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate


@dataclass(frozen=True)
class MadeSound(Sound):
    """A sound that the build makes."""

    def samples(self, data_root: Path) -> NDArray[np.int16]:
        """Return the samples, int16 [num_samples]."""
        raise NotImplementedError(f"{type(self).__name__} must define samples(data_root)")


def sound_of(clip: Clip) -> Sound:
    """Return the clip's own sound, the file of the data set."""
    return Sound(DATA_PREFIX + clip.audio, clip.split, clip.sound.sample_rate, clip.sound.num_samples)
