"""Clips of the toy in the layouts of AVSBench's two releases.

Conventions
    The object release (S4, MS3) counts frames from 1 and marks sounding objects with 255; the semantic release (AVSS) counts
    from 0 and marks it with class ids 0..70. Names, sizes and modes are those of the originals. In ``labels_rgb`` the
    channels are reversed, as they are in the released files (OpenNLPLab/AVSBench#24).
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avsrobust.audio.io import write_wav
from avsrobust.datasets.masks import palette
from avsrobust.datasets.taxonomy import AVSS_CLASSES, S4_CATEGORY
from avsrobust.files import write_bytes
from avsrobust.toy.painting import Owners
from avsrobust.toy.rendering import Rendered
from avsrobust.toy.scenes import Scene
from avsrobust.toy.sounds.base import SAMPLE_RATE

SUBSETS = {"single": "v1s", "multi": "v1m", "open": "v2"}
_CLASS_IDS = {name: number for number, name in enumerate(AVSS_CLASSES)}


def clip_name(scene: Scene) -> str:
    """Return the clip's name: the stem in the object release, ``vid`` in the semantic one."""
    prefix = {"single": "toy", "multi": "mix", "open": "open"}[scene.part]
    return f"{prefix}{scene.seed}_{scene.index:05d}"


def clip_uid(scene: Scene) -> str:
    """Return the clip's folder in the semantic release: name, start and end in ms."""
    return f"{clip_name(scene)}_{scene.start_s * 1000}_{(scene.start_s + scene.num_frames) * 1000}"


def write_s4_clip(data: Path, clip: Rendered) -> None:
    """Write a clip of part `single` below ``Single-source/s4_data``; in train only frame 1 has a mask."""
    scene, name = clip.scene, clip_name(clip.scene)
    folder = Path(scene.split) / S4_CATEGORY[scene.labels[0]]
    for number, frame in enumerate(clip.frames, start=1):
        _write_png(data / "visual_frames" / folder / name / f"{name}_{number}.png", frame)
    for number in _masked_frames(scene):
        _write_png(data / "gt_masks" / folder / name / f"{name}_{number + 1}.png", _binary(clip.owners[number]))
    write_wav(data / "audio_wav" / folder / f"{name}.wav", clip.sound, SAMPLE_RATE, flush=False)


def write_ms3_clip(data: Path, clip: Rendered) -> None:
    """Write a clip of part `multi` below ``Multi-sources/ms3_data``."""
    split, name = clip.scene.split, clip_name(clip.scene)
    for number, frame in enumerate(clip.frames, start=1):
        _write_png(data / "visual_frames" / name / f"{name}.mp4_{number}.png", frame)
        _write_png(data / "gt_masks" / split / name / f"{name}_{number}.png", _binary(clip.owners[number - 1]))
    write_wav(data / "audio_wav" / split / f"{name}.wav", clip.sound, SAMPLE_RATE, flush=False)


def write_semantic_clip(release: Path, clip: Rendered) -> None:
    """Write a clip of any part below ``AVSBench_semantic``; in v1s's train only frame 0 has masks."""
    scene = clip.scene
    folder = release / SUBSETS[scene.part] / clip_uid(scene)
    for number, frame in enumerate(clip.frames):
        _write_image(folder / "frames" / f"{number}.jpg", frame, "JPEG", quality=92)
    for number in _masked_frames(scene):
        classes = class_ids(scene)[clip.owners[number]]
        _write_png(folder / "labels_semantic" / f"{number}.png", classes)
        _write_png(folder / "labels_rgb" / f"{number}.png", palette()[classes][..., ::-1])
    write_wav(folder / "audio.wav", clip.sound, SAMPLE_RATE, flush=False)


def class_ids(scene: Scene) -> NDArray[np.uint8]:
    """Return the class id per owner, uint8 [1 + actors]; the background comes first."""
    return np.array([0, *(_CLASS_IDS[actor.name] for actor in scene.actors)], dtype=np.uint8)


def _masked_frames(scene: Scene) -> range:
    return range(1) if scene.part == "single" and scene.split == "train" else range(scene.num_frames)


def _binary(owners: Owners) -> NDArray[np.uint8]:
    return np.where(owners > 0, np.uint8(255), np.uint8(0))


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    _write_image(path, pixels, "PNG", compress_level=1)


def _write_image(path: Path, pixels: NDArray[np.uint8], kind: str, **options: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, kind, **options)
    # Not flushed one by one: a toy that a power cut damages is made again.
    write_bytes(path, stream.getvalue(), flush=False)
