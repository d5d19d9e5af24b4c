"""Where a run starts from: the user's ``--init``, or the run of the recipe that this one builds on."""

from __future__ import annotations

from pathlib import Path

from avsrobust.errors import OptionError
from avsrobust.training.recipe import TrainRecipe

RUNS = Path("training")


def find_start(recipe: TrainRecipe, init: Path | str | None, runs: Path | str = RUNS) -> Path | None:
    """Return the file or folder that training starts from, or None for nothing. Raises `OptionError` where it is missing."""
    if init is not None:
        init = Path(init)
        if not init.exists():
            raise OptionError(
                f"--init {init}: not found; expected a run's folder, a bundle (.safetensors) or a checkpoint folder"
            )
        return init
    if recipe.model.start_from is None:
        return None
    best = Path(runs) / recipe.model.start_from / "best.safetensors"
    if not best.is_file():
        raise OptionError(
            f"--init: not given, and {best} is not there; recipe '{recipe.name}' starts from a run of "
            f"'{recipe.model.start_from}'; train that first, or name a start with --init"
        )
    return best
