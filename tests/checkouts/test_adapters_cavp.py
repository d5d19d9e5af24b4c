"""`cavp`, on a miniature checkout of our own, and on the real one where it is.

The real one: ``AVSROBUST_CHECKOUTS=DIR`` with CAVP/ and environments/CAVP/ in it, the latter with what its requirements.txt
names; on the media of ``AVSROBUST_DATA`` where that is set.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avsrobust.adapters.base import Segmentation
from avsrobust.adapters.lookup import load_adapter
from avsrobust.audio.io import read_samples
from avsrobust.audio.resample_hann import resample_hann
from avsrobust.building.build import build
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.masks import read_frame
from avsrobust.datasets.read import read_dataset
from avsrobust.errors import AdapterError, ClipError
from avsrobust.manifest import Manifest, Row, load_manifest
from avsrobust.testing import check_adapter
from model_adapters.cavp import Cavp, piece_spectrograms, released_crop
from model_adapters.checkouts.imports import Checkout

CPU = torch.device("cpu")
SECOND = 16_000
# A network of our own in the repository's structure: what is imported where, and what its constructor loads.
MODEL = """
import torch
from torch import nn
import torch.nn.functional as F
from einops import rearrange
from loguru import logger
from models.visual.backbones.resnet import resnet50
from models.audio.audio_network import AudioModel
from timm.models.layers import DropPath, Mlp
from easydict import EasyDict

PLACES = EasyDict({"stages": [{"width": 8}]})

class Backbone(nn.Module):
    def __init__(self, depth, pretrained):
        super().__init__()
        self.backbone = resnet50(pretrained)

    def forward(self, x):
        return self.backbone(x)

class Segment(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.reduce = nn.Conv2d(8, 8, 1)
        self.upsample = nn.Module()
        self.upsample = nn.Sequential()
        self.upsample.classifier = nn.Conv2d(8, classes, 1)

    def forward_feature(self, maps):
        return self.reduce(maps[-1])

class CAVP(nn.Module):
    def __init__(self, backbone, pretrain_path, num_classes=2, audio_backbone_pretrain_path=None, visual_backbone=50,
                 args=None):
        super().__init__()
        logger.critical(f"LOADING SEG MODEL <<{args.seg_model}>>")
        assert args.batch_size and not any(args.last_three_dilation_stride) and visual_backbone == backbone
        self.backbone = Backbone(backbone, pretrain_path)
        self.segment = Segment(num_classes)
        self.visual_projector = Mlp(in_features=PLACES.stages[0].width, hidden_features=4, out_features=8, drop=0.0)
        self.audio_backbone = AudioModel(args.audio_backbone, 8)
        self.bank = torch.zeros(num_classes, args.batch_size, 8, device=args.local_rank)

    def forward_cls(self, out, size):
        return F.interpolate(self.segment.upsample(out.contiguous()), size=size, mode="bilinear", align_corners=False)

    def forward_fusion(self, visual, sound):
        h, w = visual.shape[-2:]
        mixed = self.visual_projector(rearrange(visual, "b c h w -> b (h w) c", h=h, w=w))
        mixed = rearrange(mixed, "b (h w) c -> b c h w", h=h, w=w)
        return mixed * sound[..., None, None], {"audio": sound}

    def forward(self, image, audio, eval_mode=False):
        fused, pack = self.forward_fusion(self.segment.forward_feature(self.backbone(image)), self.audio_backbone(audio))
        return self.forward_cls(fused, image.shape[-2:]), fused, pack
"""
AUDIO = """
from torch import nn
from torchvision.models import resnet18

class AudioModel(nn.Module):
    def __init__(self, backbone, width):
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(96 * 64, width))
        self.cls_head = nn.Linear(width, 2)

    def forward(self, x):
        return self.backbone(x)
"""
RESNET = """
from torch import nn
from utils.pyt_utils import load_model

