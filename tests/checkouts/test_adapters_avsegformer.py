"""`avsegformer` and `avsegformer_robust`, on a miniature checkout of our own, and on the real ones where they are.

The real ones: ``AVSROBUST_CHECKOUTS=DIR`` with AVSegFormer/ and AVSBench-Robust/ in it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from avsrobust.adapters.lookup import load_adapter
from avsrobust.adapters.worker import Worker
from avsrobust.errors import AdapterError
from avsrobust.evaluation.runner import evaluate
from avsrobust.stored_masks import StoredMasks
from avsrobust.testing import check_adapter
from model_adapters.avsegformer import AVSegFormer, AVSegFormerRobust

CPU = torch.device("cpu")
SIZE = 64
IN_ROBUST = "training_evaluation/code/AVSegFormer"

# A network of our own in the repository's structure: what is imported where, what is loaded when, what is printed.
MODEL = """
import torch
from torch import nn
from .backbone import build_backbone
from .vggish import VGGish
from ops.modules import Attention

class AVSegFormer(nn.Module):
    def __init__(self, backbone, vggish, head, audio_dim=128, embed_dim=8):
        super().__init__()
        print("==> build")
        self.backbone = build_backbone(**backbone)
        self.vggish = VGGish(**vggish)
        self.audio_proj = nn.Linear(audio_dim, embed_dim)
        self.head = nn.Module()
        self.head.attention = Attention(embed_dim)
        self.head.fc = nn.Sequential(
            nn.Conv2d(embed_dim, embed_dim, 3, padding=1), nn.Upsample(scale_factor=4, mode="bilinear"),
            nn.Conv2d(embed_dim, embed_dim, 3, padding=1), nn.ReLU(True),
            nn.Conv2d(embed_dim, head["num_classes"], 1, bias=False))

    def extract_feat(self, x):
        return self.backbone(x)

    def forward(self, audio, frames, vid_temporal_mask_flag=None):
        from model.utils import mix
        sound = self.audio_proj(self.vggish(audio))
        maps = self.extract_feat(frames)
        maps[0] = mix(maps[0], sound)
        mask_feature = self.head.attention(maps[0])
        return self.head.fc(mask_feature), mask_feature

