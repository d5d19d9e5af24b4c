"""`ddeseg`, on a miniature checkout of our own, and on the real one, with a shallow backbone, where it is; random memory banks.

The real one: ``AVSROBUST_CHECKOUTS=DIR`` with DDESeg/ in it, and einops and torchlibrosa installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
import torch

from avsrobust.adapters.base import AudioInput, NativeSound
from avsrobust.adapters.lookup import load_adapter
from avsrobust.adapters.randomness import seed_generators
from avsrobust.errors import AdapterError, ClipError
from avsrobust.evaluation.sound import SoundReader
from avsrobust.testing import check_adapter
from model_adapters.ddeseg import DDESeg, seconds

CPU = torch.device("cpu")

CONFIG = """
seg_head: {type: "norm", embedding_dim: 32}
align_model: {avss_aud_bank: "/project/bank.npy", aud_cls_num: 5}
vis_model: {type: 'FAVS', in_channels: [16, 16, 16, 16], num_heads: [1, 2, 2, 2], mlp_ratios: [2, 2, 2, 2], qkv_bias: True,
  qk_scale: null, drop_rate: 0.0, drop_path_rate: 0.1, attn_drop_rate: 0.0, depths: [1, 1, 1, 1], sr_ratios: [8, 4, 2, 1]}
audio_model: {type: 'HTSAT_Swin_Transformer', spec_size: 256, patch_size: 4, patch_stride: '(4, 4)', in_chans: 1, num_classes: 71,
  num_heads: [4, 8, 16, 32], window_size: 8, embed_dim: 96, depths: [1, 1, 1, 1],
  config: {window_size: 1024, mel_bins: 64, hop_size: 256, sample_rate: 22050, fmin: 50, fmax: 50, htsat_attn_heatmap: False,
    htsat_hier_output: False, htsat_use_max: False, enable_tscam: True, enable_repeat_mode: False, loss_type: 'clip_bce'}}
"""

# A network of our own in the repository's structure: what is loaded when, what is drawn in evaluation, what is named how.
FILES = {
    "configs/ddeseg.yaml": CONFIG,
    "models/__init__.py": "from .DDESeg import DDESeg\n",
    "models/DDESeg.py": """
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from timm.models.layers import trunc_normal_

class Mel(nn.Module):
    def __init__(self, fmin, fmax):
        super().__init__()
        self.melW = nn.Parameter(torch.full((11025, 8), torch.nan) if fmin == fmax else torch.rand(11025, 8), requires_grad=False)

