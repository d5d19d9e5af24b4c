from __future__ import annotations

import pytest
from torch import nn

from avsrobust.errors import RecipeError
from avsrobust.training.optimizer import choose_trained, learning_rate
from avsrobust.training.recipe import OptimizerPart


def network() -> nn.Module:
    module = nn.ModuleDict({"audio_proj": nn.Linear(2, 2), "adapter": nn.Linear(2, 1), "unused": nn.Linear(1, 1)})
    module["unused"].requires_grad_(False)
    return module


def test_only_what_is_named_is_trained() -> None:
    module = network()
    chosen = choose_trained(module, ["audio_proj.*"], "x.yaml")
    assert chosen["audio_proj.weight"] == ((2, 2), True)
    assert {name for name, parameter in module.named_parameters() if parameter.requires_grad} == {
        "audio_proj.weight",
        "audio_proj.bias",
    }


def test_what_the_network_froze_stays_frozen() -> None:
    module = network()
    chosen = choose_trained(module, ["*"], "x.yaml")
    assert not chosen["unused.weight"][1]
    assert not dict(module.named_parameters())["unused.weight"].requires_grad


@pytest.mark.parametrize("pattern", ["audio_projavs_adapt", "adaptor.*", "unused.*"])
def test_a_pattern_that_matches_nothing_is_an_error(pattern: str) -> None:
    with pytest.raises(RecipeError, match=r"x.yaml: key model.trainable: '.*' matches no parameter"):
        choose_trained(network(), ["*", pattern], "x.yaml")


def test_a_misspelt_pattern_gets_a_suggestion() -> None:
    with pytest.raises(RecipeError, match="did you mean 'adapter'"):
        choose_trained(network(), ["adaptor.*"], "x.yaml")


def test_learning_rates() -> None:
    part = OptimizerPart(lr=1.0, warmup_steps=4)
    assert [learning_rate(part, step, 100) for step in (0, 1, 3)] == pytest.approx([0.25, 0.5, 1.0], rel=0.01)
    assert learning_rate(part, 50, 100) == pytest.approx(0.5)
    assert learning_rate(part, 99, 100) < 0.01
    assert learning_rate(OptimizerPart(lr=1.0, schedule="constant"), 99, 100) == 1.0
