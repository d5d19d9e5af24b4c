"""Names and shapes of published checkpoints; golden/m2f_key_map.json pairs the published keys with transformers' own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from avsrobust.errors import AdapterError
from model_adapters.m2f.config import PUBLISHED, M2FConfig
from model_adapters.m2f.network import M2FNetwork
from model_adapters.m2f.published import infer_config, our_name, readout_of, rename

GOLDEN = Path(__file__).parent / "golden"
KEYS = json.loads((GOLDEN / "m2f_key_map.json").read_text())


def stored_names(config: M2FConfig) -> set[str]:
    with torch.device("meta"):
        return set(M2FNetwork(config).state_dict())


def test_renamed_keys_are_those_of_the_golden_map() -> None:
    for published, stock in KEYS["renamed"].items():
        assert our_name(f"model_v.{published}") == f"mask2former.{stock}"
    for key in KEYS["same"]:
        assert our_name(f"model_v.{key}") == f"mask2former.{key}"


def test_adapter_keys_find_a_place_in_the_network() -> None:
    adapters = [key for key, kind in KEYS["extra_in_fork"].items() if kind == "extra (adapter)"]
    assert len(adapters) == 72
    names = {our_name(f"model_v.{key}") for key in adapters}
    assert len(names) == 72
    config = M2FConfig(embed_dim=16, depths=(2, 1, 2, 1), num_heads=(1, 2, 4, 8), encoder_layers=3, decoder_layers=4)
    assert names == {name for name in stored_names(config) if ".adapter." in name}


@pytest.mark.parametrize("prefix", ["model_v.", "module.model_v.", "model_v.module.", "module.module.model_v.", ""])
def test_prefixes(prefix: str) -> None:
    key = "model.transformer_module.queries_features.weight"
    assert our_name(prefix + key) == f"mask2former.{key}"
    assert our_name("module.audio_proj.0.bias") == "audio_proj.0.bias"


def test_stock_names_stay() -> None:
    """A state saved from stock transformers 5 needs no renaming below the prefix."""
    for stock in KEYS["renamed"].values():
        assert our_name(stock) == f"mask2former.{stock}"
        assert our_name(f"mask2former.{stock}") == f"mask2former.{stock}"


def test_what_is_not_used_is_listed_with_reasons() -> None:
    tensor = torch.zeros(1)
    unused = {
        "model_v.model.pixel_level_module.encoder.encoder.layers.0.blocks.0.attention.self.relative_position_index",
        "model_v.model.transformer_module.decoder.layernorm_sc.weight",
        "model_v.criterion.empty_weight",
        "m2f_criterion.mtl_loss.params",
    }
    state = rename({**dict.fromkeys(unused, tensor), "audio_proj.0.bias": tensor})
    assert list(state.tensors) == ["audio_proj.0.bias"]
    assert {key for keys in state.unused.values() for key in keys} == unused
    assert len(state.unused) == 3


def test_the_same_parameter_twice() -> None:
    tensor = torch.zeros(1)
    with pytest.raises(AdapterError, match=r"found 'audio_proj\.0\.bias' twice"):
        rename({"module.audio_proj.0.bias": tensor, "audio_proj.0.bias": tensor})


def test_heads_are_told_apart_by_the_loss_they_were_stored_with() -> None:
    tensor = torch.zeros(1)
    assert readout_of({"model_v.criterion.empty_weight": tensor}) == "foreground"
    assert readout_of({"m2f_criterion.empty_weight": tensor}) == "semantic"
    assert readout_of({"module.model_v.criterion.mtl_loss.params": tensor}) == "semantic"


def test_published_architecture_is_told_by_its_shapes() -> None:
    with torch.device("meta"):
        tensors = M2FNetwork(PUBLISHED).state_dict()
    assert infer_config(tensors, "foreground") == PUBLISHED
    assert infer_config(tensors, "semantic").readout_labels == 71


def test_another_architecture() -> None:
    with pytest.raises(AdapterError, match=r"another architecture \(found 'conv1.weight' and 1 more, no '"):
        infer_config({"conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(3)}, "foreground")
    with pytest.raises(AdapterError, match=r"another architecture \(found none"):
        infer_config({}, "foreground")
