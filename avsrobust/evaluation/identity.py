"""What makes two evaluations the same, so that finished work is reused and never mistaken for another model's.

Conventions
    Identity is a JSON object of checksums and names: manifest and the rows chosen from it, the adapter's class, its source
    file, the checkpoint, the options with whatever files they name, the weights and plain settings of the adapter in memory,
    the kind of device, and whether masks are kept. Batch size is no part of it: scores do not depend on it.
    Two evaluations are the same where these objects are equal. Where in doubt (an adapter with a setting that changes from
    run to run) they differ, and the work is done again.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avsrobust import __version__
from avsrobust.errors import AdapterError
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest, Row

_SETTINGS = (str, int, float, bool, Path, type(None))
_CACHES = frozenset({"__pycache__", ".git"})


def evaluation_identity(
    manifest: Manifest,
    rows: Iterable[Row],
    adapter: object,
    *,
    spec: str,
    checkpoint: Path | None,
    options: Mapping[str, str],
    device: torch.device,
    save_masks: bool,
    output: Path,
) -> dict[str, Any]:
    """Return the identity of an evaluation (see the module's conventions).

    `output`, the results folder, is left out where an option names a folder around it. Raises `AdapterError` where the
    checkpoint cannot be read.
    """
    return {
        "version": __version__,
        "manifest_sha256": sha256_of_file(manifest.path),
        "rows_sha256": _digest(sorted(repr(row.key) for row in rows)),
        "adapter": spec,
        "adapter_class": f"{type(adapter).__module__}.{type(adapter).__qualname__}",
        "adapter_file_sha256": source_sha256(adapter),
        "adapter_state_sha256": state_sha256(adapter),
        "checkpoint_sha256": None if checkpoint is None else checkpoint_sha256(checkpoint),
        "options": dict(sorted(options.items())),
        "option_files": {name: _contents(value, output) for name, value in sorted(options.items())},
        "device": device.type,
        "save_masks": save_masks,
    }


def source_file(adapter: object) -> Path | None:
    """Return the file that defines the adapter's class, or None where there is none (a notebook)."""
    try:
        return Path(inspect.getfile(type(adapter)))
    except (TypeError, OSError):
        return None


def source_sha256(adapter: object) -> str | None:
    """Return the checksum of the file that defines the adapter's class, or None where there is none."""
    path = source_file(adapter)
    return sha256_of_file(path) if path is not None and path.is_file() else None


def checkpoint_sha256(checkpoint: Path) -> str:
    """Return the checksum of a checkpoint, a file or a folder of files. Raises `AdapterError` where it is not there."""
    if checkpoint.is_dir():
        files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
        return _digest(f"{path.relative_to(checkpoint)}\t{sha256_of_file(path)}" for path in files)
    try:
        return sha256_of_file(checkpoint)
    except OSError as error:
        raise AdapterError(
            f"--checkpoint {checkpoint}: cannot be read ({error.strerror or error}); expected a file of weights"
        ) from error


def state_sha256(adapter: object) -> str:
    """Return a checksum of what an adapter holds in memory: weights of its modules, tensors, and plain settings."""
    entries: list[str] = []
    for name, value in sorted(_attributes(adapter).items()):
        if isinstance(value, nn.Module):
            entries += [f"{name}.{key}\t{_tensor_sha256(tensor)}" for key, tensor in sorted(_tensors(value))]
        elif isinstance(value, Tensor):
            entries.append(f"{name}\t{_tensor_sha256(value)}")
        elif isinstance(value, _SETTINGS):
            entries.append(f"{name}\t{value!r}")
    return _digest(entries)


def _attributes(adapter: object) -> dict[str, Any]:
    own = {} if not hasattr(adapter, "__dict__") else dict(vars(adapter))
    if isinstance(adapter, nn.Module):
        # A module keeps its weights in private dictionaries; all of them come with the module itself.
        own = {name: value for name, value in own.items() if not name.startswith("_")}
        own["self"] = adapter
    return own


def _tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _tensor_sha256(tensor: Tensor) -> str:
    if tensor.is_meta or tensor.layout != torch.strided:
        return f"{tensor.dtype}{list(tensor.shape)}"
    plain = tensor.detach().cpu().contiguous()
    # Seen as bytes, since numpy has no bfloat16.
    content = plain.reshape(-1).view(torch.uint8).numpy() if plain.numel() else b""
    return hashlib.sha256(f"{plain.dtype}{list(plain.shape)}".encode() + bytes(content)).hexdigest()


def _contents(value: str, output: Path) -> list[str]:
    """Return checksums of what an option's value names: a file, a folder, or the files in a command line."""
    try:
        if Path(value).is_dir():
            return [_folder_listing(Path(value), output.resolve())]
        words = [value, *value.split()]
        return [sha256_of_file(Path(word)) for word in dict.fromkeys(words) if Path(word).is_file()]
    except OSError:
        return []


def _folder_listing(folder: Path, output: Path) -> str:
    """Return a checksum of the names, sizes and times below a folder: it may hold a hundred thousand masks."""
    entries: list[str] = []
    for parent, folders, files in os.walk(folder.resolve()):
        folders[:] = sorted(name for name in folders if name not in _CACHES and Path(parent, name) != output)
        for name in sorted(files):
            status = Path(parent, name).lstat()
            entries.append(f"{parent}/{name}\t{status.st_size}\t{status.st_mtime_ns}")
    return _digest(entries)


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def identity_sha256(identity: Mapping[str, Any]) -> str:
    """Return the checksum of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
