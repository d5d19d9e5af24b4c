"""Other people's networks, from their own checkouts, for the tests of the adapters that run them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from avsrobust.manifest import Manifest, Row
from avsrobust.toy.write import write_toy

SCRIPT = Path(__file__).with_name("forward.py")
# Programs for other environments, which import what lies beside them.
collect_ignore_glob = ["*_own.py"]


@dataclass(frozen=True)
class Forward:
    """What a checkout's own code answers to one clip under each of its conditions.

    `pictures`: uint8 [1, T, 3, H, W]. `sounds`: [N, T, ...]. `outputs`: each [N, T, ...]. `checkpoint`: the weights.
    `rounding`: how far the first output is from the one in double precision on this machine; another order of the same sums
    (other batches, other kernels) moves float32 results by about as much.
    """

    build: Manifest
    pictures: Tensor
    sounds: Tensor
    outputs: dict[str, Tensor]
    checkpoint: Path
    rounding: float

    def masks(self) -> Tensor:
        """Return probabilities [N, T, h, w], as the published evaluations make them."""
        return self.outputs["output0"][:, :, 0].sigmoid()


@pytest.fixture(scope="session")
def own_forward_pass(make_build_in: Callable[..., Manifest]) -> Callable[..., Forward]:
    """Run a checkout's own code in a process of its own (``forward.py``): given a folder, the sounds' kind and the job."""

    def run(folder: Path, *, embeddings: bool = False, **job: object) -> Forward:
        build = make_build_in(folder / "build", clips=1, size=(90, 120))
        frames = np.stack([np.asarray(Image.open(build.data_root() / name)) for name in build.rows[0].frames])
        log_mels = np.load(build.folder / "features.npy")[[row.log_mel_row for row in build.rows]]
        sounds = embed(torch.from_numpy(log_mels)).numpy() if embeddings else log_mels
        np.savez(folder / "inputs.npz", frames=frames, sounds=sounds)
        paths = {"inputs": "inputs.npz", "checkpoint": "checkpoint.pth", "answers": "answers.npz"}
        whole = {**job, "seed": 3, **{key: str(folder / name) for key, name in paths.items()}}
        (folder / "job.json").write_text(json.dumps(whole))
        subprocess.run([sys.executable, str(SCRIPT), str(folder / "job.json")], check=True, stdout=subprocess.DEVNULL)
        with np.load(folder / "answers.npz") as archive:
            outputs = {name: torch.from_numpy(array) for name, array in archive.items()}
        rounding = float(outputs.pop("rounding"))
        pictures = torch.from_numpy(frames).permute(0, 3, 1, 2)[None]
        return Forward(build, pictures, torch.from_numpy(sounds), outputs, folder / "checkpoint.pth", rounding)

    return run


def embed(log_mel: Tensor) -> Tensor:
    """Stand in for VGGish: [..., T, 1, 96, 64] -> [..., T, 128]."""
    return log_mel.flatten(-3).unfold(-1, 48, 48).mean(-1) * 10


@pytest.fixture(scope="session", name="embed")
def embed_fixture() -> Callable[[Tensor], Tensor]:
    """`embed`."""
    return embed


@pytest.fixture(scope="session")
def published_checkout() -> Callable[[str], Path]:
    """Where a published repository is: ``AVSROBUST_CHECKOUTS`` names the folder; tests of what is not there are skipped."""

    def find(name: str) -> Path:
        folder = os.environ.get("AVSROBUST_CHECKOUTS")
        if not folder:
            pytest.skip("AVSROBUST_CHECKOUTS names no folder with checkouts of the published repositories")
        if not Path(folder, name).is_dir():
            pytest.skip(f"{Path(folder, name)}: no such checkout")
        return Path(folder, name)

    return find


def masks_agree(found: np.ndarray, own: np.ndarray) -> None:
    """Compare stored masks, bool, with own probabilities, everywhere but where these are a rounding away from 0.5."""
    certain = np.abs(own - 0.5) > 1e-5
    assert certain.mean() > 0.9
    assert np.array_equal(found[certain], own[certain] > 0.5)


@pytest.fixture(scope="session", name="masks_agree")
def masks_agree_fixture() -> Callable[[np.ndarray, np.ndarray], None]:
    """`masks_agree`."""
    return masks_agree


@dataclass(frozen=True)
class Own:
    """What a checkout's own evaluation (``own_models.py``) answers to one clip under each of its conditions.

    `pictures`: uint8 [1, T, 3, H, W]. `sounds`: as the job gives them, [N, T, ...]. `logits`: [N, T, h, w], or [N, T, C, h, w].
    `checkpoint`: the weights.
    """

    build: Manifest
    pictures: Tensor
    sounds: Tensor
    logits: Tensor
    checkpoint: Path


@pytest.fixture(scope="session")
def own_evaluation(make_build_in: Callable[..., Manifest]) -> Callable[..., Own]:
    """Run a checkout's own evaluation in a process of its own: given a folder, its kind, the sounds of a build and the job."""

    def run(folder: Path, kind: str, sounds_of: Callable[[Manifest], np.ndarray], **job: object) -> Own:
        build = make_build_in(folder / "build", clips=1, size=(90, 120))
        frames = np.stack([np.asarray(Image.open(build.data_root() / name)) for name in build.rows[0].frames])
        sounds = sounds_of(build)
        np.savez(folder / "inputs.npz", frames=frames, sounds=sounds)
        paths = {"inputs": "inputs.npz", "checkpoint": "checkpoint.pth", "answers": "answers.npz"}
        whole = {**job, "kind": kind, "seed": 3, **{key: str(folder / name) for key, name in paths.items()}}
        (folder / "job.json").write_text(json.dumps(whole))
        script = str(SCRIPT.with_name("own_models.py"))
        subprocess.run([sys.executable, script, str(folder / "job.json")], check=True, stdout=subprocess.DEVNULL)
        with np.load(folder / "answers.npz") as archive:
            logits = torch.from_numpy(archive["logits"])
        pictures = torch.from_numpy(frames).permute(0, 3, 1, 2)[None]
        return Own(build, pictures, torch.from_numpy(sounds), logits, folder / "checkpoint.pth")

    return run


