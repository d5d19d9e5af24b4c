"""`gavs`, on a miniature checkout of our own, and on the real one where it is.

The real one: ``AVSROBUST_CHECKOUTS=DIR`` with GAVS/ in it. Its smallest network is SAM's ViT-B at 1024 pixels: minutes on a CPU.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import model_adapters.gavs
from avsrobust.adapters.lookup import load_adapter
from avsrobust.audio.vggish import VGGish
from avsrobust.errors import AdapterError
from avsrobust.evaluation.runner import evaluate
from avsrobust.stored_masks import StoredMasks
from avsrobust.testing import check_adapter
from model_adapters.gavs import THRESHOLD, Gavs

CPU = torch.device("cpu")

# A network of our own in the repository's structure: what is imported where, what parses the command line, what is named how.
FILES = {
    "GAVS/segment_anything/config.py": """
import argparse
import os
import cv2

parser = argparse.ArgumentParser()
parser.add_argument("--device", default="cuda:0")
parser.add_argument("--gpu_id", default="0")
parser.add_argument("--tune_v", type=int, required=True)
args = parser.parse_args()
os.environ["CUDA_VISIBLE_DEVICES"] = args.gpu_id
""",
    "GAVS/segment_anything/build_sam.py": """
from modeling import Sam

def build_sam_vit_b(checkpoint=None):
    return Sam(768)

sam_model_registry = {"vit_b": build_sam_vit_b}
""",
    "GAVS/segment_anything/modeling/__init__.py": "from .sam import Sam\n",
    "GAVS/segment_anything/modeling/sam.py": """
import torch
from torch import nn
from torch.nn import functional as F
from config import args

class Encoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.img_size = 64
        self.patch_embed = nn.Conv2d(3, width, 16, 16)
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, 4, width))
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(12))
        self.neck = nn.Conv2d(width, 16, 1)

    def forward(self, x):
        x = self.patch_embed(x).permute(0, 2, 3, 1) + self.pos_embed
        for index, block in enumerate(self.blocks):
            if index >= args.tune_v:
                x = x + block(x)
        return self.neck(x.permute(0, 3, 1, 2))

class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 16), nn.Linear(16, 8)])

    def forward(self, x):
        return self.layers[1](F.relu(self.layers[0](x)))

class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.audio_proj = nn.Sequential(nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 16))
        self.output_upscaling = nn.Sequential(nn.ConvTranspose2d(16, 8, 4, 4), nn.GELU())
        self.output_hypernetworks_mlps = nn.ModuleList([MLP()])

    def forward(self, image_embeddings, audio):
        prompt = self.audio_proj(audio.to(args.device))
        maps = self.output_upscaling(image_embeddings + 3 * torch.tanh(prompt)[:, :, None, None] * image_embeddings)
        weights = self.output_hypernetworks_mlps[0](prompt)
        return torch.einsum("bc,bchw->bhw", weights, maps)[:, None]

class Sam(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.image_encoder = Encoder(width)
        self.mask_decoder = Decoder()
        self.register_buffer("pixel_mean", torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1), False)

    def preprocess(self, x):
        x = (x - self.pixel_mean) / self.pixel_std
        h, w = x.shape[-2:]
        return F.pad(x, (0, self.image_encoder.img_size - w, 0, self.image_encoder.img_size - h))

    def postprocess_masks(self, masks, input_size, original_size):
        masks = F.interpolate(masks, (self.image_encoder.img_size,) * 2, mode="bilinear", align_corners=False)
        masks = masks[..., : input_size[0], : input_size[1]]
        return F.interpolate(masks, original_size, mode="bilinear", align_corners=False)
""",
    "GAVS/avs_model.py": """
from torch import nn

