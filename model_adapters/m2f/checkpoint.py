"""Networks in files: our own bundles, and raw checkpoints of the published code.

Conventions
    A bundle is a safetensors file whose metadata hold `format`, `version`, `config` (JSON, config.M2FConfig) and free text
    about the training; its weights may be float16 and are float32 in the network. Anything else is taken for a raw
    checkpoint (published.py), whose architecture follows from its shapes or from a configuration file.
    Nothing that does not fit is passed over: it is in the error, or in the `LoadReport`, which is logged.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from avsrobust.errors import AdapterError
from avsrobust.files import write_text
from avsrobust.tensors import save_tensors
from avsrobust.textfiles import parse_json
from model_adapters.m2f.bounds import require_parameters
from model_adapters.m2f.config import M2FConfig, Readout, read_config, with_readout
from model_adapters.m2f.folder import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME, config_text, read_folder
from model_adapters.m2f.network import M2FNetwork
from model_adapters.m2f.published import infer_config, readout_of, rename
from model_adapters.m2f.state import StoredState, read_state

FORMAT = "avsrobust.m2f"
VERSION = "1"
_RESERVED = ("format", "version", "config")
_MOST_NAMES, _MOST_MODULES = 5, 10
_log = logging.getLogger(__name__)

# Stock Swin has a last norm which Mask2Former never uses and the published code does not store.
_NEVER_USED = "mask2former.model.pixel_level_module.encoder.swin.layernorm."


@dataclass(frozen=True)
class LoadReport:
    """Differences between a file's tensors and a network's parameters.

    Attributes:
        matched: Number of tensors that were copied.
        missing: Parameters that the file lacks.
        unexpected: Tensors that the network has no parameter for.
        mismatched: "name: shape found, shape expected" of each tensor of another shape.
        unused: Names in the file of tensors that are not needed, by the reason.
    """

    matched: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    unused: Mapping[str, list[str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return a line per kind of difference, with the number of tensors and their modules."""
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.mismatched}
        lines = [f"{len(names)} {kind}: {summed_up(names)}" for kind, names in kinds.items() if names]
        return lines + [
            f"{len(names)} not used ({reason}): {summed_up(names)}" for reason, names in self.unused.items()
        ]

    def summary(self) -> str:
        """Return the differences that matter in one line, with a few names of each kind."""
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.mismatched}
        return "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names)


@dataclass(frozen=True)
class LoadedNetwork:
    """A network from a file.

    Attributes:
        network: The network, in evaluation mode.
        info: Free text in the file's metadata.
        report: Differences between file and network.
    """

    network: M2FNetwork
    info: dict[str, str]
    report: LoadReport


