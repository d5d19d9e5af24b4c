"""Which parameters are trained: those that a recipe's patterns name, and nothing else.

Conventions
    Patterns are shell-style (``*`` stands for anything, ``*.adapter.*``) and are matched against whole parameter names.
    Every pattern must match something: the published script joined two names by a missing comma, matched neither, and
    left both modules frozen without a word (bias_in_AVS, scripts/demo_avs_m2f.py `params_names`).
    What the network itself has frozen, since no output depends on it, stays so.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from avsrobust.errors import RecipeError, did_you_mean


def choose_trained(network: nn.Module, patterns: Sequence[str], where: str) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Freeze all parameters but those that a pattern matches; return each one's shape and whether it is trained.

    Raises `RecipeError` for a pattern that matches no parameter that could be trained.
    """
    parameters = dict(network.named_parameters())
    possible = [name for name, parameter in parameters.items() if parameter.requires_grad]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in possible):
            near = did_you_mean(pattern.strip("*."), sorted({part for name in possible for part in name.split(".")}))
            raise RecipeError(
                f"{where}: key model.trainable: '{pattern}' matches no parameter of the network{near}; expected a pattern "
                "such as '*' or '*.adapter.*'; correct the file"
            )
    chosen = {name for name in possible if any(fnmatchcase(name, pattern) for pattern in patterns)}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in chosen)
    return {name: (tuple(parameter.shape), name in chosen) for name, parameter in parameters.items()}
