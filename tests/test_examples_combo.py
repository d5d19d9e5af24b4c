"""examples/worker_combo.py as far as it goes without detectron2: around a stand-in for COMBO's network, through the pipe."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avsrobust.adapters.worker import Worker
from avsrobust.errors import AdapterError

CPU = torch.device("cpu")
EXAMPLE = Path(__file__).parents[1] / "examples" / "worker_combo.py"
# What COMBO's pred.py calls, and a network that answers with what it was given.
DETECTRON2 = {
    "detectron2/__init__.py": "",
    "detectron2/config.py": """
class Config(dict):
    def merge_from_file(self, path):
        self["file"] = open(path).read()
    def merge_from_list(self, pairs):
        self.update(zip(pairs[::2], pairs[1::2]))
def get_cfg():
    return Config()
""",
    "detectron2/projects/__init__.py": "",
    "detectron2/projects/deeplab.py": "def add_deeplab_config(cfg):\n    cfg['added'] = ['deeplab']\n",
    "detectron2/modeling.py": """
import torch
class Network(torch.nn.Module):
    def __init__(self, cfg):
        super().__init__()
        assert cfg["added"] == ["deeplab", "audio", "fuse", "maskformer2"], cfg
        assert cfg["MODEL.AUDIO.FREEZE_AUDIO_EXTRACTOR"] is False
        self.file = cfg["file"]
        self.use_pre_sam = "maskiges" in cfg["file"]
        self.scale = torch.nn.Parameter(torch.tensor(0.0))
    def forward(self, inputs):
        (clip,) = inputs
        size = 384 if "vct" in self.file else 224
        assert clip["images"].dtype == torch.uint8 and clip["images"].shape[1:] == (3, size, size)
        assert "category_label" in clip
        seen = clip["images"].float().mean(1) / 255
        if self.use_pre_sam:
            seen = seen + clip["pre_masks"].float().mean(1) / 255
        scores = seen * self.scale + clip["audio_log_mel"].mean((1, 2, 3))[:, None, None]
        return [{"sem_seg": torch.stack([torch.zeros_like(score), score])} for score in scores]
def build_model(cfg):
    return Network(cfg)
""",
}
COMBO = {
    "models/__init__.py": "\n".join(
        f"def add_{name}_config(cfg):\n    cfg['added'].append('{name}')" for name in ("audio", "fuse", "maskformer2")
    ),
    "configs/avs_s4/Test_COMBO_PVTV2B5_bs8_90k.yaml": "maskiges",
    "configs/plain.yaml": "nothing",
    "configs/s4_swinb_384/Test_COMBO_SWINB.yaml": "vct with maskiges",
}


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder, files in (("site", DETECTRON2), ("combo", COMBO)):
        for name, content in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    torch.save({"model": {"scale": torch.tensor(2.0)}, "iteration": 3}, tmp_path / "model_best.pth")
    return tmp_path / "combo"


def load(repo: Path, **options: str) -> Worker:
    command = f"'{sys.executable}' '{EXAMPLE}'"
    return Worker.load(repo.parent / "model_best.pth", CPU, command=command, repo=str(repo), **options)


def write_frames(folder: Path, pictures: np.ndarray, suffix: str = "") -> Path:
    for index, picture in enumerate(pictures):
        path = folder / f"dog/clip{index // 5}/clip{index // 5}_{index % 5 + 1}{suffix}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return folder


def test_without_maskiges(repo: Path) -> None:
    adapter = load(repo, config="configs/plain.yaml")
    frames = torch.randint(0, 256, (2, 5, 3, 224, 224), dtype=torch.uint8)
    audio = torch.randn(2, 5, 1, 96, 64)
    expected = (frames.float().mean(2) / 255 * 2 + audio.mean(dim=(2, 3, 4))[..., None, None]).sigmoid()
    torch.testing.assert_close(adapter.segment(adapter.encode_frames(frames), audio), expected)


def test_maskiges_are_found_by_their_frames(repo: Path) -> None:
    generator = np.random.default_rng(0)
    pictures, colours = (generator.integers(0, 256, (10, 120, 160, 3), dtype=np.uint8) for _ in range(2))
    frames = write_frames(repo.parent / "frames", pictures)
    maskiges = write_frames(repo.parent / "maskiges", colours, "_mask_color")
    adapter = load(repo, frames=str(frames), maskiges=str(maskiges))
    given = torch.from_numpy(pictures[5:]).permute(0, 3, 1, 2)[None]
    answer = adapter.segment(adapter.encode_frames(given), torch.zeros(1, 5, 1, 96, 64))
    sizes = [
        np.asarray(Image.fromarray(p).resize((224, 224), Image.Resampling.BILINEAR)) for p in [*pictures, *colours]
    ]
    seen = torch.from_numpy(np.stack(sizes)).float().mean(-1) / 255
    torch.testing.assert_close(answer[0], ((seen[5:10] + seen[15:]) * 2).sigmoid())
    with pytest.raises(AdapterError, match="a frame is not among those below --option frames"):
        adapter.segment(adapter.encode_frames(given.flip(-1)), torch.zeros(1, 5, 1, 96, 64))


def test_vct_takes_larger_pictures_and_finds_maskiges_of_frames_that_were_made_from_others(repo: Path) -> None:
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (5, 120, 160, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(p).resize((384, 384), Image.Resampling.BILINEAR)) for p in pictures]
    colours = generator.integers(0, 256, (5, 384, 384, 3), dtype=np.uint8)
    frames = write_frames(repo.parent / "frames", np.stack(large))
    maskiges = write_frames(repo.parent / "maskiges", colours, "_mask_color")
    config = "configs/s4_swinb_384/Test_COMBO_SWINB.yaml"
    adapter = load(repo, config=config, size="384", frames=str(frames), maskiges=str(maskiges))
    given = torch.from_numpy(pictures).permute(0, 3, 1, 2)[None]
    answer = adapter.segment(adapter.encode_frames(given), torch.zeros(1, 5, 1, 96, 64))
    seen = torch.from_numpy(np.stack([*large, *colours])).float().mean(-1) / 255
    torch.testing.assert_close(answer[0], ((seen[:5] + seen[5:]) * 2).sigmoid())


def test_what_is_not_named_is_asked_for(repo: Path) -> None:
    with pytest.raises(AdapterError, match="needs --option frames=DIR and --option maskiges=DIR"):
        load(repo)
    with pytest.raises(AdapterError, match=r"no frame below .* has a maskige below"):
        load(repo, frames=str(repo), maskiges=str(repo))
    with pytest.raises(AdapterError, match="needs --option repo=PATH"):
        Worker.load(None, CPU, command=f"'{sys.executable}' '{EXAMPLE}'")


@pytest.mark.parametrize("name", ["worker_avsegformer.py", "worker_combo.py", "worker_model.py"])
def test_workers_are_python_37(name: str) -> None:
    ast.parse(EXAMPLE.with_name(name).read_text(), feature_version=(3, 7))
