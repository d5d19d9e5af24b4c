"""The network's configuration: round trip, Hugging Face files, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from avsrobust.errors import AdapterError
from model_adapters.m2f.bounds import MOST, least_parameters
from model_adapters.m2f.config import PUBLISHED, M2FConfig, read_config, with_readout
from model_adapters.m2f.network import M2FNetwork


@pytest.mark.parametrize("config", [M2FConfig(), PUBLISHED, with_readout(PUBLISHED, "semantic")])
def test_round_trip_through_json(config: M2FConfig) -> None:
    assert M2FConfig.from_dict(json.loads(config.to_json()), named_by="test") == config


def test_readouts_take_the_published_numbers_of_classes() -> None:
    assert with_readout(PUBLISHED, "foreground").readout_labels == 22
    assert with_readout(PUBLISHED, "semantic").readout_labels == 71
    assert with_readout(PUBLISHED, "semantic").semantic
    assert with_readout(PUBLISHED, "queries").readout_labels == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 100}, "image_size: expected a multiple of 32"),
        ({"hidden_dim": 48}, "hidden_dim: expected a multiple of 32"),
        ({"depths": [1, 1, 1]}, "depths and num_heads: expected 4 numbers each"),
        ({"depths": [1, 1, 1, 0]}, r"key depths\[3\]: found 0; expected a positive integer"),
        ({"num_heads": [3, 3, 3, 3]}, "num_heads: expected divisors"),
        ({"num_queries": 0}, "key num_queries: found 0; expected a positive integer"),
        ({"num_queries": True}, "key num_queries: found True; expected a positive integer"),
        ({"num_queries": "20"}, "key num_queries: found '20'; expected a positive integer"),
        ({"mlp_ratio": "4"}, "key mlp_ratio: found '4'; expected a number of at least 0"),
        ({"readout": "pixels"}, "key readout: found 'pixels'; expected queries or union or foreground or semantic"),
        ({"readout_labels": 5}, "readout_labels: expected no more than num_labels"),
        ({"readout": "semantic"}, "readout_labels: expected a background and a class"),
        ({"mlp_ratio": True}, "key mlp_ratio: found True; expected a number"),
        ({"mlp_ratio": float("inf")}, "key mlp_ratio: found inf; expected a number"),
        ({"depths": [1, 1, True, 1]}, r"key depths\[2\]: found True; expected a positive integer"),
        ({"depths": [[1], 1, 1, 1]}, r"key depths\[0\]: found \[1\]; expected a positive integer"),
        ({"readout": ["queries"]}, r"key readout: found \['queries'\]; expected queries or union"),
        ({"drop_path_rate": 1.0}, "drop_path_rate: expected a share below 1"),
        ({"queries": 5}, "key queries: not known"),
        ({"num_query": 5}, "key num_query: not known; did you mean 'num_queries'"),
    ],
)
def test_refusals(changes: dict[str, object], message: str) -> None:
    values = {**json.loads(M2FConfig().to_json()), **changes}
    with pytest.raises(AdapterError, match=f"file.json: .*{message}"):
        M2FConfig.from_dict(values, named_by="file.json")


def test_own_keys_are_laid_over_the_base(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"image_size": 224}')
    assert read_config(path, PUBLISHED).image_size == 224
    assert read_config(path, PUBLISHED).hidden_dim == PUBLISHED.hidden_dim


def hugging_face(**changes: object) -> dict[str, object]:
    """facebook/mask2former-swin-base-ade-semantic's config.json, as far as it matters here."""
    backbone = {
        "model_type": "swin",
        "image_size": 384,
        "embed_dim": 128,
        "depths": [2, 2, 18, 2],
        "num_heads": [4, 8, 16, 32],
        "window_size": 12,
        "mlp_ratio": 4.0,
        "drop_path_rate": 0.3,
        "hidden_act": "gelu",
    }
    return {
        "model_type": "mask2former",
        "backbone_config": backbone,
        "hidden_dim": 256,
        "feature_size": 256,
        "mask_feature_size": 256,
        "encoder_layers": 6,
        "encoder_feedforward_dim": 1024,
        "decoder_layers": 10,
        "dim_feedforward": 2048,
        "num_attention_heads": 8,
        "num_queries": 100,
        "id2label": {str(label): "?" for label in range(150)},
        **changes,
    }


def test_hugging_face_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(hugging_face()))
    base = M2FConfig(num_labels=150, readout="foreground", readout_labels=22, audio="embedding")
    assert read_config(path, base) == PUBLISHED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "not JSON"),
        ("[1]", "found a JSON list; expected an object"),
        (json.dumps(hugging_face(backbone_config={"model_type": "resnet"})), "found another backbone"),
        (json.dumps(hugging_face(feature_size=128)), "differ; expected one width"),
        (json.dumps(hugging_face(feature_size=[256])), "differ; expected one width"),
        (
            json.dumps(hugging_face(num_queries=10**9)),
            "num_queries: found 1,000,000,000 queries; expected at most 1,000",
        ),
        ('{"num_queries": NaN}', "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_configuration_files_that_are_none(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AdapterError, match=message) as caught:
        read_config(path, PUBLISHED)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MOST)
def test_every_number_is_bounded_and_the_bound_can_be_raised(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = json.loads(M2FConfig().to_json())
    limit = MOST[name].value
    above = 1056 if name == "image_size" else limit + 1
    values[name] = [above] * 4 if isinstance(values[name], list) else above
    with pytest.raises(
        AdapterError, match=rf"f: configuration of the network: {name}: found {above:,} .*--raise-limits 2"
    ):
        M2FConfig.from_dict(values, named_by="f")
    monkeypatch.setenv("AVSROBUST_RAISE_LIMITS", "2")
    problem = ""
    try:
        M2FConfig.from_dict(values, named_by="f")
    except AdapterError as error:
        problem = str(error)
    # Other rules hold as ever.
    assert "--raise-limits" not in problem


def test_numbers_without_a_bound_take_no_memory() -> None:
    numbers = {name for name, value in json.loads(M2FConfig().to_json()).items() if not isinstance(value, str)}
    assert numbers - set(MOST) == {"drop_path_rate"}


@pytest.mark.parametrize("config", [M2FConfig(), with_readout(PUBLISHED, "semantic")])
def test_the_least_number_of_parameters_is_below_the_true_one(config: M2FConfig) -> None:
    with torch.device("meta"):
        true = sum(parameter.numel() for parameter in M2FNetwork(config).parameters())
    assert 0.5 * true < least_parameters(config) <= true
