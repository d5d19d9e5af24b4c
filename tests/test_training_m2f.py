from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import Mask2FormerForUniversalSegmentation

from avsrobust.errors import AdapterError, RecipeError
from avsrobust.training.model import Batch, find_family
from model_adapters.m2f.adapter import M2F, M2FDebias
from model_adapters.m2f.checkpoint import load_bundle
from model_adapters.m2f.network import M2FNetwork
from model_adapters.m2f.training import ACTIVE_QUERIES, BIASED, M2FTraining

TINY: dict[str, Any] = {
    "image_size": 64,
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [2, 2, 2, 2],
    "window_size": 4,
    "hidden_dim": 32,
    "encoder_layers": 1,
    "encoder_feedforward_dim": 32,
    "decoder_layers": 2,
    "feedforward_dim": 32,
    "num_queries": 6,
}
GATED = {**TINY, "query_gate": "learned"}
CLASSES = ["dog", "guitar", "man"]


def opened(seed: int = 0, start: Path | None = None, **options: Any) -> M2FTraining:
    return M2FTraining.open({"config": TINY, **options}, start, seed, "x.yaml")


def batch(items: int = 3, seconds: int = 2, seed: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(1)
    scored = torch.ones(items, seconds, dtype=torch.bool)
    scored[0, 1] = False
    return Batch(
        frames=torch.randint(0, 256, (items, seconds, 3, 64, 64), generator=generator, dtype=torch.uint8),
        picture=torch.arange(items),
        audio=torch.randn(items, seconds, 1, 96, 64, generator=generator),
        target=torch.randint(0, 2, (items, seconds, 64, 64), generator=generator, dtype=torch.uint8),
        scored=scored,
        positive=torch.ones(items),
        weight=torch.ones(items),
        heard=torch.zeros(items, seconds, 71),
        seed=seed,
    )


def test_the_family_is_found() -> None:
    assert find_family("m2f", "x.yaml") is M2FTraining
    assert find_family("model_adapters.m2f.training:M2FTraining", "x.yaml") is M2FTraining


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m3f", r"x.yaml: key model.family: found 'm3f'; expected one of m2f, or MODULE:CLASS; did you mean 'm2f'"),
        ("model_adapters.nothing:Model", "cannot be imported"),
        ("model_adapters.m2f.training:Nothing", "cannot be imported"),
    ],
)
def test_families_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        find_family(name, "x.yaml")


def test_it_answers_for_the_scored_frames() -> None:
    predictions = opened().network(batch())
    assert predictions.logits.shape == (5, 16, 16)
    assert predictions.audio.shape == predictions.visual.shape == (5, 32)
    assert predictions.extra == {}


