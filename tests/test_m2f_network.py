"""The network: what is encoded once, what the decoder is asked, and what training needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_m2f import TINY as SMALLEST
from torch import nn

from model_adapters.m2f.blocks import AdaptedLinear
from model_adapters.m2f.config import M2FConfig
from model_adapters.m2f.debias import AllQueries, NoisyAudio, VisualOnly
from model_adapters.m2f.network import LogMelEncoder, M2FNetwork, prepare_frames

TINY = replace(SMALLEST, decoder_layers=3)
SEMANTIC = M2FConfig(**{**TINY.__dict__, "num_labels": 5, "readout": "semantic", "readout_labels": 5})
LEARNED = M2FConfig(**{**TINY.__dict__, "query_gate": "learned"})


def inputs(config: M2FConfig, frames: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randn(frames, 3, config.image_size, config.image_size, generator=generator)
    return pictures, torch.randn(frames, 1, 96, 64, generator=generator)


def noisy(frames: int, width: int) -> NoisyAudio:
    generator = torch.Generator().manual_seed(2)
    return NoisyAudio(torch.full((frames,), 0.4), torch.randn(frames, width, generator=generator))


@pytest.mark.parametrize("config", [TINY, SEMANTIC, LEARNED])
def test_forward_shapes(config: M2FConfig) -> None:
    network = M2FNetwork.seeded(config, 0)
    frames, sound = inputs(config)
    encoded, audio = network.encode(frames), network.embed_audio(sound)
    logits, queries = network.segment(encoded, audio)
    leading = (3, 5) if config.semantic else (3,)
    assert logits.shape == (*leading, 16, 16)
    assert queries.masks.shape == (3, 6, 16, 16)
    assert queries.classes.shape == (3, 6, config.num_labels + 1)
    assert audio.shape == encoded.mask_features.mean(dim=(2, 3)).shape == (3, 32)


@pytest.mark.parametrize("config", [TINY, SEMANTIC, LEARNED])
def test_every_trainable_parameter_gets_a_gradient(config: M2FConfig) -> None:
    """Distributed training hangs on a parameter that no output depends on."""
    network = M2FNetwork.seeded(config, 0).train()
    frames, sound = inputs(config)
    logits, _ = network.segment(network.encode(frames), network.embed_audio(sound), None, noisy(3, 32))
    logits.square().mean().backward()
    without = [name for name, value in network.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []
    assert any(value.grad.abs().max() > 0 for value in network.audio_encoder.parameters() if value.grad is not None)


def test_frozen_parameters_are_those_without_part_in_the_output() -> None:
    network = M2FNetwork.seeded(TINY, 0)
    frozen = {name.rpartition(".")[0] for name, value in network.named_parameters() if not value.requires_grad}
    assert frozen == {"mask2former.model.pixel_level_module.encoder.swin.layernorm", "mask2former.class_predictor"}


def test_first_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = M2FNetwork.seeded(TINY, 3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    again = M2FNetwork.seeded(TINY, 3).state_dict()
    other = M2FNetwork.seeded(TINY, 4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@torch.inference_mode()
def test_branches_in_one_batch_give_what_each_gives_alone() -> None:
    network = M2FNetwork.seeded(TINY, 0).eval()
    pictures, audio = inputs(TINY)
    encoded, sound = network.encode(pictures), network.embed_audio(audio)
    contrast = noisy(3, 32)
    gate = network.gate_of(sound)
    both, _ = network.segment(encoded, sound, None, contrast)
    clean, _ = network.segment(encoded, sound)
    biased = network.decode(encoded, contrast.branch(sound, gate).prompt).masks.sum(1)
    torch.testing.assert_close(both, 2 * clean - biased, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_backbone_and_pixel_decoder_run_once_for_many_sounds() -> None:
    network = M2FNetwork.seeded(TINY, 0).eval()
    runs = {"backbone": 0, "pixels": 0, "decoder": 0}

    def count(what: str) -> object:
        def hook(_module: nn.Module, _args: object) -> None:
            runs[what] += 1

        return hook

    core = network.mask2former.model
    core.pixel_level_module.encoder.swin.embeddings.register_forward_pre_hook(count("backbone"))
    core.pixel_level_module.decoder.mask_projection.register_forward_pre_hook(count("pixels"))
    core.transformer_module.decoder.layers[0].fc1.register_forward_pre_hook(count("decoder"))
    pictures, audio = inputs(TINY)
    encoded = network.encode(pictures)
    for loudness in range(4):
        network.segment(encoded, network.embed_audio(audio - loudness), None, noisy(3, 32))
    assert runs == {"backbone": 1, "pixels": 1, "decoder": 4}


@torch.inference_mode()
def test_prompt_leaves_no_trace() -> None:
    network = M2FNetwork.seeded(TINY, 0).eval()
    encoded = network.encode(inputs(TINY)[0])
    before = network.decode(encoded, None)
    prompted = network.decode(encoded, torch.randn(3, 6, 32))
    after = network.decode(encoded, None)
    assert torch.equal(before.masks, after.masks)
    assert not torch.equal(before.masks, prompted.masks)
    zero = network.decode(encoded, torch.zeros(3, 6, 32))
    assert torch.equal(before.masks, zero.masks)


@torch.inference_mode()
def test_inactive_queries_have_no_part() -> None:
    network = M2FNetwork.seeded(TINY, 0).eval()
    pictures, audio = inputs(TINY)
    encoded, sound = network.encode(pictures), network.embed_audio(audio)
    closed, _ = network.segment(encoded, sound, torch.zeros(3, 6))
    assert torch.equal(closed, torch.zeros_like(closed))
    only = torch.zeros(3, 6)
    only[:, 2] = 1
    logits, queries = network.segment(encoded, sound, only)
    torch.testing.assert_close(logits, queries.masks[:, 2])


@torch.inference_mode()
def test_contrast_with_all_queries_on_and_with_a_visual_only_network() -> None:
    network = M2FNetwork.seeded(TINY, 0).eval()
    pictures, audio = inputs(TINY)
    encoded, sound = network.encode(pictures), network.embed_audio(audio)
    gate = torch.zeros(3, 6)
    gate[:, :2] = 1
    clean, _ = network.segment(encoded, sound, gate)
    opened, _ = network.segment(encoded, sound, torch.ones(3, 6))
    contrasted, _ = network.segment(encoded, sound, gate, AllQueries())
    torch.testing.assert_close(contrasted, 2 * clean - opened, atol=1e-4, rtol=1e-4)
    visual_only, _ = network.segment(encoded, sound, gate, VisualOnly(clean))
    torch.testing.assert_close(visual_only, clean)


@torch.inference_mode()
def test_semantic_contrast_is_taken_of_the_queries_logits() -> None:
    network = M2FNetwork.seeded(SEMANTIC, 0).eval()
    pictures, audio = inputs(SEMANTIC)
    encoded, sound = network.encode(pictures), network.embed_audio(audio)
    silent = NoisyAudio(torch.ones(3), torch.zeros(3, 32))
    clean, _ = network.segment(encoded, sound)
    same, _ = network.segment(encoded, sound, None, silent)
    torch.testing.assert_close(same, clean, atol=1e-5, rtol=1e-4)
    assert float(clean.min()) >= 0
    other, _ = network.segment(encoded, sound, None, noisy(3, 32))
    assert not torch.allclose(other, clean, atol=1e-4)


def test_adapter_layers_stand_where_the_published_ones_do() -> None:
    network = M2FNetwork.seeded(TINY, 0)
    adapted = {name: module for name, module in network.named_modules() if isinstance(module, AdaptedLinear)}
    residual = [name for name, module in adapted.items() if module.residual]
    instead = [name for name, module in adapted.items() if not module.residual]
    assert len(residual) == 2 * sum(TINY.depths)
    assert all(".blocks." in name and name.endswith(("o_proj", "fc2")) for name in residual)
    assert len(instead) == TINY.encoder_layers + TINY.decoder_layers - 1
    assert all(name.endswith(("self_attn.output_proj", "self_attn.out_proj")) for name in instead)


def test_adapted_linear_keeps_the_replaced_layer() -> None:
    plain = nn.Linear(8, 8)
    added, instead = AdaptedLinear(plain, residual=True), AdaptedLinear(plain, residual=False)
    x = torch.randn(4, 8)
    assert added.weight is plain.weight
    torch.testing.assert_close(added(x), plain(x) + added.adapter(plain(x)))
    torch.testing.assert_close(instead(x), instead.adapter(plain(x)))


def test_frames_are_normalised_and_squeezed_to_a_square() -> None:
    grey = torch.full((2, 3, 30, 50), 128, dtype=torch.uint8)
    prepared = prepare_frames(grey, 32)
    assert prepared.shape == (2, 3, 32, 32)
    expected = (128 / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(prepared[0, :, 16, 16], expected)


# The audio encoder


@torch.inference_mode()
def test_audio_is_embedded_independently_of_the_batch() -> None:
    torch.manual_seed(0)
    encoder = LogMelEncoder().eval()
    log_mel = torch.randn(4, 1, 96, 64)
    embedding = encoder(log_mel)
    assert embedding.shape == (4, 128)
    torch.testing.assert_close(encoder(log_mel[2:3]), embedding[2:3], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_bands_are_told_apart_and_silence_is_finite() -> None:
    torch.manual_seed(0)
    encoder = LogMelEncoder().eval()
    silence = torch.full((1, 1, 96, 64), -4.605)
    low, high = silence.clone(), silence.clone()
    low[..., :16] = 2.0
    high[..., 48:] = 2.0
    embeddings = encoder(torch.cat((silence, low, high)))
    assert torch.isfinite(embeddings).all()
    assert float((embeddings[1] - embeddings[2]).norm()) > 0.5
    assert float((embeddings[0] - embeddings[1]).norm()) > 0.5