class ResNet(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4, padding=2)
        self.layer3 = nn.Sequential(*[nn.Conv2d(8, 8, 1) for _ in range(blocks)])

    def forward(self, x):
        return [self.layer3(self.stem(x))]

def resnet50(pretrained=None):
    return load_model(ResNet(6), "ckpts/pretrained/resnet50.pth")
"""
PYT_UTILS = """
import torch

def load_model(model, path):
    model.load_state_dict(torch.load(path))
    return model
"""
FILES = {
    "models/__init__.py": "",
    "models/cavp_model.py": MODEL,
    "models/audio/__init__.py": "",
    "models/audio/audio_network.py": AUDIO,
    "models/visual/__init__.py": "",
    "models/visual/backbones/__init__.py": "",
    "models/visual/backbones/resnet.py": RESNET,
    "utils/__init__.py": "",
    "utils/pyt_utils.py": PYT_UTILS,
}


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("CAVP")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def own_network(repo: Path, classes: int, checkpoint: Path) -> tuple[Checkout, Any]:
    """The miniature with seeded random weights, saved as the repository's engine saves them."""
    checkout = Checkout(repo, CPU)
    resnet: Any = checkout.import_module("models.visual.backbones.resnet")
    resnet.load_model = lambda model, path: model
    module: Any = checkout.import_module("models.cavp_model")
    settings = SimpleNamespace(
        seg_model="DeepLabV3Plus",
        last_three_dilation_stride=[False],
        audio_backbone="vgg",
        batch_size=1,
        local_rank="cpu",
    )
    torch.manual_seed(classes)
    with checkout.active():
        network = module.CAVP(50, None, num_classes=classes, args=settings)
    for parameter in network.parameters():
        # As large behind many layers as before them, on both sides of 0.
        torch.nn.init.orthogonal_(parameter) if parameter.ndim > 1 else torch.nn.init.zeros_(parameter)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"model": state, "audio_optimizer": {}, "visual_optimizer": {}, "epoch": 1, "iteration": 2}, checkpoint)
    return checkout, network.eval()


def load(repo: Path, checkpoint: Path, **options: str) -> Cavp:
    adapter = load_adapter("cavp", checkpoint=checkpoint, device=CPU, options={"repo": str(repo), **options})
    assert isinstance(adapter, Cavp)
    return adapter


