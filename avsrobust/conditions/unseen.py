"""Condition `unseen`: a recording from a folder of the user's, of something that AVSBench does not have. Negative.

Conventions
    The row's seed draws a recording, by rendezvous hashing over the files' checksums, and where in it the excerpt begins; a
    recording shorter than the clip is repeated. The excerpt is resampled to the clip's rate and made mono.
    A recording whose name holds a category of AVSS ("dog", "emergency car") is not used for avss; such recordings are listed. On
    s4 and ms3 it is not used for clips that have a label with a word of its name.
    `folder` is relative to the current folder; ``--recordings DIR`` of ``avsrobust build`` names it too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from avsrobust.audio.definitions import Recording
from avsrobust.clips import Clip
from avsrobust.conditions.base import (
    Choice,
    Chooser,
    Condition,
    PlannedDataset,
    PlannedRecording,
    Request,
    Unavailable,
)
from avsrobust.conditions.offscreen import Draws
from avsrobust.conditions.seeds import candidate_hashes, rendezvous_order
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.vocabulary import CLASS_DATASET, NEGATIVE

NAME = "unseen"


@dataclass(frozen=True)
class Unseen(Condition):
    """A recording of the user's."""

    name: ClassVar[str] = NAME
    polarity: ClassVar[str] = NEGATIVE

    folder: str
    draws: Draws = 1

    @property
    def recordings_folder(self) -> str | None:
        """The user's folder."""
        return self.folder

    def recording_obstacle(self, dataset: str, name: str) -> str | None:
        """Return the category of AVSS that the recording's name holds, or None."""
        if dataset != CLASS_DATASET:
            return None
        words = _words(name)
        found = [category for category in AVSS_CLASSES[1:] if _words(category) <= words]
        return f"its name says '{found[0]}', a category of {dataset}" if found else None

    def prepare(self, planned: PlannedDataset) -> Chooser:
        """Return the function that chooses."""
        pools = {name: pool.recordings for name, pool in planned.recordings.items()}

        def choose(request: Request) -> Choice | Unavailable:
            clip = request.clip
            usable = [found for found in pools.get(request.condition, ()) if not _names_label(found, clip)]
            order = _order(request, usable)
            if len(order) <= request.draw:
                return Unavailable("too few recordings are left whose names say nothing of its categories")
            recording = order[request.draw]
            definition = Recording(
                file=recording.stored,
                sample_rate=clip.sound.sample_rate,
                num_samples=clip.sound.num_samples,
                start_s=_start_s(recording, clip, request.seed),
            )
            return Choice(request.sound(definition))

        return choose


def _order(request: Request, usable: list[PlannedRecording]) -> list[PlannedRecording]:
    hashes = candidate_hashes("recording", (recording.sha256 for recording in usable))
    return [usable[index] for index in rendezvous_order(request.clip_seed, hashes)] if usable else []


def _start_s(recording: PlannedRecording, clip: Clip, seed: int) -> float:
    """Return where the excerpt begins, a multiple of 10 ms drawn from all places that leave it whole."""
    spare_s = recording.num_samples / recording.sample_rate - clip.sound.duration_s
    choices = int(max(0.0, spare_s) * 100) + 1
    drawn = int(np.random.PCG64(seed).random_raw()) % choices
    return drawn / 100


def _names_label(recording: PlannedRecording, clip: Clip) -> bool:
    words = _words(recording.name)
    return any(_words(label) & words for label in clip.labels)


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", name.rpartition("/")[2].rpartition(".")[0].casefold() or name.casefold()))
