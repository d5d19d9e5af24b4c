"""Fixtures that several test files share."""

from __future__ import annotations

import csv
import io
import wave
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

SIZE = (16, 12)


@cache
def picture_bytes(size: tuple[int, int] = SIZE, mode: str = "RGB", value: int = 0, kind: str = "PNG") -> bytes:
    """A picture with one value in all its channels."""
    colour = (value,) * len(mode) if mode in ("RGB", "RGBA", "LA") else value
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, kind)
    return stream.getvalue()


@cache
def sound_bytes(seconds: float = 5.0, rate: int = 8000) -> bytes:
    """A silent mono 16-bit wav."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(bytes(2 * round(seconds * rate)))
    return stream.getvalue()


class Avsbench:
    """Writes small trees in AVSBench's layouts below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, relative: str, content: bytes) -> Path:
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def csv(self, relative: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
        stream = io.StringIO()
        csv.writer(stream).writerows([header, *rows])
        return self.write(relative, stream.getvalue().encode())

    def s4(self, clips: Sequence[tuple[str, str, str]], folder: str = "Single-source", table: bool = True) -> None:
        """Write S4 clips given as (name, category, split)."""
        for name, category, split in clips:
            data = f"{folder}/s4_data"
            place = f"{split}/{category}/{name}"
            for number in range(1, 6):
                self.write(f"{data}/visual_frames/{place}/{name}_{number}.png", picture_bytes())
                if number == 1 or split != "train":
                    self.write(f"{data}/gt_masks/{place}/{name}_{number}.png", picture_bytes(mode="L", value=255))
            self.write(f"{data}/audio_wav/{place}.wav", sound_bytes())
        if table:
            rows = [(name, 0, category, split) for name, category, split in clips]
            self.csv(f"{folder}/s4_meta_data.csv", ("name", "start", "category", "split"), rows)

    def ms3(self, clips: Sequence[tuple[str, str]], folder: str = "Multi-sources") -> None:
        """Write MS3 clips given as (name, split)."""
        for name, split in clips:
            data = f"{folder}/ms3_data"
            for number in range(1, 6):
                self.write(f"{data}/visual_frames/{name}/{name}.mp4_{number}.png", picture_bytes())
                self.write(f"{data}/gt_masks/{split}/{name}/{name}_{number}.png", picture_bytes(mode="L"))
            self.write(f"{data}/audio_wav/{split}/{name}.wav", sound_bytes())
        self.csv(f"{folder}/ms3_meta_data.csv", ("video_id", "split"), clips)

    def semantic(
        self,
        clips: Sequence[tuple[str, str, str, str]],
        folder: str = "AVSBench_semantic",
        masks: str = "labels_semantic",
    ) -> None:
        """Write AVSBench-semantic clips given as (uid, a_obj, split, label)."""
        for uid, _, split, label in clips:
            place = f"{folder}/{label}/{uid}"
            count = 10 if label == "v2" else 5
            for number in range(count):
                self.write(f"{place}/frames/{number}.jpg", picture_bytes(kind="JPEG"))
                if number == 0 or (label, split) != ("v1s", "train"):
                    mode = "L" if masks == "labels_semantic" else "RGB"
                    self.write(f"{place}/{masks}/{number}.png", picture_bytes(mode=mode))
            self.write(f"{place}/audio.wav", sound_bytes(count))
        self.metadata([(uid.rsplit("_", 2)[0], *rest) for uid, *rest in [(c[0], c[0], *c[1:]) for c in clips]], folder)

    def metadata(self, rows: Sequence[tuple[str, str, str, str, str]], folder: str = "AVSBench_semantic") -> None:
        """Write metadata.csv with rows given as (vid, uid, a_obj, split, label)."""
        full = [(vid, uid, 0, 0, a_obj, split, label) for vid, uid, a_obj, split, label in rows]
        self.csv(f"{folder}/metadata.csv", ("vid", "uid", "s_min", "s_sec", "a_obj", "split", "label"), full)


@pytest.fixture
def avsbench(tmp_path: Path) -> Avsbench:
    """A writer of small AVSBench trees in an empty folder."""
    root = tmp_path / "data"
    root.mkdir()
    return Avsbench(root)


@pytest.fixture
def s4_root(avsbench: Avsbench) -> Avsbench:
    """Four S4 clips, in every split."""
    avsbench.s4(
        [
            ("b_1", "dog_barking", "test"),
            ("a_1", "playing_piano", "test"),
            ("c_1", "helicopter", "val"),
            ("d_1", "male_speech", "train"),
        ]
    )
    return avsbench