class AVSegFormer_robust(AVSegFormer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.cosine_sim = nn.Linear(8, 8)

    def forward(self, audio, frames, vid_temporal_mask_flag=None, gumbel=False):
        pred, feature = super().forward(audio, frames)
        sound = self.cosine_sim(self.audio_proj(self.vggish(audio)))
        return pred, feature, torch.cosine_similarity(sound, self.extract_feat(frames)[0].mean((2, 3)), dim=1)
"""
BACKBONE = """
import torch
from torch import nn
from timm.models.layers import DropPath, trunc_normal_
import torchvision.models as models

class Backbone(nn.Module):
    calls = 0
    def __init__(self, name, init_weights_path):
        super().__init__()
        setattr(self, name, nn.Conv2d(3, 8, 4, stride=4))
        self.name, self.drop = name, DropPath(0.1)
        trunc_normal_(getattr(self, name).weight, std=0.5)
        if init_weights_path is not None:
            self.load_state_dict(torch.load(init_weights_path))

    def forward(self, x):
        Backbone.calls += 1
        return [self.drop(getattr(self, self.name)(x))]

def build_backbone(type, init_weights_path=False):
    return Backbone("conv1" if type == "res50" else "patch_embed1", init_weights_path)
"""
VGGISH = """
import torch
from torch import nn

class VGGish(nn.Module):
    def __init__(self, freeze_audio_extractor, pretrained_vggish_model_path, preprocess_audio_to_log_mel, **others):
        super().__init__()
        self.embeddings = nn.Linear(64, 128)
        self.preprocess = preprocess_audio_to_log_mel
        if freeze_audio_extractor:
            self.load_state_dict(torch.load(pretrained_vggish_model_path))

    def forward(self, x):
        if self.preprocess:
            raise TypeError("expected the names of wav files")
        return self.embeddings(x.mean(dim=(1, 2)))
"""
ATTENTION = """
import torch
from torch import nn
try:
    import MultiScaleDeformableAttention as MSDA
except ModuleNotFoundError:
    raise ModuleNotFoundError("Please compile MultiScaleDeformableAttention")

class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.offsets = nn.Linear(dim, 4)

    def forward(self, x):
        n, c, h, w = x.shape
        value = x.flatten(2).transpose(1, 2)
        where = self.offsets(value).reshape(n, h * w, 2, 1, 1, 2).sigmoid()
        weights = torch.full(where.shape[:-1], 0.5)
        shapes = torch.tensor([[h, w]]).cuda()
        split = value.reshape(n, h * w, 2, c // 2)
        try:
            out = MSDA.ms_deform_attn_forward(split, shapes, torch.zeros(1, dtype=torch.long), where, weights, 128)
        except Exception:
            maps = split.permute(0, 2, 3, 1).reshape(n * 2, c // 2, h, w)
            grid = where[:, :, :, 0].transpose(1, 2).reshape(n * 2, h * w, 1, 2) * 2 - 1
            out = nn.functional.grid_sample(maps, grid, align_corners=False)[..., 0] * 0.5
            out = out.reshape(n, c, h * w).transpose(1, 2)
        return x + out.transpose(1, 2).reshape(n, c, h, w).cuda()
"""
CONFIG = """
model = dict(
    type="AVSegFormer",
    backbone=dict(type="{type}", init_weights_path="pretrained/backbone.pth"),
    vggish=dict(
        freeze_audio_extractor=True, pretrained_vggish_model_path="pretrained/vggish.pth",
        preprocess_audio_to_log_mel={waves}, postprocess_log_mel_with_pca=False, pretrained_pca_params_path=None),
    head=dict(num_classes={classes}))
dataset = dict(test=dict({data}))
"""
FILES = {
    "model/__init__.py": "from .AVSegFormer import AVSegFormer\ndef build_model(type, **kwargs):\n"
    "    from . import AVSegFormer_robust as robust\n"
    "    return {'AVSegFormer': AVSegFormer, 'AVSegFormer_robust': robust.AVSegFormer_robust}[type](**kwargs)\n",
    "model/AVSegFormer.py": MODEL,
    "model/AVSegFormer_robust.py": "from .AVSegFormer import AVSegFormer_robust\n",
    "model/backbone/__init__.py": BACKBONE,
    "model/vggish/__init__.py": VGGISH,
    "model/utils/__init__.py": "def mix(maps, sound):\n    return maps * sound[:, :, None, None]\n",
    "ops/modules/__init__.py": ATTENTION,
    "utils/__init__.py": "raise ImportError('not needed for evaluation')\n",
    **{
        f"config/{task}/AVSegFormer_{name}_{task}.py": CONFIG.format(
            type=kind, classes=71 if task == "avss" else 1, waves=task == "avss", data="crop_size=96" * (task == "avss")
        )
        for task in ("s4", "ms3", "avss")
        for kind, name in (("res50", "res50"), ("pvt_v2_b5", "pvt2"))
    },
}


@dataclass(frozen=True)
class Case:
    """A network of a checkout: the adapter's name and options, and what the network itself answers."""

    adapter: str
    options: dict[str, str]
    own: Any


def mini(folder: Path, place: str = "") -> Path:
    """Write the miniature checkout."""
    for name, content in FILES.items():
        path = folder / place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@dataclass(frozen=True)
class Choice:
    """A network to make a case of; `published` names the real checkout, else it is the miniature."""

    task: str
    backbone: str
    robust: bool = False
    published: str = ""


CHOICES = {
    "mini": Choice("s4", "res50"),
    "mini-avss": Choice("avss", "pvt2"),
    "mini-robust": Choice("ms3", "pvt2", robust=True),
    "AVSegFormer": Choice("ms3", "res50", published="AVSegFormer"),
    "AVSegFormer-avss": Choice("avss", "res50", published="AVSegFormer"),
    "AVSBench-Robust": Choice("s4", "pvt2", robust=True, published="AVSBench-Robust"),
}
BINARY = [name for name, choice in CHOICES.items() if choice.task != "avss"]


@pytest.fixture(scope="module")
def cases(
    tmp_path_factory: pytest.TempPathFactory,
    own_forward_pass: Callable[..., Any],
    published_checkout: Callable[[str], Path],
) -> Callable[[str], Case]:
    made: dict[str, Case] = {}

    def case(name: str) -> Case:
        if name not in made:
            choice = CHOICES[name]
            folder = tmp_path_factory.mktemp(name)
            inside = IN_ROBUST if choice.robust else ""
            repo = published_checkout(choice.published) if choice.published else mini(folder / "repo", inside)
            made[name] = make_case(folder, choice, repo, repo / inside, own_forward_pass)
        return made[name]

    return case


def make_case(folder: Path, choice: Choice, repo: Path, root: Path, own_forward_pass: Callable[..., Any]) -> Case:
    config = (root / f"config/{choice.task}/AVSegFormer_{choice.backbone}_{choice.task}.py").read_text()
    # As it is, but small.
    config = config.replace("num_layers=6", "num_layers=1").replace("query_num=300", "query_num=8")
    (folder / "config.py").write_text(config)
    own = own_forward_pass(
        folder,
        kind="avsegformer",
        root=str(root),
        config=str(folder / "config.py"),
        type="AVSegFormer_robust" if choice.robust else "AVSegFormer",
        size=SIZE,
    )
    options = {"repo": str(repo), "config": str(folder / "config.py"), "image_size": str(SIZE)}
    return Case("avsegformer_robust" if choice.robust else "avsegformer", options, own)


def load(case: Case, **options: str) -> AVSegFormer:
    chosen = {**case.options, **options}
    adapter = load_adapter(case.adapter, checkpoint=case.own.checkpoint, device=CPU, options=chosen)
    assert isinstance(adapter, AVSegFormer)
    return adapter


@pytest.mark.parametrize("name", CHOICES)
def test_the_adapter_answers_what_the_networks_own_forward_pass_does(cases: Callable[[str], Case], name: str) -> None:
    case = cases(name)
    adapter = load(case)
    encoded = adapter.encode_frames(case.own.pictures)
    found = torch.stack([adapter.segment(encoded, sound[None])[0] for sound in case.own.sounds])
    expected = case.own.outputs["output0"] if name.endswith("avss") else case.own.masks()
    # A probability moves by a quarter of its logit at most.
    slope = 1.0 if name.endswith("avss") else 0.25
    torch.testing.assert_close(found, expected, atol=max(1e-5, slope * case.own.rounding), rtol=1e-5)
    assert case.own.rounding < 1e-3
    assert (found[0] - found[1]).abs().max() > 10 * slope * case.own.rounding


@pytest.mark.parametrize("name", BINARY)
def test_masks_through_the_runner_are_those_of_the_own_forward_pass(
    cases: Callable[[str], Case], masks_agree: Callable[..., None], name: str, tmp_path: Path
) -> None:
    case = cases(name)
    report = evaluate(case.own.build, load(case), name=case.adapter, output=tmp_path, save_masks=True)
    stored = StoredMasks(report.masks)
    marked = []
    for row, own in zip(case.own.build.rows, case.own.masks(), strict=True):
        masks = stored.read(row.split, row.clip_id, row.condition, row.level)
        marked.append(np.stack([masks[frame] for frame in range(5)]))
        masks_agree(marked[-1], torch.nn.functional.interpolate(own[:, None], (90, 120), mode="bilinear")[:, 0].numpy())
    assert 0.01 < np.mean(marked) < 0.99


@pytest.mark.parametrize("name", ["mini-robust", "AVSBench-Robust"])
def test_the_similarity_is_kept_with_the_results(cases: Callable[[str], Case], name: str, tmp_path: Path) -> None:
    case = cases(name)
    evaluate(case.own.build, load(case), name=case.adapter, output=tmp_path)
    table = pd.read_parquet(tmp_path / "extras.parquet")
    assert set(table["name"]) == {"similarity"}
    for row, similarity in zip(case.own.build.rows, case.own.outputs["output1"], strict=True):
        found = table.loc[table["condition"] == row.condition].sort_values("frame")["value"].to_numpy()
        np.testing.assert_allclose(found, similarity.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["mini", "AVSegFormer", "AVSBench-Robust"])
def test_it_keeps_the_contract(cases: Callable[[str], Case], name: str) -> None:
    check_adapter(load(cases(name))).raise_if_failed()


def test_the_backbone_runs_once_per_clip(cases: Callable[[str], Case], tmp_path: Path) -> None:
    case = cases("mini")
    adapter = load(case)
    calls = type(adapter.network.backbone)
    calls.calls = 0
    # Without the check, which runs the first clips once more.
    evaluate(case.own.build, adapter, name="model", output=tmp_path, check=False)
    assert calls.calls == 1


def test_configuration_and_sizes_are_found(cases: Callable[[str], Case]) -> None:
    binary, semantic, robust = (cases(name) for name in ("mini", "mini-avss", "mini-robust"))
    options = [{"repo": case.options["repo"]} for case in (binary, semantic, robust)]
    assert AVSegFormer.load(binary.own.checkpoint, CPU, **options[0]).image_size == 512
    assert AVSegFormer.load(binary.own.checkpoint, CPU, **options[0], task="ms3").image_size == 512
    assert AVSegFormer.load(semantic.own.checkpoint, CPU, **options[1]).image_size == 96
    assert AVSegFormerRobust.load(robust.own.checkpoint, CPU, **options[2]).image_size == 512


def test_two_checkouts_in_one_process(cases: Callable[[str], Case]) -> None:
    first, second = load(cases("mini")), load(cases("mini-robust"))
    pictures, sound = cases("mini").own.pictures, cases("mini").own.sounds[:1]
    before = first.segment(first.encode_frames(pictures), sound)
    second.segment(second.encode_frames(pictures), sound)
    assert torch.equal(first.segment(first.encode_frames(pictures), sound), before)
    assert not {name.partition(".")[0] for name in sys.modules} & {"model", "ops", "utils", "timm", "torchvision"}


def test_as_a_worker(cases: Callable[[str], Case]) -> None:
    case = cases("mini-robust")
    command = f"'{sys.executable}' -m avsrobust.adapters.serve {case.adapter}"
    served, local = Worker.load(case.own.checkpoint, CPU, command=command, **case.options), load(case)
    pictures, sound = case.own.pictures, case.own.sounds[:1]
    expected = local.segment(local.encode_frames(pictures), sound)
    assert torch.equal(served.segment(served.encode_frames(pictures), sound), expected)
    assert torch.equal(served.extras()["similarity"], local.extras()["similarity"])


STAND_INS = """
import sys, types, torch
layers = types.ModuleType("timm.models.layers")
layers.DropPath, layers.trunc_normal_ = torch.nn.Dropout, torch.nn.init.trunc_normal_
sys.modules["timm.models.layers"] = layers
for name in ("timm", "timm.models", "torchvision", "torchvision.models", "MultiScaleDeformableAttention"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["torchvision"].models = sys.modules["torchvision.models"]
torch.Tensor.cuda = lambda self: self
"""


@pytest.mark.parametrize("name", ["mini", "mini-robust"])
@pytest.mark.parametrize("suffix", [".pth", ".npz"])
def test_the_example_for_the_authors_environment(
    cases: Callable[[str], Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, suffix: str
) -> None:
    # That environment has what the checkout imports, and a GPU.
    (tmp_path / "sitecustomize.py").write_text(STAND_INS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    case = cases(name)
    checkpoint = case.own.checkpoint
    if suffix == ".npz":
        tensors = torch.load(checkpoint, weights_only=True)
        checkpoint = tmp_path / "weights.npz"
        np.savez(checkpoint, **{key: value.numpy() for key, value in tensors.items()})
    robust = name == "mini-robust"
    options = {
        "repo": case.options["repo"] + f"/{IN_ROBUST}" * robust,
        "config": case.options["config"],
        "size": str(SIZE),
        "type": "AVSegFormer_robust" if robust else "AVSegFormer",
    }
    example = Path(__file__).parents[2] / "examples" / "worker_avsegformer.py"
    served, local = Worker.load(checkpoint, CPU, command=f"'{sys.executable}' '{example}'", **options), load(case)
    for pictures in (case.own.pictures, case.own.pictures.flip(1)):
        there, here = served.encode_frames(pictures), local.encode_frames(pictures)
        for sound in case.own.sounds[:2]:
            atol = max(1e-5, 0.25 * case.own.rounding)
            torch.testing.assert_close(
                served.segment(there, sound[None]), local.segment(here, sound[None]), atol=atol, rtol=0
            )
            torch.testing.assert_close(served.extras(), dict(local.extras()))


def _weights(case: Case, tmp_path: Path, **changes: object) -> Path:
    tensors = torch.load(case.own.checkpoint, weights_only=True)
    for name, value in changes.items():
        key = name.replace("__", ".")
        tensors.pop(key, None)
        if value is not None:
            tensors[key] = value
    torch.save(tensors, tmp_path / "changed.pth")
    return tmp_path / "changed.pth"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module__audio_proj__bias": None}, r"1 missing \(audio_proj.bias\); 1\d tensors fit; name the checkpoint"),
        ({"module__more": torch.ones(1)}, r"1 unknown \(more\)"),
        ({"module__audio_proj__bias": torch.ones(3)}, r"1 of another shape \(audio_proj.bias \[3\] instead of \[8\]\)"),
        ({"module__cosine_sim__bias": torch.ones(8)}, r"it looks like one for --adapter avsegformer_robust"),
        ({"module__head__fc__4__weight": None}, r"has no tensor 'head.fc.4.weight', which every AVSegFormer has"),
        (
            {"module__backbone__conv1__weight": None, "module__backbone__conv1__bias": None},
            "expected AVSegFormer with PVT",
        ),
    ],
)
def test_another_checkpoint_is_refused(
    cases: Callable[[str], Case], tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    case = cases("mini")
    with pytest.raises(AdapterError, match=message):
        AVSegFormer.load(_weights(case, tmp_path, **changes), CPU, repo=case.options["repo"])


def test_a_plain_checkpoint_is_not_the_robust_ones(cases: Callable[[str], Case], tmp_path: Path) -> None:
    case = cases("mini-robust")
    changes: dict[str, object] = {"module__cosine_sim__weight": None, "module__cosine_sim__bias": None}
    with pytest.raises(AdapterError, match=r"2 missing .* it looks like one for --adapter avsegformer$"):
        AVSegFormerRobust.load(_weights(case, tmp_path, **changes), CPU, repo=case.options["repo"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repo": None}, "AVSegFormer: found no --option repo; expected repo=PATH"),
        ({"repo": "/nowhere"}, "repo=/nowhere: found no such folder"),
        ({"repo": "EMPTY"}, r"holds no model/AVSegFormer.py; expected a checkout of github.com/vvvb-github"),
        ({"task": "ms4"}, "task=ms4: expected s4 or ms3 or avss; did you mean 's4'"),
        ({"config": "none.py"}, "none.py: not found; name the configuration with --option config=FILE"),
        ({"config": "model/utils/__init__.py"}, "defines no dict 'model'"),
        ({"image_size": "100"}, "image_size=100: expected a multiple of 32 pixels"),
        ({"size": "100"}, "option size: unknown to avsegformer, which takes repo, task, config, image_size"),
    ],
)
def test_unusable_options_are_refused(
    cases: Callable[[str], Case], tmp_path: Path, options: dict[str, str | None], message: str
) -> None:
    case = cases("mini")
    chosen = {"repo": case.options["repo"], **options}
    if chosen["repo"] == "EMPTY":
        chosen["repo"] = str(tmp_path)
    given = {key: value for key, value in chosen.items() if value is not None}
    with pytest.raises(AdapterError, match=message):
        load_adapter("avsegformer", checkpoint=case.own.checkpoint, device=CPU, options=given)


def test_a_checkpoint_is_needed(cases: Callable[[str], Case]) -> None:
    with pytest.raises(AdapterError, match="AVSegFormer: found no --checkpoint; expected the file of weights"):
        AVSegFormer.load(None, CPU, repo=cases("mini").options["repo"])


def test_a_checkpoint_that_would_run_code_is_refused(cases: Callable[[str], Case], tmp_path: Path) -> None:
    torch.save({"module.x": Path("x")}, tmp_path / "evil.pth")
    with pytest.raises(AdapterError, match="which is code"):
        AVSegFormer.load(tmp_path / "evil.pth", CPU, repo=cases("mini").options["repo"])


def test_a_package_that_is_missing_is_named(cases: Callable[[str], Case], tmp_path: Path) -> None:
    repo = mini(tmp_path / "repo")
    (repo / "model/backbone/__init__.py").write_text("import mmseg_of_2021\n")
    with pytest.raises(AdapterError, match=r"found no module 'mmseg_of_2021'; install .* --adapter worker"):
        AVSegFormer.load(cases("mini").own.checkpoint, CPU, repo=str(repo))
