"""Contents of one clip's files: structure of its pictures, values of its masks, level of its sound, checksums of all.

Conventions
    Every file is read once; checksum, structure and contents come from the same bytes. Frames are not decoded (their structure
    and checksums are checked, `pictures.check_structure`), masks and sounds are.
    A sound is read as far as the clip lasts. It is *muted* where it is silent or nearly so: all samples are zero
    ("silent"), all are equal ("constant"), or their deviation from the mean is below `QUIETEST_DB` ("nearly silent").
    All findings are collected; the outcome depends on the files alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from avsrobust.checksums import FileSum, sum_of_content
from avsrobust.clips import Clip
from avsrobust.datasets.avss import RGB_MASKS, SEMANTIC_MASKS
from avsrobust.datasets.checks import as_finding
from avsrobust.datasets.dataset import Finding
from avsrobust.datasets.mask_values import MaskValues, level_list, level_set, measure
from avsrobust.datasets.masks import class_mask
from avsrobust.datasets.pictures import check_structure, decode_content, read_content
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import AvsRobustError
from avsrobust.manifest import DATA_PREFIX
from avsrobust.vocabulary import CLASS_DATASET

# Below this the log-mel of VGGish, which adds 0.01 to every magnitude, hardly differs from that of silence; it is three steps of
# 16-bit samples, where dither and the decoders of lossy formats leave their noise.
QUIETEST_DB = -80.0
# Share of samples at full scale from which a sound counts as clipped: a loud recording touches it now and then.
CLIPPED_SHARE = 0.001
# Seconds by which a sound may differ from the clip's length: containers end on whole packets.
LENGTH_TOLERANCE_S = 0.5

SILENT, NEARLY_SILENT, CONSTANT = "silent", "nearly silent", "constant"
CLIPPED, LONGER, SHORTER, STREAMED = "clipped", "longer than the clip", "shorter than the clip", "of a made-up size"
MUTED_KINDS = (SILENT, NEARLY_SILENT, CONSTANT)
SOUND_KINDS = (*MUTED_KINDS, CLIPPED, LONGER, SHORTER, STREAMED)

_CLASSES_SHOWN = 5
# Every so many-th sample is enough to see that a sound is loud.
_THINNED = 32
T = TypeVar("T")
_Samples = NDArray[np.int16 | np.float32 | np.float64]


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
        """Tell whether the clip's sound is silent or nearly so."""
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

        path = self._root / relative
        content = self._read(relative, io.read_content)
        if content is None:
            return
        found = self._try(relative, lambda: io.stored_sound(path, content))
        if found is not None:
            header, samples = found
            lasting = samples[: math.ceil(self._clip.num_frames * header.sample_rate)]
            excess_s = header.duration_s - self._clip.num_frames
            flags = {
                CLIPPED: _is_clipped(lasting),
                LONGER: excess_s > LENGTH_TOLERANCE_S,
                SHORTER: excess_s < -LENGTH_TOLERANCE_S,
                STREAMED: header.streamed,
            }
            muted = _muted_kind(lasting)
            self.sound_kinds = (*([muted] if muted else []), *(kind for kind, holds in flags.items() if holds))

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


def _muted_kind(samples: _Samples) -> str | None:
    """Return which of `MUTED_KINDS` samples [S, channels] are, None where it is audible."""
    scale = 32768.0 if samples.dtype == np.int16 else 1.0
    # Squares of deviations from the mean, summed up over a part, are no more than those over the whole.
    least = len(samples) * (scale * 10.0 ** (QUIETEST_DB / 20.0)) ** 2
    if (_deviations(samples[::_THINNED]) >= least).any():
        return None
    if not samples.any():
        return SILENT
    if (samples == samples[0]).all():
        return CONSTANT
    return NEARLY_SILENT if (_deviations(samples) < least).all() else None


def _deviations(samples: _Samples) -> NDArray[np.float64]:
    """Return each channel's sum of squared deviations from its mean, float64 [channels]."""
    channels = np.ascontiguousarray(samples.T, dtype=np.float64)
    squares: NDArray[np.float64] = ((channels - channels.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return squares


def _is_clipped(samples: _Samples) -> bool:
    flat = samples.reshape(-1)
    lowest, highest = (-32768, 32767) if samples.dtype == np.int16 else (-1.0, 1.0)
    if flat.min() > lowest and flat.max() < highest:
        return False
    full = np.count_nonzero(flat <= lowest) + np.count_nonzero(flat >= highest)
    return bool(full >= CLIPPED_SHARE * flat.size)


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
