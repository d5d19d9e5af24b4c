"""The adapter `gavs`: GAVS, a Segment Anything Model prompted by audio, from the user's own checkout and checkpoint.

Conventions
    The checkout is GeWu-Lab/Generalizable-Audio-Visual-Segmentation (Wang et al., AAAI 2024), its folder GAVS, or
    GAVS/segment_anything. The checkpoint is what run_v1m_x.py or run_v3_x.py saves, the state of AVSM. It says which of SAM's
    three encoders it has; S4, MS3 and AVSS are all binary here.
    Pictures: the longer side resized to SAM's 1024 pixels, padded below and on the right. The released loader reads them with
    OpenCV and passes blue, green, red on to a network that normalises red, green, blue; so does this adapter, since networks
    were trained so.
    Sound: VGGish's embedding per second, 128 values. The repository holds none of the extractor; the feature files that it
    holds are signed, as VGGish gives them before its last ReLU (``features=signed``). Extractors with that ReLU:
    ``features=relu``.
    Mask: the sigmoid above 0.4, as utils/v1m/utility.py `mask_iou` decides; F sweeps the sigmoid.
    Options: repo=PATH; embedder=FILE, torchvggish's weights; features=signed|relu; tune_v=N, the training's --tune_v, which
    leaves no trace in a checkpoint; threshold=P.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from avsrobust.adapters.base import Adapter, AudioInput, Segmentation
from avsrobust.audio.vggish import VGGish, load_vggish
from avsrobust.errors import AdapterError
from model_adapters.checkouts.imports import Checkout
from model_adapters.checkouts.options import choice, find_root, fraction, whole_number
from model_adapters.checkouts.weights import UnfilledWeights, fill, read_weights, shape_of

SOURCE = "github.com/GeWu-Lab/Generalizable-Audio-Visual-Segmentation"
FEATURES = ("signed", "relu")
# run_v1m.sh and run_v3.sh.
TUNE_V = "9"
# AVSM.forward encodes pictures only below this.
FIRST_UNTUNED = 12
# utils/v1m/utility.py, which both scripts import.
THRESHOLD = "0.4"
_MARKER = "build_sam.py"
_ENCODER = "model_v.image_encoder"
# build_sam.py, by the width of the encoder.
_SIZES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


@dataclass(frozen=True)
class EncodedFrames:
    """SAM's encodings of the frames of B clips.

    Attributes:
        embeddings: Per frame, B * T of them, float32 [1, 256, h, w].
        input_size: Height and width of the resized frames without padding.
        original_size: Height and width of the frames.
        clips: Number of clips, B.
    """

    embeddings: tuple[Tensor, ...]
    input_size: tuple[int, int]
    original_size: tuple[int, int]
    clips: int


class Gavs(Adapter):
    """GAVS: SAM with a visual adapter, prompted by VGGish's embedding."""

    audio: ClassVar[AudioInput] = AudioInput.log_mel()

    def __init__(self, checkout: Checkout, network: nn.Module, embedder: VGGish, threshold: float) -> None:
        self.device = checkout.device
        # Named here, so that the weights are part of the run key.
        self.network = network.eval().to(checkout.device)
        self.embedder = embedder.to(checkout.device)
        self.threshold = threshold
        self._checkout = checkout

    @classmethod
    def load(  # type: ignore[override]  # the options by name, so that others are refused
        cls,
        checkpoint: Path | None,
        device: torch.device,
        *,
        repo: str | None = None,
        embedder: str | None = None,
        features: str = FEATURES[0],
        tune_v: str = TUNE_V,
        threshold: str = THRESHOLD,
    ) -> Self:
        """Return the adapter of a checkout's network.

        Args:
            checkpoint: The network's weights.
            device: Device that it runs on.
            repo: The checkout's folder.
            embedder: File of torchvggish's weights.
            features: "signed" for embeddings before VGGish's last ReLU, "relu" for those after it.
            tune_v: First block of the encoder whose adapter is used, 0 to 11: --tune_v of the training.
            threshold: Probability above which a pixel is in the mask.

        Raises:
            AdapterError: The folder is no such checkout, the checkpoint does not fit, or an option is unusable.
        """
        root = find_root(repo, _MARKER, ("GAVS/segment_anything", "segment_anything", ""), "gavs", SOURCE)
        first = whole_number("tune_v", tune_v, 0, FIRST_UNTUNED - 1)
        weights = read_weights(checkpoint, "gavs")
        width = shape_of(weights, f"{_ENCODER}.pos_embed", checkpoint, "gavs")[-1]
        if width not in _SIZES:
            raise AdapterError(
                f"--checkpoint {checkpoint}: its encoder has {width} channels; expected {', '.join(map(str, _SIZES))}"
            )
        if embedder is None:
            raise AdapterError(
                "gavs: found no --option embedder; expected embedder=FILE, torchvggish's weights (vggish-10086976.pth)"
            )
        vggish = load_vggish(Path(embedder))
        if choice("features", features, FEATURES) == "signed":
            vggish.embeddings = nn.Sequential(*list(vggish.embeddings)[:-1])
        checkout = Checkout(root, device, {"avs_model": root.parent / "avs_model.py"})
        network = _build(checkout, _SIZES[width], first)
        fill(network, weights, checkpoint)
        return cls(checkout, network, vggish, fraction("threshold", threshold))

    @torch.inference_mode()
    def encode_frames(self, frames: Tensor) -> EncodedFrames:
        """Run SAM's image encoder, one frame at a time as the released evaluation does.

        Args:
            frames: RGB frames, uint8 [B, T, 3, H, W].
        """
        sam: Any = self.network.get_submodule("model_v")
        embeddings, input_size = [], (0, 0)
        with self._checkout.active():
            for frame in frames.flatten(0, 1):
                picture = _resized(frame.flip(0), sam.image_encoder.img_size).to(self.device)
                input_size = (picture.shape[-2], picture.shape[-1])
                embeddings.append(sam.image_encoder(sam.preprocess(picture[None])))
        return EncodedFrames(tuple(embeddings), input_size, (frames.shape[-2], frames.shape[-1]), len(frames))

    @torch.inference_mode()
    def segment(self, encoded: EncodedFrames, audio: Tensor) -> Segmentation:
        """Return probabilities and masks [B, T, H, W] for log-mels [B, T, 1, 96, 64]."""
        sounds = self.embedder(audio.to(self.device).flatten(0, 1))
        records = [
            {
                "image": embedding,
                "audio": sound[None],
                "input_size": encoded.input_size,
                "original_size": encoded.original_size,
            }
            for embedding, sound in zip(encoded.embeddings, sounds, strict=True)
        ]
        # The loss of the forward pass gets no masks, and is constant.
        batch = (records, [torch.zeros(1)] * len(records), None, None, None, None)
        with self._checkout.active(), _encoded_already(self.network.get_submodule(_ENCODER)):
            logits = torch.cat(self.network(batch)[0])
        probabilities = logits.sigmoid().reshape(encoded.clips, -1, *logits.shape[-2:])
        return Segmentation(probabilities, probabilities > self.threshold)


