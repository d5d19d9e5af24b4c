"""Sounds from elsewhere than the clips that a build makes rows for: clips of other splits and data sets, a user's recordings.

Conventions
    Of a lending clip only the sound is looked at, never the pictures.
    A recording is kept in the build as a mono 16-bit wav at its own rate, under ``audio/recordings/`` and a checksum of the
    user's file, so that a build is complete without the user's folder. Of a long one the first `LONGEST_S` seconds are kept.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio import mixing
from avsrobust.audio.definitions import ReadFile
from avsrobust.audio.recordings import SUFFIXES, read_recording
from avsrobust.audio.resample import to_mono
from avsrobust.clips import Clip
from avsrobust.conditions.base import RELEASE, SPLIT, PlannedRecording, RecordingPool
from avsrobust.conditions.recipe import Recipe, RecipeEntry
from avsrobust.conditions.sounds import SHARED, MadeSound
from avsrobust.datasets.dataset import DataSet
from avsrobust.datasets.read import list_dataset
from avsrobust.datasets.sound_contents import muted_kind
from avsrobust.defaults import is_text
from avsrobust.errors import AudioError, DataSetError, RecipeError
from avsrobust.files import sha256_of_file
from avsrobust.vocabulary import CLASS_DATASET, SEMANTIC_RELEASE

LONGEST_S = 600
RECORDINGS_FOLDER = "audio/recordings"
# What a release holds beside the data set itself; AVSBench-semantic's table avss has the clips of its s4 and ms3 too.
_OBJECT_RELEASE = ("s4", "ms3")


@dataclass(frozen=True)
class KeptRecording(MadeSound):
    """A user's recording, as the build keeps it."""

    file: Path = field(repr=False)

    def samples(self, read: ReadFile) -> NDArray[np.int16]:
        """Return the samples, int16 [num_samples]. Raises `AudioError` where the user's file cannot be read any more."""
        return _mono(self.file)[0]


@dataclass(frozen=True)
class Lenders:
    """Sounds from elsewhere.

    Attributes:
        clips: Lending clips, sorted.
        recordings: A user's recordings, by the name of the condition that draws from them.
        sounds: The recordings as sounds that the build makes, by path.
        notes: Remarks for the manifest.
    """

    clips: tuple[Clip, ...] = ()
    recordings: Mapping[str, RecordingPool] = field(default_factory=dict)
    sounds: Mapping[str, KeptRecording] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def without(self, bad: Collection[str], muted: Collection[str]) -> Lenders:
        """Return the lenders without clips whose sound cannot be read, the muted ones marked."""
        clips = (clip for clip in self.clips if key_of(clip) not in bad)
        marked = tuple(replace(clip, is_muted=clip.is_muted or key_of(clip) in muted) for clip in clips)
        return replace(self, clips=marked)


def key_of(clip: Clip) -> str:
    """Return a name for a lending clip that no clip of the data set has."""
    return f"{clip.dataset}:{clip.clip_id}"


def read_lenders(dataset: DataSet, recipe: Recipe, workers: int = 1, *, whole_sounds: bool = False) -> Lenders:
    """Return the sounds from elsewhere that the conditions of `recipe` draw from.

    Args:
        dataset: The data set that a build is made of.
        recipe: The conditions.
        workers: Threads that check files.
        whole_sounds: Read the sounds of lending clips whole, for a build that needs their contents.

    Raises:
        RecipeError: A folder of recordings is missing or holds none that can be read.
    """
    clips, notes = _lending_clips(dataset, recipe.pool, workers, whole_sounds)
    pools: dict[str, RecordingPool] = {}
    sounds: dict[str, KeptRecording] = {}
    for entry in recipe.entries:
        folder = entry.condition.recordings_folder
        if folder is not None:
            pools[entry.name], kept = _read_folder(Path(folder), entry, dataset.name)
            sounds |= {sound.audio: sound for sound in kept}
            notes += [f"{entry.name}: {name} is not used: {reason}" for name, reason in pools[entry.name].skipped]
    return Lenders(clips, pools, sounds, tuple(notes))


