"""Conditions `gaussian` and `pink`: other noises than the white one of `noise`. Negative.

Conventions
    Gaussian noise has independent normal samples, pink noise a power of 1/f from 20 Hz on (`avsrobust.audio.signals`).
    `rms_db` is their root mean square relative to full scale, where `noise`, uniform over full scale, has -4.8 dB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from avsrobust.audio.definitions import Level, Noise
from avsrobust.conditions.base import Choice, Chooser, Condition, Decibel, PlannedDataset, Request
from avsrobust.vocabulary import NEGATIVE


@dataclass(frozen=True)
class Gaussian(Condition):
    """Gaussian noise instead of the clip's sound."""

    name: ClassVar[str] = "gaussian"
    polarity: ClassVar[str] = NEGATIVE

    # -18 dB: the alignment level of broadcasting (EBU R 68); about the rms of AVSBench's own sounds.
    rms_db: Decibel = -18.0

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""

        def choose(request: Request) -> Choice:
            sound = request.clip.sound
            noise = Noise(
                color="pink" if self.name == "pink" else "gaussian",
                seed=request.seed,
                sample_rate=sound.sample_rate,
                num_samples=sound.num_samples,
            )
            return Choice(request.sound(Level(base=noise, rms_db=self.rms_db)))

        return choose


@dataclass(frozen=True)
class Pink(Gaussian):
    """Pink noise instead of the clip's sound."""

    name: ClassVar[str] = "pink"
