"""`tpavi`, on a miniature checkout of our own, and on the real one where it is.

The real one: ``AVSROBUST_CHECKOUTS=DIR`` with AVSBench/ in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avsrobust.adapters.lookup import load_adapter
from avsrobust.errors import AdapterError, ClipError
from avsrobust.evaluation import sound
from avsrobust.evaluation.runner import evaluate
from avsrobust.stored_masks import StoredMasks
from avsrobust.testing import check_adapter
from model_adapters.tpavi import Tpavi

CPU = torch.device("cpu")
SIZE = 64

# A network of our own in the repository's structure: what is imported where, what is loaded when, what calls for a GPU.
MODEL = """
import pdb
import torch
from torch import nn
import torchvision.models as models
from model.{module} import {backbone}
from model.TPAVI import Interaction

class Pred_endecoder(nn.Module):
    def __init__(self, channel=256, config=None, tpavi_stages=[], tpavi_vv_flag=False, tpavi_va_flag=True):
        super().__init__()
        self.cfg, self.stages = config, tpavi_stages
        self.{attribute} = {backbone}()
        self.narrow = nn.Conv2d(4, channel, 1)
        for stage in tpavi_stages:
            setattr(self, f"tpavi_b{{stage + 1}}", Interaction(channel))
            print("==> Build TPAVI block...")
        self.output_conv = nn.Sequential(
            nn.Conv2d(channel, 8, 3, padding=1), nn.Upsample(scale_factor=4), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(True),
            nn.Conv2d(8, {classes}, 1))
        if self.training:
            self.{initialise}()

    def {initialise}(self):
        models.resnet50(pretrained=False).load_state_dict(torch.load(self.cfg.TRAIN.PRETRAINED_PATH))

    def forward(self, x, audio_feature=None{flag}):
        {run}
        maps = self.narrow(maps)
        for stage in self.stages:
            summed = torch.zeros_like(maps).cuda()
            summed += getattr(self, f"tpavi_b{{stage + 1}}")(maps, audio_feature)
            maps = summed
        {mask}
        return self.output_conv(maps), [maps], [None]
"""
RESNET_RUN = """r = self.resnet
        x = r.maxpool(r.relu(r.bn1(r.conv1(x))))
        x = r.layer4_1(r.layer3_1(r.layer2(r.layer1(x))))
        maps = x"""
TPAVI = """
import torch
from torch import nn

class Interaction(nn.Module):
    def __init__(self, channel):
        super().__init__()
        self.g = nn.Conv2d(channel, channel, 1)
        self.align = nn.Linear(128, channel)

    def forward(self, x, audio):
        # Within groups of five frames, as the original.
        sound = self.align(audio.view(-1, 5, 128)).mean(1, keepdim=True).expand(-1, 5, -1).reshape(len(x), -1)
        return x + self.g(x) * sound[..., None, None]
"""
RESNET = """
from torch import nn

class B2_ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(4)
        for name in ("layer1", "layer2", "layer3_1", "layer4_1", "layer3_2", "layer4_2"):
            setattr(self, name, nn.Conv2d(4, 4, 1))
"""
PVT = """
from torch import nn
from timm.models.layers import DropPath, to_2tuple, trunc_normal_
from timm.models.registry import register_model
from timm.models.vision_transformer import _cfg