class Audio(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.logmel_extractor = Mel(config["fmin"], config["fmax"])
        self.fc = nn.Linear(8, 768)

    def forward(self, x):
        spectrum = torch.fft.rfft(x).abs()[:, :11025]
        return {"latent_output": torch.tanh(self.fc((spectrum @ self.logmel_extractor.melW).clamp(min=1e-10).log10()))}

class Head(nn.Module):
    def __init__(self, num_classes, channels, dim):
        super().__init__()
        self.fuse = nn.Conv2d(channels, dim, 1)
        self.linear_pred = nn.Conv2d(dim, num_classes, 1)

class DDESeg(nn.Module):
    def __init__(self, *, num_classes, embedding_dim, audio_cfg, visual_cfg, av_cfg, visual_pretrain, seg_head_cfg, task):
        super().__init__()
        self.audio_model = Audio(audio_cfg.config)
        if self.training:
            self.audio_model.load_state_dict(torch.load("/data/AVSSData/HTSAT_AudioSet_Saved_1_clean.ckpt"), strict=False)
        if seg_head_cfg.type != "norm":
            raise ValueError(seg_head_cfg.type)
        self.k = av_cfg.aud_cls_num
        self.patch_embed = nn.Conv2d(3, visual_cfg.in_channels[0], 7, 4, 3)
        self.clusters = nn.Linear(visual_cfg.in_channels[0], 5)
        self.centres = nn.Parameter(torch.randn(5, visual_cfg.in_channels[0]))
        trunc_normal_(self.centres, std=1.0)
        self.project = nn.Linear(768, visual_cfg.in_channels[0])
        self.decode_head = Head(num_classes, visual_cfg.in_channels[0], embedding_dim)
        bank = av_cfg.avss_aud_bank if "v1s" in task or "v1m" in task or "v2" in task else av_cfg.vpo_aud_bank
        self.aud_bank = torch.tensor(np.load(bank))

    def forward(self, img_input, aud_input):
        heard = self.audio_model(aud_input)["latent_output"]
        means = self.aud_bank.to(aud_input.device).mean(1)
        nearest = means[torch.cdist(heard, means).topk(self.k, largest=False).indices].mean(1)
        x = self.patch_embed(img_input).permute(0, 2, 3, 1)
        x = x + F.gumbel_softmax(self.clusters(x), dim=-1) @ self.centres
        x = x + torch.tanh(self.project(heard * (1 + nearest)))[:, None, None] * 2
        mask = self.decode_head.linear_pred(torch.tanh(self.decode_head.fuse(x.permute(0, 3, 1, 2))))
        return F.interpolate(mask, size=img_input.shape[2:], mode="bilinear", align_corners=True)
""",
}


def sounds_of(build: Any, folder: Path) -> np.ndarray:
    """Seconds of all rows as the repository's loader reads them: files of one second, by librosa.load; float32 [N, T, 22050]."""
    rows = []
    for sound in native_sounds(build):
        rate, samples = sound.sample_rate, sound.samples.numpy()
        heard = []
        for second in range(5):
            soundfile.write(folder / "second.wav", samples[second * rate : (second + 1) * rate], rate, subtype="FLOAT")
            heard.append(librosa.load(folder / "second.wav", mono=True)[0][:22050])
        rows.append(np.stack(heard))
    return np.stack(rows)


def native_sounds(build: Any) -> list[NativeSound]:
    reader = SoundReader(build, build.data_root(), AudioInput.native())
    return [reader.read_sound(row) for row in build.rows]


CHOICES = [(published, classes) for published in (False, True) for classes in (1, 71)]


@pytest.fixture(scope="module")
def cases(
    tmp_path_factory: pytest.TempPathFactory,
    own_evaluation: Callable[..., Any],
    published_checkout: Callable[[str], Path],
    write_checkout: Callable[[Path, Mapping[str, str]], Path],
) -> Callable[..., tuple[dict[str, str], Any]]:
    made: dict[tuple[bool, int], tuple[dict[str, str], Any]] = {}

    def case(published: bool, classes: int) -> tuple[dict[str, str], Any]:
        key = published, classes
        if key not in made:
            folder = tmp_path_factory.mktemp("ddeseg")
            if published:
                pytest.importorskip("torchlibrosa")
                pytest.importorskip("einops")
            repo = published_checkout("DDESeg") if published else write_checkout(folder / "repo", FILES)
            (folder / "small.yaml").write_text(CONFIG)
            bank = np.random.default_rng(0).normal(size=(71, 3, 768)).astype(np.float32)
            np.save(folder / "bank.npy", bank)
            own = own_evaluation(
                folder,
                "ddeseg",
                lambda build: sounds_of(build, folder),
                root=str(repo),
                config=str(folder / "small.yaml"),
                bank=str(folder / "bank.npy"),
                classes=classes,
                image_size=64,
            )
            options = {"repo": repo, "config": folder / "small.yaml", "bank": folder / "bank.npy", "image_size": 64}
            made[key] = {name: str(value) for name, value in options.items()}, own
        return made[key]

    return case


def load(case: tuple[dict[str, str], Any], **options: str) -> DDESeg:
    adapter = load_adapter("ddeseg", checkpoint=case[1].checkpoint, device=CPU, options={**case[0], **options})
    assert isinstance(adapter, DDESeg)
    return adapter


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_adapter_answers_what_the_networks_own_forward_pass_does(
    cases: Callable[..., Any], choice: tuple[bool, int]
) -> None:
    case = cases(*choice)
    own = case[1]
    adapter = load(case)
    encoded = adapter.encode_frames(own.pictures)
    found = []
    for sound in native_sounds(own.build):
        seed_generators(7)
        found.append(adapter.segment(encoded, [sound])[0])
    expected = own.logits[:, :, 0].sigmoid() if choice[1] == 1 else own.logits
    torch.testing.assert_close(torch.stack(found), expected, atol=1e-4, rtol=1e-4)
    masks, own_masks = (
        values > 0.5 if choice[1] == 1 else values.argmax(2) for values in (torch.stack(found), expected)
    )
    assert (masks != own_masks).float().mean() < 1e-4
    assert len(masks.unique()) > 1
    assert (found[0] - found[1]).abs().max() > 1e-4


def test_it_keeps_the_contract(cases: Callable[..., Any]) -> None:
    for classes in (1, 71):
        check_adapter(load(cases(False, classes))).raise_if_failed()


def test_a_short_last_second_is_repeated_and_a_missing_one_fails() -> None:
    generator = np.random.default_rng(1)
    sound = NativeSound(torch.from_numpy(generator.normal(size=(33_075, 2)).astype(np.float32)), 22_050)
    heard = seconds(sound, 2)
    assert heard.shape == (2, 22_050)
    mono = sound.samples.mean(1).numpy()
    np.testing.assert_allclose(heard[0], mono[:22_050], atol=1e-6)
    np.testing.assert_allclose(heard[1], np.tile(mono[22_050:], 2), atol=1e-6)
    with pytest.raises(ClipError, match="found 2 seconds of sound; expected 3"):
        seconds(sound, 3)


def test_the_configurations_own_mel_filters_are_refused(cases: Callable[..., Any], tmp_path: Path) -> None:
    options, own = cases(False, 1)
    content = torch.load(own.checkpoint, weights_only=True)
    content["model"]["audio_model.logmel_extractor.melW"].fill_(torch.nan)
    torch.save(content, tmp_path / "deaf.pth")
    with pytest.raises(AdapterError, match=r"audio_model\.logmel_extractor\.melW holds values that are not finite"):
        DDESeg.load(tmp_path / "deaf.pth", CPU, **options)


@pytest.mark.parametrize(
    ("bank", "message"),
    [
        (None, "ddeseg: found no --option bank; expected bank=FILE"),
        (np.zeros((71, 768), np.float32), r"found float32 \[71, 768\]; expected float32 \[classes, n, 768\]"),
        (np.zeros((4, 2, 768), np.float32), "with at least 5 classes"),
        (np.zeros((71, 2, 768), np.float64), r"found float64 \[71, 2, 768\]"),
        (np.full((71, 2, 768), np.nan, np.float32), "holds values that are not finite"),
    ],
)
def test_another_memory_bank_is_refused(
    cases: Callable[..., Any], tmp_path: Path, bank: np.ndarray | None, message: str
) -> None:
    options, own = cases(False, 1)
    given = {key: value for key, value in options.items() if key != "bank"}
    if bank is not None:
        np.save(tmp_path / "other.npy", bank)
        given["bank"] = str(tmp_path / "other.npy")
    with pytest.raises(AdapterError, match=message):
        DDESeg.load(own.checkpoint, CPU, **given)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONFIG.replace("'FAVS'", "'SwinEnhance'"), "the released code cannot build the Swin variants"),
        (CONFIG.replace("seg_head", "head"), "expected audio_model, vis_model, align_model, seg_head"),
        ("- 1", "cannot be read as a configuration"),
    ],
)
def test_another_configuration_is_refused(
    cases: Callable[..., Any], tmp_path: Path, content: str, message: str
) -> None:
    options, own = cases(False, 1)
    (tmp_path / "other.yaml").write_text(content)
    with pytest.raises(AdapterError, match=message):
        DDESeg.load(own.checkpoint, CPU, **{**options, "config": str(tmp_path / "other.yaml")})


def test_another_number_of_classes_is_refused(cases: Callable[..., Any], tmp_path: Path) -> None:
    options, own = cases(False, 1)
    content = torch.load(own.checkpoint, weights_only=True)
    content["model"]["decode_head.linear_pred.weight"] = torch.zeros(22, 32, 1, 1)
    torch.save(content, tmp_path / "vpo.pth")
    with pytest.raises(AdapterError, match="has 22 classes; expected 1"):
        DDESeg.load(tmp_path / "vpo.pth", CPU, **options)
