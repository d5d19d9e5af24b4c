"""Agreement with the published code: golden/m2f_fork_io.npz (reduced), made by running GeWu-Lab/bias_in_AVS unmodified."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model_adapters.m2f.checkpoint import load_checkpoint
from model_adapters.m2f.debias import LAST_STEP, NoisyAudio, alpha_bars, prompt_queries
from model_adapters.m2f.network import M2FNetwork, prepare_frames
from model_adapters.m2f.queries import gate_of_indices
from model_adapters.m2f.readout import foreground_map, resize

GOLDEN = Path(__file__).parent / "golden"
WEIGHTS = GOLDEN / "m2f_fork.safetensors"
CLASS_TOLERANCE = 1e-4
MASK_TOLERANCE = 1e-3
# Of the maps' standard deviation.
MAP_TOLERANCE = 1e-2
SEEDS = (0, 1)
POST_SIZES = ((60, 100), (48, 48))


@pytest.fixture(scope="module")
def arrays() -> dict[str, Tensor]:
    with np.load(GOLDEN / "m2f_fork_io.npz") as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive.files}


@pytest.fixture(scope="module")
def network() -> M2FNetwork:
    return load_checkpoint(WEIGHTS).network


def class_lists(key: str) -> list[list[int]]:
    lists: list[list[int]] = json.loads((GOLDEN / "m2f_key_map.json").read_text())["class_lists"][key]
    return lists


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("prompted", [False, True])
@torch.inference_mode()
def test_query_logits_agree(network: M2FNetwork, arrays: dict[str, Tensor], seed: int, prompted: bool) -> None:
    name = f"A_s{seed}_{'prompt' if prompted else 'noprompt'}"
    prompt = None
    if prompted:
        gate = gate_of_indices(class_lists(f"A_s{seed}"), 100, "reference")
        prompt = prompt_queries(network.embed_audio(arrays[f"A_s{seed}_audio"]), gate)
    queries = network.decode(network.encode(arrays[f"A_s{seed}_pixel_values"].float()), prompt)
    classes, masks = queries.classes[:, ::5], queries.masks[:, ::10]
    torch.testing.assert_close(classes, arrays[f"{name}_classes_every5th"], atol=CLASS_TOLERANCE, rtol=0)
    torch.testing.assert_close(masks, arrays[f"{name}_masks_every10th"], atol=MASK_TOLERANCE, rtol=0)


@pytest.mark.parametrize("seed", SEEDS)
@torch.inference_mode()
def test_post_processing_agrees(network: M2FNetwork, arrays: dict[str, Tensor], seed: int) -> None:
    gate = arrays[f"A_s{seed}_class_emb"]
    sound = network.embed_audio(arrays[f"A_s{seed}_audio"])
    torch.testing.assert_close(sound, arrays[f"A_s{seed}_audio_proj"], atol=1e-4, rtol=0)
    encoded = network.encode(arrays[f"A_s{seed}_pixel_values"].float())
    queries = network.decode(encoded, prompt_queries(sound, gate))
    # The published call hands the first sample's gate to both.
    maps = resize(foreground_map(network.config, queries, gate[:1].expand_as(gate)), (384, 384))
    for sample, size in enumerate(POST_SIZES):
        expected = arrays[f"A_s{seed}_post_sample{sample}"]
        found = resize(maps[sample : sample + 1], size)
        torch.testing.assert_close(found, expected, atol=float(MAP_TOLERANCE * expected.std()), rtol=0)


@pytest.mark.parametrize("seed", SEEDS)
@torch.inference_mode()
def test_debiased_maps_agree_with_the_stored_noise(network: M2FNetwork, arrays: dict[str, Tensor], seed: int) -> None:
    frames = arrays[f"B_s{seed}_image_u8_64"].repeat_interleave(6, dim=-2).repeat_interleave(6, dim=-1)
    encoded = network.encode(prepare_frames(frames, 384))
    sound = network.embed_audio(arrays[f"B_s{seed}_audio"][0])
    gate = arrays[f"B_s{seed}_class_emb_used"]
    noisy = NoisyAudio(alpha_bars()[LAST_STEP], arrays[f"B_s{seed}_eps"][:, 0], "reference")
    distorted = noisy.branch(sound, gate).prompt
    expected_prompt = arrays[f"B_s{seed}_prompt_distorted_any_query"]
    for query in (0, 5, 99):
        torch.testing.assert_close(distorted[:, query], expected_prompt, atol=1e-4, rtol=0)
    logits, queries = network.segment(encoded, sound, gate, noisy)
    classes = arrays[f"B_s{seed}_classes_clean_frame0_every5th"]
    masks = arrays[f"B_s{seed}_masks_clean_frame0_every5th_every8th"]
    torch.testing.assert_close(queries.classes[:1, ::5], classes, atol=CLASS_TOLERANCE, rtol=0)
    torch.testing.assert_close(queries.masks[:1, ::5, ::8, ::8], masks, atol=MASK_TOLERANCE, rtol=0)
    debiased = resize(resize(resize(logits, (384, 384)), (72, 128)), (256, 256))[:, ::8, ::8]
    for found, expected in zip(debiased, arrays[f"B_s{seed}_debiased_256_every8th"], strict=True):
        torch.testing.assert_close(found, expected, atol=float(MAP_TOLERANCE * expected.std()), rtol=0)


@torch.inference_mode()
def test_adapter_layers_matter(network: M2FNetwork, arrays: dict[str, Tensor]) -> None:
    """Without them the class logits are far off, so the agreement above tells something."""
    pixels = arrays["A_s0_pixel_values"].float()
    encoded = network.encode(pixels)
    layer = network.mask2former.model.transformer_module.decoder.layers[0].self_attn.out_proj
    kept = layer.adapter
    layer.adapter = torch.nn.Identity()
    try:
        without = network.decode(encoded, None)
    finally:
        layer.adapter = kept
    difference = (without.classes[:, ::5] - arrays["A_s0_noprompt_classes_every5th"]).abs().max()
    assert difference > 100 * CLASS_TOLERANCE


def test_schedule_agrees(arrays: dict[str, Tensor]) -> None:
    torch.testing.assert_close(alpha_bars(), arrays["alpha_bars"], atol=1e-6, rtol=0)
