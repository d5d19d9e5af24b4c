from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_m2f import TINY_OPTIONS as TINY
from transformers import Mask2FormerForUniversalSegmentation

from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import AdapterError, RecipeError
from avsrobust.training.model import Batch, find_family
from model_adapters.m2f.adapter import M2F, M2FDebias
from model_adapters.m2f.auxiliary import (
    ACTIVE_QUERIES,
    BIASED,
    GATE_LOSSES,
    NAMES,
    PIXEL_CLASSES,
    QUIET_GATE,
    ROLES,
    Teachable,
    pixel_classes,
    teachable,
)
from model_adapters.m2f.checkpoint import load_bundle
from model_adapters.m2f.decoder import EncodedFrames
from model_adapters.m2f.network import M2FNetwork
from model_adapters.m2f.training import M2FTraining

GATED = {**TINY, "query_gate": "learned"}
CLASSES = ["dog", "guitar", "man"]
OF_BINARY = [name for name in NAMES if name != ROLES]


def opened(seed: int = 0, start: Path | None = None, losses: Collection[str] = (), **options: Any) -> M2FTraining:
    return M2FTraining.open({"config": TINY, **options}, start, seed, "x.yaml", losses)


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
        audio_labels=torch.zeros(items, seconds, 71),
        seed=seed,
    )


def test_the_family_is_found() -> None:
    for name in ("m2f", "model_adapters.m2f.training:M2FTraining"):
        assert find_family(name, "x.yaml").__name__ == "M2FTraining"


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
        evaluated = adapter.segment(adapter.encode_frames(sample.frames), sample.audio, [])
    resized = torch.nn.functional.interpolate(trained[:, None], size=(64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(torch.sigmoid(resized), evaluated.flatten(0, 1))


def test_noise_comes_from_the_seed_of_the_batch() -> None:
    model = opened(debias="noise", losses=[BIASED])
    model.network.eval()
    one, again, other = (model.network(batch(seed=seed)) for seed in (5, 5, 6))
    assert torch.equal(one.logits, again.logits)
    assert not torch.equal(one.logits, other.logits)
    assert set(one.extra) == {BIASED}


def gated(losses: Collection[str]) -> M2FTraining:
    return opened(config=GATED, query_classes=CLASSES, debias="all_queries", losses=losses)


def gate_of(model: M2FTraining) -> torch.nn.Linear:
    gate = model.network.get_submodule("network.query_gate")
    assert isinstance(gate, torch.nn.Linear)
    return gate


@pytest.mark.parametrize("name", [ACTIVE_QUERIES, QUIET_GATE])
def test_where_nothing_sounds_queries_of_categories_close(name: str) -> None:
    model = gated([name])
    predictions = model.network(batch())
    assert set(predictions.extra) == {name}
    (gradient,) = torch.autograd.grad(predictions.extra[name], gate_of(model).bias)
    assert (gradient[:3] > 0).all()
    assert (gradient[3:] < 0).all()


def test_the_query_of_what_sounds_opens() -> None:
    model, sample = gated([ACTIVE_QUERIES]), batch()
    sample.audio_labels[..., AVSS_CLASSES.index("guitar")] = 1
    (gradient,) = torch.autograd.grad(model.network(sample).extra[ACTIVE_QUERIES], gate_of(model).bias)
    assert (gradient > 0).tolist() == [True, False, True, False, False, False]


def test_only_frames_with_one_known_category_teach_it() -> None:
    audio_labels = torch.zeros(4, 71)
    audio_labels[0, 5] = audio_labels[1, 5] = audio_labels[1, 7] = audio_labels[2, 9] = 1
    target = torch.zeros(4, 8, 8, dtype=torch.uint8)
    target[:2, :4] = 1
    target[3] = 1
    frames = teachable(audio_labels, target, (2, 2))
    assert frames.teaches.tolist() == [True, False, False, False]
    assert frames.category[0] == 5
    assert frames.mask[0].tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_pixel_classes_are_learned_from_the_mask_alone() -> None:
    features = torch.randn(2, 3, 2, 2, requires_grad=True)
    frames = Teachable(
        torch.tensor([False, True]),
        torch.tensor([3, 4]),
        torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]]),
    )
    loss = pixel_classes(torch.nn.Linear(3, 71), EncodedFrames(features), frames)
    (gradient,) = torch.autograd.grad(loss, features)
    assert (gradient != 0).any(dim=1).nonzero().tolist() == [[1, 0, 0]]


def test_all_losses_of_the_family_are_finite_and_train_it() -> None:
    model, sample = gated(OF_BINARY), batch()
    sample.audio_labels[..., AVSS_CLASSES.index("dog")] = 1
    predictions = model.network(sample)
    assert set(predictions.extra) == set(OF_BINARY)
    for name, loss in predictions.extra.items():
        wanted = [parameter for parameter in model.network.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True)
        assert any(gradient is not None and (gradient != 0).any() for gradient in gradients), name
        assert torch.isfinite(loss)


