"""Fixtures that several test files share."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from filelock import FileLock
from PIL import Image

from avsrobust.clips import Clip, SoundHeader
from avsrobust.datasets.taxonomy import AVSS_CATEGORIES, S4_CATEGORIES, S4_SUPERCATEGORY
from avsrobust.files import sha256_of_file
from avsrobust.heap import release_unused
from avsrobust.manifest import (
    Manifest,
    ManifestInfo,
    Row,
    data_files,
    fingerprint,
    load_manifest,
    remember_data_root,
    write_manifest,
)
from avsrobust.metrics import concatenate, frame_statistics
from avsrobust.results import INDEX_COLUMNS, FailedClip, ScoreInfo, Scores

if TYPE_CHECKING:
    from avsrobust.building.plan import Plan

SIZE = (16, 12)

# Tests that import the extra `train`, which has no lowest versions: it needs newer ones of what the others share with it.
if not all(importlib.util.find_spec(name) for name in ("transformers", "accelerate")):
    collect_ignore_glob = [
        "fuzz/test_fuzz_arrays.py",
        "test_m2f_*.py",
        "test_paths_as_text.py",
        "test_pretransform_stock.py",
        "test_training_devices.py",
        "test_training_engine.py",
        "test_training_m2f.py",
    ]


AWS_KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def peak_above() -> Callable[[Callable[[], object]], int | None]:
    """Return the function that runs some work, and returns by how many bytes memory rose above what it was; see `rise`."""

    def rise(work: Callable[[], object]) -> int | None:
        """Return the highest memory during `work` above that before it, None where the system does not tell.

        A process's ``ru_maxrss`` sees nothing below a peak that it has had before; here the peak is begun anew.
        """
        release_unused()
        try:
            # proc(5): 5 resets the peak to what is resident now.
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            work()
            return None
        before = resident("VmRSS")
        work()
        return max(0, resident("VmHWM") - before)

    return rise


def resident(name: str) -> int:
    """Return what the system says of this process's memory under a name, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


@contextmanager
def serving(command: Callable[[int], Sequence[str]], folder: Path, **environment: str) -> Iterator[int]:
    """Run a server, whose command line names a port, in a folder of its own for the block; yield the port once it is open."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command(port), cwd=folder, stdout=log, stderr=log, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + 120
        while True:
            assert server.poll() is None, (folder / "log").read_text(errors="replace")
            assert time.monotonic() < deadline
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def serve() -> Callable[..., AbstractContextManager[int]]:
    """Runs a server: `serving`."""
    return serving


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which a server of moto is found: a process of its own, that speaks S3."""
    pytest.importorskip("s3fs")

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    with serving(command, tmp_path_factory.mktemp("moto"), **AWS_KEYS) as port:
        yield {**AWS_KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


@pytest.fixture
def s3(s3_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """fsspec's S3 with an empty bucket "lab"; keys, endpoint and a cache of the test's own are in the environment."""
    import fsspec

    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "cache"))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    system = fsspec.filesystem("s3")
    if system.exists("lab"):
        system.rm("lab", recursive=True)
    system.mkdirs("lab", exist_ok=True)
    return system


@cache
def picture_bytes(size: tuple[int, int] = SIZE, mode: str = "RGB", value: int = 0, kind: str = "PNG") -> bytes:
    """A picture with one value in all its channels."""
    colour = (value,) * len(mode) if mode in ("RGB", "RGBA", "LA") else value
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, kind)
    return stream.getvalue()


@cache
def sound_bytes(seconds: float = 5.0, rate: int = 8000) -> bytes:
    """A mono 16-bit wav of a quiet square wave: a muted clip would be no source clip."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes((b"\x00\x10" * 20 + b"\x00\xf0" * 20) * round(seconds * rate / 40))
    return stream.getvalue()


class Avsbench:
    """Writes small trees in AVSBench's layouts below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, relative: str, content: bytes) -> Path:
        path = self.root / relative.lstrip("/")
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


@pytest.fixture(scope="session")
def avsbench_in() -> Callable[[Path], Avsbench]:
    """A writer of small AVSBench trees in a folder that is given, for fixtures that outlive a test."""
    return Avsbench


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


# A tiny build on real files, made without the builder, so that evaluation is tested by itself.
TINY_RATE = 4000
TINY_FRAMES = 5
STANDARD = ("clean", "noise", "offscreen", "silence")


