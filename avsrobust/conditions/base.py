"""What a condition is: a rule that gives every clip a sound to be heard with.

Conventions
    A condition is a frozen dataclass whose fields are its options in the recipe; it has a module of its own and an entry
    in `avsrobust.conditions.registry`. It looks at the table of clips, never at the disk, and draws only from the row's seed.
    `polarity` says whether the picture's objects do sound under it ("positive") or none of them does ("negative").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from avsrobust.conditions.reference import Listing
from avsrobust.conditions.sounds import Sound
from avsrobust.datasets.clips import Clip

# Rules of our own, or those of the released AVSBench-Robust generator (`avsrobust.conditions.reference`).
STANDARD, RELEASED = "standard", "released"


@dataclass(frozen=True)
class Choice:
    """The sound a clip is given; `donor` is the clip it comes from where that is another one.

    `fallback` is set where the rule's own demands could not be met and a weaker one was.
    """

    sound: Sound
    donor: Clip | None = None
    fallback: bool = False


@dataclass(frozen=True)
class Unavailable:
    """Why a clip can be given no sound under a condition."""

    reason: str


@dataclass(frozen=True)
class Scene:
    """What a condition may look at beside the clip itself.

    `listing` is what the released generator finds on disk (None: as the clips' table has it).
    """

    dataset: str
    clips: tuple[Clip, ...]
    seed: int
    off_screen_obstacle: str | None = None
    listing: Listing | None = None


# (clip, the row's seed, level in dB or None) -> its sound
Chooser = Callable[[Clip, int, float | None], Choice | Unavailable]


@dataclass(frozen=True)
class Condition:
    """Base class of all conditions."""

    name: ClassVar[str]
    polarity: ClassVar[str]

    @property
    def levels(self) -> tuple[float | None, ...]:
        """Mixing levels in dB; (None,) for a condition that has none."""
        return (None,)

    @property
    def highest_seed(self) -> int | None:
        """Highest seed the condition can work with, where that is less than any."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the manifest should say about the way this condition was made."""
        return ()

    @property
    def needs_listing(self) -> bool:
        """Tell whether the condition depends on what the released generator finds on disk (`Scene.listing`)."""
        return False

    def obstacle(self, scene: Scene) -> str | None:
        """Return why this condition cannot be made for any clip of the data set, or None."""
        return None

    def prepare(self, scene: Scene) -> Chooser:
        """Return the function that chooses; called once per build."""
        raise NotImplementedError(f"{type(self).__name__} must define prepare(scene)")


def option(check: Callable[[object], Any], default: Any) -> Any:
    """Declare an option of a condition; `check` returns the value or raises `ValueError` with what was expected."""
    return field(default=default, metadata={"check": check})


def one_of(*allowed: str) -> Callable[[object], str]:
    """Return a check that accepts these words only."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return value

    return check


def options_of(condition: Condition) -> Mapping[str, Any]:
    """Return the options of a condition, all of them, as plain values."""
    return {entry.name: getattr(condition, entry.name) for entry in fields(condition)}
