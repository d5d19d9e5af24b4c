"""Contents of one clip's files: structure of its pictures, values of its masks, level of its sound, checksums of all.

Conventions
    Every file is read once; checksum, structure and contents come from the same bytes. Frames are not decoded (their structure
    and checksums are checked, `pictures.check_structure`), masks and sounds are.
    A sound that was read whole for its header, and did not change since, is not read again.
    All findings are collected; the outcome depends on the files alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from avsrobust.checksums import FileSum, sum_of_content
from avsrobust.clips import Clip
from avsrobust.datasets.avss import RGB_MASKS, SEMANTIC_MASKS
from avsrobust.datasets.checks import as_finding
from avsrobust.datasets.dataset import Finding
from avsrobust.datasets.mask_values import MaskValues, hidden_shape, level_list, level_set, measure
from avsrobust.datasets.masks import class_mask
from avsrobust.datasets.pictures import check_structure, decode_content, read_content
from avsrobust.datasets.sound_contents import MUTED_KINDS, sound_kinds, still_holds
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import AvsRobustError, DataSetError
from avsrobust.manifest import DATA_PREFIX
from avsrobust.vocabulary import CLASS_DATASET

_CLASSES_SHOWN = 5
T = TypeVar("T")


@dataclass(frozen=True)
class ClipContents:
    """Contents of the files of one clip.

    Attributes:
        clip_id: Id of the clip.
        files: Entries of ``checksums.parquet`` of the files that could be read.
        masks: (path, values) of each mask; the values of class masks are their ids.
        sound_kinds: Those of `SOUND_KINDS` that hold for the sound.
        findings: Faults.
    """

    clip_id: str
    files: tuple[FileSum, ...]
    masks: tuple[tuple[str, MaskValues], ...]
    sound_kinds: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def is_muted(self) -> bool:
        """Whether the clip's sound is silent or nearly so."""
        return any(kind in MUTED_KINDS for kind in self.sound_kinds)


def read_contents(root: Path, clip: Clip) -> ClipContents:
    """Read all files of a clip.

    Args:
        root: The data root.
        clip: The clip.
    """
    reader = _Reader(root, clip)
    for frame in clip.frames:
        reader.read_frame(frame)
    for mask in clip.masks:
        if mask is not None:
            reader.read_mask(mask)
    reader.read_sound(clip.audio)
    findings = (*reader.findings, *_strange_classes(clip, reader.masks))
    return ClipContents(clip.clip_id, tuple(reader.files), tuple(reader.masks), reader.sound_kinds, findings)


def read_sound_contents(root: Path, clip: Clip) -> ClipContents:
    """Read the sound of a clip, and nothing else.

    Args:
        root: The data root.
        clip: The clip.
    """
    reader = _Reader(root, clip)
    reader.read_sound(clip.audio)
    return ClipContents(clip.clip_id, tuple(reader.files), (), reader.sound_kinds, tuple(reader.findings))


class _Reader:
    """One pass over a clip's files, which collects their contents and findings."""

    def __init__(self, root: Path, clip: Clip) -> None:
        self._root = root
        self._clip = clip
        self.files: list[FileSum] = []
        self.masks: list[tuple[str, MaskValues]] = []
        self.sound_kinds: tuple[str, ...] = ()
        self.findings: list[Finding] = []

    def read_frame(self, relative: str) -> None:
        path = self._root / relative
        if (content := self._read(relative, read_content)) is not None:
            self._try(relative, lambda: check_structure(path, content))

    def read_mask(self, relative: str) -> None:
        path = self._root / relative
        if (content := self._read(relative, read_content)) is None:
            return
        values = self._try(relative, lambda: self._values(path, content))
        if values is None:
            return
        self.masks.append((relative, values))

    def _values(self, path: Path, content: bytes) -> MaskValues:
        check_structure(path, content)
        picture = decode_content(path, content)
        if self._clip.dataset == CLASS_DATASET:
            return MaskValues(level_set(class_mask(path, picture, self._clip.labels)), False, picture.mode)
        if (hidden := hidden_shape(picture)) is not None:
            raise DataSetError(
                f"{path}: found {hidden}; expected a mask whose background is black and whose foreground is not; "
                "save it as a grey picture of 0 and 255"
            )
        values = measure(picture)
        if path.parent.name == RGB_MASKS:
            return replace(values, is_soft=False)
        if path.parent.name == SEMANTIC_MASKS:
            # Class ids, read as S4 or MS3: any number of values, none above the highest class.
            class_mask(path, picture)
            return replace(values, is_soft=False)
        return values

    def read_sound(self, relative: str) -> None:
        from avsrobust.audio import io

        path, known = self._root / relative, self._clip.sound_contents
        if known is not None and still_holds(path, known):
            self.files.append(FileSum(DATA_PREFIX + relative, known.num_bytes, known.sha256))
            self.sound_kinds = known.kinds
            return
        content = self._read(relative, io.read_content)
        if content is None:
            return
        found = self._try(relative, lambda: io.stored_sound(path, content))
        if found is not None:
            self.sound_kinds = sound_kinds(*found, self._clip.num_frames)

    def _read(self, relative: str, read: Callable[[Path], bytes]) -> bytes | None:
        content = self._try(relative, lambda: read(self._root / relative))
        if content is not None:
            self.files.append(sum_of_content(DATA_PREFIX + relative, content))
        return content

    def _try(self, relative: str, call: Callable[[], T]) -> T | None:
        """Return what `call` returns; turn its error into a finding."""
        try:
            return call()
        except AvsRobustError as error:
            self.findings.append(as_finding(self._root, relative, error, self._clip.clip_id))
        return None


def _strange_classes(clip: Clip, masks: list[tuple[str, MaskValues]]) -> list[Finding]:
    """Return a finding where AVSS masks hold classes that are none of the clip's labels.

    A clip without labels (nothing on screen sounds) says nothing about its masks.
    """
    if clip.dataset != CLASS_DATASET or not clip.labels:
        return []
    allowed = {0, *(AVSS_CLASSES.index(label) for label in clip.labels if label in AVSS_CLASSES)}
    strange = {path: set(level_list(values.levels)) - allowed for path, values in masks}
    first = next((path for path, ids in strange.items() if ids), None)
    if first is None:
        return []
    ids = sorted(set().union(*strange.values()))
    names = ", ".join(f"{AVSS_CLASSES[index]} ({index})" for index in ids[:_CLASSES_SHOWN])
    more = ", ..." if len(ids) > _CLASSES_SHOWN else ""
    number = sum(bool(found) for found in strange.values())
    others = f" (and {number - 1} more masks of the clip)" if number > 1 else ""
    present = set().union(*(level_list(values.levels) for _, values in masks))
    hint = (
        "; ids counted from 1, as label2idx.json does?"
        if 0 not in present and {i - 1 for i in present} <= allowed
        else ""
    )
    return [
        Finding(
            first,
            f"the classes {names}{more}{others}, which are none of the clip's labels",
            f"only {', '.join(clip.labels)} and background{hint}",
            clip.clip_id,
        )
    ]
