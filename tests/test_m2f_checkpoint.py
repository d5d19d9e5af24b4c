"""Bundles and raw checkpoints: round trips, and every difference listed."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_m2f import TINY
from torch import Tensor

from avsrobust.errors import AdapterError
from model_adapters.m2f.checkpoint import LoadReport, fill, load_bundle, load_checkpoint, save_bundle, summed_up
from model_adapters.m2f.config import M2FConfig
from model_adapters.m2f.network import M2FNetwork

FORK = Path(__file__).parent / "golden" / "m2f_fork.safetensors"


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return load_file(FORK)


def saved(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save(tensors, path)
    return path


def refused(path: Path, message: str, **options: object) -> None:
    with pytest.raises(AdapterError, match=message) as caught:
        load_checkpoint(path, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.float32, 0.0)])
def test_bundle_round_trip(tmp_path: Path, dtype: torch.dtype, tolerance: float) -> None:
    network = M2FNetwork.seeded(TINY, 0)
    path = tmp_path / "m2f.safetensors"
    save_bundle(path, network, {"recipe": "toy", "config": "not this"}, dtype)
    loaded = load_bundle(path)
    assert loaded.network.config == TINY
    assert loaded.info == {"recipe": "toy"}
    assert loaded.report.missing == loaded.report.unexpected == loaded.report.mismatched == ()
    assert not loaded.network.training
    again = loaded.network.state_dict()
    for key, tensor in network.state_dict().items():
        assert again[key].dtype == tensor.dtype
        torch.testing.assert_close(again[key], tensor, atol=tolerance, rtol=tolerance)
    assert load_checkpoint(path).network.config == TINY
    assert [file.name for file in tmp_path.iterdir()] == ["m2f.safetensors"]


def test_weights_beyond_float16_are_not_saved_as_such(tmp_path: Path) -> None:
    network = M2FNetwork.seeded(TINY, 0)
    with torch.no_grad():
        network.audio_proj[0].bias[0] = 1e6
    with pytest.raises(AdapterError, match=r"'audio_proj\.0\.bias' is not finite as torch\.float16"):
        save_bundle(tmp_path / "m2f.safetensors", network)
    assert list(tmp_path.iterdir()) == []


def test_bundle_refusals(tmp_path: Path) -> None:
    network = M2FNetwork.seeded(TINY, 0)
    good = tmp_path / "good.safetensors"
    save_bundle(good, network)
    tensors = load_file(good)
    metadata = {"format": "avsrobust.m2f", "version": "1", "config": TINY.to_json()}
    path = tmp_path / "bad.safetensors"
    for changes, message in (
        ({"version": "2"}, "found version 2; expected 1"),
        ({"config": "{"}, "its configuration cannot be read"),
        ({"config": "[]"}, "its configuration is no JSON object"),
        ({"config": "[" * 100_000}, "its configuration cannot be read"),
        (
            {"config": TINY.to_json().replace('"num_queries": 6', '"num_queries": 1000000000')},
            "num_queries: found 1,000,000,000",
        ),
        (
            {"config": replace(TINY, hidden_dim=2048, feedforward_dim=16384, decoder_layers=64).to_json()},
            "asks for a network of",
        ),
        ({"config": json.dumps({"colour": 1})}, "key colour: not known; expected one of image_size"),
        ({"config": M2FConfig().to_json()}, "does not fit the network: .* of another shape"),
    ):
        save_file(tensors, path, metadata={**metadata, **changes})
        refused(path, message)
    save_file({key: value for key, value in tensors.items() if "audio_proj" not in key}, path, metadata=metadata)
    refused(path, r"4 missing \(audio_proj\.0\.bias, ")
    refused(good, "holds its own configuration; leave out options config, head, image_size", head="semantic")
    with pytest.raises(AdapterError, match="not a bundle of avsrobust"):
        load_bundle(FORK)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_state_loads_in_full(
    tmp_path: Path, published: dict[str, Tensor], prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path / "best_avs.ckpt", {prefix + key: tensor for key, tensor in published.items()})
    with caplog.at_level(logging.WARNING):
        loaded = load_checkpoint(path)
    assert loaded.report.matched == len(published) - 3
    assert "layernorm_sc" in caplog.text
    assert "criterion.empty_weight" in caplog.text
    own = loaded.network.state_dict()
    block = "mask2former.model.pixel_level_module.encoder.swin.encoder.layers.2.blocks.1"
    fork = "model_v.model.pixel_level_module.encoder.encoder.layers.2.blocks.1"
    assert torch.equal(own[f"{block}.attention.k_proj.weight"], published[f"{fork}.attention.self.key.weight"])
    assert torch.equal(own[f"{block}.mlp.fc2.adapter.0.bias"], published[f"{fork}.output.swin_adapt_3.0.bias"])
    assert loaded.network.config.readout == "foreground"
    assert loaded.network.config.image_size == 384


def test_head_and_size_can_be_named(published: dict[str, Tensor], tmp_path: Path) -> None:
    loaded = load_checkpoint(FORK, head="semantic", image_size=96)
    assert (loaded.network.config.readout_labels, loaded.network.config.image_size) == (71, 96)
    marked = saved(tmp_path / "avss.pth", {**published, "m2f_criterion.empty_weight": torch.ones(151)})
    assert load_checkpoint(marked).network.config.readout == "semantic"
    config = tmp_path / "config.json"
    config.write_text('{"image_size": 224}')
    assert load_checkpoint(FORK, config=config).network.config.image_size == 224


def test_missing_tensors(tmp_path: Path, published: dict[str, Tensor]) -> None:
    short = {key: value for key, value in published.items() if "avs_adapt.2" not in key}
    refused(saved(tmp_path / "short.pth", short), r"12 missing \(mask2former\..*adapter\.2\.bias.* and 7 more\)")


def test_unexpected_tensors(tmp_path: Path, published: dict[str, Tensor], caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path / "more.pth", {**published, "cross_a2t.proj.weight": torch.zeros(2, 2)})
    refused(path, r"1 unexpected \(cross_a2t\.proj\.weight\).*--option unexpected=accept")
    loaded = load_checkpoint(path, accept_unexpected=True)
    assert loaded.report.unexpected == ("cross_a2t.proj.weight",)
    assert "1 unexpected: cross_a2t.proj.weight" in caplog.text


def test_tensors_of_another_shape(tmp_path: Path, published: dict[str, Tensor]) -> None:
    other = {**published, "audio_proj.0.weight": torch.zeros(512, 64)}
    refused(saved(tmp_path / "other.pth", other), r"1 of another shape \(audio_proj\.0\.weight: \[512, 64\] found")


def test_another_architecture(tmp_path: Path) -> None:
    path = saved(tmp_path / "resnet.pth", {"conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(2)})
    refused(path, "another architecture .*expected a bundle of avsrobust or a Mask2Former of GeWu-Lab/bias_in_AVS")


def test_hugging_face_weights_without_sound(tmp_path: Path, published: dict[str, Tensor]) -> None:
    """The ADE20k start has no adapters and no audio: refused as a checkpoint, but usable to begin training with."""
    bare = {
        key.removeprefix("model_v."): value
        for key, value in published.items()
        if key.startswith("model_v.") and "adapt" not in key.replace("adapter_1", "")
    }
    path = saved(tmp_path / "pytorch_model.bin", bare)
    refused(path, "76 missing")


def test_fill_reports_and_copies(published: dict[str, Tensor]) -> None:
    network = M2FNetwork.seeded(TINY, 0)
    report = fill(
        network, {"audio_proj.2.bias": torch.ones(32), "audio_proj.0.bias": torch.ones(3), "other": torch.ones(1)}
    )
    assert report.matched == 1
    assert report.unexpected == ("other",)
    assert report.mismatched == ("audio_proj.0.bias: [3] found, [512] expected",)
    assert "audio_proj.0.bias" not in report.missing
    assert torch.equal(network.audio_proj[2].bias.detach(), torch.ones(32))


def test_names_are_listed_in_full_only_where_they_are_few() -> None:
    many = [f"core.layers.{layer}.adapter.{part}" for layer in range(60) for part in ("weight", "bias")]
    assert summed_up(many) == "core.layers.*.adapter.* (120)"
    assert summed_up(many[:3]) == ", ".join(many[:3])
    shapes = [f"{name}: [1] found, [2] expected" for name in many]
    assert summed_up(shapes) == "core.layers.*.adapter.* (120)"
    assert len(LoadReport(1, missing=tuple(many), unused={"of the audio": many}).lines()) == 2
    assert max(map(len, LoadReport(1, missing=tuple(many)).lines())) < 80
