"""The adapters `m2f`, `m2f_debias` and `m2f_robust`: one network, three ways of training it, one interface.

Conventions
    Audio arrives as VGGish's log-mel where the network has an encoder of its own (the bundled ones), as VGGish's embedding
    where it has none (published checkpoints; the runner makes it, ``--option vggish=FILE``).
    Binary networks return probabilities [B, T, s, s], s = image_size, resized as logits; networks with 71 classes scores
    [B, T, 71, h, w] at a quarter of the image size. `reference` behaviour takes the published detours in size.
    Clips are looked at for their seed, id and condition alone; targets are never given (`needs_clips`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput, ClipView
from avsrobust.errors import AdapterError
from avsrobust.optional_packages import import_obstacle
from avsrobust.vocabulary import counted
from model_adapters.m2f.debias import AllQueries, Contrast, NoisyAudio, VisualOnly, alpha_bars, row_noise
from model_adapters.m2f.queries import ClassFiles
from model_adapters.m2f.settings import Debias, Settings, parse_options, strategy

if TYPE_CHECKING:
    from model_adapters.m2f.checkpoint import LoadedNetwork
    from model_adapters.m2f.decoder import EncodedFrames
    from model_adapters.m2f.network import M2FNetwork
    from model_adapters.m2f.readout import QueryLogits

WEIGHTS = Path(__file__).parent / "weights"
_INSTALL = "'avsrobust[m2f]'"
# The published code compares at this size (bias_in_AVS, avs_m2f_base.py).
_REFERENCE_SIZE = (256, 256)
# Of the decoder, for conditions that pass it at once, and per query and position of a level: logits, mask and attention weight.
_DECODER_BYTES = 2 << 30
_BYTES_PER_POSITION = 12


@dataclass(frozen=True)
class EncodedClips:
    """The encoded frames of B clips of T frames.

    Attributes:
        frames: Features of all B * T frames.
        clips: Number of clips, B.
        size: Height and width of the frames, in pixels.
        visual_only: Logits or class scores of the network without audio, where debiasing uses one.
    """

    frames: EncodedFrames
    clips: int
    size: tuple[int, int]
    visual_only: Tensor | None


@dataclass(frozen=True)
class _Origin:
    """Where an adapter's weights are from: file or folder, and the free text in their metadata."""

    path: Path
    info: Mapping[str, str]


