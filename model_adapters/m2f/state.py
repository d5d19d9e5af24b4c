"""Reading tensors from a file without running anything that is in it.

Conventions
    A state is a flat mapping of names to tensors, on the CPU, and the file's text metadata (safetensors only). Pickles are
    read with `weights_only=True`: tensors, numbers and containers of them, nothing else.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avsrobust.errors import AdapterError
from avsrobust.weights import check_tensors, check_weights_file, is_safetensors

# Below, weights_only=True could be made to run code (CVE-2025-32434).
_SAFE_TORCH = (2, 6)
_WRAPPERS = ("state_dict", "model")


@dataclass(frozen=True)
class StoredState:
    """The content of a file of weights.

    Attributes:
        tensors: The tensors by name, on the CPU.
        metadata: The text metadata of a safetensors file; empty for others.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def read_state(path: Path) -> StoredState:
    """Return the named tensors of a file.

    Args:
        path: A safetensors file, or a PyTorch file with a state dict (plain, or below state_dict or model).

    Raises:
        AdapterError: The file is missing, truncated, or holds anything but named tensors.
    """
    try:
        safe = is_safetensors(path)
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read ({error.strerror}); name an existing file") from error
    if safe:
        return _read_safetensors(path)
    content = read_pickle(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        what = "an empty dict" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise AdapterError(f"{path}: found {what}; expected a state dict of named tensors")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise AdapterError(
                f"{path}: found a {type(value).__name__} under {key!r}; expected a state dict of named tensors, as "
                "torch.save(model.state_dict(), FILE) writes it"
            )
    check_tensors(path, content, AdapterError)
    return StoredState(dict(content))


def read_pickle(path: Path) -> Any:
    """Return the tensors, numbers and containers in a PyTorch file; nothing in it is run.

    Args:
        path: The file.

    Raises:
        AdapterError: The file is missing, truncated, no PyTorch file, or holds anything else; or torch is too old to read it
            safely.
    """
    installed = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if installed < _SAFE_TORCH:
        raise AdapterError(
            f"{path}: torch {torch.__version__} cannot read pickles safely; expected torch 2.6 or later, or safetensors"
        )
    try:
        check_weights_file(path, AdapterError)
        with warnings.catch_warnings():
            # Refusals get one line of ours, below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except AdapterError:
        raise
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read ({error.strerror or error}); name an existing file") from error
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        found = f"holds '{refused.group(1)}', which is code," if refused else "is no PyTorch file or is damaged and"
        raise AdapterError(
            f"{path}: {found} was not run; expected tensors only: save it again with "
            "torch.save(model.state_dict(), FILE), or as safetensors"
        ) from error
    except Exception as error:
        # A damaged file can raise anything from the archive reader or the unpickler; all of it means the same.
        raise AdapterError(
            f"{path}: truncated or no PyTorch file ({type(error).__name__}); copy or download it again"
        ) from error


def _read_safetensors(path: Path) -> StoredState:
    from safetensors import SafetensorError, safe_open

    try:
        check_weights_file(path, AdapterError)
        with safe_open(path, framework="pt", device="cpu") as stored:
            tensors = {key: stored.get_tensor(key) for key in sorted(stored.keys())}
            return StoredState(tensors, dict(stored.metadata() or {}))
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(f"{path}: truncated or no safetensors file ({error}); copy or download it again") from error
