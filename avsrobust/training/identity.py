"""What makes two runs the same one: recipe, data and start. Only the same run is continued.

Conventions
    ``run.json`` in the output folder, which is marked as ours and locked, holds it. Workers, device, number of processes,
    intervals of checkpoints and the version of avsrobust are no part of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avsrobust import __version__
from avsrobust.errors import OptionError
from avsrobust.files import parse_json, read_regular, sha256_of_file, write_text
from avsrobust.limits import METADATA_BYTES
from avsrobust.training.checkpoints import Progress
from avsrobust.training.data import Source
from avsrobust.training.recipe import TrainRecipe

TRAINING_KIND = "training"
# The format of training runs: as `manifest.BUILD_FORMAT`. It changes where the same recipe would go on differently.
TRAINING_FORMAT = 1
RUN_NAME = "run.json"


def identity_of(recipe: TrainRecipe, sources: Sequence[Source], start: Path | None) -> dict[str, Any]:
    """Return what a run depends on, as plain JSON types."""
    files = [] if start is None else sorted(start.glob("*.safetensors")) if start.is_dir() else [start]
    return {
        "format": TRAINING_FORMAT,
        "recipe": recipe.as_dict(),
        "builds": {source.manifest.info.dataset: sha256_of_file(source.manifest.path) for source in sources},
        "start": {path.name: sha256_of_file(path) for path in files},
    }


def claim_run(output: Path, recipe: TrainRecipe, sources: Sequence[Source], start: Path | None) -> None:
    """Write the run's identity to `output`, or check that it is the one which is there. Raises `OptionError`."""
    identity = identity_of(recipe, sources, start)
    path = output / RUN_NAME
    if not path.is_file():
        write_text(path, json.dumps(identity, indent=2, sort_keys=True) + "\n")
        return
    try:
        there = parse_json(read_regular(path, METADATA_BYTES, OptionError))
    except (OSError, ValueError) as error:
        raise OptionError(f"{path}: cannot be read ({error}); name another folder with --output") from error
    different = [key for key in identity if not isinstance(there, dict) or there.get(key) != identity[key]]
    if different:
        raise OptionError(
            f"{output}: holds a run with another {' and '.join(different)}; expected an empty folder or the same run; "
            "name another folder with --output"
        )


def export_info(recipe: TrainRecipe, sources: Sequence[Source], done: Progress) -> dict[str, str]:
    """Return what an exported file says about its origin."""
    return {
        "recipe": json.dumps(recipe.as_dict(), sort_keys=True),
        "trained_steps": str(done.step),
        "validation_g_miou": "" if done.best_score is None else f"{done.best_score:.6f}",
        "data": json.dumps({source.manifest.info.dataset: source.manifest.info.fingerprints for source in sources}),
        "trained_with": f"avsrobust {__version__}",
    }
