"""`sama`, on a miniature checkout of our own, and on the real one, with a small encoder, where it is.

The real one: ``AVSROBUST_CHECKOUTS=DIR`` with anno-free-AVS/ in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avsrobust.adapters.lookup import load_adapter
from avsrobust.errors import AdapterError
from avsrobust.evaluation.runner import evaluate
from avsrobust.stored_masks import StoredMasks
from avsrobust.testing import check_adapter
from model_adapters.sama import Sama

CPU = torch.device("cpu")

CONFIG = """
sam_checkpoint: "assets/sam_vit_h_4b8939.pth"
model:
  name: sam
  args:
    inp_size: 64
    loss: iou
    encoder_mode: {name: sam, img_size: 64, mlp_ratio: 4, patch_size: 16, qkv_bias: true, use_rel_pos: true, window_size: 3,
      out_chans: 256, prompt_embed_dim: 256, embed_dim: 32, depth: 2, num_heads: 2, global_attn_indexes: [1]}
"""

# A network of our own in the repository's structure: what is imported where, what is loaded when, what is named how.
FILES = {
    "configs/sam_avs_adapter.yaml": CONFIG,
    "configs/vggish_config.py": """
from easydict import EasyDict as edict
import yaml
cfg = edict()
cfg.TRAIN = edict()
cfg.TRAIN.FREEZE_AUDIO_EXTRACTOR = True
cfg.TRAIN.PRETRAINED_VGGISH_MODEL_PATH = "assets/vggish-10086976.pth"
""",
    "torchvggish/vggish.py": """
import torch
from torch import nn

class VGGish(nn.Module):
    def __init__(self, cfg, device=None):
        super().__init__()
        self.embeddings = nn.Linear(96 * 64, 128)
        if cfg.TRAIN.FREEZE_AUDIO_EXTRACTOR:
            self.load_state_dict(torch.load(cfg.TRAIN.PRETRAINED_VGGISH_MODEL_PATH))
            print("==> Load pretrained VGGish parameters")
        self.to(device)

    def forward(self, x):
        return torch.relu(self.embeddings(x.flatten(1)))
""",
    "models/__init__.py": "from .models import register, make\nfrom . import sam\n",
    "models/models.py": """
models = {}

def register(name):
    def decorator(cls):
        models[name] = cls
        return cls
    return decorator

def make(model_spec):
    return models[model_spec["name"]](**model_spec["args"])
""",
    "models/mmseg/__init__.py": "import mmcv\nassert mmcv.__version__ <= '1.7.0'\n",
    "models/mmseg/models/__init__.py": "from .builder import LOSSES, Loss\n",
    "models/mmseg/models/builder.py": """
from mmcv.utils import Registry, build_from_cfg
LOSSES = Registry("loss")

@LOSSES.register_module()
class Loss:
    pass
""",
    "models/mmseg/models/sam/__init__.py": """
import torch
from torch import nn

class ImageEncoderViT(nn.Module):
    def __init__(self, img_size, embed_dim, depth, out_chans):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, embed_dim, 16, 16)
        self.pos_embed = nn.Parameter(torch.zeros(1, embed_dim, img_size // 16, img_size // 16))
        self.lightweight_mlp = nn.ModuleList(nn.Linear(128, embed_dim) for _ in range(depth))
        self.blocks = nn.ModuleList(nn.Conv2d(embed_dim, embed_dim, 3, padding=1) for _ in range(depth))
        self.neck = nn.Conv2d(embed_dim, out_chans, 1)

    def forward(self, x, spec):
        x = self.patch_embed(x) + self.pos_embed
        for mlp, block in zip(self.lightweight_mlp, self.blocks):
            x = torch.tanh(block(x + mlp(spec)[:, :, None, None]))
        return self.neck(x)

class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8)])

class MaskDecoder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.output_upscaling = nn.ConvTranspose2d(dim, 8, 4, 4)
        self.output_hypernetworks_mlps = nn.ModuleList([MLP()])

    def forward(self, embeddings):
        maps = self.output_upscaling(embeddings)
        return torch.einsum("c,bchw->bhw", self.output_hypernetworks_mlps[0].layers[-1](torch.ones(8)), maps)[:, None]
""",
    "models/sam.py": """
import torch
from torch import nn
from torch.nn import functional as F
from models import register
from .mmseg.models.sam import ImageEncoderViT, MaskDecoder
from torchvggish import vggish
from configs.vggish_config import cfg as vggish_cfg

