"""The table of clips: what every reader returns and everything else starts from.

Conventions
    A clip is one AVSBench video. All paths are relative to the data root, with forward slashes.
    `frames` and `masks` have equal length; `masks[i]` is None where frame i has no mask (S4 train: all but the first).
    Clips are sorted by (split, clip_id), never in the order of a directory listing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SoundHeader:
    """What the header of a recording says: rate in Hz, samples per channel, channels, libsndfile subtype.

    `streamed`: the header declares a made-up size, as programs do that write into a pipe; the file was read to its end.
    """

    sample_rate: int
    num_samples: int
    channels: int
    subtype: str
    streamed: bool = field(default=False, compare=False)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate


@dataclass(frozen=True)
class Clip:
    """One video: its identity, categories and files (relative to the data root).

    `labels` is empty where nothing on screen makes a sound, as the data set itself says (`has_no_label`, `datasets.slips`), and
    where the categories are not known. `is_muted`: nothing can be heard in the recording; `foreground`: the rule by which its
    binary masks are read (`mask_values.FOREGROUND_RULES`). The survey of contents sets these two.
    """

    dataset: str
    split: str
    clip_id: str
    labels: tuple[str, ...]
    broad: tuple[str, ...]
    frames: tuple[str, ...]
    masks: tuple[str | None, ...]
    audio: str
    sound: SoundHeader
    is_muted: bool = False
    has_no_label: bool = False
    foreground: str = "non-zero"

    @property
    def num_frames(self) -> int:
        """Number of frames, one per second of sound."""
        return len(self.frames)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the data set: where, what was found, what was expected.

    `clip_id` is None where the finding concerns no single clip.
    """

    path: str
    found: str
    expected: str
    clip_id: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: found {self.found}; expected {self.expected}"


@dataclass(frozen=True, repr=False)
class DataSet:
    """The clips of one data set, and everything the reader has to say about it.

    `layout` names the tree that was found, for people. `clips` holds only clips without a finding; `findings` are errors,
    `notes` are facts worth showing (for example where the categories came from).
    `release` is the form the data set was published in: "object" or "semantic" (`RELEASES`).
    `facts` are structured remarks for the manifest's survey (plain JSON types), for example ``train_overlap``
    (`avsrobust.datasets.overlap`).
    `off_screen_obstacle` says why off-screen sounds cannot be chosen, or is None where they can.
    """

    name: str
    root: Path
    layout: str
    clips: tuple[Clip, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    off_screen_obstacle: str | None = None
    release: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"DataSet({self.name} in {self.root}: {len(self.clips)} clips, {len(self.findings)} findings)"