def test_it_answers_as_the_adapter_does() -> None:
    model = opened()
    model.network.eval()
    sample = batch()._replace(scored=torch.ones(3, 2, dtype=torch.bool))
    adapter = model.adapter(torch.device("cpu"))
    with torch.inference_mode():
        trained = model.network(sample).logits
        evaluated = adapter.segment_rows(adapter.encode_frames(sample.frames), sample.audio, [])
    resized = torch.nn.functional.interpolate(trained[:, None], size=(64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(torch.sigmoid(resized), evaluated.flatten(0, 1))


def test_noise_comes_from_the_seed_of_the_batch() -> None:
    model = opened(debias="noise")
    model.network.eval()
    one, again, other = (model.network(batch(seed=seed)) for seed in (5, 5, 6))
    assert torch.equal(one.logits, again.logits)
    assert not torch.equal(one.logits, other.logits)
    assert set(one.extra) == {BIASED}


def test_a_learned_gate_has_its_loss() -> None:
    model = opened(config=GATED, query_classes=CLASSES, debias="all_queries")
    predictions = model.network(batch())
    assert set(predictions.extra) == {ACTIVE_QUERIES, BIASED}
    predictions.extra[ACTIVE_QUERIES].backward()
    network = model.network.get_submodule("network")
    assert isinstance(network, M2FNetwork)
    assert network.query_gate is not None
    # Nothing sounds: the queries of categories are to close, the others to stay open.
    assert network.query_gate.bias.grad is not None
    assert (network.query_gate.bias.grad[:3] > 0).all()
    assert (network.query_gate.bias.grad[3:] < 0).all()


def test_a_deaf_network_stays_as_it_is(tmp_path: Path) -> None:
    opened(seed=3).export(tmp_path / "deaf.safetensors", {})
    model = opened(debias="deaf", deaf=str(tmp_path / "deaf.safetensors"))
    model.network(batch()).logits.mean().backward()
    assert isinstance(model.adapter(torch.device("cpu")), M2FDebias)
    own = sum(parameter.numel() for parameter in opened().network.parameters())
    assert sum(parameter.numel() for parameter in model.network.parameters()) == own


def test_first_weights_come_from_the_seed() -> None:
    one, again, other = (opened(seed=seed).network.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_an_export_is_a_bundle_that_starts_another_run(tmp_path: Path) -> None:
    first = opened(seed=1, debias="noise")
    first.export(tmp_path / "best.safetensors", {"recipe": "mine"})
    loaded = load_bundle(tmp_path / "best.safetensors")
    assert loaded.info["recipe"] == "mine"
    assert loaded.info["debias"] == "noise"
    for start in (tmp_path / "best.safetensors", tmp_path):
        second = M2FTraining.open({"config": GATED, "query_classes": CLASSES}, start, 2, "x.yaml")
        assert any("missing" in note and "query_gate" in note for note in second.notes)
        stored = loaded.network.state_dict()
        for name, tensor in second.network.get_submodule("network").state_dict().items():
            if not name.startswith("query_gate"):
                assert torch.equal(tensor, stored[name]), name
    assert type(first.adapter(torch.device("cpu"))) is M2FDebias
    assert type(opened().adapter(torch.device("cpu"))) is M2F


def test_a_public_checkpoint_folder_is_a_start(tmp_path: Path) -> None:
    plain = opened(seed=4, config={**TINY, "num_labels": 7}).network.get_submodule("network.mask2former")
    stock = Mask2FormerForUniversalSegmentation(plain.config)  # type: ignore[arg-type]
    stock.save_pretrained(tmp_path / "public")
    model = M2FTraining.open({"size": "toy", "config": {"num_labels": 9}}, tmp_path / "public", 0, "x.yaml")
    assert model.image_size == 64
    told = "\n".join(model.notes)
    assert "of another shape: mask2former.class_predictor" in told
    assert "adapter" in told
    mine = model.network.get_submodule("network").state_dict()
    for name, tensor in stock.state_dict().items():
        if "class_predictor" not in name and "criterion" not in name:
            assert torch.equal(mine[f"mask2former.{name}"], tensor), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"debiass": "noise"}, r"key model.options.debiass: not known; did you mean 'debias'"),
        ({"debias": "deaf"}, r"key model.options.deaf: goes with debias: deaf"),
        ({"debias": "all_queries"}, r"expected config.query_gate: learned"),
        ({"config": GATED}, r"found 70 categories for 6 queries; expected fewer"),
        ({"config": GATED, "query_classes": ["dogg"]}, r"'dogg' is no category of AVSBench-semantic"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        opened(**options)


def test_bad_configuration() -> None:
    with pytest.raises(AdapterError, match=r"x.yaml: key model.options.config: unknown key 'hidden'"):
        opened(config={"hidden": 3})


def test_starts_that_cannot_be_used(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(AdapterError, match=r"other\.safetensors"):
        opened(start=tmp_path / "other.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/config.json").write_text('{"backbone_config": {"model_type": "swin"}}')
    with pytest.raises(AdapterError, match=r"found no \*.safetensors beside config.json"):
        M2FTraining.open({}, tmp_path / "empty", 0, "x.yaml")


def test_a_picture_asked_with_two_sounds_answers_as_if_asked_twice() -> None:
    model = opened()
    model.network.eval()
    once = batch()
    twice = once._replace(
        picture=torch.cat((once.picture, once.picture)),
        audio=torch.cat((once.audio, -once.audio)),
        target=torch.cat((once.target, once.target)),
        scored=torch.cat((once.scored, once.scored)),
        positive=torch.cat((once.positive, once.positive)),
        weight=torch.cat((once.weight, once.weight)),
        heard=torch.cat((once.heard, once.heard)),
    )
    with torch.inference_mode():
        together = model.network(twice).logits
        apart = torch.cat([model.network(sounds).logits for sounds in (once, once._replace(audio=-once.audio))])
    torch.testing.assert_close(together, apart)
