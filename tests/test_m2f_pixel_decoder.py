"""The pixel decoder and its deformable attention, against the library's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from transformers.models.mask2former.modeling_mask2former import multi_scale_deformable_attention

from model_adapters.m2f import pixel_decoder as module
from model_adapters.m2f.config import M2FConfig
from model_adapters.m2f.network import M2FNetwork
from model_adapters.m2f.pixel_decoder import (
    Layer,
    decode_pixels,
    gathered_layer,
    sampled_layer,
    shrink,
)
from model_adapters.m2f.sampling import gathered, sampled

LAYERS = pytest.mark.parametrize("layer", [sampled_layer, gathered_layer])


def network_and_frames() -> tuple[M2FNetwork, Tensor]:
    network = M2FNetwork.seeded(M2FConfig(image_size=64, window_size=4), seed=3).eval()
    with torch.no_grad():
        # Fresh offsets are alike for all positions; these reach beyond the border too.
        for layer in network.mask2former.model.pixel_level_module.decoder.encoder.layers:
            layer.self_attn.sampling_offsets.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
    return network, torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@LAYERS
def test_features_are_the_librarys(layer: Layer) -> None:
    network, frames = network_and_frames()
    module = network.mask2former.model.pixel_level_module
    with torch.inference_mode():
        expected = module(frames)
        levels, mask_features = decode_pixels(module.decoder, tuple(module.encoder(frames).feature_maps), layer)
    for found, wanted in zip(
        (*levels, mask_features), (*expected.decoder_hidden_states, expected.decoder_last_hidden_state), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)


@LAYERS
def test_gradients_are_the_librarys(layer: Layer) -> None:
    network, frames = network_and_frames()
    module = network.mask2former.model.pixel_level_module
    features = tuple(part.detach().requires_grad_() for part in module.encoder(frames).feature_maps)
    parameters = [value for value in module.decoder.parameters() if value.requires_grad]

    def gradients(levels: tuple[Tensor, ...], mask_features: Tensor) -> tuple[Tensor | None, ...]:
        loss = sum(part.square().mean() for part in (*levels, mask_features))
        return torch.autograd.grad(loss, [*features, *parameters], allow_unused=True)

    stock = module.decoder(list(features), output_hidden_states=True)
    theirs = gradients(stock.multi_scale_features, stock.mask_features)
    ours = gradients(*decode_pixels(module.decoder, features, layer))
    for found, wanted in zip(ours, theirs, strict=True):
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            torch.testing.assert_close(found, wanted, atol=1e-4 * float(wanted.abs().max()) + 1e-6, rtol=1e-3)


def test_states_rounded_before_the_position_is_added_are_as_near_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    network, frames = network_and_frames()
    decoder = network.mask2former.model.pixel_level_module.decoder
    features = tuple(network.mask2former.model.pixel_level_module.encoder(frames).feature_maps)
    parameters = [value for value in decoder.parameters() if value.requires_grad]

    def features_and_gradients(lowered: bool = True) -> list[Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lowered):
            mask_features = decode_pixels(decoder, tuple(part.detach() for part in features), sampled_layer)[1]
        loss = mask_features.float().square().mean()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [mask_features.detach().float(), *(each for each in gradients if each is not None)]

    exact, found = features_and_gradients(lowered=False), features_and_gradients()
    monkeypatch.setattr(module, "lowered", lambda x: x)
    # Rounded by each product alone.
    former = features_and_gradients()
    ours, theirs = (
        [
            float((each - right).norm() / right.norm())
            for each, right in zip(way, exact, strict=True)
            if right.norm() > 0
        ]
        for way in (found, former)
    )
    assert ours[0] <= 1.2 * theirs[0] < 0.02
    assert sum(ours) <= 1.2 * sum(theirs)


@given(
    seed=st.integers(0, 1000),
    sizes=st.tuples(*[st.tuples(st.integers(1, 5), st.integers(1, 5))] * 3),
    spread=st.sampled_from([0.2, 1.0, 3.0]),
)
@settings(max_examples=40, deadline=None)
def test_attention_is_the_librarys_within_and_beyond_the_border(
    seed: int, sizes: tuple[tuple[int, int], ...], spread: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    positions = sum(height * width for height, width in sizes)
    values = torch.randn(2, positions, 2, 4, generator=generator)
    locations = 0.5 + spread * torch.randn(2, positions, 2, 3, 4, 2, generator=generator)
    weights = torch.rand(2, positions, 2, 3, 4, generator=generator)
    expected = multi_scale_deformable_attention(values, list(sizes), locations, weights)
    for attend in (sampled, gathered):
        torch.testing.assert_close(attend(values, sizes, locations, weights), expected, atol=1e-4, rtol=1e-4)


@given(
    seed=st.integers(0, 1000),
    cells=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    factors=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
@settings(max_examples=60, deadline=None)
def test_shrinking_is_the_librarys(seed: int, cells: tuple[int, int], factors: tuple[int, int]) -> None:
    size = (cells[0] * factors[0], cells[1] * factors[1])
    maps = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed))
    expected = F.interpolate(maps, size=cells, mode="bilinear", align_corners=False)
    torch.testing.assert_close(shrink(maps, cells), expected, atol=1e-6, rtol=1e-5)