def _build(checkout: Checkout, size: str, tune_v: int) -> nn.Module:
    """Make the network; its modules read their settings from the command line when they are imported."""
    with _command_line("--tune_v", str(tune_v), "--device", str(checkout.device)):
        registry: Mapping[str, Any] = checkout.import_module("build_sam").sam_model_registry
        whole = checkout.import_module("avs_model").AVSM
    settings = {"device": str(checkout.device), "tune_v": tune_v, "loss": _no_loss}
    with checkout.active(), UnfilledWeights():
        network: nn.Module = whole(model_v=registry[size](), model_t=None, config=settings)
    return network


def _no_loss(*_masks: Tensor) -> Tensor:
    return torch.zeros(())


@contextmanager
def _command_line(*arguments: str) -> Iterator[None]:
    """Let config.py parse these arguments; what it writes to the environment is taken back (CUDA_VISIBLE_DEVICES)."""
    before, environment = sys.argv, dict(os.environ)
    sys.argv = ["gavs", *arguments]
    try:
        yield
    finally:
        sys.argv = before
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


@contextmanager
def _encoded_already(encoder: nn.Module) -> Iterator[None]:
    """Let the image encoder return what it is given."""
    encoder.forward = lambda image: image
    try:
        yield
    finally:
        # The class's own forward comes back.
        del encoder.forward


def _resized(picture: Tensor, longest: int) -> Tensor:
    """Return a picture, uint8 [3, H, W], with its longer side resized (utils/transforms.py `ResizeLongestSide`)."""
    height, width = picture.shape[-2:]
    scale = longest / max(height, width)
    size = (int(width * scale + 0.5), int(height * scale + 0.5))
    image = Image.fromarray(picture.permute(1, 2, 0).cpu().contiguous().numpy())
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
