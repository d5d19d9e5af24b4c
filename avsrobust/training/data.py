"""The items of training: labelled seconds (or whole clips) of builds, with their sound of this time.

Conventions
    See `avsrobust.training.model.Batch` for shapes. Pictures are resized to S x S, frames bilinearly with antialiasing, masks
    to the nearest pixel, once; resized ones stay in memory as far as the cache goes. What an item is depends on its `Slot`
    alone, not on the workers that read it.
    Clips of fewer seconds than the longest in a batch are filled up with unscored black frames and zero sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from avsrobust.adapters.base import AudioInput
from avsrobust.datasets.masks import read_frame, read_mask
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.evaluation.samples import ClipRows, clips_of
from avsrobust.evaluation.sound import SoundReader
from avsrobust.files import resolve_inside
from avsrobust.manifest import Manifest, Row
from avsrobust.toy.catalogue import S4_CATEGORY
from avsrobust.training.model import Batch
from avsrobust.training.negatives import Negatives
from avsrobust.training.order import Slot
from avsrobust.training.recipe import DataPart, NegativesPart
from avsrobust.vocabulary import NEGATIVE

_MIB = 1 << 20
# S4 names sounds, AVSBench-semantic their sources; both are one category to a model that hears them.
_SEMANTIC_NAME = {sound: source for source, sound in S4_CATEGORY.items()}


class Question(NamedTuple):
    """A sound and what is right to answer to it; as in `Batch`, without the first axis."""

    audio: Tensor
    target: Tensor
    positive: float
    weight: float
    heard: Tensor


class Sample(NamedTuple):
    """One picture and the sounds it is asked with, its item's own first."""

    frames: Tensor
    scored: Tensor
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Source:
    """A build and the folder its data lies in."""

    manifest: Manifest
    data_root: Path


@dataclass(frozen=True)
class _Item:
    clip: int
    seconds: tuple[int, ...]


