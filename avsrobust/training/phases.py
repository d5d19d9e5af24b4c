"""From a recipe and its items to the pools that each phase of a run draws from.

Conventions
    Without a curriculum a run is one phase. Without a mix all items are one pool; with one, each data set is a pool that
    fills its share of every batch. A curriculum (avss) adds parts of the data set phase by phase; source: README of
    bias_in_AVS, "we gradually add v1s, v2, v1m in the data pool".
"""

from __future__ import annotations

from collections.abc import Sequence

from avsrobust.errors import OptionError
from avsrobust.training.order import Phase, Pool
from avsrobust.training.recipe import TrainRecipe


def phases(recipe: TrainRecipe, datasets: Sequence[str], parts: Sequence[str]) -> tuple[Phase, ...]:
    """Return the phases of a run; `datasets[i]` and `parts[i]` are those of item i. Raises `OptionError` for empty pools."""
    steps = recipe.run.steps
    if not recipe.curriculum:
        return (Phase(0, steps, _pools(recipe, datasets)),)
    found = []
    start = 0
    for stage in recipe.curriculum:
        stop = round(stage.until * steps)
        items = tuple(item for item, part in enumerate(parts) if part in stage.parts)
        _require(items, f"curriculum: no labelled frame in {', '.join(stage.parts)}")
        if stop > start:
            found.append(Phase(start, stop, (Pool(items, 1.0, 0),)))
            start = stop
    return tuple(found)


def _pools(recipe: TrainRecipe, datasets: Sequence[str]) -> tuple[Pool, ...]:
    _require(datasets, f"no labelled frame in split '{recipe.data.split}'")
    if not recipe.data.mix:
        return (Pool(tuple(range(len(datasets))), 1.0, 0),)
    pools = []
    for key, dataset in enumerate(recipe.data.datasets):
        items = tuple(item for item, name in enumerate(datasets) if name == dataset)
        _require(items, f"no labelled frame of {dataset} in split '{recipe.data.split}'")
        pools.append(Pool(items, recipe.data.mix[dataset], key))
    return tuple(pools)


def _require(items: Sequence[object], problem: str) -> None:
    if not items:
        raise OptionError(f"training data: {problem}; expected one at least; build more clips")
