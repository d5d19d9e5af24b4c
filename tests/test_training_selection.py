from __future__ import annotations

import pytest
from torch import nn

from avsrobust.errors import RecipeError
from avsrobust.training.selection import choose_trained


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