class Pvt(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed1, self.drop = nn.Conv2d(3, 4, to_2tuple(4), stride=4), DropPath(0.1)
        trunc_normal_(self.patch_embed1.weight, std=0.5)

    def forward(self, x):
        return self.drop(self.patch_embed1(x))

@register_model
def pvt_v2_b5(pretrained=False, **kwargs):
    model = Pvt()
    model.default_cfg = _cfg()
    return model
"""


def models(semantic: bool) -> dict[str, str]:
    """The two networks of a folder; of avss, with class scores and a flag for real frames."""
    common = {
        "classes": "config.NUM_CLASSES" if semantic else "1",
        "flag": ", vid_temporal_mask_flag=None" if semantic else "",
        "mask": "maps = maps * vid_temporal_mask_flag.view(-1, 1, 1, 1)" if semantic else "",
    }
    resnet = {"module": "resnet", "backbone": "B2_ResNet", "attribute": "resnet", "initialise": "initialize_weights"}
    pvt = {
        "module": "pvt",
        "backbone": "pvt_v2_b5",
        "attribute": "encoder_backbone",
        "initialise": "initialize_pvt_weights",
    }
    return {
        "model/__init__.py": "# nothing\n",
        "model/TPAVI.py": TPAVI,
        "model/resnet.py": RESNET,
        "model/ResNet_AVSModel.py": MODEL.format(run=RESNET_RUN, **resnet, **common),
        "model/PVT_AVSModel.py": MODEL.format(run="maps = self.encoder_backbone(x)", **pvt, **common),
        **({} if semantic else {"model/pvt.py": PVT}),
    }


def mini(folder: Path) -> Path:
    """Write the miniature checkout: three folders, of which avss lacks model/pvt.py."""
    for task in ("avs_s4", "avs_ms3", "avss"):
        for name, content in models(task == "avss").items():
            path = folder / "avs_scripts" / task / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return folder


@dataclass(frozen=True)
class Case:
    """A network of a checkout: the adapter's options, and what the network itself answers."""

    options: dict[str, str]
    own: Any


# (task, backbone) of the miniature and of the real checkout.
NETWORKS = [("s4", "resnet"), ("ms3", "pvt"), ("avss", "resnet"), ("avss", "pvt")]
CHOICES = [(published, *network) for published in (False, True) for network in NETWORKS]
FOLDERS = {"s4": "avs_s4", "ms3": "avs_ms3", "avss": "avss"}


@pytest.fixture(scope="module")
def cases(
    tmp_path_factory: pytest.TempPathFactory,
    own_forward_pass: Callable[..., Any],
    published_checkout: Callable[[str], Path],
) -> Callable[..., Case]:
    made: dict[tuple[object, ...], Case] = {}

    def case(published: bool, task: str, backbone: str) -> Case:
        key = (published, task, backbone)
        if key not in made:
            folder = tmp_path_factory.mktemp(f"{task}-{backbone}")
            repo = published_checkout("AVSBench") if published else mini(folder / "repo")
            scripts = repo / "avs_scripts"
            own = own_forward_pass(
                folder,
                embeddings=True,
                kind="tpavi",
                root=str(scripts / FOLDERS[task]),
                task=task,
                backbone=backbone,
                borrow=str(scripts / "avs_s4" / "model") if task == "avss" else "",
                size=SIZE,
            )
            made[key] = Case({"repo": str(repo), "task": task, "image_size": str(SIZE)}, own)
        return made[key]

    return case


def load(case: Case, **options: str) -> Tpavi:
    adapter = load_adapter("tpavi", checkpoint=case.own.checkpoint, device=CPU, options={**case.options, **options})
    assert isinstance(adapter, Tpavi)
    return adapter


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_adapter_answers_what_the_networks_own_forward_pass_does(cases: Callable[..., Case], choice: Any) -> None:
    case = cases(*choice)
    adapter = load(case)
    encoded = adapter.encode_frames(case.own.pictures)
    found = torch.stack([adapter.segment(encoded, heard[None])[0] for heard in case.own.sounds])
    expected = case.own.outputs["output0"] if "avss" in choice else case.own.masks()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-4)


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if "avss" not in choice], ids=str)
def test_masks_through_the_runner_are_those_of_the_own_forward_pass(
    cases: Callable[..., Case],
    masks_agree: Callable[..., None],
    embed: Callable[..., Any],
    choice: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # VGGish's own embeddings are tested elsewhere.
    monkeypatch.setattr(sound, "_load_embedding", lambda weights, device: embed)
    case = cases(*choice)
    report = evaluate(
        case.own.build, load(case), name="tpavi", output=tmp_path, save_masks=True, options={"vggish": "vggish.pth"}
    )
    stored = StoredMasks(report.masks)
    for row, own in zip(case.own.build.rows, case.own.masks(), strict=True):
        masks = stored.read(row.split, row.clip_id, row.condition, row.level)
        found = np.stack([masks[frame] for frame in range(5)])
        masks_agree(found, torch.nn.functional.interpolate(own[:, None], (90, 120), mode="bilinear")[:, 0].numpy())
        assert 0.01 < found.mean() < 0.99


@pytest.mark.parametrize("choice", [(False, "s4", "resnet"), (False, "ms3", "pvt"), (True, "s4", "resnet")], ids=str)
def test_it_keeps_the_contract(cases: Callable[..., Case], choice: Any) -> None:
    check_adapter(load(cases(*choice))).raise_if_failed()


def test_clips_of_ten_frames_are_two_groups(cases: Callable[..., Case]) -> None:
    case = cases(False, "avss", "pvt")
    adapter = load(case)
    pictures = torch.cat([case.own.pictures, case.own.pictures.flip(1)], 1)
    heard = torch.cat([case.own.sounds[:1], case.own.sounds[1:2]], 1)
    whole = adapter.segment(adapter.encode_frames(pictures), heard)
    for start in (0, 5):
        part = slice(start, start + 5)
        alone = adapter.segment(adapter.encode_frames(pictures[:, part]), heard[:, part])
        torch.testing.assert_close(whole[:, part], alone)


def test_other_numbers_of_frames_fail_that_clip(cases: Callable[..., Case]) -> None:
    case = cases(False, "s4", "resnet")
    with pytest.raises(ClipError, match="found 4 frames; expected a multiple of 5"):
        load(case).encode_frames(case.own.pictures[:, :4])


def test_one_folder_of_the_checkout_is_enough(cases: Callable[..., Case]) -> None:
    case = cases(False, "s4", "resnet")
    for place in ("avs_scripts", "avs_scripts/avs_s4"):
        adapter = Tpavi.load(case.own.checkpoint, CPU, repo=f"{case.options['repo']}/{place}")
        assert adapter.image_size == 224


def test_stages_without_sound_are_read_from_the_checkpoint(cases: Callable[..., Case], tmp_path: Path) -> None:
    case = cases(False, "s4", "resnet")
    tensors = torch.load(case.own.checkpoint, weights_only=True)
    kept = {name: value for name, value in tensors.items() if "tpavi_b2" not in name and "tpavi_b3" not in name}
    torch.save(kept, tmp_path / "two.pth")
    adapter = Tpavi.load(tmp_path / "two.pth", CPU, repo=case.options["repo"])
    assert adapter.network.stages == [0, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repo": None}, "tpavi: found no --option repo; expected repo=PATH, a checkout of github.com/OpenNLPLab"),
        ({"repo": "EMPTY"}, r"holds no model/TPAVI.py; expected a checkout of"),
        ({"task": "s44"}, "task=s44: expected s4 or ms3 or avss; did you mean 's4'"),
        ({"self_attention": "maybe"}, "self_attention=maybe: expected yes or no"),
        ({"image_size": "0"}, "image_size=0: expected a multiple of 32 pixels"),
    ],
)
def test_unusable_options_are_refused(
    cases: Callable[..., Case], tmp_path: Path, options: dict[str, str | None], message: str
) -> None:
    case = cases(False, "s4", "resnet")
    chosen = {"repo": case.options["repo"], **options}
    if chosen["repo"] == "EMPTY":
        chosen["repo"] = str(tmp_path)
    given = {key: value for key, value in chosen.items() if value is not None}
    with pytest.raises(AdapterError, match=message):
        load_adapter("tpavi", checkpoint=case.own.checkpoint, device=CPU, options=given)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("narrow.bias", r"1 missing \(narrow.bias\)"),
        ("output_conv.4.weight", "has no tensor 'output_conv.4.weight', which every tpavi has"),
        ("resnet.", "expected TPAVI with ResNet-50 or PVT-v2-B5"),
    ],
)
def test_another_checkpoint_is_refused(cases: Callable[..., Case], tmp_path: Path, without: str, message: str) -> None:
    case = cases(False, "s4", "resnet")
    tensors = torch.load(case.own.checkpoint, weights_only=True)
    kept = {name: value for name, value in tensors.items() if not name.startswith(f"module.{without}")}
    torch.save(kept, tmp_path / "changed.pth")
    with pytest.raises(AdapterError, match=message):
        Tpavi.load(tmp_path / "changed.pth", CPU, repo=case.options["repo"])


def test_a_checkout_without_any_pvt_says_so(cases: Callable[..., Case], tmp_path: Path) -> None:
    case = cases(False, "avss", "pvt")
    repo = mini(tmp_path / "repo")
    (repo / "avs_scripts/avs_s4/model/pvt.py").unlink()
    with pytest.raises(AdapterError, match=r"found no module 'model.pvt'"):
        Tpavi.load(case.own.checkpoint, CPU, repo=str(repo))
