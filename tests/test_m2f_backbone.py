"""The backbone over the library's layers, against the library's own forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model_adapters.m2f import backbone as module
from model_adapters.m2f.backbone import apply_block, feature_maps
from model_adapters.m2f.config import M2FConfig
from model_adapters.m2f.network import M2FNetwork

SIZES = pytest.mark.parametrize(
    "config",
    [
        # Maps of 24, 12, 6 and 3 patches: whole windows, then padded ones, shifted or not.
        M2FConfig(depths=(2, 2, 2, 2), window_size=6),
        # All windows are padded; patches of odd maps are merged.
        M2FConfig(image_size=160, depths=(2, 1, 2, 1), window_size=7),
        M2FConfig(depths=(1, 2, 2, 1), drop_path_rate=0.4),
    ],
    ids=["whole", "padded", "stochastic"],
)


def backbone_and_frames(config: M2FConfig) -> tuple[torch.nn.Module, Tensor]:
    network = M2FNetwork.seeded(config, seed=1).train()
    backbone: torch.nn.Module = network.mask2former.model.pixel_level_module.encoder
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, value in backbone.named_parameters():
            # Fresh ones are 0.
            if "relative_position_bias_table" in name:
                value.normal_(0, 0.5, generator=generator)
    return backbone, torch.randn(3, 3, config.image_size, config.image_size, generator=generator)


@SIZES
def test_feature_maps_and_gradients_are_the_librarys(config: M2FConfig) -> None:
    backbone, frames = backbone_and_frames(config)
    parameters = {name: value for name, value in backbone.named_parameters() if value.requires_grad}
    # Stochastic depth draws the same from the same seed.
    torch.manual_seed(5)
    expected = tuple(backbone(frames).feature_maps)
    torch.manual_seed(5)
    found = feature_maps(backbone, frames, apply_block)
    assert [part.shape for part in found] == [part.shape for part in expected]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)

    def gradients(maps: tuple[Tensor, ...]) -> dict[str, Tensor]:
        weights = [torch.linspace(-1, 1, part.numel()).view_as(part) for part in maps]
        loss = torch.stack([(part * weight).mean() for part, weight in zip(maps, weights, strict=True)]).sum()
        return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))

    ours, theirs = gradients(found), gradients(expected)
    largest = max(float(value.abs().max()) for value in theirs.values())
    for name, value in ours.items():
        torch.testing.assert_close(
            value, theirs[name], atol=1e-5 * largest, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}"
        )


@SIZES
@torch.no_grad()
def test_in_evaluation_nothing_is_drawn(config: M2FConfig) -> None:
    backbone, frames = backbone_and_frames(config)
    backbone.eval()
    for one, other in zip(feature_maps(backbone, frames, apply_block), backbone(frames).feature_maps, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_what_is_kept_between_calls_serves_inference_and_training() -> None:
    backbone, frames = backbone_and_frames(M2FConfig(image_size=96, depths=(2, 2, 2, 2), window_size=4))
    with torch.inference_mode():
        feature_maps(backbone, frames, apply_block)
    torch.stack([part.mean() for part in feature_maps(backbone, frames, apply_block)]).sum().backward()


def test_windows_beside_heads_are_those_beside_frames_cut_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, frames = backbone_and_frames(M2FConfig(depths=(2, 2, 2, 2), window_size=6))
    parameters = [value for value in backbone.parameters() if value.requires_grad]

    def maps_and_gradients() -> list[Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            maps = feature_maps(backbone, frames, apply_block)
        loss = torch.stack([part.float().square().mean() for part in maps]).sum()
        return [*maps, *torch.autograd.grad(loss, parameters)]

    found = maps_and_gradients()

    def former(attention: Any, windows: Tensor, mask: Tensor | None) -> Tensor:
        # One window after the other, what is added to the scores repeated for every frame; rounded to bfloat16 by the product.
        frames, length, number, channels = windows.shape
        windows = windows.transpose(1, 2).flatten(0, 1)
        count = len(windows)
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        weight, bias = (torch.cat([getattr(part, name) for part in parts]) for name in ("weight", "bias"))
        heads = F.linear(windows, weight, bias).view(count, length, 3, attention.num_attention_heads, -1)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4).unbind(0)
        scores = attention.relative_position_bias()
        scores = (scores if mask is None else scores + mask).to(queries.dtype)
        if mask is not None:
            scores = scores.expand(count // len(mask), -1, -1, -1, -1).flatten(0, 1)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=scores, scale=attention.scaling)
        output = torch.as_tensor(attention.o_proj(attended.transpose(1, 2).reshape(count, length, channels)))
        return output.unflatten(0, (frames, number)).transpose(1, 2).contiguous()

    monkeypatch.setattr(module, "lowered", lambda x: x)
    monkeypatch.setattr(module, "_attend", former)
    expected = maps_and_gradients()
    assert all(torch.equal(one, other) for one, other in zip(found[:4], expected[:4], strict=True))
    # Sums over the windows are taken in another order; the gradient of a bias of keys is nothing but rounding.
    largest = max(float(each.abs().max()) for each in expected[4:])
    for one, other in zip(found[4:], expected[4:], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.02 * float(other.abs().max()) + 1e-4 * largest)