def save_bundle(
    path: Path, network: M2FNetwork, info: Mapping[str, str] | None = None, dtype: torch.dtype = torch.float16
) -> None:
    """Write a network to a safetensors file, atomically, the same bytes every time.

    Args:
        path: The file.
        network: The network.
        info: Free text for the metadata, such as the recipe and the metrics.
        dtype: Type of the stored weights.

    Raises:
        AdapterError: A weight is not finite in `dtype`.
    """
    tensors = {}
    for key, tensor in network.state_dict().items():
        kept = tensor.detach().cpu().to(dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        if not torch.isfinite(kept).all():
            raise AdapterError(
                f"{path}: '{key}' is not finite as {dtype}; expected finite weights; save as torch.float32"
            )
        tensors[key] = kept
    texts = {str(key): str(value) for key, value in (info or {}).items() if key not in _RESERVED}
    texts |= {"format": FORMAT, "version": VERSION, "config": network.config.to_json()}
    save_tensors(path, tensors, texts)


def save_pretrained(
    folder: Path,
    network: M2FNetwork,
    info: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
    card: str = "",
) -> None:
    """Write a network to a folder in the layout of Hugging Face (`folder`), which `load_checkpoint` reads.

    Args:
        folder: The folder; made where it is not there.
        network: The network.
        info: Free text for the metadata of the weights.
        dtype: Type of the stored weights.
        card: Text of ``README.md``; empty: none is written.

    Raises:
        AdapterError: One of the files is there already, or a weight is not finite in `dtype`.
    """
    for name in (CONFIG_NAME, WEIGHTS_NAME, *([CARD_NAME] if card else [])):
        if (folder / name).exists():
            raise AdapterError(f"{folder / name}: is there already; expected a folder without it; choose another one")
    save_bundle(folder / WEIGHTS_NAME, network, info, dtype)
    write_text(folder / CONFIG_NAME, config_text(network.config))
    if card:
        write_text(folder / CARD_NAME, card)


def load_bundle(path: Path, device: torch.device | str = "cpu") -> LoadedNetwork:
    """Return the network of a bundle.

    Args:
        path: The file.
        device: Device of the network.

    Raises:
        AdapterError: The file is no bundle, or of another version.
    """
    return _from_bundle(path, read_state(path), torch.device(device))


def load_checkpoint(
    path: Path,
    device: torch.device | str = "cpu",
    *,
    config: Path | None = None,
    head: Readout | None = None,
    image_size: int | None = None,
    accept_unexpected: bool = False,
) -> LoadedNetwork:
    """Return the network of a bundle or of a raw published checkpoint.

    Args:
        path: The file, or a folder in the layout of Hugging Face that holds a bundle (`folder`).
        device: Device of the network.
        config: File of a configuration, for a raw checkpoint in place of the one inferred from its shapes.
        head: Head of the network, for a raw checkpoint in place of the one inferred from its names.
        image_size: Side of the square pictures in pixels, for a raw checkpoint; None: the published 384.
        accept_unexpected: Whether tensors that the network has no parameter for are skipped, and logged.

    Raises:
        AdapterError: The file cannot be read, is of another architecture, or differs from the network.
    """
    state = read_folder(path, bundle={"format": FORMAT, "version": VERSION}) if path.is_dir() else read_state(path)
    if state.metadata.get("format") == FORMAT:
        if config is not None or head is not None or image_size is not None:
            raise AdapterError(
                f"--checkpoint {path}: holds its own configuration; leave out options config, head, image_size"
            )
        return _from_bundle(path, state, torch.device(device))
    try:
        renamed = rename(state.tensors)
        architecture = infer_config(renamed.tensors, head or readout_of(state.tensors))
    except AdapterError as error:
        raise AdapterError(
            f"--checkpoint {path}: {error}; expected a bundle of avsrobust or a Mask2Former of GeWu-Lab/bias_in_AVS"
        ) from error
    if config is not None:
        architecture = with_readout(read_config(config, architecture), architecture.readout)
    if image_size is not None:
        architecture = replace(architecture, image_size=image_size)
    _require_parameters(path, architecture, renamed.tensors)
    network = M2FNetwork.seeded(architecture, seed=0)
    report = fill(network, renamed.tensors, renamed.unused)
    _refuse_differences(path, report, accept_unexpected)
    return LoadedNetwork(network.eval().to(device), {}, report)


def fill(
    network: M2FNetwork, tensors: Mapping[str, Tensor], unused: Mapping[str, list[str]] | None = None
) -> LoadReport:
    """Copy the tensors that fit into a network.

    Args:
        network: The network, changed in place.
        tensors: The tensors by our names.
        unused: Names of tensors that were skipped before, by the reason, for the report.

    Returns:
        The differences between tensors and network.
    """
    own = network.state_dict()
    ignored = {key for key in own if key.startswith(_NEVER_USED) or ".criterion." in key}
    fitting: dict[str, Tensor] = {}
    mismatched = []
    for key in sorted(own.keys() & tensors.keys()):
        if own[key].shape == tensors[key].shape:
            fitting[key] = tensors[key].to(own[key].dtype)
        else:
            mismatched.append(f"{key}: {list(tensors[key].shape)} found, {list(own[key].shape)} expected")
    network.load_state_dict(fitting, strict=False)
    return LoadReport(
        matched=len(fitting),
        missing=tuple(sorted(own.keys() - tensors.keys() - ignored)),
        unexpected=tuple(sorted(tensors.keys() - own.keys())),
        mismatched=tuple(mismatched),
        unused=dict(unused or {}),
    )


def _from_bundle(path: Path, state: StoredState, device: torch.device) -> LoadedNetwork:
    if state.metadata.get("format") != FORMAT:
        raise AdapterError(f"{path}: not a bundle of avsrobust (no format '{FORMAT}' in its metadata)")
    if state.metadata.get("version") != VERSION:
        raise AdapterError(
            f"{path}: found version {state.metadata.get('version')}; expected {VERSION}; install the avsrobust that made it"
        )
    try:
        values = parse_json(state.metadata["config"])
    except (KeyError, ValueError) as error:
        raise AdapterError(f"{path}: its configuration cannot be read; copy or download the file again") from error
    if not isinstance(values, dict):
        raise AdapterError(f"{path}: its configuration is no JSON object; copy or download the file again")
    config = M2FConfig.from_dict(values, named_by=str(path))
    _require_parameters(path, config, state.tensors)
    network = M2FNetwork.seeded(config, seed=0)
    report = fill(network, state.tensors)
    _refuse_differences(path, report, accept_unexpected=False)
    info = {key: value for key, value in state.metadata.items() if key not in _RESERVED}
    return LoadedNetwork(network.eval().to(device), info, report)


def _require_parameters(path: Path, config: M2FConfig, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a network that cannot fit the tensors before memory is taken for it."""
    try:
        require_parameters(config, tensors)
    except AdapterError as error:
        raise AdapterError(
            f"--checkpoint {path}: {error}; name the right checkpoint, or the architecture with --option config=FILE"
        ) from error


def _refuse_differences(path: Path, report: LoadReport, accept_unexpected: bool) -> None:
    if report.missing or report.mismatched or (report.unexpected and not accept_unexpected):
        only_unexpected = not (report.missing or report.mismatched)
        remedy = (
            "take --option unexpected=accept to run without them" if only_unexpected else "name the right checkpoint"
        )
        raise AdapterError(
            f"--checkpoint {path}: does not fit the network: {report.summary()}; expected all {report.matched} others and "
            f"no differences; {remedy}, or the architecture with --option config=FILE"
        )
    for line in report.lines():
        _log.warning("%s: %s", path, line)


def summed_up(names: Sequence[str]) -> str:
    """Return a few names in full, or, of more, the modules that they are in, with their number; layers of a stack count as one.

    >>> summed_up(["a.0.b.weight", "a.0.b.bias", "a.1.b.weight", "a.1.b.bias", "c", "d.weight"])
    'a.*.b.* (4), c, d.weight'
    """
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    modules: dict[str, list[str]] = {}
    for name in names:
        parts = [re.sub(r"^\d+$", "*", part) for part in name.partition(":")[0].split(".")]
        module = ".".join([*parts[:-1], "*"]).replace(".*.*", ".*") if len(parts) > 1 else name
        modules.setdefault(module, []).append(name)
    shown = [f"{module} ({len(inside)})" if len(inside) > 1 else inside[0] for module, inside in modules.items()]
    more = f" and {len(shown) - _MOST_MODULES} more modules" if len(shown) > _MOST_MODULES else ""
    return ", ".join(shown[:_MOST_MODULES]) + more


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
