"""A condition: a rule that gives every clip of a data set the audio it is evaluated with.

Conventions
    A condition is a frozen dataclass whose fields are its options in a recipe (`avsrobust.schemas` checks their types); it has a
    module of its own and a name in `avsrobust.conditions.registry`, or is named in a recipe as ``package.module:Class`` or
    ``file.py:Class``. It looks at the table of clips, never at the disk, and draws only from the row's seed.
    `polarity` says whether the picture's objects do sound under it ("positive") or none of them does ("negative").
    A level is a number in the condition's own unit (`level_unit`); a draw is one of several rows that differ by their seed alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from avsrobust.audio.definitions import Definition
from avsrobust.clips import Clip
from avsrobust.conditions.pictures import Picture
from avsrobust.conditions.reference import ReleasedListing
from avsrobust.conditions.sounds import DefinedSound, Sound, detail_of

# Rules of our own, or those of the released AVSBench-Robust generator (`avsrobust.conditions.reference`).
STANDARD: Literal["standard"] = "standard"
RELEASED: Literal["released"] = "released"
Generator = Annotated[
    Literal["standard", "released"], Field(json_schema_extra={"expected": "one of standard, released"})
]

# Where source clips come from: the clip's split, all splits of the data set, or all data sets of the release.
SPLIT: Literal["split"] = "split"
DATASET: Literal["dataset"] = "dataset"
RELEASE: Literal["release"] = "release"
_LATER = "later"
POOLS = (SPLIT, DATASET, RELEASE)
Pool = Literal["split", "dataset", "release"]

Color = Literal["white", "gaussian", "pink"]

# Types of options: levels in dB, and levels above 0 (s, Hz).
_Finite = Field(strict=True, allow_inf_nan=False, ge=-200, le=200)
_Above0 = Field(strict=True, allow_inf_nan=False, gt=0, le=1_000_000)
Decibel = Annotated[float, _Finite]
Decibels = Annotated[tuple[Decibel, ...], Field(min_length=1, max_length=100)]
PositiveLevels = Annotated[tuple[Annotated[float, _Above0], ...], Field(min_length=1, max_length=100)]


@dataclass(frozen=True, slots=True)
class Choice:
    """The audio that a clip is given.

    Attributes:
        sound: The audio.
        source: The clip it comes from where that is another one.
        fallback: The rule's own demands could not be met and a weaker rule was.
        picture: Frames and masks of the row where they are not the clip's own.
    """

    sound: Sound
    source: Clip | None = None
    fallback: bool = False
    picture: Picture | None = None


@dataclass(frozen=True)
class Unavailable:
    """Reason why a clip can be given no audio under a condition."""

    reason: str


SILENT = Unavailable("its own recording is silent, so there is no level to set another one by")


@dataclass(frozen=True)
class PlannedRecording:
    """One of a user's recordings, as the build stores it.

    Attributes:
        name: Its path in the user's folder, for people.
        stored: Path of the build's copy, mono and 16-bit, relative to the build's folder.
        sha256: Checksum of the user's file.
        sample_rate: In Hz.
        num_samples: Samples that are kept.
    """

    name: str
    stored: str
    sha256: str
    sample_rate: int
    num_samples: int


@dataclass(frozen=True)
class RecordingPool:
    """The recordings of a user's folder that a condition draws from.

    Attributes:
        recordings: Sorted by name.
        skipped: (name, reason) of the files that are not used.
    """

    recordings: tuple[PlannedRecording, ...]
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PlannedDataset:
    """The clips that a plan is made for, and the other facts that a condition may use.

    Attributes:
        dataset: Name of the data set.
        clips: Its clips, those that rows are made for.
        seed: Seed of the build.
        off_screen_obstacle: Reason why off-screen sounds cannot be chosen; None: they can.
        listing: Files that the released generator finds on disk (None: those of the table of clips).
        pool: Clips of other splits and data sets of the same release, whose sounds may be lent to clips.
        recordings: Recordings of a user's folder, by condition (`avsrobust.conditions.unseen`).
    """

    dataset: str
    clips: tuple[Clip, ...]
    seed: int
    off_screen_obstacle: str | None = None
    listing: ReleasedListing | None = None
    pool: tuple[Clip, ...] = ()
    recordings: Mapping[str, RecordingPool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One row to choose audio for.

    Attributes:
        condition: Name of the condition in the recipe.
        clip: The clip.
        level: In the condition's unit; None where it has none.
        draw: Number of the draw, from 0.
        seed: The row's own seed, 0 .. 2**64 - 1.
        seed_of: Returns the seed of a draw of this clip at a level.
    """

    condition: str
    clip: Clip
    level: float | None
    draw: int
    seed: int
    seed_of: Callable[[float | None, int], int]

    @property
    def clip_seed(self) -> int:
        """A seed that all levels and draws of the clip under this condition share."""
        return self.seed_of(None, 0)

    def sound(self, definition: Definition) -> DefinedSound:
        """Return the audio of the row that `definition` makes."""
        return DefinedSound.of(self.clip, self.condition, definition, detail_of(self.level, self.draw))

    @property
    def draw_seeds(self) -> list[int]:
        """The seeds of all draws up to the row's own."""
        return [*(self.seed_of(self.level, draw) for draw in range(self.draw)), self.seed]