@register("sam")
class SAM(nn.Module):
    def __init__(self, inp_size=None, encoder_mode=None, loss=None):
        super().__init__()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.image_encoder = ImageEncoderViT(inp_size, encoder_mode["embed_dim"], encoder_mode["depth"], 16)
        self.mask_decoder = MaskDecoder(16)
        self.audio_encoder = vggish.VGGish(vggish_cfg, self.device)
        self.inp_size = inp_size

    def infer(self, input, spec):
        input, spec = input.to(self.device), spec.to(self.device)
        masks = self.mask_decoder(self.image_encoder(input, self.audio_encoder(spec)))
        return F.interpolate(masks, self.inp_size, mode="bilinear", align_corners=False)
""",
}


@pytest.fixture(scope="module")
def cases(
    tmp_path_factory: pytest.TempPathFactory,
    own_evaluation: Callable[..., Any],
    published_checkout: Callable[[str], Path],
    write_checkout: Callable[[Path, Mapping[str, str]], Path],
    log_mels: Callable[[Any], np.ndarray],
) -> Callable[[bool], tuple[dict[str, str], Any]]:
    made: dict[bool, tuple[dict[str, str], Any]] = {}

    def case(published: bool) -> tuple[dict[str, str], Any]:
        if published not in made:
            folder = tmp_path_factory.mktemp("sama")
            repo = published_checkout("anno-free-AVS") if published else write_checkout(folder / "repo", FILES)
            (folder / "small.yaml").write_text(CONFIG)
            own = own_evaluation(folder, "sama", log_mels, root=str(repo), config=str(folder / "small.yaml"))
            made[published] = {"repo": str(repo), "config": str(folder / "small.yaml")}, own
        return made[published]

    return case


def load(case: tuple[dict[str, str], Any], **options: str) -> Sama:
    adapter = load_adapter("sama", checkpoint=case[1].checkpoint, device=CPU, options={**case[0], **options})
    assert isinstance(adapter, Sama)
    return adapter


@pytest.mark.parametrize("published", [False, True])
def test_the_adapter_answers_what_the_networks_own_forward_pass_does(
    cases: Callable[..., Any], published: bool
) -> None:
    case = cases(published)
    own = case[1]
    adapter = load(case)
    encoded = adapter.encode_frames(own.pictures)
    found = torch.cat([adapter.segment(encoded, sound[None]) for sound in own.sounds])
    torch.testing.assert_close(found, own.logits.sigmoid(), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-4)


@pytest.mark.parametrize("published", [False, True])
def test_masks_through_the_runner_are_those_of_the_own_forward_pass(
    cases: Callable[..., Any], masks_agree: Callable[..., None], tmp_path: Path, published: bool
) -> None:
    case = cases(published)
    own = case[1]
    report = evaluate(own.build, load(case), name="sama", output=tmp_path, save_masks=True)
    stored = StoredMasks(report.masks)
    for row, logits in zip(own.build.rows, own.logits, strict=True):
        masks = stored.read(row.split, row.clip_id, row.condition, row.level)
        found = np.stack([masks[frame] for frame in range(5)])
        resized = torch.nn.functional.interpolate(logits.sigmoid()[:, None], (90, 120), mode="bilinear")
        masks_agree(found, resized[:, 0].numpy())
        assert 0.01 < found.mean() < 0.99


def test_it_keeps_the_contract(cases: Callable[..., Any]) -> None:
    check_adapter(load(cases(False))).raise_if_failed()


def test_the_checkouts_own_configuration_is_the_default(cases: Callable[..., Any]) -> None:
    options, own = cases(False)
    assert Sama.load(own.checkpoint, CPU, repo=options["repo"]).image_size == 64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: {name: evp, args: {inp_size: 64}}", "its model is not 'sam' with an inp_size"),
        ("model: {name: sam, args: {inp_size: 64}}", r"cannot be read as a configuration \(KeyError: 'encoder_mode'\)"),
        ("model: [", r"cannot be read as a configuration \(ParserError"),
        (CONFIG.replace("embed_dim: 32", "embed_dim: 64"), "does not fit the network"),
        (None, "found no such file, neither below"),
    ],
)
def test_another_configuration_is_refused(
    cases: Callable[..., Any], tmp_path: Path, content: str | None, message: str
) -> None:
    options, own = cases(False)
    if content is not None:
        (tmp_path / "other.yaml").write_text(content)
    with pytest.raises(AdapterError, match=message):
        Sama.load(own.checkpoint, CPU, repo=options["repo"], config=str(tmp_path / "other.yaml"))


def test_another_checkpoint_is_refused(cases: Callable[..., Any], tmp_path: Path) -> None:
    options, own = cases(False)
    tensors = torch.load(own.checkpoint, weights_only=True)
    del tensors["image_encoder.pos_embed"]
    torch.save(tensors, tmp_path / "changed.pth")
    with pytest.raises(AdapterError, match=r"has no tensor 'image_encoder\.pos_embed', which every sama has"):
        Sama.load(tmp_path / "changed.pth", CPU, **options)
