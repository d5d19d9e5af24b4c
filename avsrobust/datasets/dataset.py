"""The clips of a data set, and findings: the faults of its files.

Conventions
    Clips are sorted by (split, clip_id), never in the order of a directory listing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avsrobust.clips import Clip
from avsrobust.vocabulary import counted

if TYPE_CHECKING:
    from avsrobust.datasets.spec import DataSetSpec


@dataclass(frozen=True)
class Finding:
    """One fault of the data set.

    Attributes:
        path: File or line of a table.
        found: The fault, as a noun.
        expected: The right state.
        clip_id: The clip it concerns; None where it concerns no single clip.
    """

    path: str
    found: str
    expected: str
    clip_id: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: found {self.found}; expected {self.expected}"


@dataclass(frozen=True, repr=False)
class DataSet:
    """The clips of one data set, with findings and notes of the reader.

    Attributes:
        name: Name of the data set.
        root: The data root.
        layout: The tree that was found, for people.
        clips: Clips without a finding, sorted by (split, clip_id).
        findings: Errors.
        notes: Facts worth showing, for example the origin of the categories.
        off_screen_obstacle: Reason why off-screen sounds cannot be chosen, or None.
        release: The form in which the data set was published: "object" or "semantic" of AVSBench, "" where there is one only.
        facts: Structured remarks for the manifest's survey (plain JSON types), for example ``train_overlap``
            (`avsrobust.datasets.overlap`).
        spec: The class that defines it; None for one that was made otherwise.
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
    spec: type[DataSetSpec] | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        found = f"{counted(len(self.clips), 'clip')}, {counted(len(self.findings), 'finding')}"
        return f"DataSet({self.name} in {self.root}: {found})"
