"""The adapters `avsegformer` and `avsegformer_robust`: AVSegFormer from the user's own checkout and checkpoint.

Conventions
    `avsegformer`: vvvb-github/AVSegFormer (Gao et al., AAAI 2024), or its copy in jiali-home/AVSBench-Robust.
    `avsegformer_robust`: AVSegFormer_robust of jiali-home/AVSBench-Robust (training_evaluation/code/AVSegFormer), which also
    returns the similarity of audio and picture; it is kept with the results (`extras`).
    The checkpoint says which backbone it has and how many classes: 1 (S4 and MS3, which share one network) or 71 (AVSS).
    Pictures: 512 pixels square for S4 and MS3, which their loaders write out, and the configuration's crop_size for AVSS.
    Sound: VGGish's log-mel; VGGish itself is part of the network and of the checkpoint, backbone files are not needed.
    Options: repo=PATH; task=s4|ms3|avss, config=FILE, image_size=N where the defaults do not fit.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.errors import AdapterError
from model_adapters.checkouts.imports import Checkout
from model_adapters.checkouts.network import CheckoutNetwork, EncodedClips, clip_masks
from model_adapters.checkouts.options import choice, find_root, side
from model_adapters.checkouts.weights import UnfilledWeights, fill, read_weights, shape_of

TASKS = ("s4", "ms3", "avss")
# dataloader/s4_dataset.py and ms3_dataset.py resize to this, whatever the configuration says.
BINARY_SIZE = 512
_IN_ROBUST = "training_evaluation/code/AVSegFormer"
_BACKBONES = {"backbone.patch_embed1.": "pvt2", "backbone.conv1.": "res50"}
_SIMILARITY = "cosine_sim."


class AVSegFormer(Adapter):
    """AVSegFormer of vvvb-github/AVSegFormer."""

    audio: ClassVar[AudioInput] = AudioInput.log_mel()
    network_type: ClassVar[str] = "AVSegFormer"
    source: ClassVar[str] = "github.com/vvvb-github/AVSegFormer"

    def __init__(self, network: CheckoutNetwork) -> None:
        self.device = network.checkout.device
        # Named here, so that the weights are part of the run key.
        self.network = network.network
        self.image_size = network.image_size
        self._run = network

    @classmethod
    def load(  # type: ignore[override]  # the options by name, so that others are refused
        cls,
        checkpoint: Path | None,
        device: torch.device,
        *,
        repo: str | None = None,
        task: str | None = None,
        config: str | None = None,
        image_size: str | None = None,
    ) -> Self:
        """Return the adapter of a checkout's network.

        Args:
            checkpoint: The network's weights.
            device: Device that it runs on.
            repo: The checkout's folder.
            task: s4, ms3 or avss; None: by the number of classes in the checkpoint.
            config: Configuration file; None: the checkout's own for backbone and task.
            image_size: Side of the square frames, in pixels, a multiple of 32; None: as the configuration says.

        Raises:
            AdapterError: The folder is no such checkout, or checkpoint or configuration do not fit.
        """
        model = cls.network_type
        root = find_root(repo, f"model/{model}.py", ("", _IN_ROBUST), model, cls.source)
        weights = read_weights(checkpoint, model)
        classes = shape_of(weights, "head.fc.4.weight", checkpoint, model)[0]
        chosen = choice("task", task, TASKS) if task is not None else ("s4" if classes == 1 else "avss")
        checkout = Checkout(root, device)
        path = _config_path(root, config, chosen, _backbone(weights, checkpoint))
        settings = _read_config(checkout, path)
        network = cls._build(checkout, settings["model"])
        fill(network, weights, checkpoint, hint=cls._hint(weights))
        size = _image_size(settings) if image_size is None else side("image_size", image_size)
        return cls(CheckoutNetwork(checkout, network, image_size=size, stages=("backbone",), kept=("backbone",)))

    def encode_frames(self, frames: Tensor) -> EncodedClips:
        """Run the visual backbone on frames, uint8 [B, T, 3, H, W]."""
        return self._run.encode(frames)

    def segment(self, encoded: EncodedClips, audio: Tensor) -> Tensor:
        """Return probabilities [B, T, s, s] or class logits [B, T, 71, s, s] for log-mels [B, T, 1, 96, 64]."""
        return self._forward(encoded, audio)[0]

    def _forward(self, encoded: EncodedClips, audio: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the masks, and the other outputs of the network."""
        sound = audio.to(self.device).flatten(0, 1)
        scores, *others = self._run.run(encoded, sound, encoded.pictures)
        return clip_masks(scores, encoded.clips), tuple(others)

    @classmethod
    def _build(cls, checkout: Checkout, settings: Mapping[str, Any]) -> nn.Module:
        """Make the network without the files of weights that training starts from: the checkpoint holds all of them."""
        own = copy.deepcopy(dict(settings))
        try:
            own["type"] = cls.network_type
            own["backbone"]["init_weights_path"] = None
            own["vggish"]["freeze_audio_extractor"] = False
            # For AVSS it would read wav files by name, and send them to a GPU.
            own["vggish"]["preprocess_audio_to_log_mel"] = False
        except (KeyError, TypeError) as error:
            raise AdapterError(
                f"{checkout.root}: its configuration's 'model' has no {error}; expected one of {cls.source}"
            ) from error
        build = checkout.import_module("model").build_model
        with checkout.active(), UnfilledWeights():
            network: nn.Module = build(**own)
        return network

    @classmethod
    def _hint(cls, weights: Mapping[str, Tensor]) -> str:
        if any(name.startswith(_SIMILARITY) for name in weights):
            return "; it looks like one for --adapter avsegformer_robust"
        return ""


