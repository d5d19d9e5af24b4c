"""The trees of ``--export avsbench``, read by the data loaders that AVSBench-Robust released, unchanged.

CAVP's and Stepping-Stones' read that of avss, in their own environments.

``AVSROBUST_CHECKOUTS=DIR`` with AVSBench-Robust/ in it; skipped where it is not there. Their imports of cv2 and torchvision
are answered by stand-ins: neither is needed for what is tested, the reading of sounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from avsrobust import load_manifest
from avsrobust.audio.io import read_samples
from avsrobust.audio.resample_hann import resample_hann
from avsrobust.building.build import build
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.toy.write import write_toy
from model_adapters.cavp import released_crop

PROGRAM = """
import importlib.util, sys, types
import numpy as np, torch
folder, kind, data, sounds, out = sys.argv[1:]
vision, transforms = types.ModuleType("torchvision"), types.ModuleType("transforms")
transforms.Compose = lambda steps: lambda picture: torch.from_numpy(np.array(picture, dtype=np.float32))
transforms.Resize = transforms.ToTensor = transforms.Normalize = lambda *arguments: None
vision.transforms = transforms
sys.modules.update({"torchvision": vision, "cv2": types.ModuleType("cv2")})
spec = importlib.util.spec_from_file_location("loader", f"{folder}/{kind}_dataset.py")
loader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(loader)
place = {"s4": "Single-source/s4", "ms3": "Multi-sources/ms3"}[kind]
found = {}
for condition in ("noise", "misaligned", "silence"):
    cfg = types.SimpleNamespace(
        anno_csv=f"{data}/{place}_meta_data.csv",
        dir_img=f"{data}/{place}_data/visual_frames",
        dir_mask=f"{data}/{place}_data/gt_masks",
        dir_audio_log_mel=sounds + ("/silent.pkl" if condition == "silence" else f"/{place}_data/audio_log_mel_{condition}"),
    )
    name = {"s4": "S4Dataset", "ms3": "MS3Dataset"}[kind] + ("_slience" if condition == "silence" else "")
    for item in getattr(loader, name)(split="test", cfg=cfg):
        clip = f"{item[3]}/{item[4]}" if kind == "s4" else item[3]
        found[f"{condition}|{clip}"] = item[1].contiguous()
torch.save(found, out)
"""


@pytest.mark.parametrize("kind", ["s4", "ms3"])
def test_released_loaders_read_the_export(kind: str, published_checkout: Callable[[str], Path], tmp_path: Path) -> None:
    folder = published_checkout("AVSBench-Robust") / "training_evaluation/code/AVSegFormer/dataloader"
    data = tmp_path / "data"
    write_toy(data, kind, clips=24, seed=4)
    table = read_dataset(kind, data, splits=["test"])
    built = build(table, load_recipe("standard"), 42, tmp_path / "build", export="avsbench")
    command = [sys.executable, "-c", PROGRAM, folder, kind, data, tmp_path / "build/avsbench", tmp_path / "found.pt"]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    manifest = load_manifest(built.manifest)
    names = {"noise": "noise", "misaligned": "offscreen", "silence": "silence"}
    for key, sound in found.items():
        condition, clip_id = key.split("|")
        (row,) = (row for row in manifest.rows if (row.clip_id, row.condition) == (clip_id, names[condition]))
        expected = np.load(manifest.log_mel_path(row))[row.log_mel_row]
        np.testing.assert_array_equal(sound.numpy(), expected)
    assert len(found) == 3 * len({row.clip_id for row in manifest.rows})


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "folder"), [("cavp", "CAVP"), ("stepping_stones", "Stepping-Stones")])
def test_the_loaders_of_two_other_models_read_the_export_of_avss(
    kind: str,
    folder: str,
    published_checkout: Callable[[str], Path],
    published_environment: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    root, python = published_checkout(folder), published_environment(folder)
    write_toy(tmp_path / "data", "avss", clips=24, seed=4)
    table = read_dataset("avss", tmp_path / "data", splits=["test"])
    manifest = load_manifest(build(table, load_recipe("standard"), 42, tmp_path / "build", export="avsbench").manifest)
    names = {"noise": "noise", "misaligned": "offscreen", "silent": "silence"}
    release = next((tmp_path / "data").rglob("metadata.csv")).parent
    trees = {}
    for suffix in names:
        trees[suffix] = str(tmp_path / "build" / "avsbench" / f"AVSBench_semantic_{suffix}")
        # As the docs say.
        subprocess.run(["cp", "-rsn", f"{release}/.", trees[suffix]], check=True)
    code = root if kind == "cavp" else root / "avs"
    job = {"kind": kind, "root": str(code), "trees": trees, "answers": str(tmp_path / "answers.npz")}
    (tmp_path / "job.json").write_text(json.dumps(job))
    script = Path(__file__).with_name("export_own.py")
    command = [str(python), "-B", "-W", "ignore", str(script), str(tmp_path / "job.json")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with np.load(tmp_path / "answers.npz") as archive:
        found = dict(archive)
    clips = {row.clip_id for row in manifest.rows}
    assert len(found) == len(names) * len(clips)
    for key, sound in found.items():
        suffix, name = key.split("|")
        (row,) = (
            row for row in manifest.rows if (row.clip_id.rpartition("/")[2], row.condition) == (name, names[suffix])
        )
        path = manifest.audio_path(row, manifest.data_root())
        if kind == "stepping_stones":
            assert sound.tobytes() == path.read_bytes()
        else:
            samples, rate = read_samples(path)
            waveform = torch.from_numpy(resample_hann(samples.mean(1), rate, 16_000)).float()[None]
            np.testing.assert_allclose(sound, released_crop(waveform), atol=1e-5)
