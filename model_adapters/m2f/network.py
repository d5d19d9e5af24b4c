"""The network: stock Mask2Former with adapter layers, prompted by the audio.

Conventions
    N frames in a batch (clips times seconds), Q queries, H = hidden_dim, h, w = image_size / 4.
    Frames are float32 [N, 3, image_size, image_size], ImageNet-normalised (`prepare_frames`). Audio has the form
    `config.audio`: log_mel [N, 1, 96, 64] or VGGish embedding [N, 128].
    A gate, float [N, Q] in 0..1, says which queries are active: it scales the prompt and the queries' share of the mask.
    Prompting follows bias_in_AVS (avs_m2f_base.py `PmpAVS.forward`; modeling_mask2former.py: the prompt is added to the
    query features). `encode` is independent of the audio; `decode` runs once per audio query, several of them in one batch.
    Bundled models have an audio encoder of their own, `LogMelEncoder`; its embedding is as long as VGGish's, so that the rest of
    the network is the same for both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch import _dynamo as dynamo
from torch.nn import functional as F
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

from model_adapters.m2f.backbone import Block, apply_block, feature_maps
from model_adapters.m2f.blocks import insert_adapters
from model_adapters.m2f.config import EMBEDDING_SIZE, M2FConfig
from model_adapters.m2f.debias import Branch, Contrast, prompt_queries
from model_adapters.m2f.decoder import EncodedFrames, apply_layer, decode, prepare
from model_adapters.m2f.decoder import Layer as MaskLayer
from model_adapters.m2f.pixel_decoder import Layer as PixelLayer
from model_adapters.m2f.pixel_decoder import decode_pixels, fused_layer, gathered_layer, sampled_layer
from model_adapters.m2f.readout import QueryLogits, read_out
from model_adapters.m2f.sampling import can_fuse, only_deterministic

# Of ImageNet, as facebook/mask2former-swin-base-ade-semantic's preprocessor_config.json has them.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
# bias_in_AVS, avs_m2f_base.py `audio_proj`: 128 -> 512 -> H.
_AUDIO_HIDDEN = 512
# Channels of the audio encoder's convolutions, and the mel bands that it takes.
_CHANNELS = (1, 16, 32, 64, 128)
_MEL_BANDS = 64
# Mean and standard deviation of VGGish log-mels over varied sounds, rounded (golden/logmel.json "pooled").
_LOG_MEL_MEAN, _LOG_MEL_STD = -1.0, 1.4
# Kernels that torch.compile has made, unless TORCHINDUCTOR_CACHE_DIR names another folder.
COMPILE_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "avsrobust" / "torch_compile"
# Graphs that torch.compile keeps of one function before it runs it uncompiled.
_MOST_GRAPHS = 128
# A hard gate switches on the queries that are more likely active than not.
_ACTIVE = 0.5


class _Layers(NamedTuple):
    """The functions of the layers that repeat."""

    block: Block
    pixel_layer: PixelLayer
    mask_layer: MaskLayer


_PLAIN = _Layers(apply_block, sampled_layer, apply_layer)
# Where deformable attention has a kernel of its own, compiled or not.
_FUSED = _PLAIN._replace(pixel_layer=fused_layer)
# `gathered` is one kernel only where it is compiled.
_COMPILED = _PLAIN._replace(pixel_layer=gathered_layer)


def prepare_frames(frames: Tensor, image_size: int) -> Tensor:
    """Return frames as the network takes them: squeezed to a square with antialiased bilinear filtering, then normalised.

    This is the processing of the published image processor.

    Args:
        frames: RGB frames, uint8 [N, 3, H, W].
        image_size: Side of the square, in pixels.

    Returns:
        float32 [N, 3, image_size, image_size].
    """
    scaled = frames.to(torch.float32)
    if scaled.shape[-2:] != (image_size, image_size):
        scaled = F.interpolate(scaled, size=(image_size, image_size), mode="bilinear", antialias=True)
    mean, std = _image_statistics(frames.device)
    return (scaled / 255.0 - mean) / std


@lru_cache(maxsize=8)
def _image_statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    # They are kept, and later used where gradients are taken.
    with torch.inference_mode(False):
        mean, std = (torch.tensor(values).view(1, 3, 1, 1).to(device) for values in (IMAGE_MEAN, IMAGE_STD))
        return mean, std


class LogMelEncoder(nn.Module):
    """Four strided convolutions, pooled over time alone: sounds differ most in which bands are loud."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for in_channels, out_channels in pairwise(_CHANNELS):
            layers += [nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        bands = _MEL_BANDS // 2 ** (len(_CHANNELS) - 1)
        self.projection = nn.Linear(2 * _CHANNELS[-1] * bands, EMBEDDING_SIZE)
        self.norm = nn.LayerNorm(EMBEDDING_SIZE)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return the embedding of each second of sound.

        Args:
            log_mel: float32 [N, 1, 96, 64], 0.96 s each: 96 steps of 10 ms, 64 mel bands, natural log of magnitude + 0.01.

        Returns:
            float32 [N, 128].
        """
        maps = self.convolutions((log_mel - _LOG_MEL_MEAN) / _LOG_MEL_STD)
        pooled = torch.cat((maps.mean(dim=2), maps.amax(dim=2)), dim=1).flatten(1)
        return cast("Tensor", self.norm(self.projection(pooled)))


class M2FNetwork(nn.Module):
    """Mask2Former with adapters, an audio encoder and a projection of the audio into the space of the queries."""

    def __init__(self, config: M2FConfig) -> None:
        super().__init__()
        self.config = config
        self.mask2former: Any = Mask2FormerForUniversalSegmentation(_stock_config(config))
        insert_adapters(self.mask2former)
        self.audio_encoder: nn.Module = LogMelEncoder() if config.audio == "log_mel" else nn.Identity()
        self.audio_proj = nn.Sequential(
            nn.Linear(EMBEDDING_SIZE, _AUDIO_HIDDEN),
            nn.ReLU(),
            nn.Linear(_AUDIO_HIDDEN, config.hidden_dim),
        )
        self.query_gate = nn.Linear(config.hidden_dim, config.num_queries) if config.query_gate != "all" else None
        self._freeze_what_no_output_depends_on()
        self._compiled: tuple[_Layers, _Layers] | None = None
        self._compiled_in_training_alone = False

    def compile_parts(self, backend: Any = "inductor", *, training_alone: bool = False) -> None:
        """Compile the layers that repeat, each kind and shape once, at its first call; `COMPILE_CACHE` keeps the kernels.

        These are the blocks of the backbone and the layers of both decoders: with their backward nearly all of the work, and a
        few small graphs in place of one large one for each part.

        Args:
            backend: The backend of torch.compile.
            training_alone: Leave evaluation as it is: for a few clips of varying number the compilation would take longer.
        """
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(COMPILE_CACHE))
        # A graph for each stage, shifted or not, in training and in evaluation, for a few sizes of the batch.
        dynamo.config.recompile_limit = max(dynamo.config.recompile_limit, _MOST_GRAPHS)
        # Weights are arguments of a graph, so that layers of one shape share it.
        parts = _Layers(*(torch.compile(part, backend=backend, dynamic=False) for part in _COMPILED))
        fused = torch.compile(fused_layer, backend=backend, dynamic=False)
        self._compiled, self._compiled_in_training_alone = (parts, parts._replace(pixel_layer=fused)), training_alone

    def _layers(self) -> _Layers:
        plain = self._compiled is None or (self._compiled_in_training_alone and not self.training)
        layers, fused = (_PLAIN, _FUSED) if plain or self._compiled is None else self._compiled
        device: torch.device = self.audio_proj[0].weight.device  # type: ignore[assignment]
        heads = self.config.attention_heads
        if only_deterministic(device):
            return layers._replace(pixel_layer=gathered_layer) if plain else layers
        return fused if can_fuse(device, heads, self.config.hidden_dim // heads) else layers

    @classmethod
    def seeded(cls, config: M2FConfig, seed: int) -> Self:
        """Return a network whose first weights depend on `seed` alone; torch's global generator stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    def encode(self, frames: Tensor) -> EncodedFrames:
        """Run backbone and pixel decoder on frames, float32 [N, 3, image_size, image_size]."""
        model, layers = self.mask2former.model, self._layers()
        maps = feature_maps(model.pixel_level_module.encoder, frames, layers.block)
        levels, mask_features = decode_pixels(model.pixel_level_module.decoder, maps, layers.pixel_layer)
        return prepare(model.transformer_module, levels, mask_features)

    def embed_audio(self, audio: Tensor) -> Tensor:
        """Return the audio projected into the space of the queries, [N, H]; `audio` has the form `config.audio`."""
        return cast("Tensor", self.audio_proj(self.audio_encoder(audio)))

    def gate_of(self, audio: Tensor) -> Tensor:
        """Return the network's own gate for projected audio [N, H]: learned, hard, or all ones; [N, Q] in [0, 1]."""
        if self.query_gate is None:
            return audio.new_ones(len(audio), self.config.num_queries)
        probabilities = torch.sigmoid(self.query_gate(audio))
        return (probabilities > _ACTIVE).to(probabilities.dtype) if self.config.query_gate == "hard" else probabilities

    def decode(self, encoded: EncodedFrames, prompt: Tensor | None) -> QueryLogits:
        """Run the masked decoder.

        Args:
            encoded: Features of N frames.
            prompt: Added to the query features, [N, Q, H]; None: nothing is added.
        """
        return next(self.decode_prompts(encoded, None if prompt is None else [prompt]))

    def decode_prompts(self, encoded: EncodedFrames, prompts: Sequence[Tensor] | None) -> Iterator[QueryLogits]:
        """Run the masked decoder on several prompts of the same frames at once; yield the queries of each prompt.

        Args:
            encoded: Features of N frames.
            prompts: Prompts [N, Q, H], each added to the query features; None: one, without a prompt.
        """
        together = None if prompts is None else torch.stack(list(prompts), dim=1)
        states, embeddings = decode(
            self.mask2former.model.transformer_module, encoded, together, self._layers().mask_layer
        )
        return (
            QueryLogits(
                self.mask2former.class_predictor(states[:, number]),
                embeddings[:, number],
                encoded.mask_features,
            )
            for number in range(states.shape[1])
        )

    def decode_queries(
        self, encoded: EncodedFrames, audio: Tensor, gate: Tensor | None = None, contrast: Contrast | None = None
    ) -> tuple[list[QueryLogits], list[Tensor]]:
        """Return the decoded queries for projected audio, and their gates: clean, then biased where there is a contrast.

        Clean and biased branch pass the decoder in one batch.

        Args:
            encoded: Features of N frames.
            audio: Projected audio [N, H].
            gate: Gate [N, Q] in place of the network's own.
            contrast: The biased branch.
        """
        branches = self.branches(audio, gate, contrast)
        decoded = self.decode_prompts(encoded, [branch.prompt for branch in branches])
        return list(decoded), [branch.gate for branch in branches]

    def branches(self, audio: Tensor, gate: Tensor | None, contrast: Contrast | None) -> list[Branch]:
        """Return the clean branch, and the biased one where there is a contrast; arguments as in `decode_queries`."""
        gate = self.gate_of(audio) if gate is None else gate
        biased = contrast.branch(audio, gate) if contrast is not None else None
        return [Branch(prompt_queries(audio, gate), gate), *([] if biased is None else [biased])]

    def segment(
        self, encoded: EncodedFrames, audio: Tensor, gate: Tensor | None = None, contrast: Contrast | None = None
    ) -> tuple[Tensor, QueryLogits]:
        """Return logits [N, h, w] or class scores [N, C, h, w], and the clean queries; arguments as in `decode_queries`."""
        queries, gates = self.decode_queries(encoded, audio, gate, contrast)
        logits = read_out(self.config, queries, gates)
        return (logits if contrast is None else contrast.finish(logits)), queries[0]

    def _freeze_what_no_output_depends_on(self) -> None:
        # Distributed training waits for gradients of everything that is not frozen.
        self.mask2former.model.pixel_level_module.encoder.swin.layernorm.requires_grad_(False)
        if not self.config.reads_classes:
            self.mask2former.class_predictor.requires_grad_(False)


def _stock_config(config: M2FConfig) -> Any:
    width = config.hidden_dim
    backbone: dict[str, Any] = {
        "model_type": "swin",
        "image_size": config.image_size,
        "embed_dim": config.embed_dim,
        "depths": list(config.depths),
        "num_heads": list(config.num_heads),
        "window_size": config.window_size,
        "mlp_ratio": float(config.mlp_ratio),
        "drop_path_rate": float(config.drop_path_rate),
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    whole: dict[str, Any] = {
        "backbone_config": backbone,
        "feature_size": width,
        "mask_feature_size": width,
        "hidden_dim": width,
        "encoder_layers": config.encoder_layers,
        "encoder_feedforward_dim": config.encoder_feedforward_dim,
        "decoder_layers": config.decoder_layers,
        "dim_feedforward": config.feedforward_dim,
        "num_attention_heads": config.attention_heads,
        "num_queries": config.num_queries,
        "num_labels": config.num_labels,
    }
    return Mask2FormerConfig(**whole)