class AVSegFormerRobust(AVSegFormer):
    """AVSegFormer_robust of jiali-home/AVSBench-Robust, with the similarity of audio and picture."""

    network_type: ClassVar[str] = "AVSegFormer_robust"
    source: ClassVar[str] = "github.com/jiali-home/AVSBench-Robust"

    def __init__(self, network: CheckoutNetwork) -> None:
        super().__init__(network)
        self._similarity: Tensor | None = None

    def segment(self, encoded: EncodedClips, audio: Tensor) -> Tensor:
        """Return masks as `AVSegFormer.segment` does, and keep the similarity for `extras`."""
        masks, others = self._forward(encoded, audio)
        self._similarity = others[-1].reshape(encoded.clips, -1)
        return masks

    def extras(self) -> dict[str, Tensor]:
        """Return the cosine similarity of audio and picture, [B, T] in [-1, 1], of the last `segment`."""
        return {} if self._similarity is None else {"similarity": self._similarity}

    @classmethod
    def _hint(cls, weights: Mapping[str, Tensor]) -> str:
        if not any(name.startswith(_SIMILARITY) for name in weights):
            return "; it looks like one for --adapter avsegformer"
        return ""


def _backbone(weights: Mapping[str, Tensor], checkpoint: Path | None) -> str:
    for prefix, backbone in _BACKBONES.items():
        if any(name.startswith(prefix) for name in weights):
            return backbone
    raise AdapterError(
        f"--checkpoint {checkpoint}: holds neither {' nor '.join(f'{prefix}*' for prefix in _BACKBONES)}; "
        "expected AVSegFormer with PVT-v2-B5 or ResNet-50"
    )


def _config_path(root: Path, config: str | None, task: str, backbone: str) -> Path:
    path = root / (config or f"config/{task}/AVSegFormer_{backbone}_{task}.py")
    # A path of the user's own is relative to where they are.
    if config is not None and not path.is_file():
        path = Path(config)
    if not path.is_file():
        raise AdapterError(f"{path}: not found; name the configuration with --option config=FILE")
    return path


def _read_config(checkout: Checkout, path: Path) -> dict[str, Any]:
    settings = checkout.run_file(path)
    if not isinstance(settings.get("model"), dict):
        raise AdapterError(
            f"{path}: defines no dict 'model'; expected a configuration of AVSegFormer, whole in one file "
            "(_base_ is not followed)"
        )
    return settings


def _image_size(settings: Mapping[str, Any]) -> int:
    """Return the side that the test loader of the configuration's data set resizes to."""
    data = settings.get("dataset", {}).get("test", {})
    return int(data["crop_size"]) if "crop_size" in data else BINARY_SIZE
