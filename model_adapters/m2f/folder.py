"""A network as a folder in the layout of Hugging Face: ``config.json``, ``model.safetensors`` and, as its card, ``README.md``.

Conventions
    ``model.safetensors`` is a bundle (`checkpoint.save_bundle`), so that it can be named alone too. ``config.json`` holds the
    same configuration (`config.M2FConfig`) under its own names, with `model_type` and what Hugging Face's tools add. Where the
    weights have lost their metadata, as after another tool saved them again, ``config.json`` takes its place; where both are
    there they must agree.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from avsrobust.errors import AdapterError
from avsrobust.textfiles import parse_json, read_json
from model_adapters.m2f.config import M2FConfig
from model_adapters.m2f.state import StoredState, read_state

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
MODEL_TYPE = "avsrobust_m2f"
# What transformers and huggingface_hub add to a configuration that they save.
_FOREIGN = ("model_type", "architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path")


def config_text(config: M2FConfig) -> str:
    """Return the content of ``config.json``."""
    content = {"model_type": MODEL_TYPE, "architectures": ["M2FNetwork"], **asdict(config)}
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def is_own(folder: Path) -> bool:
    """Return whether a folder's ``config.json`` says that it is one of these."""
    try:
        content = read_json(folder / CONFIG_NAME, AdapterError)
    except (OSError, ValueError, AdapterError):
        return False
    return isinstance(content, dict) and content.get("model_type") == MODEL_TYPE


def read_folder(folder: Path, *, bundle: dict[str, str]) -> StoredState:
    """Return the state of a folder, with the metadata of a bundle.

    Args:
        folder: The folder.
        bundle: Metadata of a bundle but for its configuration, for weights that have none.

    Raises:
        AdapterError: A file is missing or cannot be read, the folder is of another kind of model, or configuration and weights
            contradict each other.
    """
    path = folder / CONFIG_NAME
    if not (folder / WEIGHTS_NAME).is_file():
        raise AdapterError(
            f"--checkpoint {folder}: found no {WEIGHTS_NAME} in it; expected {CONFIG_NAME} and {WEIGHTS_NAME}, as "
            "'avsrobust export model' writes them, or a file of weights"
        )
    try:
        content = read_json(path, AdapterError)
    except FileNotFoundError as error:
        raise AdapterError(f"--checkpoint {folder}: found no {CONFIG_NAME} next to {WEIGHTS_NAME}") from error
    except (OSError, ValueError) as error:
        raise AdapterError(f"--checkpoint {path}: cannot be read as JSON; copy or download the folder again") from error
    if not isinstance(content, dict) or content.get("model_type") != MODEL_TYPE:
        found = content.get("model_type") if isinstance(content, dict) else content
        raise AdapterError(
            f"--checkpoint {path}: found model_type {str(found)[:100]!r}; expected {MODEL_TYPE}; name the raw checkpoint itself"
        )
    values = {key: value for key, value in content.items() if key not in _FOREIGN}
    config = M2FConfig.from_dict(values, named_by=str(path))
    state = read_state(folder / WEIGHTS_NAME)
    if "config" not in state.metadata:
        return replace(state, metadata={**state.metadata, **bundle, "config": config.to_json()})
    if _stored(state, path) != config:
        raise AdapterError(
            f"--checkpoint {path}: describes another network than the metadata of {WEIGHTS_NAME}; expected the two of one "
            "model; copy or download the folder again"
        )
    return state


def _stored(state: StoredState, path: Path) -> M2FConfig | None:
    """The configuration in the weights' metadata; None where it is none, which whoever reads the bundle says."""
    try:
        values: Any = parse_json(state.metadata["config"])
    except ValueError:
        return None
    weights = str(path.with_name(WEIGHTS_NAME))
    return M2FConfig.from_dict(values, named_by=weights) if isinstance(values, dict) else None