class AVSM(nn.Module):
    def __init__(self, model_v, model_t, config):
        super().__init__()
        self.model_v, self.model_t, self.config = model_v, model_t, config
        self.loss_fn = config.get("loss")

    def forward(self, batch_data):
        img_recs, mask_recs, vid, category, _, _ = batch_data
        predictions, losses = [], []
        for index, record in enumerate(img_recs):
            if self.config["tune_v"] < 12:
                embedding = self.model_v.image_encoder(record.get("image"))
            masks = self.model_v.mask_decoder(embedding, record.get("audio"))
            upscaled = self.model_v.postprocess_masks(masks, record["input_size"], record["original_size"])
            predictions.append(upscaled.to(self.config["device"]))
            losses.append(self.loss_fn(upscaled.squeeze(), mask_recs[index].squeeze()))
        return predictions, [0.0], losses
""",
}


class SmallVGGish(VGGish):
    """Stand in for VGGish, whose own embeddings are tested elsewhere: 128 means of values, less their own mean, then a ReLU."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.embeddings = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (128, 48)), Centred(), nn.ReLU())

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = self.embeddings(log_mel)
        return embeddings


class Centred(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        sums = values.mean(-1)
        return (sums - sums.mean(1, keepdim=True)) * 10


def signed(log_mels: torch.Tensor) -> torch.Tensor:
    return torch.stack([SmallVGGish().embeddings[:-1](sound) for sound in log_mels])


@pytest.fixture(autouse=True)
def small_vggish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_adapters.gavs, "load_vggish", lambda path: SmallVGGish())


@pytest.fixture(scope="module")
def cases(
    tmp_path_factory: pytest.TempPathFactory,
    own_evaluation: Callable[..., Any],
    published_checkout: Callable[[str], Path],
    write_checkout: Callable[[Path, Mapping[str, str]], Path],
    log_mels: Callable[[Any], np.ndarray],
) -> Callable[[bool], tuple[str, Any]]:
    made: dict[bool, tuple[str, Any]] = {}

    def case(published: bool) -> tuple[str, Any]:
        if published not in made:
            folder = tmp_path_factory.mktemp("gavs")
            repo = published_checkout("GAVS") if published else write_checkout(folder / "repo", FILES)
            # One pass of the real encoder takes seconds.
            rows = 2 if published else None
            own = own_evaluation(
                folder,
                "gavs",
                lambda build: signed(torch.from_numpy(log_mels(build)[:rows])).numpy(),
                root=str(repo / "GAVS" / "segment_anything"),
                size="vit_b",
                tune_v=9,
            )
            made[published] = str(repo), own
        return made[published]

    return case


def load(case: tuple[str, Any], **options: str) -> Gavs:
    repo, own = case
    given = {"repo": repo, "embedder": "vggish.pth", **options}
    adapter = load_adapter("gavs", checkpoint=own.checkpoint, device=CPU, options=given)
    assert isinstance(adapter, Gavs)
    return adapter


@pytest.mark.parametrize("published", [False, True])
def test_the_adapter_answers_what_the_networks_own_forward_pass_does(
    cases: Callable[..., Any], log_mels: Callable[[Any], np.ndarray], published: bool
) -> None:
    case = cases(published)
    own = case[1]
    adapter = load(case)
    encoded = adapter.encode_frames(own.pictures)
    sounds = torch.from_numpy(log_mels(own.build)[: len(own.logits)])
    found = [adapter.segment(encoded, sound[None]) for sound in sounds]
    expected = own.logits.sigmoid()
    torch.testing.assert_close(torch.cat([one.probabilities for one in found]), expected, atol=1e-5, rtol=1e-5)
    masks = torch.cat([one.mask for one in found if one.mask is not None])
    certain = (expected - float(THRESHOLD)).abs() > 1e-5
    assert torch.equal(masks[certain], expected[certain] > float(THRESHOLD))
    assert certain.float().mean() > 0.99
    assert 0.01 < masks.float().mean() < 0.99
    assert not torch.allclose(expected[0], expected[1], atol=1e-4)