Chooser = Callable[[Request], Choice | Unavailable]


@dataclass(frozen=True)
class SoundOfClip:
    """A chooser that gives every clip a sound that follows from the clip and the row's seed alone.

    A plan holds no objects of its rows, and makes the sounds when they are asked for.

    Attributes:
        sound: Returns the sound of a clip's row with this seed; all are of one class.
    """

    sound: Callable[[Clip, int], Sound]

    def __call__(self, request: Request) -> Choice:
        """Return the answer to one request."""
        return Choice(self.sound(request.clip, request.seed))


@runtime_checkable
class LendingChooser(Protocol):
    """A chooser whose every choice is the own sound of a source clip, and no more; a plan holds the sources by number."""

    def __call__(self, request: Request) -> Choice | Unavailable:
        """Return the answer to one request."""

    def first_draws(self, clips: Sequence[Clip], seeds: NDArray[np.uint64]) -> Sequence[Clip | None]:
        """Return the source clip of each clip's first draw by the seed of its row: faster than one request after the other.

        None for clips that need a request of their own.
        """


@dataclass(frozen=True)
class Condition:
    """Base class of all conditions."""

    name: ClassVar[str]
    polarity: ClassVar[str]
    level_unit: ClassVar[str | None] = None

    @property
    def levels(self) -> tuple[float | None, ...]:
        """Levels, a row for each, in `level_unit`; (None,) for a condition that has none."""
        return (None,)

    @property
    def draws(self) -> int:
        """Rows per clip and level that differ by their seed alone."""
        return 1

    @property
    def pool(self) -> str:
        """Where source clips come from: `SPLIT`, `DATASET` or `RELEASE`."""
        return SPLIT

    @property
    def highest_seed(self) -> int | None:
        """Highest seed the condition can work with, where that is less than any."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the manifest about the way this condition was made."""
        return ()

    @property
    def needs_listing(self) -> bool:
        """Whether the condition depends on the files that the released generator finds on disk."""
        return False

    @property
    def recordings_folder(self) -> str | None:
        """Folder of the user's recordings that the condition draws from; None where it needs none."""
        return None

    @property
    def conflict(self) -> str | None:
        """Return why these options do not go together, or None."""
        # As the manifest stores them: levels that differ by less are rows that nobody can tell apart.
        stored = {level if level is None else struct.pack("<f", level + 0.0) for level in self.levels}
        return "levels: found one twice; expected every level once" if len(stored) < len(self.levels) else None

    def obstacle(self, planned: PlannedDataset) -> str | None:
        """Return why this condition cannot be made for any clip of the data set, or None."""
        return None

    def recording_obstacle(self, dataset: str, name: str) -> str | None:
        """Return why a user's recording of this name is not used for any clip of a data set, or None."""
        return None

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses; called once per build."""
        raise NotImplementedError(f"{type(self).__name__} must define prepare(planned)")


def later(default: Any) -> Any:
    """Declare an option that a released condition got later: recipes say it only where it has another value.

    Builds from before it was there are thus still builds of the same recipe.
    """
    return field(default=default, metadata={_LATER: True})


def options_of(condition: Condition) -> Mapping[str, Any]:
    """Return the options of a condition as plain JSON types, all of them but those of `later` that have their default."""
    values = {
        entry.name: getattr(condition, entry.name)
        for entry in fields(condition)
        if not (_LATER in entry.metadata and getattr(condition, entry.name) == entry.default)
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