def make_build(
    root: Path,
    *,
    clips: int = 4,
    size: tuple[int, int] = (24, 32),
    sizes: Sequence[tuple[int, int]] = (),
    dataset: str = "s4",
    split: str | Sequence[str] = "test",
    conditions: Sequence[str] = STANDARD,
    levels: Sequence[float] = (),
    masked: Sequence[int] = range(TINY_FRAMES),
) -> Manifest:
    """Write a data set of random clips and a manifest of it; `sizes[i]` (height, width) is clip i's, else `size`.

    Clips lie in `split`, or by turns in several. `levels` adds a positive condition ``mixture`` at each of them. `masked` are the
    frames that have a mask.
    """
    data, build = root / "data", root / "build"
    rows: list[Row] = []
    features: list[np.ndarray] = []
    splits = [split] if isinstance(split, str) else list(split)
    wanted = [(name, None) for name in conditions] + [("mixture", level) for level in levels]
    for index in range(clips):
        clip_id = f"group/clip{index}"
        generator = np.random.default_rng([index, len(dataset)])
        height, width = sizes[index] if index < len(sizes) else size
        frames, masks = _write_pictures(data, clip_id, generator, height, width, dataset)
        for name, level in wanted:
            audio = _write_sound(data, build, clip_id, name, generator)
            features.append(generator.standard_normal((TINY_FRAMES, 1, 96, 64)).astype(np.float32))
            seed = int.from_bytes(hashlib.sha256(f"{clip_id}{name}{level}".encode()).digest()[:8], "little")
            rows.append(
                Row(
                    dataset=dataset,
                    split=splits[index % len(splits)],
                    clip_id=clip_id,
                    labels=("dog",),
                    broad=("animal",),
                    condition=name,
                    polarity="positive" if name in ("clean", "mixture") else "negative",
                    level=None if level is None else float(np.float32(level)),
                    source_clip_id=None,
                    source_labels=None,
                    seed=seed,
                    audio=audio,
                    audio_sha256=sha256_of_file(_sound_path(data, build, audio)),
                    log_mel="features.npy",
                    log_mel_row=len(features) - 1,
                    frames=tuple(frames),
                    masks=tuple(mask if frame in masked else None for frame, mask in enumerate(masks)),
                    num_frames=TINY_FRAMES,
                    sample_rate=TINY_RATE,
                    duration_s=float(TINY_FRAMES),
                )
            )
    np.save(build / "features.npy", np.stack(features))
    prints = {
        name: fingerprint(data, data_files(row for row in rows if row.split == name), named_by="test")
        for name in splits
    }
    write_manifest(build / "manifest.parquet", rows, ManifestInfo(dataset, 42, {"name": "standard"}, prints))
    remember_data_root(build, data)
    return load_manifest(build)


