"""The specification of a data set: the class that a data set is defined by, built-in or plug-in.

Conventions
    A data set is a subclass of `DataSetSpec`. It finds its tree below the data root, reads its tables and declares its clips; it
    opens none of the clips' files. Files, checks, findings and the table of clips are then shared (`avsrobust.datasets.read`).
    One frame stands for one second of sound. Masks are binary: any pixel that is not black is foreground; grey masks split at
    half. Class ids in masks are a matter of the built-in avss alone (`avsrobust.vocabulary.CLASS_DATASET`).
    Everything that later stages need is plain data of the clips, so a build of a plug-in data set is verified, evaluated and
    reported without the plug-in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from avsrobust.clips import DeclaredClip
from avsrobust.datasets.dataset import Finding
from avsrobust.datasets.taxonomy import Categories
from avsrobust.errors import DataSetError, OptionError, did_you_mean
from avsrobust.files import is_safe_relative
from avsrobust.inert import inert_line
from avsrobust.vocabulary import SPLITS

_SHOWN = 100


@dataclass(frozen=True)
class DeclaredDataSet:
    """The clips of a data set as its tables declare them, before any of their files is looked at.

    Attributes:
        layout: The tree that was found, for people ("AVSBench-object, Single-source/").
        clips: Declared clips of the requested splits, in any order.
        findings: Faults of the tables.
        notes: Facts worth showing, for example the origin of the categories.
        rows_per_split: Rows of the table that name each split, with or without findings; None: the clips are counted.
        release: The form in which the data was published, one of `DataSetSpec.releases`; "" where there is one only.
        overlap: Clips of val and test that share their source with a train clip (`avsrobust.datasets.overlap`).
        off_screen_obstacle: Reason why off-screen sounds cannot be chosen (categories are not known), or None.
    """

    layout: str
    clips: tuple[DeclaredClip, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    rows_per_split: Mapping[str, int] | None = None
    release: str = ""
    overlap: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    off_screen_obstacle: str | None = None

    def count_rows(self) -> Mapping[str, int]:
        """Return the number of rows of each split."""
        return Counter(clip.split for clip in self.clips) if self.rows_per_split is None else self.rows_per_split


class DataSetSpec(ABC):
    """A data set: its name, its categories, and how its clips are declared.

    A plug-in subclasses it and is named by ``--dataset package.module:Class``, ``--dataset file.py:Class``, or, registered in the
    entry-point group ``avsrobust.datasets``, by its name.

    Attributes:
        name: Name of the data set, in options, manifests, results and folder names.
        categories: Its categories and their supercategories.
        releases: Forms in which it was published, where there are several, the preferred one first.
    """

    name: ClassVar[str]
    categories: ClassVar[Categories]
    releases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def declare(self, root: Path, splits: Collection[str], release: str | None) -> DeclaredDataSet:
        """Find the data set below a data root and declare its clips.

        Args:
            root: The data root.
            splits: Splits to declare.
            release: One of `releases`, or None: the preferred one that is there.

        Raises:
            DataSetError: The data set is not there, or a table cannot be read.
        """

    def check_release(self, release: str | None) -> None:
        """Check that the data set can be read in a form (None: in any).

        Raises:
            OptionError: It was not published in that form.
        """
        if release is not None and release not in self.releases:
            expected = " or ".join(self.releases) or f"no --release, since {self.name} has one form only"
            raise OptionError(
                f"--release: found '{release}'; expected {expected}{did_you_mean(release, self.releases)}"
            )


def checked_declaration(spec: DataSetSpec, declared: object, splits: Collection[str]) -> DeclaredDataSet:
    """Return a declaration with the clips of the requested splits; faulty clips become findings.

    Raises:
        DataSetError: The object is no declaration of this data set.
    """
    if not isinstance(declared, DeclaredDataSet):
        raise DataSetError(
            f"data set {spec.name}: declare() returned {type(declared).__name__}; expected a DeclaredDataSet"
        )
    if declared.release not in (spec.releases or ("",)):
        raise DataSetError(
            f"data set {spec.name}: declare() returned the release '{declared.release}'; expected one of its `releases`"
        )
    good: list[DeclaredClip] = []
    findings: list[Finding] = []
    ids = Counter(clip.clip_id for clip in declared.clips)
    for clip in declared.clips:
        problem = next(iter(_problems(spec, clip, ids[clip.clip_id])), None)
        if problem is not None:
            shown = inert_line(clip.clip_id)[:_SHOWN]
            findings.append(Finding(f"{declared.layout}, clip {shown}", *problem, clip_id=shown))
        elif clip.split in splits:
            good.append(clip)
    return replace(declared, clips=tuple(good), findings=(*declared.findings, *findings))


def _problems(spec: DataSetSpec, clip: DeclaredClip, count: int) -> Iterable[tuple[str, str]]:
    """Yield (found, expected) for the faults of a declared clip."""
    if clip.dataset != spec.name:
        yield f"a clip of the data set '{clip.dataset}'", spec.name
    if clip.split not in SPLITS:
        yield f"the split '{clip.split}'", f"{', '.join(SPLITS[:-1])} or {SPLITS[-1]}"
    if count > 1:
        yield f"its id {count} times", "every clip once"
    masks = [mask for mask in clip.masks if mask is not None]
    if not clip.frames or len(clip.masks) != len(clip.frames) or not masks:
        yield (
            f"{len(clip.frames)} frames and {len(masks)} masks in {len(clip.masks)} places",
            "a mask, or None, for every frame, and one mask at least",
        )
    for path in (clip.clip_id, *clip.frames, *masks, clip.audio):
        if not is_safe_relative(path):
            yield f"the path '{inert_line(path)[:_SHOWN]}'", "a path below the data root, with forward slashes"
    for label in spec.categories.unknown(clip.labels):
        yield f"the category '{inert_line(label)[:_SHOWN]}'", f"one of {spec.categories.title}"