class M2F(Adapter):
    """Mask2Former prompted by the audio, without debiasing."""

    audio: ClassVar[AudioInput] = AudioInput.log_mel()
    needs_clips: ClassVar[bool] = True
    bundled: ClassVar[str] = "m2f"
    default_debias: ClassVar[Debias] = "none"

    def __init__(self, loaded: LoadedNetwork, settings: Settings, device: torch.device) -> None:
        self.device = device
        if loaded.network.config.audio == "embedding":
            # The form of the audio is the checkpoint's, not the class's.
            self.audio = AudioInput.embedding()  # type: ignore[misc]
        self.network = loaded.network
        self.report = loaded.report
        self._origin: _Origin | None = None
        self._settings = settings
        default = (
            self.default_debias if self.default_debias == "none" else loaded.info.get("debias", self.default_debias)
        )
        self._strategy = strategy(settings, default)
        self._files = ClassFiles(settings.classes, settings.behaviour) if settings.classes else None
        self._visual_only = (
            _load_visual_only(settings.visual_only, loaded.network, device) if settings.visual_only else None
        )
        _check_fit(settings, self._strategy, loaded.network)
        if settings.compile == "yes":
            for network in (self.network, self._visual_only):
                if network is not None:
                    network.compile_parts()

    @classmethod
    def load(cls, checkpoint: Path | None, device: torch.device, **options: str) -> Self:
        """Return the adapter of a bundle or published checkpoint.

        Args:
            checkpoint: The file; None: the bundled weights.
            device: Device that the network runs on.
            **options: The options of README.md.

        Raises:
            AdapterError: The checkpoint or an option cannot be used.
        """
        settings = parse_options(options)
        path = checkpoint if checkpoint is not None else _bundled(settings.weights or cls.bundled)
        loaded = _load_network(path, device, settings)
        adapter = cls(loaded, settings, device)
        adapter._origin = _Origin(path, loaded.info)
        return adapter

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: torch.device | str = "cpu", **options: str) -> Self:
        """Return the adapter of a folder that `save_pretrained` wrote; nothing is downloaded. As `load` otherwise."""
        return cls.load(Path(folder), torch.device(device), **options)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write ``config.json``, ``model.safetensors`` (float16) and, where the weights have a card, ``README.md``.

        Args:
            folder: The folder; made where it is not there.

        Raises:
            AdapterError: One of these files is there already.
        """
        from model_adapters.m2f.checkpoint import save_pretrained

        origin = self._origin
        card = None if origin is None else _card_of(origin.path)
        text = "" if card is None else card.read_text(encoding="utf-8")
        save_pretrained(Path(folder), self.network, {} if origin is None else origin.info, card=text)

    @torch.inference_mode()
    def encode_frames(self, frames: Tensor, views: Sequence[ClipView] = ()) -> EncodedClips:
        """Run backbone and pixel decoder on frames, uint8 [B, T, 3, H, W]; no use is made of the views."""
        clips, _, _, height, width = frames.shape
        flat = _sent(frames, self.device).flatten(0, 1)
        with self._precision():
            encoded = self._encode(self.network, flat)
            visual_only = None if self._visual_only is None else self._visual_only_logits(self._visual_only, flat)
        return EncodedClips(encoded, clips, (height, width), visual_only)

    def segment(self, encoded: EncodedClips, audio: Tensor, clips: Sequence[ClipView] = ()) -> Tensor:
        """Return probabilities [B, T, s, s] or class scores [B, T, 71, h, w].

        Args:
            encoded: The encoded frames.
            audio: Audio [B, T, ...].
            clips: Views of the clips; may be left out where masks do not depend on them.

        Raises:
            AdapterError: debias=noise or queries=classes without views.
        """
        if not clips and (self._strategy == "noise" or self._files is not None):
            raise AdapterError(
                f"{type(self).__name__}: debias=noise and queries=classes need clips; hand them to segment"
            )
        return self._segment(encoded, audio, clips)

    @torch.inference_mode()
    def segment_many(
        self, encoded: EncodedClips, audio: Tensor, rows: Sequence[Sequence[ClipView]]
    ) -> Iterator[Tensor]:
        """Yield masks as `segment` returns them for each condition; as many pass the decoder at once as memory allows.

        Args:
            encoded: The encoded frames.
            audio: Audio [K, B, T, ...] under K conditions.
            rows: Views of the B clips under each condition.
        """
        at_once = max(1, _DECODER_BYTES // (2 * self._decoder_bytes(encoded)))
        for start in range(0, len(audio), at_once):
            yield from self._segment_together(encoded, audio[start : start + at_once], rows[start : start + at_once])

    def _segment(self, encoded: EncodedClips, audio: Tensor, rows: Sequence[ClipView]) -> Tensor:
        return next(self._segment_together(encoded, audio[None], [rows]))

    @torch.inference_mode()
    def _segment_together(
        self, encoded: EncodedClips, audio: Tensor, rows: Sequence[Sequence[ClipView]]
    ) -> Iterator[Tensor]:
        num_frames = audio.shape[2]
        contrasts = [self._contrast(encoded, num_frames, views) for views in rows]
        with self._precision():
            branches = [
                self.network.branches(
                    self.network.embed_audio(sound.flatten(0, 1)), self._gate(num_frames, views), contrast
                )
                for sound, views, contrast in zip(_sent(audio, self.device), rows, contrasts, strict=True)
            ]
            prompts = [branch.prompt for condition in branches for branch in condition]
            decoded = self.network.decode_prompts(encoded.frames, prompts)
        for condition, contrast in zip(branches, contrasts, strict=True):
            with self._precision():
                queries = [next(decoded) for _ in condition]
            masks = self._read_out(queries, [branch.gate for branch in condition], contrast, encoded.size)
            yield masks.reshape(encoded.clips, num_frames, *masks.shape[1:])

    def _decoder_bytes(self, encoded: EncodedClips) -> int:
        """Return the memory that one branch of the decoder takes at most: the attention of its largest level."""
        frames = encoded.frames
        positions = max(level.shape[-1] for level in frames.shrunk)
        return len(frames.mask_features) * self.network.config.num_queries * positions * _BYTES_PER_POSITION

    def _read_out(
        self, queries: Sequence[QueryLogits], gates: Sequence[Tensor], contrast: Contrast | None, size: tuple[int, int]
    ) -> Tensor:
        from model_adapters.m2f.readout import read_out, resize

        config = self.network.config
        square = (config.image_size, config.image_size)
        reference = self._settings.behaviour == "reference"
        mask_size = square if config.semantic and reference else None
        logits = read_out(config, queries, gates, gate_classes=not reference, mask_size=mask_size)
        if contrast is not None:
            logits = contrast.finish(logits)
        if config.semantic:
            return logits
        logits = resize(logits, square)
        return torch.sigmoid(resize(resize(logits, size), _REFERENCE_SIZE) if reference else logits)

    def _gate(self, num_frames: int, rows: Sequence[ClipView]) -> Tensor | None:
        queries = self.network.config.num_queries
        if self._files is None:
            # Requested by name, "all" overrules a gate that the network has learned.
            opened = torch.ones(len(rows) * num_frames, queries, device=self.device)
            return opened if self._settings.queries == "all" else None
        gates = [self._files.gate(row.clip_id, row.condition, row.level, num_frames, queries) for row in rows]
        return _sent(torch.cat(gates), self.device)

    def _contrast(self, encoded: EncodedClips, num_frames: int, rows: Sequence[ClipView]) -> Contrast | None:
        if self._strategy == "none":
            return None
        if self._strategy == "all_queries":
            return AllQueries()
        if encoded.visual_only is not None:
            return VisualOnly(encoded.visual_only)
        width = self.network.config.hidden_dim
        eps = torch.cat([row_noise(row.seed, num_frames, width) for row in rows])
        share = alpha_bars()[self._settings.timestep]
        return NoisyAudio(_sent(share, self.device), _sent(eps, self.device), self._settings.behaviour)

    def _encode(self, network: M2FNetwork, frames: Tensor) -> EncodedFrames:
        from model_adapters.m2f.network import prepare_frames

        return network.encode(prepare_frames(frames, network.config.image_size))

    def _visual_only_logits(self, network: M2FNetwork, frames: Tensor) -> Tensor:
        from model_adapters.m2f.readout import read_out, resize

        queries = network.decode(self._encode(network, frames), None)
        opened = torch.ones(len(frames), network.config.num_queries, device=self.device)
        side = self.network.config.image_size // 4
        return resize(read_out(network.config, [queries], [opened]).float(), (side, side))

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        if self._settings.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()


class M2FDebias(M2F):
    """The same network with debiasing: the bias of the picture alone is subtracted."""

    bundled: ClassVar[str] = "m2f_debias"
    default_debias: ClassVar[Debias] = "noise"


class M2FRobust(M2F):
    """The same network, trained with negatives and with similarity of audio and picture."""

    bundled: ClassVar[str] = "m2f_robust"


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on the device; the host goes on while a GPU copies it, so that it has the next kernels launched in time."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _card_of(path: Path) -> Path | None:
    """The card of some weights: ``README.md`` in their folder, the Markdown file of the bundled ones' name."""
    card = path / "README.md" if path.is_dir() else path.with_suffix(".md")
    return card if card.is_file() and (path.is_dir() or path.parent == WEIGHTS) else None