def test_without_a_known_category_nothing_is_taught() -> None:
    predictions = gated(OF_BINARY).network(batch())
    assert predictions.extra[PIXEL_CLASSES].item() == predictions.extra["visual_queries"].item() == 0


@pytest.mark.parametrize("name", [*GATE_LOSSES, BIASED, ROLES])
def test_losses_that_do_not_fit_the_options(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"x.yaml: key loss.extra.{name}: needs model.options"):
        opened(losses=[name])


def test_a_network_of_classes_learns_what_its_queries_are_there_for() -> None:
    model = opened(config={**TINY, "num_labels": 71, "readout": "semantic", "readout_labels": 71}, losses=[ROLES])
    predictions = model.network(batch())
    assert predictions.logits.shape == (5, 71, 16, 16)
    assert set(predictions.extra) == {ROLES}
    assert torch.isfinite(predictions.extra[ROLES])


def test_what_hears_learns_from_sounds_alone() -> None:
    config = {**GATED, "readout": "union", "num_queries": 3}
    model = opened(config=config, query_classes=CLASSES, learns="sounds", losses=[ACTIVE_QUERIES, QUIET_GATE])
    sample = batch()
    sample.audio_labels[..., AVSS_CLASSES.index("dog")] = 1
    predictions = model.network(sample)
    assert set(predictions.extra) == {ACTIVE_QUERIES, QUIET_GATE}
    assert torch.equal(predictions.logits, torch.zeros(5, 1, 1))
    torch.stack(list(predictions.extra.values())).sum().backward()
    learned = {name for name, part in model.network.named_parameters() if part.grad is not None}
    assert learned
    assert all(name.split(".")[1] in ("audio_encoder", "audio_proj", "query_gate") for name in learned)
    dark = sample._replace(frames=torch.zeros_like(sample.frames))
    assert torch.equal(model.network(dark).extra[ACTIVE_QUERIES], predictions.extra[ACTIVE_QUERIES])


@pytest.mark.parametrize(
    ("options", "losses", "message"),
    [
        ({"learns": "sounds", "config": GATED}, [PIXEL_CLASSES], r"loss.extra: expected only active_queries"),
        ({"learns": "sounds", "config": {**GATED, "audio": "embedding"}}, [ACTIVE_QUERIES], r"needs config.audio"),
    ],
)
def test_what_does_not_go_with_sounds_alone(options: dict[str, Any], losses: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        opened(query_classes=CLASSES, losses=losses, **options)


def test_a_visual_only_network_stays_as_it_is(tmp_path: Path) -> None:
    opened(seed=3).export(tmp_path / "visual_only.safetensors", {})
    model = opened(debias="visual_only", visual_only=str(tmp_path / "visual_only.safetensors"))
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
        ({"debias": "visual_only"}, r"key model.options.visual_only: goes with debias: visual_only"),
        ({"debias": "all_queries"}, r"expected config.query_gate: learned"),
        ({"config": GATED}, r"found 70 categories for 6 queries; expected at most 5"),
        ({"config": GATED, "query_classes": ["dogg"]}, r"'dogg' is no category of AVSBench-semantic"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        opened(**options)


def test_bad_configuration() -> None:
    with pytest.raises(AdapterError, match=r"x.yaml: key model.options.config.hidden: not known"):
        opened(config={"hidden": 3})


def test_starts_that_cannot_be_used(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(AdapterError, match=r"other\.safetensors"):
        opened(start=tmp_path / "other.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/config.json").write_text('{"backbone_config": {"model_type": "swin"}}')
    with pytest.raises(AdapterError, match=r"found no \*.safetensors next to config.json"):
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
        audio_labels=torch.cat((once.audio_labels, once.audio_labels)),
    )
    with torch.inference_mode():
        together = model.network(twice).logits
        apart = torch.cat([model.network(sounds).logits for sounds in (once, once._replace(audio=-once.audio))])
    torch.testing.assert_close(together, apart)


def test_a_hard_gate_is_the_labels_in_training_and_learned_afterwards() -> None:
    model = opened(config={**TINY, "query_gate": "hard"}, query_classes=CLASSES, debias="all_queries")
    network = model.network.get_submodule("network")
    assert isinstance(network, M2FNetwork)
    gate = gate_of(model)
    with torch.no_grad():
        gate.weight.zero_()
        gate.bias.copy_(torch.tensor([1.0, -1.0, 2.0, -3.0, 0.0, 0.5]))
    assert network.gate_of(torch.zeros(2, 32)).tolist() == [[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]] * 2
    sample = batch()
    before = model.network(sample).logits
    with torch.no_grad():
        gate.bias.neg_()
    torch.testing.assert_close(model.network(sample).logits, before)
    sample.audio_labels[..., AVSS_CLASSES.index("dog")] = 1
    assert not torch.equal(model.network(sample).logits, before)
