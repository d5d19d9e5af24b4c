"""The state of a run on disk: the run key, which says whether two runs are the same, and checkpoints to continue from.

Conventions
    ``run.json`` in the output folder holds the run key: recipe, data and start. Only a run of the same key is continued. Workers,
    device, number of processes, intervals of checkpoints and the version of avsrobust are no part of it.
    ``checkpoints/step-000100/`` holds the state after 100 steps: weights.safetensors, optimizer.safetensors (names are
    ``<state>/<parameter>``) and state.json. A folder appears under its final name whole or not at all, and on S3 with state.json
    as the last of its files: without that it is passed over. The latest `KEPT` stay. There are no pickles, and no generator's
    state: all draws depend on (seed, step).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from avsrobust import __version__
from avsrobust.errors import OptionError, RecipeError
from avsrobust.files import (
    TEMPORARY_SUFFIX,
    flush_files,
    make_folder,
    read_regular,
    sha256_of_file,
    write_text,
)
from avsrobust.limits import METADATA_BYTES, TEXT_BYTES
from avsrobust.tensors import save_tensors
from avsrobust.textfiles import parse_json
from avsrobust.training.data import TrainingBuild
from avsrobust.training.recipe import TrainRecipe, parse_train_recipe

TRAINING_KIND = "training"
# The format of training runs: as `manifest.BUILD_FORMAT`. It changes where the same recipe would go on differently.
TRAINING_FORMAT = 1
RUN_NAME = "run.json"

FOLDER = "checkpoints"
STATE_NAME = "state.json"
KEPT = 2
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        step: Steps done.
        best_step: Step of the best validation so far; None: none yet.
        best_score: Its mean strict G-mIoU.
    """

    step: int = 0
    best_step: int | None = None
    best_score: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        progress: Progress of the run.
        weights: State of the trained module.
        optimizer: State of the optimizer, as `optimizer_tensors` returns it.
    """

    progress: Progress
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def run_key(recipe: TrainRecipe, builds: Sequence[TrainingBuild], start: Path | None) -> dict[str, Any]:
    """Return everything that a run depends on, as plain JSON types: format, recipe, checksums of the builds and the start."""
    files = [] if start is None else sorted(start.glob("*.safetensors")) if start.is_dir() else [start]
    return {
        "format": TRAINING_FORMAT,
        "recipe": recipe.as_dict(),
        "builds": {build.manifest.info.dataset: sha256_of_file(build.manifest.path) for build in builds},
        "start": {path.name: sha256_of_file(path) for path in files},
    }


def acquire_run(output: Path, recipe: TrainRecipe, builds: Sequence[TrainingBuild], start: Path | None) -> None:
    """Write the run key to the folder `output`, or check that the folder holds the same one.

    Raises:
        OptionError: ``run.json`` is damaged or of another run.
    """
    key = run_key(recipe, builds, start)
    path = output / RUN_NAME
    if not path.is_file():
        write_text(path, json.dumps(key, indent=2, sort_keys=True) + "\n")
        return
    try:
        stored = parse_json(read_regular(path, METADATA_BYTES, OptionError), finite=False)
    except (OSError, ValueError) as error:
        raise OptionError(f"{path}: cannot be read ({error}); name another folder with --output") from error
    stored = _with_current_names(stored, path) if isinstance(stored, dict) else {}
    different = [name for name in key if stored.get(name) != key[name]]
    if different:
        raise OptionError(
            f"{output}: holds a run with another {' and '.join(different)}; expected an empty folder or the same run; "
            "name another folder with --output"
        )


def export_info(recipe: TrainRecipe, builds: Sequence[TrainingBuild], done: Progress) -> dict[str, str]:
    """Return the metadata of an exported file: recipe, steps, validation score, data and version."""
    return {
        "recipe": json.dumps(recipe.as_dict(), sort_keys=True),
        "trained_steps": str(done.step),
        "validation_g_miou": "" if done.best_score is None else f"{done.best_score:.6f}",
        "data": json.dumps({build.manifest.info.dataset: build.manifest.info.fingerprints for build in builds}),
        "trained_with": f"avsrobust {__version__}",
    }


def save_checkpoint(output: Path, progress: Progress, module: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
    """Write the state of a run below `output` and return the checkpoint's folder; older ones beyond `KEPT` go."""
    folder = output / FOLDER
    make_folder(folder)
    final = folder / f"step-{progress.step:06d}"
    temporary = folder / f".{final.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    temporary.mkdir()
    save_tensors(temporary / "weights.safetensors", _plain(module.state_dict()))
    save_tensors(temporary / "optimizer.safetensors", _plain(optimizer_tensors(module, optimizer)))
    write_text(temporary / STATE_NAME, json.dumps(asdict(progress)))
    if final.exists():
        # Left by a run that went on from an earlier checkpoint: the same state.
        shutil.rmtree(final)
    temporary.replace(final)
    flush_files([final / STATE_NAME])
    for outdated in checkpoint_folders(output)[:-KEPT]:
        shutil.rmtree(outdated)
    return final


def latest_checkpoint(output: Path) -> Checkpoint | None:
    """Return the last checkpoint below `output`, or None.

    Raises:
        OptionError: The checkpoint is damaged.
    """
    folders = [folder for folder in checkpoint_folders(output) if (folder / STATE_NAME).exists()]
    if not folders:
        return None
    folder = folders[-1]
    try:
        state = read_regular(folder / STATE_NAME, TEXT_BYTES, OptionError)
        progress = Progress(**parse_json(state, finite=False))
        weights = load_file(folder / "weights.safetensors")
        return Checkpoint(progress, weights, load_file(folder / "optimizer.safetensors"))
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise OptionError(f"{folder}: damaged ({error}); delete this folder to go on from the one before") from error


def checkpoint_folders(output: Path) -> list[Path]:
    """Return the folders of all checkpoints below `output`, in the order of their steps."""
    found = {int(match.group(1)): path for path in (output / FOLDER).glob("*") if (match := _NAME.fullmatch(path.name))}
    return [found[step] for step in sorted(found)]


def optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as ``<state>/<parameter>`` to tensor, for the parameters it has touched."""
    return {
        f"{key}/{name}": torch.as_tensor(value)
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore(checkpoint: Checkpoint, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights and optimizer state into a module and its optimizer.

    Raises:
        OptionError: The checkpoint is of another network.
    """
    try:
        module.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise OptionError(f"the checkpoint is of another network ({text}); name another --output") from error
    states: dict[str, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.optimizer.items():
        key, _, owner = name.partition("/")
        states.setdefault(owner, {})[key] = tensor
    for name, parameter in module.named_parameters():
        for key, tensor in states.get(name, {}).items():
            # A copy also where the device is the host, on which all parameters' step counts may be one tensor.
            optimizer.state[parameter][key] = tensor.to(parameter.device, copy=True)


def _with_current_names(key: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a stored run key with the recipe's keys as they are called now, so that runs of earlier releases go on."""
    try:
        return {**key, "recipe": parse_train_recipe(key["recipe"], str(path)).as_dict()}
    except (RecipeError, KeyError, AttributeError):
        return key


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
