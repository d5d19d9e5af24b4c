"""The adapter `cavp`: CAVP, for S4 and MS3 (2 classes) and AVSS (71), from the user's own checkout and checkpoint.

Conventions
    The checkout is cyh-0/CAVP (Chen et al., "Unraveling Instance Associations", CVPR 2024). The checkpoint says which ResNet
    it has and how many classes. One picture at a time, each with the sound of its own piece, as the released test runs it.
    Sound: a waveform at 16 kHz through torchaudio's resampler, mono. Each frame gets the first 0.96 s of its piece as a log-mel
    of 96 steps and 64 bands (`piece_spectrograms`).
    ``behaviour=released`` (default) cuts the waveform as the released loaders do (dataset/avsbench_s4.py, avsbench_ms.py and
    dataset/avss/audio/audio_dataset.py, `crop_audio`): 10 seconds around the middle. For a clip of 5 s the cut starts at -2.5 s,
    which Python counts from the end: 2.5 s to 5.0 s stay and are repeated four times, and the first half of the sound is never
    used. Those 10 s are viewed as 5 pieces of 2 s (loader=object: as many as there are frames) or as 10 of 1 s
    (loader=semantic).
    ``behaviour=paper``: frame k gets second k of the clip.
    Pictures: loader=object takes frames as they are on disk; loader=semantic resizes them to a square of `image_size` by
    Pillow's bicubic filter (dataset/avss/visual/visual_aug.py with --resize_flag).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from avsrobust.adapters.base import Adapter, AudioInput, Segmentation
from avsrobust.errors import AdapterError, ClipError
from avsrobust.vocabulary import counted
from model_adapters.checkouts.imports import Checkout
from model_adapters.checkouts.network import DEVIATION, MEAN
from model_adapters.checkouts.options import choice, find_root, side
from model_adapters.checkouts.weights import UnfilledWeights, fill, read_weights, shape_of

SOURCE = "github.com/cyh-0/CAVP"
SAMPLE_RATE = 16_000
# dataset/avsbench_s4.py, `self.audio_len`, in samples; and in how many pieces the AVSS loader's 10 frames view it.
CROP = 10 * SAMPLE_RATE
PIECES = 10
# trainer/trainer_cavp_avs_obj.py: torchaudio's MelSpectrogram, and steps that are kept of it.
FFT, WINDOW, HOP, BANDS, LOWEST_HZ, HIGHEST_HZ = 512, 400, 160, 64, 125.0, 3800.0
STEPS = 96
# config/config_avss_binary.py.
SPECTRUM_RANGE = (-100.0, 100.0)
IMAGE_SIZE = 224
# Blocks of layer3 of a ResNet, by its number of layers.
_DEPTHS = {2: 18, 6: 50, 23: 101}
_SETTINGS = {
    "seg_model": "DeepLabV3Plus",
    "last_three_dilation_stride": [False, False, False],
    "audio_backbone": "vgg",
    # Of the memory that training keeps sounds in.
    "batch_size": 1,
}


@dataclass(frozen=True)
class EncodedFrames:
    """Visual features of B clips.

    Attributes:
        features: A feature map [1, C, h, w] of each frame, clip after clip.
        clips: B.
        size: (height, width) of the pictures, in pixels.
    """

    features: tuple[Tensor, ...]
    clips: int
    size: tuple[int, int]


class Cavp(Adapter):
    """CAVP with DeepLabV3+ on a ResNet."""

    audio: ClassVar[AudioInput] = AudioInput.waveform(SAMPLE_RATE, "torchaudio")

    def __init__(
        self,
        checkout: Checkout,
        network: nn.Module,
        *,
        classes: int,
        released: bool,
        loader: str,
        image_size: int | None,
    ) -> None:
        self.device = checkout.device
        self.network = network.eval().to(checkout.device)
        self.classes = classes
        self.released = released
        self.loader = loader
        self.image_size = image_size
        self._checkout = checkout

    @classmethod
    def load(  # type: ignore[override]  # the options by name, so that others are refused
        cls,
        checkpoint: Path | None,
        device: torch.device,
        *,
        repo: str | None = None,
        behaviour: str = "released",
        loader: str | None = None,
        image_size: str | None = None,
    ) -> Self:
        """Return the adapter of a checkout's network.

        Args:
            checkpoint: The network's weights, as the repository saves them.
            device: Device that it runs on.
            repo: The checkout's folder.
            behaviour: "released": the waveform is cut as the released loaders do; "paper": second by second.
            loader: "object" or "semantic"; None: by the number of classes in the checkpoint.
            image_size: Side of the square pictures in pixels, or "frame" for frames as they are on disk; None: "frame" with
                loader=object, 224 with loader=semantic.

        Raises:
            AdapterError: The folder is no such checkout, or the checkpoint does not fit.
        """
        weights = read_weights(checkpoint, "cavp")
        classes = shape_of(weights, "segment.upsample.classifier.weight", checkpoint, "cavp")[0]
        if classes not in (2, 71):
            raise AdapterError(
                f"--checkpoint {checkpoint}: has {counted(classes, 'class')}; expected CAVP with 2 (S4, MS3) or 71 (AVSS)"
            )
        root = find_root(repo, "models/cavp_model.py", ("",), "cavp", SOURCE)
        released = choice("behaviour", behaviour, ("released", "paper")) == "released"
        by_classes = "object" if classes == 2 else "semantic"
        chosen = by_classes if loader is None else choice("loader", loader, ("object", "semantic"))
        default = "frame" if chosen == "object" else str(IMAGE_SIZE)
        size = image_size or default
        checkout = Checkout(root, device)
        network = _build(checkout, weights, classes, checkpoint)
        fill(network, weights, checkpoint)
        return cls(
            checkout,
            network,
            classes=classes,
            released=released,
            loader=chosen,
            image_size=None if size == "frame" else side("image_size", size),
        )

    @torch.inference_mode()
    def encode_frames(self, frames: Tensor) -> EncodedFrames:
        """Run the visual backbone, one picture at a time.

        Args:
            frames: RGB frames, uint8 [B, T, 3, H, W].
        """
        pictures = _prepared(frames, self.image_size).to(self.device)
        network: Any = self.network
        with self._checkout.active():
            features = tuple(network.segment.forward_feature(network.backbone(picture[None])) for picture in pictures)
        height, width = pictures.shape[-2:]
        return EncodedFrames(features, len(frames), (height, width))

    @torch.inference_mode()
    def segment(self, encoded: EncodedFrames, audio: Tensor) -> Tensor | Segmentation:
        """Return foreground probabilities with the argmax as mask, or class logits [B, T, 71, h, w].

        Args:
            encoded: Clips from `encode_frames`.
            audio: Waveforms at 16 kHz, float32 [B, S].

        Raises:
            ClipError: The released loaders cannot cut clips of this length.
        """
        count = len(encoded.features) // encoded.clips
        pieces = self.pieces(audio.to(self.device), count)
        spectra = piece_spectrograms(pieces.flatten(0, 1))[:, None]
        network: Any = self.network
        answers = []
        with self._checkout.active():
            for feature, spectrum in zip(encoded.features, spectra, strict=True):
                fused, _ = network.forward_fusion(feature, network.audio_backbone(spectrum[None]))
                answers.append(network.forward_cls(fused, encoded.size))
        stacked = torch.cat(answers)
        logits = stacked.reshape(encoded.clips, count, *stacked.shape[1:])
        if self.classes > 2:
            return logits
        # trainer/trainer_cavp_avs_obj.py, `test`: IoU of the argmax, F of the softmax.
        return Segmentation(logits.softmax(2)[:, :, 1], mask=logits.argmax(2) == 1)

    def pieces(self, waveforms: Tensor, count: int) -> Tensor:
        """Return the sound of each frame.

        Args:
            waveforms: Waveforms at 16 kHz, [B, S].
            count: Number of frames of each clip, T.

        Returns:
            Pieces [B, T, samples].

        Raises:
            ClipError: The released loaders cannot cut clips of this length.
        """
        if not self.released:
            return waveforms[:, : count * SAMPLE_RATE].reshape(len(waveforms), count, SAMPLE_RATE)
        number = count if self.loader == "object" else PIECES
        if count > number or CROP % number:
            raise ClipError(
                f"cavp: found {counted(count, 'frame')}; expected at most {PIECES} that divide {PIECES} s, as the released "
                "loader does; behaviour=paper takes any number"
            )
        return released_crop(waveforms).reshape(len(waveforms), number, -1)[:, :count]


def released_crop(waveforms: Tensor) -> Tensor:
    """Return 10 seconds of each waveform as the released `crop_audio` cuts them.

    Args:
        waveforms: Waveforms at 16 kHz, [B, S].

    Returns:
        [B, 160000]. Below 10 s the cut starts before the waveform, which Python counts from its end.
    """
    start = waveforms.shape[1] // 2 - CROP // 2
    cut = waveforms[:, start : start + CROP]
    if cut.shape[1] != CROP:
        cut = cut.repeat(1, CROP // cut.shape[1] + 1)[:, :CROP]
    return cut


def piece_spectrograms(pieces: Tensor) -> Tensor:
    """Return the log-mel spectrograms that CAVP's trainers make (`preprocess_audio`).

    torchaudio's MelSpectrogram (power, HTK's mel scale, no norm, reflected at both ends), of which the first 96 steps are
    kept, in dB (utils/sourcesep.py, `db_from_amp`) scaled from [-100, 100] to [-1, 1].

    Args:
        pieces: Waveforms at 16 kHz, float32 [N, S].

    Returns:
        float32 [N, 96, 64].
    """
    window = torch.hann_window(WINDOW, device=pieces.device)
    spectrum = torch.stft(
        pieces, FFT, HOP, WINDOW, window, center=True, pad_mode="reflect", onesided=True, return_complex=True
    )
    power = spectrum.abs().pow(2)
    mel = torch.matmul(power.transpose(-1, -2), _mel_filters().to(pieces.device))[:, :STEPS]
    decibels = 20.0 * (torch.log(mel.clamp(min=1e-5)) / math.log(10.0))
    low, high = SPECTRUM_RANGE
    return 2.0 * (decibels - low) / (high - low) - 1.0


def _mel_filters() -> Tensor:
    """Return triangular filters [257, 64] on HTK's mel scale, as torchaudio's `melscale_fbanks` makes them in float32."""
    frequencies = torch.linspace(0, SAMPLE_RATE // 2, FFT // 2 + 1)
    ends = [2595.0 * math.log10(1.0 + hz / 700.0) for hz in (LOWEST_HZ, HIGHEST_HZ)]
    points = 700.0 * (10.0 ** (torch.linspace(ends[0], ends[1], BANDS + 2) / 2595.0) - 1.0)
    widths = points[1:] - points[:-1]
    slopes = points[None] - frequencies[:, None]
    falling, rising = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    return torch.minimum(falling, rising).clamp(min=0)


def _prepared(frames: Tensor, size: int | None) -> Tensor:
    """Return frames, uint8 [B, T, 3, H, W], as the released loaders prepare them, float32 [B * T, 3, h, w]."""
    flat = frames.flatten(0, 1).cpu()
    if size is not None:
        pictures = [Image.fromarray(picture) for picture in flat.permute(0, 2, 3, 1).numpy()]
        resized = [np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)) for picture in pictures]
        flat = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return flat.to(torch.float32).div(255).sub(mean).div(deviation)


def _build(checkout: Checkout, weights: Mapping[str, Tensor], classes: int, checkpoint: Path | None) -> nn.Module:
    """Make the network without the files of weights that training starts from: the checkpoint holds all of them."""
    blocks = {name.split(".")[3] for name in weights if name.startswith("backbone.backbone.layer3.")}
    depth = _DEPTHS.get(len(blocks))
    if depth is None:
        raise AdapterError(
            f"--checkpoint {checkpoint}: holds {len(blocks)} blocks under backbone.backbone.layer3; expected CAVP with "
            f"DeepLabV3+ on ResNet-{', -'.join(map(str, _DEPTHS.values()))}"
        )
    module = checkout.import_module("models.cavp_model")
    # It loads a pretrained backbone even where none is named.
    backbones: Any = checkout.import_module("models.visual.backbones.resnet")
    backbones.load_model = lambda model, *_rest, **_named: model
    settings = SimpleNamespace(num_classes=classes, local_rank=str(checkout.device), **_SETTINGS)
    with checkout.active(), UnfilledWeights():
        network: nn.Module = module.CAVP(
            depth, None, num_classes=classes, audio_backbone_pretrain_path=None, visual_backbone=depth, args=settings
        )
    return network
