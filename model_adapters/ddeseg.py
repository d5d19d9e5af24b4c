"""The adapter `ddeseg`: DDESeg, with its audio memory bank, from the user's own checkout and checkpoint.

Conventions
    The checkout is YenanLiu/DDESeg (Liu et al., CVPR 2025). The checkpoint is what its training saves (ck_epoch_*.pth), for
    S4 and MS3 (1 class) or AVSS (71). The memory bank, features of audio by class [71, n, 768], is a file of its own
    (1s_k5_feabank.npy) and no part of the checkpoint. Files of pretrained backbones are not needed.
    Pictures: 224 pixels square. Sound: one second per frame, mono at 22,050 Hz; the released data are files of one second
    each, so the native sound is cut at whole seconds first, and each second resampled alone, by librosa as the released
    loader does.
    The network draws from a Gumbel distribution in evaluation too (models/backbones/av_malign.py): the row's seed makes the
    draws, each clip is one batch. The sound enters before the first block, so every condition costs a whole forward pass.
    Options: repo=PATH; bank=FILE; config=FILE, below the checkout or anywhere; image_size=N.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
import yaml
from torch import Tensor, nn

from avsrobust.adapters.base import Adapter, AudioInput, NativeSound
from avsrobust.arrays import read_npy
from avsrobust.errors import AdapterError, ClipError
from avsrobust.vocabulary import counted
from model_adapters.checkouts.imports import Checkout
from model_adapters.checkouts.network import clip_masks, normalised_frames
from model_adapters.checkouts.options import find_file, find_root, side
from model_adapters.checkouts.small_packages import EasyDict
from model_adapters.checkouts.weights import UnfilledWeights, fill, read_weights, shape_of

SOURCE = "github.com/YenanLiu/DDESeg"
CONFIG = "configs/ddeseg.yaml"
IMAGE_SIZE = 224
# configs/ddeseg.yaml, in Hz; one second per frame.
SAMPLE_RATE = 22_050
# models/aud_enhancer.py.
FEATURES = 768
CLASSES = (1, 71)
_MARKER = "models/DDESeg.py"
_CLASS_LAYER = "decode_head.linear_pred.weight"
_MEL_BANK = "audio_model.logmel_extractor.melW"


class DDESeg(Adapter):
    """DDESeg: audio derived through a memory bank, and matched with clusters of the picture."""

    audio: ClassVar[AudioInput] = AudioInput.native()
    needs_seed: ClassVar[bool] = True

    def __init__(self, checkout: Checkout, network: nn.Module, image_size: int) -> None:
        self.device = checkout.device
        # Named here, so that the weights are part of the run key.
        self.network = network.eval().to(checkout.device)
        self.image_size = image_size
        self._checkout = checkout

    @classmethod
    def load(  # type: ignore[override]  # the options by name, so that others are refused
        cls,
        checkpoint: Path | None,
        device: torch.device,
        *,
        repo: str | None = None,
        bank: str | None = None,
        config: str = CONFIG,
        image_size: str = str(IMAGE_SIZE),
    ) -> Self:
        """Return the adapter of a checkout's network.

        Args:
            checkpoint: The network's weights.
            device: Device that it runs on.
            repo: The checkout's folder.
            bank: File of the audio memory bank, .npy, [classes, n, 768].
            config: Configuration file.
            image_size: Side of the square frames, in pixels, a multiple of 32.

        Raises:
            AdapterError: The folder is no such checkout, or checkpoint, bank or configuration do not fit.
        """
        root = find_root(repo, _MARKER, ("",), "ddeseg", SOURCE)
        weights = read_weights(checkpoint, "ddeseg")
        classes = shape_of(weights, _CLASS_LAYER, checkpoint, "ddeseg")[0]
        if classes not in CLASSES:
            raise AdapterError(
                f"--checkpoint {checkpoint}: has {counted(classes, 'class')}; expected 1 (S4, MS3) or 71 (AVSS); VPO is not "
                "covered"
            )
        settings = _read_config(find_file("config", config, root))
        bank_path = _check_bank(bank, settings["align_model"].get("aud_cls_num"))
        size = side("image_size", image_size)
        checkout = Checkout(root, device)
        network = _build(checkout, settings, classes, bank_path)
        fill(network, weights, checkpoint)
        if not weights[_MEL_BANK].isfinite().all():
            raise AdapterError(
                f"--checkpoint {checkpoint}: {_MEL_BANK} holds values that are not finite, as the released configuration makes "
                "them (fmin equals fmax); expected the mel filters of the audio backbone that training starts from"
            )
        return cls(checkout, network, size)

    @torch.inference_mode()
    def encode_frames(self, frames: Tensor) -> Tensor:
        """Return frames, uint8 [B, T, 3, H, W], as the network takes them, float32 [B, T, 3, s, s]."""
        pictures = normalised_frames(frames.to(self.device), self.image_size)
        return pictures.reshape(*frames.shape[:2], *pictures.shape[1:])

    @torch.inference_mode()
    def segment(self, encoded: Tensor, audio: Sequence[NativeSound]) -> Tensor:
        """Return probabilities [B, T, s, s], or class logits [B, T, 71, s, s]."""
        logits = []
        for pictures, sound in zip(encoded, audio, strict=True):
            waveforms = torch.from_numpy(seconds(sound, len(pictures))).to(self.device)
            with self._checkout.active():
                logits.append(self.network(img_input=pictures, aud_input=waveforms))
        return clip_masks(torch.cat(logits), len(encoded))


def seconds(sound: NativeSound, count: int) -> npt.NDArray[np.float32]:
    """Return a sound's seconds as the released loader would read them from files of one second.

    Args:
        sound: The sound of a clip.
        count: Number of seconds.

    Returns:
        float32 [count, 22050], mono; a shorter last second is repeated until it is full (dataload/baseloader.py `_wav_repeat`).

    Raises:
        ClipError: The sound has fewer seconds.
    """
    import librosa

    samples = sound.samples.numpy().mean(axis=1, dtype=np.float32)
    parts = []
    for second in range(count):
        part = samples[second * sound.sample_rate : (second + 1) * sound.sample_rate]
        if not len(part):
            raise ClipError(f"ddeseg: found {second} seconds of sound; expected {count}, one per frame")
        waveform = librosa.resample(part, orig_sr=sound.sample_rate, target_sr=SAMPLE_RATE)
        parts.append(np.tile(waveform, math.ceil(SAMPLE_RATE / len(waveform)))[:SAMPLE_RATE])
    return np.stack(parts)


def _read_config(path: Path) -> dict[str, Any]:
    """Return a configuration as a dict whose keys are attributes too, at every depth."""
    sections = ("audio_model", "vis_model", "align_model", "seg_head")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        missing = [name for name in sections if not isinstance(content.get(name), dict)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise AdapterError(f"--option config={path}: cannot be read as a configuration ({reason})") from error
    if missing or "type" not in content["seg_head"] or content["vis_model"].get("type") != "FAVS":
        raise AdapterError(
            f"--option config={path}: expected {', '.join(sections)}, seg_head.type and vis_model.type FAVS, as {CONFIG} has "
            "them; the released code cannot build the Swin variants"
        )
    return EasyDict(content)


def _check_bank(bank: str | None, derived: object) -> Path:
    if bank is None:
        raise AdapterError(
            "ddeseg: found no --option bank; expected bank=FILE, the audio memory bank of the training (1s_k5_feabank.npy)"
        )
    path = Path(bank)
    if not path.is_file():
        raise AdapterError(f"--option bank={bank}: found no such file; expected the audio memory bank of the training")
    values = read_npy(path, AdapterError)
    fits = values.ndim == 3 and values.shape[2] == FEATURES and values.shape[1] and values.dtype == np.float32
    if not fits or not isinstance(derived, int) or len(values) < derived:
        raise AdapterError(
            f"--option bank={bank}: found {values.dtype} {list(values.shape)}; expected float32 [classes, n, {FEATURES}] with "
            f"at least {derived} classes (align_model.aud_cls_num)"
        )
    if not np.isfinite(values).all():
        raise AdapterError(f"--option bank={bank}: holds values that are not finite; make it again")
    return path.absolute()


def _build(checkout: Checkout, settings: dict[str, Any], classes: int, bank: Path) -> nn.Module:
    """Make the network without the files that training starts from: the checkpoint holds what is in them."""
    whole: Any = checkout.import_module("models").DDESeg
    # Its constructor loads pretrained weights from fixed paths where it is in training mode, as every new module is.
    evaluated: Any = type("DDESeg", (whole,), {"training": property(lambda self: False, lambda self, value: None)})
    with checkout.active(), UnfilledWeights():
        network: nn.Module = evaluated(
            num_classes=classes,
            embedding_dim=settings["seg_head"]["embedding_dim"],
            audio_cfg=settings["audio_model"],
            visual_cfg=settings["vis_model"],
            av_cfg=EasyDict({**settings["align_model"], "avss_aud_bank": str(bank)}),
            visual_pretrain=None,
            seg_head_cfg=settings["seg_head"],
            task="v2",
        )
    return network