def sounds(seconds: int, count: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(count, seconds * SECOND, generator=torch.Generator().manual_seed(seed)) - 0.5


def pictures(frames: int, size: tuple[int, int] = (40, 56)) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (1, frames, 3, *size), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("classes", [2, 71])
def test_the_adapter_answers_what_the_networks_own_forward_pass_does(repo: Path, tmp_path: Path, classes: int) -> None:
    checkout, network = own_network(repo, classes, tmp_path / "weights.pth")
    adapter = load(repo, tmp_path / "weights.pth", image_size="frame")
    frames, sound = pictures(5), sounds(5)
    found = adapter.segment(adapter.encode_frames(frames), sound)
    # dataset/avsbench_s4.py and the trainers' view: 10 s out of the last 2.5 s, in 5 pieces or in 10.
    cut = torch.cat([sound[0, -40_000:]] * 4).reshape(5 if classes == 2 else 10, -1)
    normal = (frames[0] / 255 - torch.tensor((0.485, 0.456, 0.406))[:, None, None]) / torch.tensor(
        (0.229, 0.224, 0.225)
    )[:, None, None]
    with torch.no_grad(), checkout.active():
        spectra = [piece_spectrograms(piece[None])[None] for piece in cut]
        pairs = zip(normal, spectra, strict=False)
        own = torch.cat([network(picture[None], spectrum, eval_mode=True)[0] for picture, spectrum in pairs])
    if classes == 2:
        assert isinstance(found, Segmentation)
        assert found.mask is not None
        assert torch.equal(found.mask[0], own.argmax(1) == 1)
        assert 0.01 < found.mask.float().mean() < 0.99
        torch.testing.assert_close(found.probabilities[0], own.softmax(1)[:, 1], atol=1e-6, rtol=0)
    else:
        assert isinstance(found, Tensor)
        torch.testing.assert_close(found[0], own, atol=1e-5, rtol=1e-5)


def test_the_released_crop_of_five_seconds_is_its_last_half_four_times() -> None:
    five = torch.arange(5.0 * SECOND)[None]
    assert torch.equal(released_crop(five), five[:, 40_000:].repeat(1, 4))
    ten = torch.arange(10.0 * SECOND)[None]
    assert torch.equal(released_crop(ten), ten)
    twelve = torch.arange(12.0 * SECOND)[None]
    assert torch.equal(released_crop(twelve), twelve[:, SECOND:-SECOND])


def test_the_first_half_counts_in_the_papers_behaviour_alone(repo: Path, tmp_path: Path) -> None:
    own_network(repo, 2, tmp_path / "weights.pth")
    one, other = sounds(5), sounds(5, seed=3)
    other[:, 40_000:] = one[:, 40_000:]
    for behaviour, same in (("released", True), ("paper", False)):
        adapter = load(repo, tmp_path / "weights.pth", behaviour=behaviour)
        encoded = adapter.encode_frames(pictures(5))
        answers = [adapter.segment(encoded, sound) for sound in (one, other)]
        scores = [answer.probabilities for answer in answers if isinstance(answer, Segmentation)]
        assert torch.equal(*scores) is same
    assert torch.equal(adapter.pieces(one, 5), one.reshape(1, 5, SECOND))


def test_the_spectrogram_is_that_of_its_definition() -> None:
    piece = sounds(2)
    found = piece_spectrograms(piece)[0].double().numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    padded = np.pad(piece[0].double().numpy(), 256, mode="reflect")
    hz = np.arange(257) * 16000 / 512
    mel = 2595 * np.log10(1 + np.array([125.0, 3800.0]) / 700)
    edges = 700 * (10 ** (np.linspace(*mel, 66) / 2595) - 1)
    expected = np.empty((96, 64))
    for step in range(96):
        frame = np.zeros(512)
        frame[56:456] = padded[step * 160 : step * 160 + 512][56:456] * window
        power = np.abs(np.fft.rfft(frame)) ** 2
        for band in range(64):
            low, centre, high = edges[band : band + 3]
            weight = np.clip(np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre)), 0, None)
            expected[step, band] = 20 * np.log10(max(1e-5, float(power @ weight))) / 100
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_it_keeps_the_contract(repo: Path, tmp_path: Path) -> None:
    own_network(repo, 2, tmp_path / "weights.pth")
    for behaviour in ("released", "paper"):
        check_adapter(load(repo, tmp_path / "weights.pth", behaviour=behaviour)).raise_if_failed()


def test_the_semantic_loader_resizes(repo: Path, tmp_path: Path) -> None:
    own_network(repo, 71, tmp_path / "weights.pth")
    adapter = load(repo, tmp_path / "weights.pth")
    assert adapter.encode_frames(pictures(10)).size == (224, 224)


def test_lengths_that_the_released_loaders_cannot_view_fail_that_clip(repo: Path, tmp_path: Path) -> None:
    own_network(repo, 2, tmp_path / "weights.pth")
    with pytest.raises(ClipError, match="found 3 frames; expected"):
        load(repo, tmp_path / "weights.pth").segment(
            load(repo, tmp_path / "weights.pth").encode_frames(pictures(3)), sounds(3)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"behaviour": "fixed"}, "behaviour=fixed: expected released or paper"),
        ({"loader": "objects"}, "did you mean 'object'"),
        ({"repo": "nowhere"}, "found no such folder"),
        ({"size": "3"}, "--option size: unknown to cavp"),
    ],
)
def test_unusable_options_are_refused(repo: Path, tmp_path: Path, options: dict[str, str], message: str) -> None:
    own_network(repo, 2, tmp_path / "weights.pth")
    with pytest.raises(AdapterError, match=message):
        load_adapter("cavp", checkpoint=tmp_path / "weights.pth", device=CPU, options={"repo": str(repo), **options})