def test_masks_through_the_runner_are_those_above_the_released_threshold(
    cases: Callable[..., Any], tmp_path: Path
) -> None:
    case = cases(False)
    own = case[1]
    report = evaluate(own.build, load(case), name="gavs", output=tmp_path, save_masks=True)
    stored = StoredMasks(report.masks)
    for row, logits in zip(own.build.rows, own.logits, strict=True):
        masks = stored.read(row.split, row.clip_id, row.condition, row.level)
        expected = logits.sigmoid().numpy()
        certain = np.abs(expected - float(THRESHOLD)) > 1e-5
        assert np.array_equal(np.stack([masks[frame] for frame in range(5)])[certain], expected[certain] > 0.4)


@pytest.mark.parametrize("published", [False, True])
def test_it_keeps_the_contract(cases: Callable[..., Any], published: bool) -> None:
    check_adapter(load(cases(published))).raise_if_failed()


def test_options_change_what_they_name(cases: Callable[..., Any], log_mels: Callable[[Any], np.ndarray]) -> None:
    case = cases(False)
    sound = torch.from_numpy(log_mels(case[1].build)[:1])

    def answer(**options: str) -> Any:
        adapter = load(case, **options)
        return adapter.segment(adapter.encode_frames(case[1].pictures), sound)

    usual = answer()
    assert not torch.equal(answer(tune_v="3").probabilities, usual.probabilities)
    assert not torch.equal(answer(features="relu").probabilities, usual.probabilities)
    strict = answer(threshold="0.7")
    assert torch.equal(strict.probabilities, usual.probabilities)
    assert strict.mask.sum() < usual.mask.sum()


def test_the_command_line_and_the_environment_stay_as_they_are(cases: Callable[..., Any]) -> None:
    before = list(sys.argv), dict(os.environ), set(sys.modules)
    load(cases(False))
    assert (list(sys.argv), dict(os.environ)) == before[:2]
    assert not {"config", "modeling", "build_sam", "avs_model"} & (set(sys.modules) - before[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repo": None}, "gavs: found no --option repo; expected repo=PATH, a checkout of github.com/GeWu-Lab"),
        ({"embedder": None}, "gavs: found no --option embedder; expected embedder=FILE"),
        ({"features": "quantised"}, "features=quantised: expected signed or relu"),
        ({"tune_v": "12"}, "tune_v=12: expected a whole number from 0 to 11"),
        ({"threshold": "x"}, "threshold=x: expected a number from 0 to 1"),
    ],
)
def test_unusable_options_are_refused(cases: Callable[..., Any], options: dict[str, str | None], message: str) -> None:
    repo, own = cases(False)
    chosen = {"repo": repo, "embedder": "vggish.pth", **options}
    given = {key: value for key, value in chosen.items() if value is not None}
    with pytest.raises(AdapterError, match=message):
        load_adapter("gavs", checkpoint=own.checkpoint, device=CPU, options=given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model_v.mask_decoder.audio_proj.0.bias", r"1 missing \(model_v.mask_decoder.audio_proj.0.bias\)"),
        ("model_v.image_encoder.pos_embed", "has no tensor 'model_v.image_encoder.pos_embed', which every gavs has"),
        ("width", "its encoder has 5 channels; expected 768, 1024, 1280"),
    ],
)
def test_another_checkpoint_is_refused(cases: Callable[..., Any], tmp_path: Path, change: str, message: str) -> None:
    repo, own = cases(False)
    tensors = torch.load(own.checkpoint, weights_only=True)
    if change == "width":
        tensors["model_v.image_encoder.pos_embed"] = torch.zeros(1, 4, 4, 5)
    else:
        del tensors[change]
    torch.save(tensors, tmp_path / "changed.pth")
    with pytest.raises(AdapterError, match=message):
        Gavs.load(tmp_path / "changed.pth", CPU, repo=repo, embedder="vggish.pth")
