"""Conditions that make their audio from the clip's own samples, in one method: the short way to write one.

Conventions
    `SignalCondition.make` gets float64 [S], mono, at the clip's rate, and returns as many samples. The build stores what it
    makes: nobody but the condition's author can make it again. Any process imports the condition anew, by its name or file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio import mixing
from avsrobust.audio.definitions import ReadFile, Recording, render_samples
from avsrobust.conditions.base import Choice, Chooser, Condition, PlannedDataset, Request
from avsrobust.conditions.registry import CONDITIONS
from avsrobust.conditions.sounds import MadeSound, detail_of, made_path, own_sound
from avsrobust.errors import RecipeError
from avsrobust.plugins import one_line, spec_of
from avsrobust.vocabulary import NEGATIVE


@dataclass(frozen=True)
class SignalCondition(Condition):
    """Base class of conditions that make their audio from the clip's own samples: define `make`, and that is all.

    The build stores what they make, since nobody but their author can make it again.
    """

    polarity: ClassVar[str] = NEGATIVE

    def make(
        self, samples: NDArray[np.float64], sample_rate: int, level: float | None, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return the audio of one row.

        Args:
            samples: The clip's own sound, float64 [S], the channels' mean, 1 is full scale.
            sample_rate: In Hz.
            level: One of `levels`.
            generator: Seeded with the row's own seed; draw from nothing else.

        Returns:
            Float64 [S], of the same length, finite; what is beyond full scale is scaled down as a whole.
        """
        raise NotImplementedError(f"{type(self).__name__} must define make(samples, sample_rate, level, generator)")

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""

        def choose(request: Request) -> Choice:
            return Choice(ComputedSound.of(self, request))

        return choose


@dataclass(frozen=True)
class ComputedSound(MadeSound):
    """A sound that a `SignalCondition` makes from a clip's own; named, not held, so that any process can import it.

    Attributes:
        condition: Spec of the class, as `avsrobust.plugins.Registry.find` takes it.
        options: Its options, sorted.
        own: The clip's own sound.
        level: The row's level.
        seed: The row's seed.
        asked_by: Name of the condition in the recipe and id of the clip, for messages.
    """

    condition: str = field(repr=False)
    options: tuple[tuple[str, Any], ...]
    own: Recording
    level: float | None
    seed: int
    asked_by: str

    @classmethod
    def of(cls, condition: SignalCondition, request: Request) -> ComputedSound:
        """Return the sound that `condition` makes for a row."""
        clip = request.clip
        return cls(
            audio=made_path(clip, request.condition, detail_of(request.level, request.draw)),
            home=clip.split,
            sample_rate=clip.sound.sample_rate,
            num_samples=clip.sound.num_samples,
            condition=spec_of(type(condition)),
            options=tuple(sorted((entry.name, getattr(condition, entry.name)) for entry in fields(condition))),
            own=own_sound(clip),
            level=request.level,
            seed=request.seed,
            asked_by=f"{request.condition}, clip {clip.clip_id}",
        )

    @property
    def files(self) -> tuple[str, ...]:
        """The clip's own recording."""
        return (self.own.file,)

    def samples(self, read: ReadFile) -> NDArray[np.int16]:
        """Return the samples, int16 [num_samples].

        Raises:
            RecipeError: The condition raises, or returns anything but finite samples of the right length.
        """
        # A file is imported once for all rows, unless it has changed since.
        condition: Any = CONDITIONS.find_current(self.condition)(**dict(self.options))
        own = render_samples(self.own, read)
        generator = np.random.Generator(np.random.PCG64(self.seed))
        with one_line(f"condition {self.asked_by}: make()", RecipeError):
            made = condition.make(own.copy(), self.sample_rate, self.level, generator)
        expected = f"float64 [{self.num_samples}], finite"
        if not isinstance(made, np.ndarray) or made.shape != own.shape or not np.issubdtype(made.dtype, np.floating):
            found = f"{made.dtype} {list(made.shape)}" if isinstance(made, np.ndarray) else type(made).__name__
            raise RecipeError(f"condition {self.asked_by}: make() returned {found}; expected {expected}")
        if not np.isfinite(made).all():
            raise RecipeError(f"condition {self.asked_by}: make() returned NaN or infinity; expected {expected}")
        return mixing.to_pcm16(mixing.fit_peak(made.astype(np.float64)).samples)
