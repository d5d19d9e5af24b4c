"""Checkpoints: everything a run needs to go on as if it had never stopped.

Conventions
    ``checkpoints/step-000100/`` holds the state after 100 steps: weights.safetensors, optimizer.safetensors (names are
    ``<state>/<parameter>``) and state.json. A folder appears under its final name whole or not at all; the latest
    `KEPT` stay. There are no pickles, and no generator's state: all draws depend on (seed, step).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from avsrobust.errors import OptionError
from avsrobust.files import TEMPORARY_SUFFIX, flush_files, make_folder, parse_json, write_text
from avsrobust.tensors import save_tensors

FOLDER = "checkpoints"
KEPT = 2
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Progress:
    """How far a run is: steps done, and the best validation so far (None: none yet)."""

    step: int = 0
    best_step: int | None = None
    best_score: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory."""

    progress: Progress
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def save_checkpoint(output: Path, progress: Progress, module: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
    """Write the state of a run below `output` and return the checkpoint's folder; older ones beyond `KEPT` go."""
    folder = output / FOLDER
    make_folder(folder)
    final = folder / f"step-{progress.step:06d}"
    temporary = folder / f".{final.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    temporary.mkdir()
    save_tensors(temporary / "weights.safetensors", _plain(module.state_dict()))
    save_tensors(temporary / "optimizer.safetensors", _plain(optimizer_tensors(module, optimizer)))
    write_text(temporary / "state.json", json.dumps(asdict(progress)))
    if final.exists():
        # Left by a run that went on from an earlier checkpoint: the same state.
        shutil.rmtree(final)
    temporary.replace(final)
    flush_files([final / "state.json"])
    for outdated in checkpoint_folders(output)[:-KEPT]:
        shutil.rmtree(outdated)
    return final


def latest_checkpoint(output: Path) -> Checkpoint | None:
    """Return the last checkpoint below `output`, or None. Raises `OptionError` for a damaged one."""
    folders = checkpoint_folders(output)
    if not folders:
        return None
    folder = folders[-1]
    try:
        progress = Progress(**parse_json((folder / "state.json").read_bytes()))
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

    Raises `OptionError` where they do not fit.
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
            # Adam's step count lives on the CPU, its moments beside the weights.
            optimizer.state[parameter][key] = tensor.clone() if key == "step" else tensor.to(parameter.device)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