def _lending_clips(dataset: DataSet, pool: str, workers: int, whole_sounds: bool) -> tuple[tuple[Clip, ...], list[str]]:
    if pool == SPLIT:
        return (), []
    names = [dataset.name]
    if pool == RELEASE:
        neighbours = (CLASS_DATASET,) if dataset.release == SEMANTIC_RELEASE else _OBJECT_RELEASE
        names += [
            name for name in neighbours if name != dataset.name and dataset.name in (*_OBJECT_RELEASE, CLASS_DATASET)
        ]
    own = {clip.clip_id for clip in dataset.clips}
    found: list[Clip] = []
    notes: list[str] = []
    for name in names:
        release = dataset.release if name != CLASS_DATASET else None
        try:
            listed = list_dataset(
                dataset.spec if dataset.spec and name == dataset.name else name, dataset.root, release=release or None
            )
            # The data set's own clips are known already.
            others = listed.checked(
                workers, whole_sounds=whole_sounds, without=own if name == dataset.name else frozenset()
            )
        except DataSetError as error:
            notes.append(f"source clips: {name} lends none ({error})")
            continue
        # Where off-screen sounds cannot be chosen among the clips of a data set, its categories are not known.
        if others.off_screen_obstacle is None:
            found += others.clips
    found.sort(key=lambda clip: (clip.dataset, clip.split, clip.clip_id))
    return tuple(found), notes


def _read_folder(folder: Path, entry: RecipeEntry, dataset: str) -> tuple[RecordingPool, list[KeptRecording]]:
    asked_by = f"condition {entry.name}"
    if not folder.is_dir():
        raise RecipeError(
            f"{asked_by}: found no folder {folder}; expected a folder of recordings; name it with --recordings"
        )
    names = sorted(
        str(Path(parent, name).relative_to(folder))
        for parent, _, files in os.walk(folder)
        for name in files
        if Path(name).suffix.lower() in SUFFIXES
    )
    recordings: dict[str, PlannedRecording] = {}
    sounds: list[KeptRecording] = []
    skipped: list[tuple[str, str]] = []
    for name in names:
        if not is_text(name):
            skipped.append((os.fsencode(name).decode(errors="backslashreplace"), "its name is no text in UTF-8"))
            continue
        obstacle = entry.condition.recording_obstacle(dataset, name)
        if obstacle is not None:
            skipped.append((name, obstacle))
            continue
        try:
            sha256 = sha256_of_file(folder / name)
            samples, sample_rate = _mono(folder / name)
        except (AudioError, OSError) as error:
            skipped.append((name, str(error).removeprefix(f"{folder / name}: ")))
            continue
        if muted_kind(samples[:, None]) is not None:
            skipped.append((name, "the recording is silent or nearly so"))
        elif sha256 in {recording.sha256 for recording in recordings.values()}:
            skipped.append((name, "the same recording is there under another name"))
        else:
            stored = f"{RECORDINGS_FOLDER}/{sha256[:32]}.wav"
            recordings[name] = PlannedRecording(name, stored, sha256, sample_rate, samples.size)
            sounds.append(KeptRecording(stored, SHARED, sample_rate, samples.size, (folder / name).resolve()))
    if not recordings:
        reasons = f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
        raise RecipeError(
            f"{asked_by}: found no recording in {folder} that can be used{reasons}; "
            "expected wav, flac, ogg, mp3, m4a or video files with sound in them"
        )
    return RecordingPool(tuple(recordings.values()), tuple(skipped)), sounds


def _mono(file: Path) -> tuple[NDArray[np.int16], int]:
    samples, sample_rate = read_recording(file, longest_s=LONGEST_S)
    mono = to_mono(samples[: LONGEST_S * sample_rate])
    return mixing.to_pcm16(mixing.fit_peak(mono).samples), sample_rate