def test_other_checkpoints_are_refused(repo: Path, tmp_path: Path) -> None:
    own_network(repo, 22, tmp_path / "vpo.pth")
    with pytest.raises(AdapterError, match="has 22 classes; expected CAVP with 2"):
        load(repo, tmp_path / "vpo.pth")
    own_network(repo, 2, tmp_path / "weights.pth")
    state = torch.load(tmp_path / "weights.pth", weights_only=True)["model"]
    torch.save({name: value for name, value in state.items() if "layer3.5" not in name}, tmp_path / "less.pth")
    with pytest.raises(AdapterError, match="holds 5 blocks"):
        load(repo, tmp_path / "less.pth")


# The real one


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "classes"), [("s4", 2), ("ms3", 2), ("avss", 71)])
def test_real_masks_are_those_of_its_own_loaders_and_forward_pass(
    kind: str,
    classes: int,
    published_checkout: Callable[[str], Path],
    published_environment: Callable[[str], Path],
    media: Callable[[str], Path],
    lay_out: Callable[..., dict[str, str]],
    tmp_path: Path,
) -> None:
    root, python = published_checkout("CAVP"), published_environment("CAVP")
    table = read_dataset(kind, media(kind), splits=["test"])
    manifest = load_manifest(build(table, load_recipe("standard"), 42, tmp_path / "build").manifest)
    trees = lay_out(manifest, tmp_path / "trees", [min(row.clip_id for row in manifest.rows)])
    job = {
        "root": str(root),
        "dataset": kind,
        "classes": classes,
        "trees": trees,
        "clips": 1,
        "frames": {row.clip_id.rpartition("/")[2]: len(row.frames) for row in manifest.rows},
        "checkpoint": str(tmp_path / "weights.pth"),
        "answers": str(tmp_path / "answers.npz"),
        "seed": 3,
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    script = Path(__file__).with_name("cavp_own.py")
    subprocess.run([str(python), "-B", str(script), str(tmp_path / "job.json")], check=True, stdout=subprocess.DEVNULL)
    adapter = load(root, tmp_path / "weights.pth")
    with np.load(tmp_path / "answers.npz") as archive:
        own = dict(archive)
    keys = [key for key in own if not key.startswith("waveform")]
    assert len(keys) == len(trees)
    found = {}
    for key in keys:
        row = row_of(manifest, key)
        samples, rate = read_samples(manifest.audio_path(row, manifest.data_root()))
        waveform = torch.from_numpy(resample_hann(samples.mean(1), rate, SECOND)).float()[None]
        # Full-scale noise, in float32 on their side.
        np.testing.assert_allclose(released_crop(waveform), own[f"waveform|{key}"], atol=1e-5)
        frames = np.stack([read_frame(manifest.picture_path(name, manifest.data_root())) for name in row.frames])
        encoded = adapter.encode_frames(torch.from_numpy(frames)[None])
        found[key] = adapter.segment(encoded, waveform)
    for key, answer in found.items():
        logits = torch.from_numpy(own[key])
        classes_of = answer.mask[0].long() if isinstance(answer, Segmentation) else answer[0].argmax(1)
        best = logits.topk(2, dim=1).values
        # Its environment's torch rounds otherwise: by less than 1e-6 in logits, which can part classes that are as close.
        certain = best[:, 0] - best[:, 1] > 2e-6
        assert certain.float().mean() > 0.999
        assert torch.equal(classes_of[certain], logits.argmax(1)[certain])
    assert not np.array_equal(*(own[key].argmax(1) for key in keys[:2]))
    check_adapter(adapter, build=manifest).raise_if_failed()


def row_of(manifest: Manifest, key: str) -> Row:
    condition, name = key.split("|")
    (row,) = (row for row in manifest.rows if row.condition == condition and row.clip_id.rpartition("/")[2] == name)
    return row
