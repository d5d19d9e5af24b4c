"""The trained parameters, their groups in AdamW, and the learning rate of each step.

Conventions
    Only parameters that a recipe's patterns name are trained.
    Patterns are shell-style (``*`` stands for anything, ``*.adapter.*``) and are matched against whole parameter names.
    Every pattern must match something: the published script joined two names by a missing comma, matched neither, and
    left both modules frozen without a word (bias_in_AVS, scripts/demo_avs_m2f.py `params_names`).
    What the network itself has frozen, since no output depends on it, stays so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from avsrobust.errors import RecipeError, did_you_mean
from avsrobust.training.recipe import OptimizerPart


def choose_trained(network: nn.Module, patterns: Sequence[str], where: str) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Freeze all parameters but those that a pattern matches.

    Args:
        network: The network.
        patterns: Shell-style patterns of parameter names.
        where: The recipe, for messages.

    Returns:
        Shape of each parameter, and whether it is trained, by name.

    Raises:
        RecipeError: A pattern matches no parameter that could be trained.
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


def parameter_groups(module: nn.Module, part: OptimizerPart) -> list[dict[str, Any]]:
    """Return the optimizer's groups of trained parameters: matrices with weight decay; biases, norms and scales without."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": part.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def learning_rate(part: OptimizerPart, step: int, steps: int) -> float:
    """Return the learning rate of a step, counted from 0, of a run of `steps` steps.

    >>> learning_rate(OptimizerPart(lr=1.0, warmup_steps=4), 0, 100)
    0.25
    """
    warm = min(1.0, (step + 1) / part.warmup_steps) if part.warmup_steps else 1.0
    decay = 0.5 * (1 + math.cos(math.pi * step / steps)) if part.schedule == "cosine" else 1.0
    return part.lr * warm * decay
