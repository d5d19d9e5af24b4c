"""The model key: identifies the model and the build that a results folder belongs to, so that no other model adds to it.

Conventions
    The key is a JSON object of checksums and names: the model's name, the manifest, the adapter's class and source, the
    checkpoint, the options with whatever files they name, and the format of results. Splits, conditions, masks and batch size
    are no part of it, nor is the device; but weights and plain settings that the adapter holds in memory are, for each type
    of device by itself, since an adapter may choose its precision by the device.
    An adapter may change its state while it runs (counters, its last answer): its state before the first evaluation counts,
    as long as nobody else has changed it since the last one (`remember_state`).
    Two evaluations are of one model where `differences` finds none. Where in doubt (an adapter with a setting that changes from
    run to run) they differ, and the user is shown the difference.
    ``run.json`` stores the key as "identity".
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from avsrobust.errors import AdapterError, OptionError
from avsrobust.evaluation.adapter_source import source_sha256
from avsrobust.files import sha256_of_file
from avsrobust.folders import read_marker
from avsrobust.manifest import Manifest
from avsrobust.results import RESULTS_KIND, SCORES_FORMAT, section

_SETTINGS = (str, int, float, bool, Path, type(None))
_CACHES = frozenset({"__pycache__", ".git"})
_STATES = "states"
_LONGEST_VALUE = 60
# What adapters held before their first evaluation in this process, and after the last one.
_EVALUATED: WeakKeyDictionary[object, tuple[dict[str, Any], dict[str, Any]]] = WeakKeyDictionary()
_TITLES = {
    "format": "format of results",
    "model": "name",
    "manifest_sha256": "manifest",
    "class": "adapter class",
    "source_sha256": "adapter's source",
    "checkpoint_sha256": "checkpoint",
    "score_size": "size of the scored masks",
}


def make_model_key(
    manifest: Manifest,
    adapter: object,
    *,
    name: str,
    checkpoint: Path | None,
    options: Mapping[str, str],
    device: torch.device,
    output: Path,
    score_size: str = "",
) -> dict[str, Any]:
    """Return the key of a model on a build.

    Args:
        manifest: The build.
        adapter: The adapter, loaded.
        name: Name of the model in tables.
        checkpoint: File or folder of weights, or None.
        options: The adapter's options; files and folders that they name enter the key.
        device: Device that the adapter is on.
        score_size: Size of the scored masks, where it is not that of the mask files.
        output: The results folder; it is skipped where an option names a folder around it, as are all folders of results.

    Raises:
        AdapterError: The checkpoint cannot be read.
    """
    source = source_sha256(adapter)
    kind = type(adapter)
    return {
        "format": SCORES_FORMAT,
        "model": name,
        "manifest_sha256": sha256_of_file(manifest.path),
        "class": kind.__qualname__ if source is not None else f"{kind.__module__}.{kind.__qualname__}",
        "source_sha256": source,
        "checkpoint_sha256": None if checkpoint is None else checkpoint_sha256(checkpoint),
        "options": dict(sorted(options.items())),
        "option_files": {option: _contents(value, output) for option, value in sorted(options.items())},
        _STATES: {device.type: _first_state(adapter)},
        # Left out by default, so that keys of earlier releases stay the same.
        **({"score_size": score_size} if score_size else {}),
    }


def evaluation_sha256(model_key: Mapping[str, Any]) -> str:
    """Return the checksum of a model key without the states in memory; all files of one results folder hold it."""
    shared = {key: value for key, value in model_key.items() if key != _STATES}
    return _sha256(json.dumps(shared, sort_keys=True))


def differences(there: object, here: Mapping[str, Any]) -> list[str]:
    """Return the differences of two model keys, in words; an empty list where both are of one model.

    Args:
        there: A stored key, or anything else that a damaged file holds.
        here: The key of this evaluation. Of the states in memory, those on device types that both hold are compared.
    """
    if not isinstance(there, Mapping):
        return ["model key (its own is damaged)"]
    found = [
        f"{title} ({_short(there.get(key))} there, {_short(here.get(key))} here)"
        for key, title in _TITLES.items()
        if there.get(key) != here.get(key)
    ]
    found += _different("option", section(there, "options"), here["options"])
    same_value = {key for key, value in here["options"].items() if section(there, "options").get(key) == value}
    files = section(there, "option_files")
    found += [f"files of option {key}" for key in sorted(same_value) if files.get(key) != here["option_files"][key]]
    states = section(there, _STATES)
    for device, state in here[_STATES].items():
        if device in states:
            known = section(states, device)
            if known.get("weights_sha256") != state["weights_sha256"]:
                found.append("weights in memory")
            settings = section(known, "settings")
            names = sorted(settings.keys() | state["settings"].keys())
            found += [
                f"setting {name} in memory" for name in names if settings.get(name) != state["settings"].get(name)
            ]
    return found


def with_states(there: object, here: Mapping[str, Any]) -> dict[str, Any]:
    """Return the key of one model that two evaluations made, with the states in memory of both."""
    known = section(there, _STATES) if isinstance(there, Mapping) else {}
    return {**here, _STATES: {**known, **here[_STATES]}}


def checkpoint_sha256(checkpoint: Path) -> str:
    """Return the checksum of a checkpoint, a file or a folder of files.

    Raises:
        AdapterError: It cannot be read.
    """
    try:
        if checkpoint.is_dir():
            files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
            return _digest(f"{path.relative_to(checkpoint)}\t{sha256_of_file(path)}" for path in files)
        return sha256_of_file(checkpoint)
    except OSError as error:
        raise AdapterError(
            f"--checkpoint {checkpoint}: cannot be read ({error.strerror or error}); expected a file of weights"
        ) from error


def remember_state(adapter: object, before: Mapping[str, Any], device: torch.device) -> None:
    """Remember, after an evaluation, the adapter's state before it.

    Args:
        adapter: The adapter.
        before: The model key that was made before the evaluation.
        device: Device that the adapter is on.
    """
    first = before[_STATES].get(device.type)
    # Without a hash or weak references each evaluation stands for itself.
    with suppress(TypeError):
        if first is not None:
            _EVALUATED[adapter] = (first, state_of(adapter))


def _first_state(adapter: object) -> dict[str, Any]:
    now = state_of(adapter)
    try:
        first, last = _EVALUATED.get(adapter, (now, now))
    except TypeError:
        return now
    return first if last == now else now


def state_of(adapter: object) -> dict[str, Any]:
    """Return an adapter's state in memory: one checksum of its weights and tensors, and one of each plain setting."""
    weights: list[str] = []
    settings: dict[str, str] = {}
    for name, value in sorted(_attributes(adapter).items()):
        if isinstance(value, nn.Module):
            weights += [f"{name}.{key}\t{_tensor_sha256(tensor)}" for key, tensor in sorted(_tensors(value))]
        elif isinstance(value, Tensor):
            weights.append(f"{name}\t{_tensor_sha256(value)}")
        elif isinstance(value, _SETTINGS):
            settings[name] = _sha256(repr(value))
    return {"weights_sha256": _digest(weights), "settings": settings}


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
    """Return checksums of the files that an option's value names: a file, a folder, or the files in a command line."""
    try:
        if Path(value).is_dir():
            return [_folder_listing(Path(value), output.resolve())]
        words = [value, *value.split()]
        return [sha256_of_file(Path(word)) for word in dict.fromkeys(words) if Path(word).is_file()]
    except (OSError, ValueError):
        return []


def _folder_listing(folder: Path, output: Path) -> str:
    """Return a checksum of the names, sizes and times below a folder: it may hold a hundred thousand masks."""
    folder = folder.resolve()
    entries: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _counts(Path(parent, name), output))
        for name in sorted(files):
            status = Path(parent, name).lstat()
            place = Path(parent, name).relative_to(folder).as_posix()
            entries.append(f"{place}\t{status.st_size}\t{status.st_mtime_ns}")
    return _digest(entries)


def _counts(folder: Path, output: Path) -> bool:
    """Return whether a folder below one that an option names belongs to the model, and is not made with it."""
    if folder.name in _CACHES or folder == output:
        return False
    try:
        marker = read_marker(folder)
    except OptionError:
        return True
    return marker is None or marker[0] != RESULTS_KIND


def _different(title: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(there.keys() | here.keys()):
        if there.get(key) != here.get(key):
            yield f"{title} {key} ({_short(there.get(key))} there, {_short(here.get(key))} here)"


def _short(value: object) -> str:
    if value is None:
        return "none"
    text = str(value)
    if len(text) == 64 and text.isalnum():
        return f"{text[:12]}.."
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}.."


def _digest(lines: Iterable[str]) -> str:
    return _sha256("\n".join(lines))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
