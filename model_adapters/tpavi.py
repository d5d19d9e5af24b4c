"""The adapter `tpavi`: AVSBench's own model (TPAVI), for S4, MS3 and AVSS, from the user's own checkout and checkpoint.

Conventions
    The checkout is OpenNLPLab/AVSBench (Zhou et al., ECCV 2022 and IJCV 2024), its avs_scripts, or one folder of these. The
    checkpoint says which backbone it has (ResNet-50 or PVT-v2-B5), which stages attend to audio, and how many classes:
    1 (S4 and MS3, which share one network) or 71 (AVSS).
    Pictures: 224 pixels square. Sound: VGGish's embedding, which the runner makes (``--option vggish=FILE``), since the
    checkpoint holds no VGGish.
    The network attends within groups of 5 frames; clips of AVSS v2 are two groups. The released AVSS test pads v1 clips with
    5 black frames, a group of its own, which changes nothing for the real ones and is omitted.
    Options: repo=PATH; task=s4|ms3|avss where the checkpoint should run under another folder's code; self_attention=yes for
    networks trained with tpavi_vv_flag.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.errors import AdapterError, ClipError
from avsrobust.vocabulary import counted
from model_adapters.checkouts.imports import Checkout
from model_adapters.checkouts.network import CheckoutNetwork, EncodedClips, clip_masks
from model_adapters.checkouts.options import choice, find_root, side
from model_adapters.checkouts.weights import UnfilledWeights, fill, read_weights, shape_of

FOLDERS = {"s4": "avs_s4", "ms3": "avs_ms3", "avss": "avss"}
GROUP = 5
IMAGE_SIZE = 224
SOURCE = "github.com/OpenNLPLab/AVSBench"
_STAGES = 4
# The constructors' methods that load the backbone that training starts from.
_INITIALISERS = ("initialize_weights", "initialize_pvt_weights")


@dataclass(frozen=True)
class _Backbone:
    """One of the two backbones.

    Attributes:
        module: Module of the checkout that defines its network.
        stages: The network's stages that see the pictures alone.
        kept: Those of `stages` that the decoder reads.
    """

    module: str
    stages: tuple[str, ...]
    kept: tuple[str, ...]


_RESNET = tuple(f"resnet.{name}" for name in ("layer1", "layer2", "layer3_1", "layer4_1"))
_BACKBONES = {
    "resnet.": _Backbone(
        "model.ResNet_AVSModel",
        (*(f"resnet.{name}" for name in ("conv1", "bn1", "relu", "maxpool")), *_RESNET),
        _RESNET,
    ),
    "encoder_backbone.": _Backbone("model.PVT_AVSModel", ("encoder_backbone",), ("encoder_backbone",)),
}


class Tpavi(Adapter):
    """AVSBench's model with temporal pixel-wise audio-visual interaction."""

    audio: ClassVar[AudioInput] = AudioInput.embedding()

    def __init__(self, network: CheckoutNetwork, classes: int) -> None:
        self.device = network.checkout.device
        # Named here, so that the weights are part of the run key.
        self.network = network.network
        self.classes = classes
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
        self_attention: str = "no",
        image_size: str = str(IMAGE_SIZE),
    ) -> Self:
        """Return the adapter of a checkout's network.

        Args:
            checkpoint: The network's weights.
            device: Device that it runs on.
            repo: The checkout's folder.
            task: s4, ms3 or avss; None: by the number of classes in the checkpoint.
            self_attention: "yes" for networks that were trained with tpavi_vv_flag.
            image_size: Side of the square frames, in pixels, a multiple of 32.

        Raises:
            AdapterError: The folder is no such checkout, or the checkpoint does not fit.
        """
        weights = read_weights(checkpoint, "tpavi")
        classes = shape_of(weights, "output_conv.4.weight", checkpoint, "tpavi")[0]
        chosen = choice("task", task, tuple(FOLDERS)) if task is not None else ("s4" if classes == 1 else "avss")
        root = find_root(
            repo, "model/TPAVI.py", (f"avs_scripts/{FOLDERS[chosen]}", FOLDERS[chosen], ""), "tpavi", SOURCE
        )
        attends = choice("self_attention", self_attention, ("yes", "no")) == "yes"
        backbone = _backbone(weights, checkpoint)
        checkout = Checkout(root, device, _borrowed(root))
        network = _build(checkout, backbone, weights, classes, attends)
        fill(network, weights, checkpoint)
        size = side("image_size", image_size)
        return cls(
            CheckoutNetwork(checkout, network, image_size=size, stages=backbone.stages, kept=backbone.kept), classes
        )

    def encode_frames(self, frames: Tensor) -> EncodedClips:
        """Run the visual backbone.

        Args:
            frames: RGB frames, uint8 [B, T, 3, H, W].

        Raises:
            ClipError: T is no multiple of 5.
        """
        if frames.shape[1] % GROUP:
            raise ClipError(
                f"tpavi: found {counted(frames.shape[1], 'frame')}; expected a multiple of {GROUP}, as it was built for"
            )
        return self._run.encode(frames)

    def segment(self, encoded: EncodedClips, audio: Tensor) -> Tensor:
        """Return probabilities [B, T, s, s] or class logits [B, T, 71, s, s] for embeddings [B, T, 128]."""
        sound = audio.to(self.device).flatten(0, 1)
        arguments = [encoded.pictures, sound]
        if self.classes > 1:
            # The flags of real frames: all of them, since nothing is padded here.
            arguments.append(torch.ones(len(sound), device=self.device))
        return clip_masks(self._run.run(encoded, *arguments)[0], encoded.clips)


def _backbone(weights: Mapping[str, Tensor], checkpoint: Path | None) -> _Backbone:
    for prefix, backbone in _BACKBONES.items():
        if any(name.startswith(prefix) for name in weights):
            return backbone
    raise AdapterError(
        f"--checkpoint {checkpoint}: holds neither {' nor '.join(f'{prefix}*' for prefix in _BACKBONES)}; "
        "expected TPAVI with ResNet-50 or PVT-v2-B5"
    )


def _borrowed(root: Path) -> dict[str, Path]:
    """Return the modules that the folder imports but does not hold: avss has no model/pvt.py, which its siblings have."""
    own, sibling = root / "model" / "pvt.py", root.parent / FOLDERS["s4"] / "model" / "pvt.py"
    return {"model.pvt": sibling} if not own.is_file() and sibling.is_file() else {}


def _build(
    checkout: Checkout, backbone: _Backbone, weights: Mapping[str, Tensor], classes: int, attends: bool
) -> nn.Module:
    """Make the network without the files of weights that training starts from: the checkpoint holds all of them."""
    network_class = checkout.import_module(backbone.module).Pred_endecoder
    stages = [stage for stage in range(_STAGES) if f"tpavi_b{stage + 1}.g.weight" in weights]
    with checkout.active(), UnfilledWeights(), _without(network_class, _INITIALISERS):
        network: nn.Module = network_class(
            channel=weights["output_conv.0.weight"].shape[1],
            config=SimpleNamespace(NUM_CLASSES=classes),
            tpavi_stages=stages,
            tpavi_vv_flag=attends,
            tpavi_va_flag=True,
        )
    return network


@contextmanager
def _without(owner: type[Any], methods: tuple[str, ...]) -> Iterator[None]:
    """Let a class's own methods of these names do nothing within the block."""
    originals = {name: vars(owner)[name] for name in methods if name in vars(owner)}
    for name in originals:
        setattr(owner, name, lambda *_arguments: None)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(owner, name, original)