class TrainingSet(Dataset[Sample]):
    """The items of one or more builds, asked for by `Slot`.

    `datasets[i]` and `parts[i]` say of item i which data set and, in avss, which part (v1s, v1m, v2) it is from.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        data: DataPart,
        negatives: NegativesPart,
        *,
        audio: AudioInput,
        image_size: int,
        vggish: Path | None = None,
    ) -> None:
        self._size = image_size
        self._mirror = data.mirror
        self._whole_sound = audio.kind == "waveform"
        self._cut_sound = data.excerpt == "frame"
        self._sources = tuple(sources)
        self._sounds = [SoundReader(source.manifest, source.data_root, audio, vggish) for source in sources]
        clips, self._of_source = _gather(sources, data.split)
        muted = {(source.manifest.info.dataset, name) for source in sources for name in source.manifest.info.muted}
        self._negatives = Negatives.of(clips, negatives, muted)
        self._beside, self._weight_beside = negatives.beside, negatives.weight
        self._clips = self._negatives.clean
        self._source_of = {
            (row.dataset, row.split, row.clip_id): n for row, n in zip(self._clips, self._of_source, strict=True)
        }
        self._items = _items(self._clips, data.excerpt)
        self.datasets = tuple(self._clips[item.clip].dataset for item in self._items)
        self.parts = tuple(_part(self._clips[item.clip]) for item in self._items)
        self._cache = _Cache(data.cache_mib * _MIB)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, slot: Slot) -> Sample:
        """Return the item of a slot. Raises `DataSetError`, `AudioError` or `ManifestError` for files that are bad."""
        item = self._items[slot.item]
        row = self._clips[item.clip]
        generator = slot.generator()
        sounds = [self._negatives.draw(item.clip, generator)]
        mirrored = bool(generator.random() < self._mirror)
        sounds += [self._negatives.draw_negative(item.clip, generator) for _ in range(self._beside)]
        pictures = [self._picture(item.clip, second) for second in item.seconds]
        frames, masks = (torch.stack(parts) for parts in zip(*pictures, strict=True))
        scored = torch.tensor([row.masks[second] is not None for second in item.seconds])
        if mirrored:
            frames, masks = frames.flip(-1), masks.flip(-1)
        questions = [self._question(row, sound, item.seconds, masks, scored) for sound in sounds]
        questions[1:] = [question._replace(weight=self._weight_beside) for question in questions[1:]]
        return Sample(frames, scored, tuple(questions))

    def _question(self, row: Row, sound: Row, seconds: tuple[int, ...], masks: Tensor, scored: Tensor) -> Question:
        positive = sound.polarity != NEGATIVE and sound.clip_id == row.clip_id
        target = masks if positive else torch.zeros_like(masks)
        heard = _heard(sound, positive, target, scored)
        return Question(self._audio(sound, seconds), target, float(positive), 1.0, heard)

    def _picture(self, clip: int, second: int) -> tuple[Tensor, Tensor]:
        """Return a frame, uint8 [3, S, S], and its mask, uint8 [S, S], empty where there is none."""
        found = self._cache.get((clip, second))
        if found is None:
            found = self._read_picture(clip, second)
            self._cache.put((clip, second), found)
        return found

    def _read_picture(self, clip: int, second: int) -> tuple[Tensor, Tensor]:
        row = self._clips[clip]
        source = self._sources[self._of_source[clip]]
        frame = torch.from_numpy(read_frame(_locate(source, row.frames[second]))).unsqueeze(0)
        size = (self._size, self._size)
        frame = F.interpolate(frame, size=size, mode="bilinear", align_corners=False, antialias=True)[0]
        name = row.masks[second]
        if name is None:
            return frame, torch.zeros(size, dtype=torch.uint8)
        mask = torch.from_numpy(
            np.asarray(read_mask(_locate(source, name), row.dataset, row.labels, row.foreground)).astype(np.uint8)
        )
        return frame, F.interpolate(mask[None, None], size=size, mode="nearest-exact")[0, 0]

    def _audio(self, row: Row, seconds: tuple[int, ...]) -> Tensor:
        sound = self._sounds[self._source_of[row.dataset, row.split, row.clip_id]].read(row)
        if not self._cut_sound:
            return sound
        if self._whole_sound:
            length = len(sound) // row.num_frames
            return torch.cat([sound[second * length : (second + 1) * length] for second in seconds])
        return sound[list(seconds)]


def collate(samples: Sequence[Sample], seed: int = 0) -> Batch:
    """Return the batch of some samples, filled up to the longest (see the module's conventions)."""
    longest = max(len(sample.frames) for sample in samples)
    own = [(number, sample.questions[0]) for number, sample in enumerate(samples)]
    beside = [(number, question) for number, sample in enumerate(samples) for question in sample.questions[1:]]
    asked = [*own, *beside]
    questions = [question for _, question in asked]
    audio_length = max(len(question.audio) for question in questions)
    return Batch(
        frames=torch.stack([_filled(sample.frames, longest) for sample in samples]),
        picture=torch.tensor([number for number, _ in asked]),
        audio=torch.stack([_filled(question.audio, audio_length) for question in questions]),
        target=torch.stack([_filled(question.target, longest) for question in questions]),
        scored=torch.stack([_filled(samples[number].scored, longest) for number, _ in asked]),
        positive=torch.tensor([question.positive for question in questions]),
        weight=torch.tensor([question.weight for question in questions]),
        heard=torch.stack([_filled(question.heard, longest) for question in questions]),
        seed=seed,
    )


def _filled(tensor: Tensor, length: int) -> Tensor:
    missing = length - len(tensor)
    return tensor if missing == 0 else torch.cat((tensor, tensor.new_zeros(missing, *tensor.shape[1:])))


class _Cache:
    """Pictures by clip and second, as long as they fit into `capacity` bytes."""

    def __init__(self, capacity: int) -> None:
        self._left = capacity
        self._kept: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def get(self, key: tuple[int, int]) -> tuple[Tensor, Tensor] | None:
        return self._kept.get(key)

    def put(self, key: tuple[int, int], pictures: tuple[Tensor, Tensor]) -> None:
        size = sum(picture.nbytes for picture in pictures)
        if size <= self._left:
            self._left -= size
            self._kept[key] = pictures


def _gather(sources: Sequence[Source], split: str) -> tuple[list[ClipRows], list[int]]:
    clips: list[ClipRows] = []
    of_source: list[int] = []
    for number, source in enumerate(sources):
        found = clips_of(source.manifest.select([split]).rows)
        clips += found
        of_source += [number] * len(found)
    return clips, of_source


def _items(clips: Sequence[Row], excerpt: str) -> tuple[_Item, ...]:
    items: list[_Item] = []
    for clip, row in enumerate(clips):
        labelled = [second for second, mask in enumerate(row.masks) if mask is not None]
        if excerpt == "frame":
            items += [_Item(clip, (second,)) for second in labelled]
        elif labelled:
            items.append(_Item(clip, tuple(range(row.num_frames))))
    return tuple(items)


def _part(row: Row) -> str:
    """Return the part of avss (v1s, v1m, v2) that a clip is from, by its folder; empty elsewhere."""
    parts = set(row.frames[0].split("/")) & {"v1s", "v1m", "v2"}
    return min(parts, default="")


def _heard(row: Row, positive: bool, target: Tensor, scored: Tensor) -> Tensor:
    """Return which categories sound in each second, float32 [T, 71], as far as the labels tell.

    Labels are the clip's. In a second whose mask is empty none of a clean clip's objects sounds.
    """
    heard = torch.zeros(len(target), len(AVSS_CLASSES))
    labels = row.labels if row.polarity != NEGATIVE else ()
    heard[:, [AVSS_CLASSES.index(name) for name in map(_semantic, labels) if name in AVSS_CLASSES]] = 1
    if positive:
        heard[scored & ~(target != 0).flatten(1).any(dim=1)] = 0
    return heard


def _semantic(label: str) -> str:
    return _SEMANTIC_NAME.get(label, label)


def _locate(source: Source, relative: str) -> Path:
    return resolve_inside(source.data_root, relative, named_by=source.manifest.path)