def log_mels(build: Manifest) -> np.ndarray:
    """Return the log-mels of the rows of a build of one clip, [N, T, 1, 96, 64]."""
    log_mel: np.ndarray = np.load(build.folder / "features.npy")
    return log_mel[[row.log_mel_row for row in build.rows]]


@pytest.fixture(scope="session", name="log_mels")
def log_mels_fixture() -> Callable[[Manifest], np.ndarray]:
    """`log_mels`."""
    return log_mels


@pytest.fixture(scope="session")
def write_checkout() -> Callable[[Path, Mapping[str, str]], Path]:
    """Write a miniature checkout: a folder, and the text of its files by name."""

    def write(folder: Path, files: Mapping[str, str]) -> Path:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return folder

    return write


@pytest.fixture(scope="session")
def published_environment() -> Callable[[str], Path]:
    """The Python of a published repository's own environment, ``environments/NAME/bin/python`` beside the checkouts."""

    def find(name: str) -> Path:
        python = Path(os.environ.get("AVSROBUST_CHECKOUTS", ""), "environments", name, "bin", "python")
        if not python.is_file():
            pytest.skip(f"{python}: no environment for {name}, whose own code needs one")
        return python

    return find


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a data set: real media where ``AVSROBUST_DATA`` names them, else a toy."""

    def find(kind: str) -> Path:
        if os.environ.get("AVSROBUST_DATA"):
            return Path(os.environ["AVSROBUST_DATA"])
        folder = tmp_path_factory.mktemp(f"toy-{kind}")
        write_toy(folder, kind, clips=24, seed=4)
        return folder

    return find


@pytest.fixture(scope="session")
def lay_out() -> Callable[[Manifest, Path, list[str]], dict[str, str]]:
    """Write a tree per condition in AVSBench's own layout: its clips' files linked, their sounds those of the condition."""

    def write(build: Manifest, folder: Path, chosen: list[str]) -> dict[str, str]:
        for row in build.rows:
            if row.split == "test" and row.clip_id in chosen:
                write_clip(row, build, folder / row.condition)
        return {path.name: str(path) for path in sorted(folder.iterdir())}

    return write


def write_clip(row: Row, build: Manifest, tree: Path) -> None:
    """Write one clip into the tree of its condition."""
    data, name = build.data_root(), row.clip_id.rpartition("/")[2]
    frames = build.picture_path(row.frames[0], data).parent
    sound = build.audio_path(row, data)
    if row.dataset == "avss":
        place = tree / frames.parent.parent.name / name
        place.mkdir(parents=True)
        for part in ("frames", "labels_rgb", "labels_semantic"):
            (place / part).symlink_to(frames.parent / part)
        (place / "audio.wav").symlink_to(sound)
        source = frames.parents[2]
        shutil.copy(source / "label2idx.json", tree)
        keep_rows(tree / "metadata.csv", source / "metadata.csv", "uid", name)
        return
    kind, meta = {"s4": ("Single-source", "s4"), "ms3": ("Multi-sources", "ms3")}[row.dataset]
    inner = f"test/{row.labels[0]}" if row.dataset == "s4" else "test"
    base = tree / "avsbench_data" / kind / f"{meta}_data"
    pictures = base / "visual_frames" / (inner if row.dataset == "s4" else "")
    pictures.mkdir(parents=True, exist_ok=True)
    (pictures / name).symlink_to(frames)
    for part, suffix in (("gt_masks", ""), ("audio_wav", ".wav"), ("audio_log_mel", ".pkl")):
        (base / part / inner).mkdir(parents=True, exist_ok=True)
        place = base / part / inner / f"{name}{suffix}"
        if part == "gt_masks":
            place.symlink_to(data / kind / f"{meta}_data" / part / inner / name)
        elif part == "audio_wav":
            place.symlink_to(sound)
        else:
            place.write_bytes(pickle.dumps(torch.zeros(5, 1, 96, 64)))
    table = data / kind / f"{meta}_meta_data.csv"
    keep_rows(base.parent / table.name, table, "name" if row.dataset == "s4" else "video_id", name)


def keep_rows(path: Path, source: Path, column: str, name: str) -> None:
    """Write a table with the rows of `source` of one clip, and those that were there."""
    rows = pd.read_csv(source)
    before = pd.read_csv(path)[column].tolist() if path.exists() else []
    rows[rows[column].isin([*before, name])].to_csv(path, index=False)
