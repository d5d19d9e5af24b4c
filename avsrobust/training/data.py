"""Training samples: annotated frames or whole clips, each paired with the audio drawn for this epoch.

Conventions
    See `avsrobust.training.model.Batch` for shapes. Pictures are resized to S x S (`avsrobust.training.pictures`) and come from
    the cache on disk, or are decoded as they are asked for and kept in memory as far as its bound goes: a sample depends on its
    `SampleIndex` alone, not on the cache or the workers that read it.
    Models that look at no picture get squares of one black pixel, and masks of one pixel: whether the mask has any foreground.
    Clips of fewer seconds than the longest in a batch are padded with unscored black frames and zero audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from avsrobust.adapters.base import AudioInput
from avsrobust.callbacks import MessageCallback, ProgressCallback
from avsrobust.datasets.taxonomy import AVSS_CLASSES, S4_CATEGORY
from avsrobust.evaluation.clip_data import ClipRows, clips_of
from avsrobust.evaluation.sound import SoundReader
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest, Row
from avsrobust.training.model import Batch
from avsrobust.training.negatives import Negatives
from avsrobust.training.pictures import Content, Picture, PictureCache, open_cache
from avsrobust.training.recipe import DataPart, NegativesPart
from avsrobust.training.sampler import SampleIndex
from avsrobust.vocabulary import ALIASES, NEGATIVE

_MIB = 1 << 20
# S4 names sounds, AVSBench-semantic their sources; both are one category to a model that is given their audio.
_SEMANTIC_NAME = {sound: source for source, sound in S4_CATEGORY.items()}


class AudioQuery(NamedTuple):
    """Audio and the target that is right for it; the fields are those of `Batch`, without the first axis."""

    audio: Tensor
    target: Tensor
    positive: float
    weight: float
    audio_labels: Tensor


class Sample(NamedTuple):
    """The frames of a sample and its audio queries.

    Attributes:
        frames: uint8 [T, 3, S, S].
        scored: bool [T], whether a frame has a mask.
        queries: The sample's own query, then the extra negatives.
    """

    frames: Tensor
    scored: Tensor
    queries: tuple[AudioQuery, ...]


@dataclass(frozen=True)
class TrainingBuild:
    """A build and the folder that its data lies in."""

    manifest: Manifest
    data_root: Path


@dataclass(frozen=True)
class _Excerpt:
    """The seconds of a clip that are a sample."""

    clip: int
    seconds: tuple[int, ...]


class TrainingSet(Dataset[Sample]):
    """The samples of one or more builds, indexed by `SampleIndex`.

    Attributes:
        datasets: Data set of each sample.
        parts: Part of avss (v1s, v1m, v2) that each sample is from; "" elsewhere.
    """

    def __init__(
        self,
        builds: Sequence[TrainingBuild],
        data: DataPart,
        negatives: NegativesPart,
        *,
        audio: AudioInput,
        image_size: int,
        vggish: Path | None = None,
        sees: bool = True,
    ) -> None:
        """Gather the samples; nothing is decoded yet.

        Args:
            builds: The builds.
            data: Split, excerpts, mirroring and cache.
            negatives: Shares and kinds of negatives.
            audio: The model's audio input.
            image_size: Side S of the squares that pictures are resized to.
            vggish: VGGish's weights, for models that take its embedding.
            sees: Whether the model looks at pictures.

        Raises:
            OptionError: Builds lack clean or negative audio that is needed.
        """
        self._size = image_size
        self._mirror = data.mirror
        self._is_waveform = audio.kind == "waveform"
        self._cuts_audio = data.excerpt == "frame"
        self._builds = tuple(builds)
        self._sounds = [SoundReader(build.manifest, build.data_root, audio, vggish) for build in builds]
        clips, self._build_of_clip = _gather(builds, data.split)
        muted = {(build.manifest.info.dataset, name) for build in builds for name in build.manifest.info.muted}
        self._negatives = Negatives.of(clips, negatives, muted)
        self._extra, self._extra_weight = negatives.extra, negatives.weight
        self._clips = self._negatives.clean
        self._build_of_key = {
            (row.dataset, row.split, row.clip_id): n for row, n in zip(self._clips, self._build_of_clip, strict=True)
        }
        self._excerpts = _excerpts(self._clips, data.excerpt)
        self.datasets = tuple(self._clips[excerpt.clip].dataset for excerpt in self._excerpts)
        self.parts = tuple(_part(self._clips[excerpt.clip]) for excerpt in self._excerpts)
        self._content: Content = "pictures" if sees else "presence"
        self._split, self._excerpt = data.split, data.excerpt
        # Pictures are numbered build by build, in the order of the samples.
        self._numbers: list[dict[tuple[int, int], int]] = [{} for _ in builds]
        for excerpt in self._excerpts:
            numbers = self._numbers[self._build_of_clip[excerpt.clip]]
            for second in excerpt.seconds:
                numbers[excerpt.clip, second] = len(numbers)
        self._on_disk: list[PictureCache | None] = [None for _ in builds]
        self._most_bytes = data.cache_mib * _MIB
        self._cache = _Cache(self._most_bytes)

    def __len__(self) -> int:
        return len(self._excerpts)

    @property
    def pictures(self) -> int:
        """Number of pictures of all samples."""
        return sum(map(len, self._numbers))

    def decode_once(
        self,
        root: Path,
        *,
        progress: ProgressCallback | None = None,
        on_message: MessageCallback = lambda _line: None,
    ) -> None:
        """Take pictures from the caches below `root`, one per build, which are filled on all cores where they are missing.

        Args:
            root: Folder of the caches (`open_cache`).
            progress: Called with (pictures decoded, pictures in total) of each build.
            on_message: Called with a line before pictures are decoded.

        Raises:
            OptionError, DataSetError: As `open_cache` does.
        """
        left = self._most_bytes
        for number, build in enumerate(self._builds):
            key = {
                "build": sha256_of_file(build.manifest.path),
                "dataset": build.manifest.info.dataset,
                "split": self._split,
                "excerpt": self._excerpt,
            }
            pictures = [self._picture_files(*where) for where in self._numbers[number]]
            cache = open_cache(
                root, key, self._content, self._size, pictures, left, progress=progress, on_message=on_message
            )
            self._on_disk[number] = cache
            left -= 0 if cache is None else cache.nbytes
        self._cache = _Cache(left)

    def __getitem__(self, index: SampleIndex) -> Sample:
        """Return a sample. Raises `DataSetError`, `AudioError` or `ManifestError` for files that are bad."""
        excerpt = self._excerpts[index.sample]
        row = self._clips[excerpt.clip]
        generator = index.generator()
        audio_rows = [self._negatives.draw(excerpt.clip, generator)]
        mirrored = bool(generator.random() < self._mirror)
        audio_rows += [self._negatives.draw_negative(excerpt.clip, generator) for _ in range(self._extra)]
        pictures = [self._picture(excerpt.clip, second) for second in excerpt.seconds]
        frames, masks = (torch.stack(parts) for parts in zip(*pictures, strict=True))
        scored = torch.tensor([row.masks[second] is not None for second in excerpt.seconds])
        if mirrored:
            frames, masks = frames.flip(-1), masks.flip(-1)
        queries = [self._query(row, audio_row, excerpt.seconds, masks, scored) for audio_row in audio_rows]
        queries[1:] = [query._replace(weight=self._extra_weight) for query in queries[1:]]
        return Sample(frames, scored, tuple(queries))

    def _query(self, row: Row, audio_row: Row, seconds: tuple[int, ...], masks: Tensor, scored: Tensor) -> AudioQuery:
        positive = audio_row.polarity != NEGATIVE and audio_row.clip_id == row.clip_id
        target = masks if positive else torch.zeros_like(masks)
        labels = _audio_labels(audio_row, positive, target, scored)
        return AudioQuery(self._audio(audio_row, seconds), target, float(positive), 1.0, labels)

    def _picture(self, clip: int, second: int) -> tuple[Tensor, Tensor]:
        """Return a frame, uint8 [3, S, S], and its mask, uint8 [S, S], empty where there is none; S is 1 where none is seen."""
        parts = self._read_picture(clip, second)
        if self._content == "presence":
            return torch.zeros(3, 1, 1, dtype=torch.uint8), parts[0].reshape(1, 1)
        return parts[0], parts[1]

    def _read_picture(self, clip: int, second: int) -> tuple[Tensor, ...]:
        build = self._build_of_clip[clip]
        cache, number = self._on_disk[build], self._numbers[build][clip, second]
        if cache is not None and number < cache.count:
            return cache.read(number)
        found = self._cache.get((clip, second))
        if found is None:
            found = self._picture_files(clip, second).read(self._content, self._size)
            self._cache.put((clip, second), found)
        return found

    def _picture_files(self, clip: int, second: int) -> Picture:
        row, build = self._clips[clip], self._builds[self._build_of_clip[clip]]
        mask = row.masks[second]
        return Picture(
            _locate(build, row.frames[second]),
            None if mask is None else _locate(build, mask),
            row.dataset,
            row.labels,
            row.foreground,
        )

    def _audio(self, row: Row, seconds: tuple[int, ...]) -> Tensor:
        reader = self._sounds[self._build_of_key[row.dataset, row.split, row.clip_id]]
        if self._cuts_audio and not self._is_waveform:
            return reader.read_seconds(row, seconds)
        sound = reader.read(row)
        if self._cuts_audio:
            length = len(sound) // row.num_frames
            return torch.cat([sound[second * length : (second + 1) * length] for second in seconds])
        return sound


def collate(samples: Sequence[Sample], seed: int = 0) -> Batch:
    """Return the batch of some samples, padded to the longest (see the module's conventions).

    Args:
        samples: The samples.
        seed: Seed of all noise that the model draws for the batch.
    """
    longest = max(len(sample.frames) for sample in samples)
    # The samples' own queries first (`Batch`).
    numbered = [(number, sample.queries[0]) for number, sample in enumerate(samples)]
    numbered += [(number, query) for number, sample in enumerate(samples) for query in sample.queries[1:]]
    queries = [query for _, query in numbered]
    audio_length = max(len(query.audio) for query in queries)
    return Batch(
        frames=torch.stack([_padded(sample.frames, longest) for sample in samples]),
        picture=torch.tensor([number for number, _ in numbered]),
        audio=torch.stack([_padded(query.audio, audio_length) for query in queries]),
        target=torch.stack([_padded(query.target, longest) for query in queries]),
        scored=torch.stack([_padded(samples[number].scored, longest) for number, _ in numbered]),
        positive=torch.tensor([query.positive for query in queries]),
        weight=torch.tensor([query.weight for query in queries]),
        audio_labels=torch.stack([_padded(query.audio_labels, longest) for query in queries]),
        seed=seed,
    )


def _padded(tensor: Tensor, length: int) -> Tensor:
    missing = length - len(tensor)
    return tensor if missing == 0 else torch.cat((tensor, tensor.new_zeros(missing, *tensor.shape[1:])))


class _Cache:
    """Pictures by clip and second, as long as they fit into `capacity` bytes."""

    def __init__(self, capacity: int) -> None:
        self._left = capacity
        self._kept: dict[tuple[int, int], tuple[Tensor, ...]] = {}

    def get(self, key: tuple[int, int]) -> tuple[Tensor, ...] | None:
        return self._kept.get(key)

    def put(self, key: tuple[int, int], pictures: tuple[Tensor, ...]) -> None:
        size = sum(picture.nbytes for picture in pictures)
        if size <= self._left:
            self._left -= size
            self._kept[key] = pictures


def _gather(builds: Sequence[TrainingBuild], split: str) -> tuple[list[ClipRows], list[int]]:
    """Return the clips of all builds, and the number of each clip's build."""
    clips: list[ClipRows] = []
    build_of_clip: list[int] = []
    for number, build in enumerate(builds):
        found = clips_of(build.manifest.select([split]).rows)
        clips += found
        build_of_clip += [number] * len(found)
    return clips, build_of_clip


def _excerpts(clips: Sequence[Row], excerpt: str) -> tuple[_Excerpt, ...]:
    excerpts: list[_Excerpt] = []
    for clip, row in enumerate(clips):
        annotated = [second for second, mask in enumerate(row.masks) if mask is not None]
        if excerpt == "frame":
            excerpts += [_Excerpt(clip, (second,)) for second in annotated]
        elif annotated:
            excerpts.append(_Excerpt(clip, tuple(range(row.num_frames))))
    return tuple(excerpts)


def _part(row: Row) -> str:
    """Return the part of avss (v1s, v1m, v2) that a clip is from, by its folder; empty elsewhere."""
    parts = set(row.frames[0].split("/")) & set(ALIASES)
    return min(parts, default="")


def _audio_labels(row: Row, positive: bool, target: Tensor, scored: Tensor) -> Tensor:
    """Return the categories of the audio of each second, float32 [T, 71], 1 for those that sound, as far as labels tell.

    Labels are the clip's. In a second whose mask is empty none of a clean clip's objects sounds.
    """
    audio_labels = torch.zeros(len(target), len(AVSS_CLASSES))
    ids = _class_ids(row.labels) if row.polarity != NEGATIVE else []
    if ids:
        audio_labels[:, ids] = 1
        if positive:
            audio_labels[scored & ~target.flatten(1).any(dim=1).bool()] = 0
    return audio_labels


@lru_cache(maxsize=4096)
def _class_ids(labels: tuple[str, ...]) -> list[int]:
    """Return the ids of labels in AVSBench-semantic, of those that it has."""
    names = [_SEMANTIC_NAME.get(label, label) for label in labels]
    return [AVSS_CLASSES.index(name) for name in names if name in AVSS_CLASSES]


def _locate(build: TrainingBuild, relative: str) -> Path:
    return build.manifest.picture_path(relative, build.data_root)
