"""What every reader returns: the clips of a data set, and what is wrong with it.

Conventions
    Clips are sorted by (split, clip_id), never in the order of a directory listing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avsrobust.clips import Clip


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
