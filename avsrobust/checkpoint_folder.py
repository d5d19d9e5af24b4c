"""A transformers checkpoint folder, looked at before the library loads it.

Conventions
    Configurations name the sizes of a network that is made before its weights are read. Numbers in them are bounded, and the
    network, made without memory, may not have more numbers than the folder's weights have bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from avsrobust.errors import OptionError
from avsrobust.files import open_regular
from avsrobust.limits import TEXT_BYTES, Limit
from avsrobust.textfiles import read_json
from avsrobust.weights import check_weights_file

WEIGHTS = (".safetensors", ".bin")
_TEXTS = (".json", ".txt")
_CONFIG, _FEATURES = "config.json", "preprocessor_config.json"
_AGAIN = "copy or download the folder again"

_LAYERS = Limit(500, "layers", "the published encoders have 12 to 24")
_BANDS = Limit(8192, "bands or samples", "the published encoders have 64 to 128 bands and windows of 1024 samples")
_SECONDS = Limit(3600, "seconds", "the published encoders take 10 s at a time")
_NUMBERS = Limit(
    2_000_000, "as a number", "vocabularies and lengths in samples of the published encoders are below 500,000"
)
_BOUNDS = {
    **dict.fromkeys(("num_hidden_layers", "fusion_num_hidden_layers", "depths", "num_layers"), _LAYERS),
    **dict.fromkeys(
        ("feature_size", "num_mel_bins", "fft_window_size", "nb_frequency_bins", "spec_size", "window_size"), _BANDS
    ),
    **dict.fromkeys(("max_length_s", "chunk_length_s"), _SECONDS),
}
# As many as an encoder of the published size has: 0.4 GB.
_HARMLESS = 100_000_000


def check_folder(folder: Path, option: str) -> None:
    """Raise `OptionError` for a folder whose files are not regular, too large, or declare more than they hold.

    `option` named it, for messages.
    """
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix in WEIGHTS:
                check_weights_file(path, OptionError)
            elif path.suffix in _TEXTS:
                with open_regular(path) as stream:
                    TEXT_BYTES.check(stream.seek(0, 2), path, OptionError)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise OptionError(f"{option} {path}: cannot be read ({reason}); {_AGAIN}") from error
    for name in (_CONFIG, _FEATURES):
        try:
            content = read_json(folder / name, OptionError)
        except FileNotFoundError:
            # Named where it is missed.
            continue
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise OptionError(f"{option} {folder / name}: cannot be read as JSON ({reason}); {_AGAIN}") from error
        for key, number in _numbers(content, ""):
            _BOUNDS.get(key, _NUMBERS).check(math.ceil(abs(number)), f"{option} {folder / name}: {key}", OptionError)


def require_parameters(kind: Any, folder: Path, option: str) -> None:
    """Raise `OptionError` where the network of class `kind` that the configuration describes is larger than its weights.

    A small one may be made: what it lacks is then told by name. What transformers raises on a configuration passes through.
    """
    with torch.device("meta"):
        network = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    asked = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    held = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in WEIGHTS)
    if asked > max(held, _HARMLESS):
        raise OptionError(
            f"{option} {folder}: {_CONFIG} asks for a network of {asked:,} numbers and the weights have {held:,} bytes; "
            f"expected the configuration of these weights; {_AGAIN}"
        )


def _numbers(content: Any, key: str) -> Iterator[tuple[str, float]]:
    """Yield every number in a JSON value with the key that leads to it; those of a list have the list's."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _numbers(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, key)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield key[:100], content
