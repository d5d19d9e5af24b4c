"""Training samples: annotated frames or whole clips, each paired with the audio drawn for this epoch.

Conventions
    See `avsrobust.training.model.Batch` for shapes. Pictures are resized to S x S (`avsrobust.training.pictures`) and come from
    the cache on disk, or are decoded as they are asked for and kept in memory as far as its bound goes: a sample depends on its
    `SampleIndex` alone, not on the cache or the workers that read it.
    Models that look at no picture get squares of one black pixel, and masks of one pixel: whether the mask has any foreground.
    Clips of fewer seconds than the longest in a batch are padded with unscored black frames and zero audio.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from avsrobust.adapters.base import AudioInput
from avsrobust.callbacks import MessageCallback, ProgressCallback
from avsrobust.datasets.taxonomy import AVSS_CLASSES, S4_CATEGORY
from avsrobust.evaluation.clip_data import ClipRows, clips_of
from avsrobust.evaluation.sound import SoundReader
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest, Row, picture_entry
from avsrobust.manifest_files import audio_files
from avsrobust.training.arrivals import BuildFiles, TrainingArrivals
from avsrobust.training.model import Batch
from avsrobust.training.negatives import Negatives
from avsrobust.training.pictures import Arriving, Content, Picture, PictureCache, open_cache
from avsrobust.training.recipe import DataPart, NegativesPart
from avsrobust.training.sampler import SampleIndex
from avsrobust.training.samples import AudioQuery, Sample, collate
from avsrobust.vocabulary import ALIASES, NEGATIVE

__all__ = ["AudioQuery", "Sample", "TrainingBuild", "TrainingSet", "collate"]
_MIB = 1 << 20
# S4 names sounds, AVSBench-semantic their sources; both are one category to a model that is given their audio.
_SEMANTIC_NAME = {sound: source for source, sound in S4_CATEGORY.items()}


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


class _Draw(NamedTuple):
    """What is drawn for a sample in an epoch: its audio, then extra negatives, and whether its pictures are mirrored."""

    row: Row
    excerpt: _Excerpt
    mirrored: bool
    audio_rows: list[Row]


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
        self._is_sound = audio.kind in ("waveform", "native")
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
        arrivals: TrainingArrivals | None = None,
    ) -> None:
        """Take pictures from the caches below `root`, one per build, which are filled on all cores where they are missing.

        Args:
            root: Folder of the caches (`open_cache`).
            arrivals: Brings the pictures' files, which may go when they were decoded; None: they are here.
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
                root,
                key,
                self._content,
                self._size,
                pictures,
                left,
                progress=progress,
                on_message=on_message,
                arriving=None if arrivals is None or arrivals.is_local else self._arriving(number, arrivals),
            )
            self._on_disk[number] = cache
            left -= 0 if cache is None else cache.nbytes
        self._cache = _Cache(left)

    def files_of(self, indices: Iterable[SampleIndex]) -> list[BuildFiles]:
        """Return the files that `read_batch` reads for some samples."""
        found: list[set[str]] = [set() for _ in self._builds]
        for index in indices:
            drawn = self._draw(index)
            for second in drawn.excerpt.seconds:
                build = self._build_of_clip[drawn.excerpt.clip]
                if not self._is_on_disk(drawn.excerpt.clip, second):
                    found[build].update(self._names(drawn.excerpt.clip, second))
            for row in drawn.audio_rows:
                build = self._build_of_key[row.dataset, row.split, row.clip_id]
                found[build].update(audio_files(row, log_mel=not self._is_sound))
        return [BuildFiles(build, frozenset(names)) for build, names in enumerate(found) if names]

    def __getitem__(self, index: SampleIndex) -> Sample:
        """Return a sample. Raises `DataSetError`, `AudioError` or `ManifestError` for files that are bad."""
        batch = self.read_batch([index])
        queries = zip(
            batch.audio, batch.target, batch.positive.tolist(), batch.weight.tolist(), batch.audio_labels, strict=True
        )
        return Sample(batch.frames[0], batch.scored[0], tuple(AudioQuery(*query) for query in queries))

    def read_batch(self, indices: Sequence[SampleIndex], seed: int = 0) -> Batch:
        """Return the batch of some samples: what `collate` makes of them one by one.

        Args:
            indices: The samples.
            seed: Seed of all noise that the model draws for the batch.

        Raises:
            DataSetError, AudioError, ManifestError: Files are bad.
        """
        drawn = [self._draw(index) for index in indices]
        frames, masks, scored = self._read_pictures(drawn)
        # The samples' own queries first (`Batch`).
        queries = [(number, one.audio_rows[0]) for number, one in enumerate(drawn)]
        queries += [(number, row) for number, one in enumerate(drawn) for row in one.audio_rows[1:]]
        picture = np.array([number for number, _ in queries])
        positive = np.array([_belongs(row, drawn[number].row) for number, row in queries])
        target = masks[picture]
        target[~positive] = 0
        weight = [1.0] * len(drawn) + [self._extra_weight] * (len(queries) - len(drawn))
        labels = _audio_labels(queries, drawn, positive, scored & ~masks.any(axis=(2, 3)))
        return Batch(
            frames=torch.from_numpy(frames),
            picture=torch.from_numpy(picture),
            audio=torch.from_numpy(
                _padded_together([self._audio(row, drawn[number].excerpt.seconds) for number, row in queries])
            ),
            target=torch.from_numpy(target),
            scored=torch.from_numpy(scored[picture]),
            positive=torch.from_numpy(positive.astype(np.float32)),
            weight=torch.tensor(weight),
            audio_labels=torch.from_numpy(labels),
            seed=seed,
        )

    def _draw(self, index: SampleIndex) -> _Draw:
        excerpt = self._excerpts[index.sample]
        generator = index.generator()
        audio_rows = [self._negatives.draw(excerpt.clip, generator)]
        mirrored = bool(generator.random() < self._mirror)
        audio_rows += [self._negatives.draw_negative(excerpt.clip, generator) for _ in range(self._extra)]
        return _Draw(self._clips[excerpt.clip], excerpt, mirrored, audio_rows)

    def _read_pictures(self, drawn: Sequence[_Draw]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
        """Return frames [P, T, 3, S, S], masks [P, T, S, S] and whether a second has a mask [P, T]; S is 1 where none is seen."""
        longest = max(len(one.excerpt.seconds) for one in drawn)
        side = 1 if self._content == "presence" else self._size
        frames = np.zeros((len(drawn), longest, 3, side, side), np.uint8)
        masks = np.zeros((len(drawn), longest, side, side), np.uint8)
        scored = np.zeros((len(drawn), longest), np.bool_)
        for number, one in enumerate(drawn):
            for place, second in enumerate(one.excerpt.seconds):
                scored[number, place] = one.row.masks[second] is not None
                *frame, mask = self._picture(one.excerpt.clip, second)
                step = -1 if one.mirrored else 1
                masks[number, place] = mask[..., ::step]
                if frame:
                    frames[number, place] = frame[0][..., ::step]
        return frames, masks, scored

    def _picture(self, clip: int, second: int) -> tuple[NDArray[np.uint8], ...]:
        """Return what is kept of a picture (`avsrobust.training.pictures`): frame and mask, or its presence, [1, 1]."""
        build = self._build_of_clip[clip]
        cache, number = self._on_disk[build], self._numbers[build][clip, second]
        if cache is not None and self._is_on_disk(clip, second):
            found = cache.views(number)
        else:
            kept = self._cache.get((clip, second))
            if kept is None:
                kept = self._picture_files(clip, second).read(self._content, self._size)
                self._cache.put((clip, second), kept)
            found = tuple(part.numpy() for part in kept)
        return found if self._content == "pictures" else (found[0].reshape(1, 1),)

    def _is_on_disk(self, clip: int, second: int) -> bool:
        build = self._build_of_clip[clip]
        cache = self._on_disk[build]
        return cache is not None and self._numbers[build][clip, second] < cache.count

    def _arriving(self, build: int, arrivals: TrainingArrivals) -> Arriving:
        where = list(self._numbers[build])

        def arriving(parts: Sequence[range]) -> Iterator[range]:
            works = [
                (part, [BuildFiles(build, frozenset(name for one in part for name in self._names(*where[one])))])
                for part in parts
            ]
            arrivals.announce(files for _, some in works for files in some)
            return arrivals.passing(works)

        return arriving

    def _names(self, clip: int, second: int) -> Iterator[str]:
        """Yield the files that are read for what is kept of a picture, as ``checksums.parquet`` names them."""
        row = self._clips[clip]
        if self._content == "pictures":
            yield picture_entry(row.frames[second])
        if (mask := row.masks[second]) is not None:
            yield picture_entry(mask)

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

    def _audio(self, row: Row, seconds: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the audio of a row in some seconds of the picture's clip, or all of it; it may be a view that is read alone."""
        reader = self._sounds[self._build_of_key[row.dataset, row.split, row.clip_id]]
        sound = reader.view(row)
        if not self._cuts_audio:
            return sound
        length = len(sound) // row.num_frames if self._is_waveform else 1
        cuts = [sound[second * length : (second + 1) * length] for second in seconds]
        return cuts[0] if len(cuts) == 1 else np.concatenate(cuts)


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


def _belongs(audio: Row, picture: Row) -> bool:
    """Return whether the audio of a row belongs to the picture of another."""
    return audio.polarity != NEGATIVE and audio.clip_id == picture.clip_id


def _audio_labels(
    queries: Sequence[tuple[int, Row]], drawn: Sequence[_Draw], positive: NDArray[np.bool_], empty: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the categories of the audio of each second, float32 [B, T, 71], 1 for those that sound according to the labels.

    Labels are the clip's. In a second whose mask is empty (`empty`, [P, T]) none of a clean clip's objects sounds.
    """
    audio_labels = np.zeros((len(queries), empty.shape[1], len(AVSS_CLASSES)), np.float32)
    for query, (number, row) in enumerate(queries):
        ids = _class_ids(row.labels) if row.polarity != NEGATIVE else []
        if ids:
            audio_labels[query, : len(drawn[number].excerpt.seconds), ids] = 1
            if positive[query] and empty[number].any():
                audio_labels[query, empty[number]] = 0
    return audio_labels


def _padded_together(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return arrays as one [B, ...], each padded with zeros to the longest."""
    together = np.zeros((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), np.float32)
    for number, array in enumerate(arrays):
        together[number, : len(array)] = array
    return together


@lru_cache(maxsize=4096)
def _class_ids(labels: tuple[str, ...]) -> list[int]:
    """Return the ids of labels in AVSBench-semantic, of those that it has."""
    names = [_SEMANTIC_NAME.get(label, label) for label in labels]
    return [AVSS_CLASSES.index(name) for name in names if name in AVSS_CLASSES]


def _locate(build: TrainingBuild, relative: str) -> Path:
    return build.manifest.picture_path(relative, build.data_root)
