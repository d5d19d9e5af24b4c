"""The adapter `sama`: SAMA-AVS, a Segment Anything Model with audio in every block, from the user's own checkout and checkpoint.

Conventions
    The checkout is jinxiang-liu/anno-free-AVS (Liu et al., WACV 2024). The checkpoint is what train_avs.py saves
    (model_epoch_best.pth); it holds VGGish and SAM's encoder, so that the files below assets/ are not needed. S4 and MS3
    share one network.
    The configuration, configs/sam_avs_adapter.yaml or another file of its form, gives the encoder's size and the side of the
    square pictures (1024). Sound: VGGish's log-mel; its embedding is added to the tokens before every block of the encoder,
    so nothing of a clip can be encoded without its sound, and every condition costs a whole forward pass.
    Each clip is one batch, as the released evaluation has it.
    Options: repo=PATH; config=FILE, below the checkout or anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import yaml
from torch import Tensor, nn

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.errors import AdapterError
from model_adapters.checkouts.imports import Checkout
from model_adapters.checkouts.network import normalised_frames
from model_adapters.checkouts.options import find_file, find_root
from model_adapters.checkouts.weights import UnfilledWeights, fill, read_weights, shape_of

SOURCE = "github.com/jinxiang-liu/anno-free-AVS"
CONFIG = "configs/sam_avs_adapter.yaml"
_MARKER = "models/sam.py"


class Sama(Adapter):
    """SAMA-AVS: SAM's encoder and decoder, with audio prompts in the encoder."""

    audio: ClassVar[AudioInput] = AudioInput.log_mel()

    def __init__(self, checkout: Checkout, network: nn.Module, image_size: int) -> None:
        self.device = checkout.device
        # Named here, so that the weights are part of the run key.
        self.network = network.eval().to(checkout.device)
        # Otherwise the first GPU of the machine, whatever --device says.
        vars(self.network)["device"] = checkout.device
        self.image_size = image_size
        self._checkout = checkout

    @classmethod
    def load(  # type: ignore[override]  # the options by name, so that others are refused
        cls, checkpoint: Path | None, device: torch.device, *, repo: str | None = None, config: str = CONFIG
    ) -> Self:
        """Return the adapter of a checkout's network.

        Args:
            checkpoint: The network's weights.
            device: Device that it runs on.
            repo: The checkout's folder.
            config: Configuration file.

        Raises:
            AdapterError: The folder is no such checkout, or checkpoint or configuration do not fit.
        """
        root = find_root(repo, _MARKER, ("",), "sama", SOURCE)
        weights = read_weights(checkpoint, "sama")
        shape_of(weights, "image_encoder.pos_embed", checkpoint, "sama")
        settings = _read_config(find_file("config", config, root))
        checkout = Checkout(root, device)
        network = _build(checkout, settings)
        fill(network, weights, checkpoint)
        return cls(checkout, network, settings["args"]["inp_size"])

    @torch.inference_mode()
    def encode_frames(self, frames: Tensor) -> Tensor:
        """Return frames, uint8 [B, T, 3, H, W], as the network takes them, float32 [B, T, 3, s, s]."""
        pictures = normalised_frames(frames.to(self.device), self.image_size)
        return pictures.reshape(*frames.shape[:2], *pictures.shape[1:])

    @torch.inference_mode()
    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        """Return probabilities [B, T, s, s] for log-mels [B, T, 1, 96, 64]."""
        network: Any = self.network
        with self._checkout.active():
            logits = [
                network.infer(pictures, sound) for pictures, sound in zip(encoded, audio.to(self.device), strict=True)
            ]
        return torch.stack(logits)[:, :, 0].sigmoid()


def _read_config(path: Path) -> dict[str, Any]:
    """Return the section 'model' of a configuration: the network's name and its arguments."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        model: dict[str, Any] = content["model"]
        if model["name"] != "sam" or not isinstance(model["args"]["inp_size"], int):
            raise AdapterError(
                f"--option config={path}: its model is not 'sam' with an inp_size; expected {CONFIG}'s form"
            )
        _ = model["args"]["encoder_mode"]["embed_dim"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise AdapterError(
            f"--option config={path}: cannot be read as a configuration ({type(error).__name__}: {reason}); "
            f"expected one of the form of {CONFIG}"
        ) from error
    return model


def _build(checkout: Checkout, settings: dict[str, Any]) -> nn.Module:
    """Make the network without VGGish's own file: the checkpoint holds it."""
    make = checkout.import_module("models").make
    checkout.import_module("configs.vggish_config").cfg.TRAIN.FREEZE_AUDIO_EXTRACTOR = False
    with checkout.active(), UnfilledWeights():
        network: nn.Module = make(settings)
    return network
