"""The encoders by name.

Conventions
    vggish and log_mel take the log-mel that the build stores, the same front end under every condition; the others the
    waveform at their own rate. Nothing is ever downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from avsrobust.adapters.base import AudioInput
from avsrobust.pretransform.base import Encoder, Encoding, encoding_of, files_checksum
from avsrobust.pretransform.choices import names_classes, require_weights


class LogMel(Encoder):
    """No network: mean and standard deviation over time of each mel band, [T, 128]."""

    audio = AudioInput.log_mel()

    def encode(self, sound: Tensor) -> Encoding:
        """Return the statistics of a log-mel [T, 1, 96, 64]."""
        bands = sound[:, 0].double()
        return encoding_of(torch.cat([bands.mean(dim=1), bands.std(dim=1, correction=0)], dim=1))


class VGGishEncoder(Encoder):
    """VGGish's embedding, [T, 128], with torchvggish's weights from a file."""

    audio = AudioInput.log_mel()

    def __init__(self, path: Path, device: torch.device) -> None:
        from avsrobust.audio.vggish import load_vggish

        self._network = load_vggish(path).to(device)
        self._device = device
        self.checksum = files_checksum([path])

    @torch.inference_mode()
    def encode(self, sound: Tensor) -> Encoding:
        """Return the embeddings of a log-mel [T, 1, 96, 64]."""
        return encoding_of(self._network(sound.to(self._device)))


def load_encoder(
    name: str, checkpoint: Path | None, device: torch.device, *, classes: bool, vocabulary: Sequence[str] = ()
) -> Encoder:
    """Return an encoder with its weights.

    Args:
        name: Key of `choices.ENCODERS`.
        checkpoint: A transformers folder (ast, clap, hubert) or a file (beats, vggish); None for log_mel.
        device: Device that it runs on.
        classes: Whether it scores classes.
        vocabulary: Names of clap's classes, which can be any.

    Raises:
        OptionError: The encoder is unknown, or its checkpoint is missing or of another model.
        AdapterError: The weights cannot be read.
    """
    names_classes(name, classes)
    require_weights(name, checkpoint)
    if name == "log_mel":
        return LogMel()
    if name == "vggish" and checkpoint is not None:
        return VGGishEncoder(checkpoint, device)
    if name == "beats" and checkpoint is not None:
        from avsrobust.pretransform.beats import Beats

        return Beats(checkpoint, device, classes=classes)
    from avsrobust.pretransform.stock import load_stock

    return load_stock(name, checkpoint, device, classes=classes, vocabulary=vocabulary)