def _bundled(name: str) -> Path:
    path = WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        there = ", ".join(sorted(found.stem for found in WEIGHTS.glob("*.safetensors"))) or "none"
        raise AdapterError(
            f"--option weights={name}: no such weights in the package (found: {there}); name a checkpoint with "
            "--checkpoint FILE, or train one with 'avsrobust train'"
        )
    return path


def _load_network(path: Path, device: torch.device, settings: Settings) -> LoadedNetwork:
    try:
        from model_adapters.m2f.checkpoint import load_checkpoint
    except ImportError as error:
        raise AdapterError(
            f"m2f needs transformers 5.23 or later; {import_obstacle(error, 'transformers', _INSTALL)}"
        ) from error
    return load_checkpoint(
        path,
        device,
        config=settings.config,
        head=settings.head,
        image_size=settings.image_size,
        accept_unexpected=settings.unexpected == "accept",
    )


def _load_visual_only(path: Path, network: M2FNetwork, device: torch.device) -> M2FNetwork:
    from model_adapters.m2f.checkpoint import load_checkpoint

    loaded = load_checkpoint(path, device).network
    mine = (network.config.semantic, network.config.readout_labels)
    if (loaded.config.semantic, loaded.config.readout_labels) != mine:
        raise AdapterError(
            f"--option visual_only={path}: reads {counted(loaded.config.readout_labels, 'class')} as {loaded.config.readout}; "
            f"expected the head of the checkpoint, {counted(network.config.readout_labels, 'class')} as {network.config.readout}"
        )
    return loaded


def _check_fit(settings: Settings, chosen: Debias, network: M2FNetwork) -> None:
    if settings.behaviour == "reference" and chosen not in ("none", "noise"):
        raise AdapterError(
            f"--option debias={chosen}: the published code has no such branch; leave out behaviour=reference"
        )
    if chosen == "all_queries" and settings.classes is None and network.query_gate is None:
        raise AdapterError(
            "--option debias=all_queries: all queries are active already, so the contrast would be nothing; add "
            "--option queries=classes with --option classes=DIR, or take debias=noise"
        )
