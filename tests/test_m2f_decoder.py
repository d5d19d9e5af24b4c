"""The masked decoder against the library's own, which shrinks the masks of every layer and repeats the frames."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from model_adapters.m2f.config import M2FConfig
from model_adapters.m2f.decoder import EncodedFrames
from model_adapters.m2f.network import M2FNetwork

CONFIG = M2FConfig(
    image_size=96,
    embed_dim=8,
    depths=(1, 1, 1, 1),
    num_heads=(1, 1, 2, 2),
    window_size=6,
    hidden_dim=32,
    encoder_layers=1,
    encoder_feedforward_dim=32,
    decoder_layers=6,
    feedforward_dim=32,
    attention_heads=2,
    num_queries=6,
    num_labels=3,
    readout="foreground",
    readout_labels=3,
)
FRAMES, BRANCHES = 2, 3


def network_and_frames() -> tuple[M2FNetwork, Tensor]:
    frames = torch.randn(FRAMES, 3, CONFIG.image_size, CONFIG.image_size, generator=torch.Generator().manual_seed(1))
    return M2FNetwork.seeded(CONFIG, 0).eval(), frames


def prompts(branches: int = BRANCHES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(FRAMES, CONFIG.num_queries, CONFIG.hidden_dim, generator=generator) for _ in range(branches)]


def of_the_library(network: M2FNetwork, frames: Tensor, prompt: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return class and mask logits of stock Mask2Former, with the prompt added to the query features."""
    core = network.mask2former.model

    def add(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        assert prompt is not None
        return args, {**kwargs, "inputs_embeds": kwargs["inputs_embeds"] + prompt.transpose(0, 1)}

    hook = None
    if prompt is not None:
        hook = core.transformer_module.decoder.register_forward_pre_hook(add, with_kwargs=True)
    pixels = core.pixel_level_module(pixel_values=frames)
    out = core.transformer_module(
        multi_scale_features=list(pixels.decoder_hidden_states), mask_features=pixels.decoder_last_hidden_state
    )
    if hook is not None:
        hook.remove()
    classes = network.mask2former.class_predictor(out.intermediate_hidden_states[-1].transpose(0, 1))
    return classes, out.masks_queries_logits[-1]


@pytest.mark.parametrize("prompted", [False, True])
@torch.inference_mode()
def test_class_and_mask_logits_are_the_librarys(prompted: bool) -> None:
    network, frames = network_and_frames()
    prompt = prompts()[0] if prompted else None
    found = network.decode(network.encode(frames), prompt)
    classes, masks = of_the_library(network, frames, prompt)
    torch.testing.assert_close(found.classes, classes, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.masks, masks, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_branches_of_the_same_frames_do_not_see_each_other() -> None:
    network, frames = network_and_frames()
    encoded = network.encode(frames)
    together = list(network.decode_prompts(encoded, prompts()))
    assert len(together) == BRANCHES
    for found, prompt in zip(together, prompts(), strict=True):
        alone = network.decode(encoded, prompt)
        torch.testing.assert_close(found.classes, alone.classes, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.masks, alone.masks, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_query_with_an_empty_mask_attends_to_everything() -> None:
    network, frames = network_and_frames()
    embedder = network.mask2former.model.transformer_module.decoder.mask_predictor.mask_embedder
    for parameter in embedder.parameters():
        parameter.zero_()
    encoded = network.encode(frames)
    # A constant of -1 in every position: all masks are empty.
    encoded = encoded._replace(
        mask_features=torch.ones_like(encoded.mask_features),
        shrunk=tuple(torch.ones_like(part) for part in encoded.shrunk),
    )
    embedder.get_submodule("2.0").bias.fill_(-1 / CONFIG.hidden_dim)
    found = network.decode(encoded, prompts()[0])
    assert float(found.masks.max()) < 0
    assert torch.isfinite(found.classes).all()


def test_gradients_are_the_librarys() -> None:
    network, frames = network_and_frames()
    prompt = prompts()[0]
    parameters = {name: value for name, value in network.mask2former.named_parameters() if value.requires_grad}

    def gradients(classes: Tensor, masks: Tensor) -> dict[str, Tensor]:
        loss = classes.square().mean() + masks.square().mean()
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        return {name: value for name, value in zip(parameters, found, strict=True) if value is not None}

    found = network.decode(network.encode(frames), prompt)
    ours, theirs = gradients(found.classes, found.masks), gradients(*of_the_library(network, frames, prompt))
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-4 * float(theirs[name].abs().max()) + 1e-6, rtol=1e-3)


@torch.inference_mode()
def test_frames_that_are_taken_are_decoded_as_before() -> None:
    network, frames = network_and_frames()
    encoded = network.encode(frames)
    index = torch.tensor([1, 0, 1])
    taken = encoded.take(index)
    assert isinstance(taken, EncodedFrames)
    found, whole = network.decode(taken, None), network.decode(encoded, None)
    torch.testing.assert_close(found.masks, whole.masks[index], atol=1e-5, rtol=1e-4)


def test_captured_as_graphs_it_returns_and_learns_the_same() -> None:
    network, frames = network_and_frames()
    with torch.no_grad():
        # Fresh offsets point at the middle of pixels, where bilinear sampling has no gradient but one to either side.
        for layer in network.mask2former.model.pixel_level_module.decoder.encoder.layers:
            layer.self_attn.sampling_offsets.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(4))
    parameters = [value for value in network.mask2former.parameters() if value.requires_grad]

    def decoded() -> list[Tensor]:
        queries = network.decode_prompts(network.encode(frames), prompts())
        return [part for query in queries for part in (query.classes, query.masks)]

    def gradients() -> tuple[Tensor | None, ...]:
        loss = torch.stack([part.square().mean() for part in decoded()]).sum()
        return torch.autograd.grad(loss, parameters, allow_unused=True)

    with torch.no_grad():
        plain = decoded()
    learned = gradients()
    # All that torch.compile does but making kernels, which takes minutes on a CPU.
    network.compile_parts(backend="aot_eager")
    with torch.no_grad():
        for found, expected in zip(decoded(), plain, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    for found, expected in zip(gradients(), learned, strict=True):
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            torch.testing.assert_close(found, expected, atol=1e-3 * float(expected.abs().max()) + 1e-6, rtol=1e-2)


@torch.inference_mode()
def test_layers_of_one_shape_share_a_graph() -> None:
    config = M2FConfig(depths=(1, 1, 4, 1), encoder_layers=3, decoder_layers=7)
    network = M2FNetwork.seeded(config, seed=0).eval()
    counter = CompileCounterWithBackend("eager")
    network.compile_parts(backend=counter)
    encoded = network.encode(torch.zeros(1, 3, config.image_size, config.image_size))
    network.decode(encoded, torch.zeros(1, config.num_queries, config.hidden_dim))
    # Of 16 layers: four stages, one of them with shifted windows too; one pixel layer; a masked layer for each of three levels.
    assert counter.frame_count == 9


def test_compiled_for_training_alone_it_evaluates_as_it_is() -> None:
    network, frames = network_and_frames()
    counter = CompileCounterWithBackend("eager")
    network.compile_parts(backend=counter, training_alone=True)
    with torch.inference_mode():
        network.eval().encode(frames)
        assert counter.frame_count == 0
        network.train().encode(frames)
        assert counter.frame_count > 0


def test_kernels_are_kept_where_the_documentation_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_adapters.m2f.network.COMPILE_CACHE", tmp_path / "kept")
    network, _ = network_and_frames()
    # As torch has set it by now, which each restart of a machine empties; nothing; and a folder that the user names.
    for named, expected in (
        (Path(gettempdir(), "torchinductor_somebody"), tmp_path / "kept"),
        (None, tmp_path / "kept"),
        (tmp_path / "mine", tmp_path / "mine"),
    ):
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        if named is not None:
            monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(named))
        network.compile_parts(backend="eager")
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(expected)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_it_returns_the_same_and_keeps_its_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    # Here, and not in a pool of processes that first import torch.
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    network, frames = network_and_frames()
    with torch.inference_mode():
        encoded = network.encode(frames)
        plain = list(network.decode_prompts(encoded, prompts()))
        network.compile_parts()
        for found, expected in zip(network.decode_prompts(encoded, prompts()), plain, strict=True):
            torch.testing.assert_close(found.classes, expected.classes, atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(found.masks, expected.masks, atol=1e-3, rtol=1e-3)
    assert any(tmp_path.rglob("*.so"))
