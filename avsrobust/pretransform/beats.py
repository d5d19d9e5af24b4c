"""BEATs (Chen et al. 2023) through speechbrain, which is imported here alone.

Conventions
    The embedding is the mean over time of the last layer, [T, D]. Classes are those of a fine-tuned checkpoint, named by
    AudioSet's ids ("/m/0bt9lr") as its ``label_dict`` has them; scores are its sigmoids.
    speechbrain needs torchaudio; this module is tested with a stand-in for both, not with BEATs itself.
"""

from __future__ import annotations

import importlib.util
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avsrobust.adapters.base import AudioInput
from avsrobust.audio.resample import torchaudio_remedy
from avsrobust.errors import OptionError
from avsrobust.optional_packages import import_obstacle
from avsrobust.pretransform.base import Encoder, Encoding, encoding_of, files_checksum
from avsrobust.weights import check_weights_file

RATE = 16000


class Beats(Encoder):
    """BEATs from a checkpoint file of its authors."""

    audio = AudioInput.waveform(RATE)

    def __init__(self, path: Path, device: torch.device, *, classes: bool) -> None:
        network = _import_beats()
        content = _read(path)
        if classes:
            self.labels = _labels(content, path)
        self._classes = classes
        # It reads the file again, by itself; what is in it has been looked at by now.
        self._network = network(ckp_path=str(path), freeze=True).to(device).eval()
        self._device = device
        self.checksum = files_checksum([path])

    @torch.inference_mode()
    def encode(self, sound: Tensor) -> Encoding:
        """Return means over time [T, D] and, with classes, sigmoids [T, L]."""
        wave = sound.reshape(-1, RATE).to(self._device)
        outputs = self._network(wave, torch.ones(len(wave), device=self._device))
        return encoding_of(outputs[0].mean(dim=1), outputs[1] if self._classes else None)


def _import_beats() -> Any:
    try:
        network: Any = importlib.import_module("speechbrain.lobes.models.beats").BEATs
    except (ImportError, OSError) as error:
        raise OptionError(f"--encoder beats: {_obstacle(error)}, or take --encoder ast") from error
    return network


def _obstacle(error: ImportError | OSError) -> str:
    """Return why speechbrain's BEATs cannot be imported, and what to do: torchaudio, which it imports, has causes of its own."""
    if importlib.util.find_spec("speechbrain") is None:
        return import_obstacle(error, "speechbrain", "speechbrain torchaudio (the torchaudio of your torch)")
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError) as cause:
        return f"torchaudio {torchaudio_remedy(cause)}"
    return import_obstacle(error, "speechbrain", "speechbrain")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        check_weights_file(path, OptionError)
        with warnings.catch_warnings():
            # Of odd pickles; what is refused is said in one line.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OptionError:
        raise
    except pickle.UnpicklingError as error:
        raise OptionError(
            f"--checkpoint {path}: is no PyTorch file, or holds code, which was not run; expected BEATs' own checkpoint"
        ) from error
    except Exception as error:
        # What the archive reader raises on damaged files has no bounds.
        raise OptionError(f"--checkpoint {path}: truncated or no PyTorch file; download it again") from error
    if not isinstance(content, Mapping) or not {"cfg", "model"} <= content.keys():
        raise OptionError(f"--checkpoint {path}: found no 'cfg' and 'model' in it; expected BEATs' own checkpoint")
    return content


def _labels(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    names = content.get("label_dict")
    if not isinstance(names, Mapping) or not names:
        raise OptionError(
            f"--checkpoint {path}: names no classes; expected a fine-tuned BEATs; name one, or take --no-classes"
        )
    return tuple(str(names[index]) for index in sorted(names))
