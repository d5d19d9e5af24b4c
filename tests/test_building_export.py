"""The export for AVSBench-Robust's own loaders: names, contents, bytes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from avsrobust.building.build import build
from avsrobust.building.export import pickled_tensor
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.files import sha256_of_file
from avsrobust.manifest import load_manifest

STANDARD = load_recipe("standard")
TREES = {"s4": "Single-source/s4_data", "ms3": "Multi-sources/ms3_data"}


@pytest.fixture(scope="module")
def data(tmp_path_factory, toy_in) -> Path:
    """A toy of S4 and MS3. Tests must not change it."""
    return toy_in(tmp_path_factory.mktemp("toy"), s4=12, ms3=8, seed=5)


def load_audio_lm(path: Path) -> torch.Tensor:
    """As AVSBench-Robust's loaders read it (dataloader/s4_dataset.py)."""
    return pickle.loads(path.read_bytes()).detach()


@pytest.mark.parametrize("name", ["s4", "ms3"])
def test_the_trees_hold_what_the_manifest_names(data, tmp_path, name):
    build(read_dataset(name, data), STANDARD, 42, tmp_path / "b", export="avsbench")
    manifest = load_manifest(tmp_path / "b")
    root = tmp_path / "b" / "avsbench"
    expected = {root / "silent.wav", root / "silent.pkl"}
    for row in manifest.rows:
        sound = manifest.audio_path(row, data)
        log_mel = np.load(manifest.log_mel_path(row))[row.log_mel_row]
        if row.condition == "silence":
            assert torch.equal(load_audio_lm(root / "silent.pkl"), torch.from_numpy(log_mel))
            assert sha256_of_file(root / "silent.wav") == row.audio_sha256
        elif row.condition in ("noise", "offscreen"):
            suffix = {"noise": "noise", "offscreen": "misaligned"}[row.condition]
            # The name and, in S4, the category are what the loaders take from AVSBench's table.
            place = f"{row.split}/{row.clip_id}"
            wav = root / TREES[name] / f"audio_wav_{suffix}" / f"{place}.wav"
            features = root / TREES[name] / f"audio_log_mel_{suffix}" / f"{place}.pkl"
            expected |= {wav, features}
            assert wav.read_bytes() == sound.read_bytes()
            assert not wav.is_symlink()
            tensor = load_audio_lm(features)
            assert type(tensor) is torch.Tensor
            assert (tensor.shape, tensor.dtype, tensor.requires_grad) == ((5, 1, 96, 64), torch.float32, False)
            assert torch.equal(tensor, torch.from_numpy(log_mel))
    assert {path for path in root.rglob("*") if path.is_file()} == expected


def test_it_can_follow_later_and_is_completed(data, tmp_path):
    dataset = read_dataset("s4", data)
    build(dataset, STANDARD, 42, tmp_path / "whole", export="avsbench", workers=2)
    build(dataset, STANDARD, 42, tmp_path / "b")
    manifest = sha256_of_file(tmp_path / "b" / "manifest.parquet")
    build(dataset, STANDARD, 42, tmp_path / "b", export="avsbench")
    next((tmp_path / "b" / "avsbench").rglob("*.pkl")).unlink()
    build(dataset, STANDARD, 42, tmp_path / "b", export="avsbench")
    assert sha256_of_file(tmp_path / "b" / "manifest.parquet") == manifest
    sums = [
        {path.relative_to(folder): sha256_of_file(path) for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "whole", tmp_path / "b")
    ]
    assert sums[0] == sums[1]


@pytest.mark.parametrize("ending", ["wav", "pkl"])
def test_a_file_of_the_right_size_and_other_bytes_is_written_again(data, tmp_path, ending):
    dataset = read_dataset("s4", data)
    build(dataset, STANDARD, 42, tmp_path / "b", export="avsbench")
    path = sorted((tmp_path / "b" / "avsbench").rglob(f"*.{ending}"))[1]
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    build(dataset, STANDARD, 42, tmp_path / "b", export="avsbench")
    assert path.read_bytes() == content


@pytest.mark.parametrize("store_audio", [True, False])
def test_avss_has_a_tree_per_negative_in_its_own_layout(tmp_path, toy_in, store_audio):
    toy_in(tmp_path / "toy", avss=12, seed=1)
    dataset = read_dataset("avss", tmp_path / "toy")
    recipe = STANDARD.adapted(store_audio=store_audio)
    build(dataset, recipe, 42, tmp_path / "b", export="avsbench")
    stored = load_manifest(build(dataset, STANDARD, 42, tmp_path / "stored").manifest)
    suffixes = {"noise": "noise", "offscreen": "misaligned", "silence": "silent"}
    expected = {
        f"AVSBench_semantic_{suffixes[row.condition]}/{row.clip_id}/audio.wav": row
        for row in stored.rows
        if row.condition in suffixes
    }
    root = tmp_path / "b" / "avsbench"
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == expected.keys()
    for name, row in expected.items():
        assert (root / name).read_bytes() == stored.audio_path(row, tmp_path / "toy").read_bytes()
    assert len({row.clip_id.partition("/")[0] for row in expected.values()}) > 1


def test_a_pickle_has_the_same_bytes_in_another_process():
    code = (
        "import hashlib, sys, numpy, torch; junk = [torch.zeros(999) for _ in range(9)]\n"
        "from avsrobust.building.export import pickled_tensor\n"
        "array = numpy.arange(30720, dtype='float32').reshape(5, 1, 96, 64)\n"
        "sys.stdout.buffer.write(pickled_tensor(array))"
    )
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    array = np.arange(30720, dtype=np.float32).reshape(5, 1, 96, 64)
    assert other == pickled_tensor(array)
    assert torch.equal(pickle.loads(other), torch.from_numpy(array))


def test_a_pickle_names_nothing_but_torchs_own_loading():
    import pickletools

    content = pickled_tensor(np.zeros((5, 1, 96, 64), dtype=np.float32))
    names = [value for opcode, value, _ in pickletools.genops(content) if opcode.name == "SHORT_BINUNICODE"]
    assert names == ["torch.storage", "_load_from_bytes"]