def _write_pictures(
    data: Path, clip_id: str, generator: np.random.Generator, height: int, width: int, dataset: str
) -> tuple[list[str], list[str]]:
    frames, masks = [], []
    for frame in range(TINY_FRAMES):
        for kind, names in (("frames", frames), ("masks", masks)):
            relative = f"{kind}/{clip_id}/{frame}.png"
            (data / relative).parent.mkdir(parents=True, exist_ok=True)
            names.append(relative)
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(data / frames[-1])
        top, left = generator.integers(0, height // 2), generator.integers(0, width // 2)
        mask = np.zeros((height, width), np.uint8)
        mask[top : top + height // 3, left : left + width // 3] = 21 if dataset == "avss" else 255
        Image.fromarray(mask).save(data / masks[-1])
    return frames, masks


def _write_sound(data: Path, build: Path, clip_id: str, condition: str, generator: np.random.Generator) -> str:
    audio = f"data:audio/{clip_id}.wav" if condition == "clean" else f"audio/{clip_id}-{condition}.wav"
    path = _sound_path(data, build, audio)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, generator.uniform(-0.5, 0.5, TINY_RATE * TINY_FRAMES), TINY_RATE, subtype="PCM_16")
    return audio


def _sound_path(data: Path, build: Path, audio: str) -> Path:
    return data / audio.removeprefix("data:") if audio.startswith("data:") else build / audio


@pytest.fixture(name="make_build")
def make_build_fixture(tmp_path: Path) -> Callable[..., Manifest]:
    """`make_build` in the test's own folder."""
    return lambda **choices: make_build(tmp_path, **choices)


@pytest.fixture(scope="session")
def make_build_in() -> Callable[..., Manifest]:
    """`make_build` in a folder that is given, for fixtures that outlive a test."""
    return make_build


@pytest.fixture(scope="module")
def tiny_build(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Four clips of S4 under the standard conditions. Tests must not change its files."""
    return make_build(tmp_path_factory.mktemp("tiny"))


# Results without a model or a file, for everything that reads them.
SCORED_SIZE = (12, 16)
Predict = Callable[[np.ndarray, str, int], np.ndarray]


def scored_targets(clip: int, frames: int = 2, empty: bool = False) -> np.ndarray:
    """Targets of one clip, bool [frames, 12, 16]: a rectangle that grows with the clip's number."""
    targets = np.zeros((frames, *SCORED_SIZE), np.bool_)
    if not empty:
        targets[:, 2 : 5 + clip % 7, 3 : 9 + clip % 5] = True
    return targets


def make_scores(
    predict: str | Predict,
    *,
    model: str | None = None,
    dataset: str = "s4",
    split: str = "test",
    clips: Sequence[int] = range(6),
    conditions: Sequence[str] = STANDARD,
    levels: Sequence[float] = (),
    empty: Sequence[int] = (),
    labels: Callable[[int], Sequence[str]] = lambda clip: ("dog",) if clip % 2 else ("cat",),
    seed: int = 42,
    failed: Sequence[str] = (),
) -> Scores:
    """Scores of clips of two frames; `predict` is a baseline's name, or maps (target, condition, clip) to probabilities.

    `levels` adds the positive condition ``mixture`` at each of them; the clips in `empty` have nothing in their masks.
    """
    of: Predict = YARDSTICK_MASKS[predict] if isinstance(predict, str) else predict
    wanted = [(name, None) for name in conditions] + [("mixture", level) for level in levels]
    records, statistics = [], []
    for clip in clips:
        targets = scored_targets(clip, empty=clip in empty)
        masks = {key: of(targets, key[0], clip).astype(np.float32) for key in wanted}
        clean = masks.get(("clean", None))
        for (name, level), mask in masks.items():
            statistics.append(frame_statistics(mask, targets))
            for frame in range(len(targets)):
                pair = None if clean is None or name == "clean" else (clean[frame] > 0.5, mask[frame] > 0.5)
                records.append(
                    {
                        "split": split,
                        "clip_id": f"clip{clip:03d}",
                        "labels": list(labels(clip)),
                        "condition": name,
                        "polarity": "positive" if name in ("clean", "mixture") else "negative",
                        "level": level,
                        "frame": frame,
                        "clean_intersection": None if pair is None else int((pair[0] & pair[1]).sum()),
                        "clean_union": None if pair is None else int((pair[0] | pair[1]).sum()),
                    }
                )
    failures = tuple(FailedClip(split, name, "ran out of memory") for name in failed)
    info = ScoreInfo(model or (predict if isinstance(predict, str) else "net"), dataset, seed, failures)
    return Scores(info, pd.DataFrame(records, columns=INDEX_COLUMNS), concatenate(statistics))


YARDSTICK_MASKS: dict[str, Predict] = {
    "oracle": lambda targets, condition, clip: targets * (condition in ("clean", "mixture")),
    "visual_prior": lambda targets, condition, clip: targets * 1.0,
    "empty": lambda targets, condition, clip: targets * 0.0,
}


@pytest.fixture(name="make_scores", scope="session")
def make_scores_fixture() -> Callable[..., Scores]:
    """`make_scores`."""
    return make_scores


MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Returns the folder of a name, which a function fills once for all processes of a run (pytest-xdist's workers)."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    shared.mkdir(exist_ok=True)

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        folder, finished = shared / name, shared / f"{name}.finished"
        with FileLock(shared / f"{name}.lock"):
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                finished.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def toys(made_once: MadeOnce) -> Callable[..., Path]:
    """Returns a data root with a toy, not to be changed: ``toys("s4", clips=12, seed=5)``. It is written once a run."""
    from avsrobust.toy.write import write_toy

    def written(dataset: str, *, clips: int, seed: int) -> Path:
        return made_once(
            f"toy-{dataset}-{clips}-seed{seed}", lambda root: write_toy(root, dataset, clips=clips, seed=seed)
        )

    return written


@pytest.fixture(scope="session")
def toy_in(toys: Callable[..., Path]) -> Callable[..., Path]:
    """Copies toys into a folder, which a test may change: ``toy_in(tmp_path / "data", s4=12, ms3=8, seed=5)``."""

    def copied(root: Path, *, seed: int, **clips: int) -> Path:
        for dataset, number in clips.items():
            shutil.copytree(toys(dataset, clips=number, seed=seed), root, dirs_exist_ok=True)
        return root

    return copied


@pytest.fixture(scope="session")
def toy_builds(made_once: MadeOnce, toy_in: Callable[..., Path]) -> Path:
    """A data root with 12 toy clips of s4 and 8 of ms3, and their builds below ``robust``; not to be changed."""
    from avsrobust.building.build import build
    from avsrobust.conditions.recipe import load_recipe
    from avsrobust.datasets.read import read_dataset

    def fill(root: Path) -> None:
        toy_in(root, s4=12, ms3=8, seed=5)
        for dataset in ("s4", "ms3"):
            output = root / "robust" / f"{dataset}-seed42"
            build(read_dataset(dataset, root), load_recipe("standard"), 42, output, on_error="skip")

    return made_once("toy-builds", fill)


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Callable[..., Path]:
    """Writes training recipes for a network of a few thousand weights; arguments replace or add top-level keys."""
    import yaml
    from tiny_m2f import TINY_OPTIONS

    def write(name: str = "tiny", config: dict[str, object] | None = None, **changes: object) -> Path:
        model = {"family": "m2f", "trainable": ["*"], "options": {"config": {**TINY_OPTIONS, **(config or {})}}}
        content: dict[str, Any] = {
            "kind": "train",
            "name": name,
            "description": "A tiny one.",
            "model": model,
            "data": {"datasets": ["s4", "ms3"], "mix": {"s4": 0.5, "ms3": 0.5}},
            "negatives": {"share": 0.3, "kinds": ["offscreen", "silence", "noise"]},
            "loss": {"similarity": 0.2},
            "optimizer": {"lr": 1.0e-3, "warmup_steps": 3},
            "run": {"steps": 4, "batch_size": 4, "validate_every": 100, "validate_clips": 1, "checkpoint_every": 10},
        }
        for key, value in changes.items():
            merge = isinstance(value, dict) and isinstance(content.get(key), dict)
            content[key] = {**content[key], **value} if merge else value
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


# Plans without media, for tests of conditions.
PlanOf = Callable[..., "Plan"]


def make_planned_clip(
    name: str,
    *labels: str,
    dataset: str = "s4",
    split: str = "test",
    frames: int = 5,
    rate: int = 16000,
    seconds: float = 5.0,
    masked: Sequence[int] | None = None,
    **more: Any,
) -> Clip:
    """A clip that no file belongs to; `masked` are the frames that have a mask (None: all)."""
    clip_id = f"{labels[0]}/{name}" if dataset == "s4" else name
    shown = range(frames) if masked is None else masked
    header = SoundHeader(rate, round(rate * seconds), 1, "PCM_16")
    return Clip(
        dataset,
        split,
        clip_id,
        labels,
        (S4_CATEGORIES if dataset == "s4" else AVSS_CATEGORIES).supercategories(labels),
        tuple(f"frames/{dataset}/{clip_id}/{frame}.png" for frame in range(frames)),
        tuple(f"masks/{dataset}/{clip_id}/{frame}.png" if frame in shown else None for frame in range(frames)),
        f"audio/{dataset}/{clip_id}.wav",
        header,
        **{"picture_size": (224, 224), **more},
    )


@pytest.fixture(scope="session")
def planned_clip() -> Callable[..., Clip]:
    """`make_planned_clip`."""
    return make_planned_clip


@pytest.fixture(scope="session")
def s4_clips() -> list[Clip]:
    """Two clips of every category of S4, all in the test split."""
    return [make_planned_clip(f"x{number}", name) for name in sorted(S4_SUPERCATEGORY) for number in range(2)]


@pytest.fixture(scope="session")
def plan_of() -> PlanOf:
    """Plans the conditions of a recipe, given as in YAML, for clips."""
    from avsrobust.building.plan import plan
    from avsrobust.conditions.recipe import parse_recipe

    def made(
        clips: Sequence[Clip], conditions: dict[str, Any], *, seed: int = 42, store_audio: bool = False, **more: Any
    ) -> Plan:
        content = {"kind": "build", "name": "x", "description": "x", "conditions": conditions}
        recipe = parse_recipe({**content, "store_audio": store_audio}, "test")
        return plan(clips, recipe, seed, **more)

    return made


@pytest.fixture(scope="session")
def extended_builds(made_once: MadeOnce, toy_in: Callable[..., Path]) -> Path:
    """A data root with toy clips of all three data sets and builds of `extended` below ``extended``; not to be changed.

    ``recordings`` holds sounds for the condition `unseen`.
    """
    from avsrobust.building.build import build
    from avsrobust.conditions.recipe import load_recipe
    from avsrobust.datasets.read import read_dataset
    from avsrobust.toy.write import write_toy

    def fill(root: Path) -> None:
        (root / "recordings").mkdir()
        for number, name in enumerate(("thunder", "frogs", "ocean")):
            generator = np.random.default_rng(number)
            soundfile.write(root / f"recordings/{name}.wav", generator.uniform(-0.5, 0.5, 100_000), 11025)
        toy_in(root, s4=12, ms3=8, seed=5)
        recipe = load_recipe("extended").adapted(recordings=root / "recordings")
        for dataset in ("s4", "ms3", "avss"):
            if dataset == "avss":
                write_toy(root, dataset, clips=12, seed=5)
            build(read_dataset(dataset, root), recipe, 42, root / "extended" / dataset, on_error="skip")

    return made_once("extended-builds", fill)
