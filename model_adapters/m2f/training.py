"""Training networks of this family: the side of the model in `avsrobust.training.model`.

Conventions
    Options of a recipe: `size` ("toy" or "published") and `config` (keys of config.M2FConfig over that); `debias`, the biased
    branch that stands against the clean one in training as in inference (debias.py); `deaf`, the file of the frozen network
    for debias "deaf"; `query_classes`, for a learned query gate: the category of query 0, 1, .. (default: the 70 of
    AVSBench-semantic); queries beyond these are always active and hold the background.
    The family's own losses (auxiliary.py) are weighed under `loss.extra`; only what is weighed is computed.
    `learns: sounds` trains what hears, and the gate, by the sounds alone: a start for the others, as the published models
    start from a VGGish that knows AudioSet. Its masks are those of a network that has seen nothing.
    A hard gate is given by the labels in training, and by what the gate has learned of them (`active_queries`) afterwards.
    In training the noise step is uniform over 0..99, in evaluation it is the last (bias_in_AVS, train.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.checkpoint_folder import check_folder, require_parameters
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import AdapterError, OptionError, RecipeError
from avsrobust.training.losses import mask_losses
from avsrobust.training.model import Batch, Predictions
from avsrobust.training.parsing import read_fields
from avsrobust.training.recipe import LossPart
from model_adapters.m2f import auxiliary
from model_adapters.m2f.adapter import M2F, M2FDebias
from model_adapters.m2f.checkpoint import LoadedNetwork, LoadReport, fill, load_checkpoint, save_bundle
from model_adapters.m2f.config import PUBLISHED, M2FConfig, read_config
from model_adapters.m2f.debias import STEPS, AllQueries, Contrast, DeafModel, NoisyAudio, alpha_bars
from model_adapters.m2f.network import EncodedFrames, M2FNetwork, prepare_frames
from model_adapters.m2f.readout import QueryLogits, read_out, resize
from model_adapters.m2f.settings import Settings


@dataclass(frozen=True)
class M2FOptions:
    """A recipe's `model.options`."""

    size: Literal["toy", "published"] = "toy"
    learns: Literal["masks", "sounds"] = "masks"
    config: dict[str, Any] = field(default_factory=dict)
    debias: Literal["none", "noise", "all_queries", "deaf"] = "none"
    deaf: str | None = None
    query_classes: tuple[str, ...] = AVSS_CLASSES[1:]


class M2FTraining:
    """A network of this family as something to train (`avsrobust.training.model.Trainable`)."""

    extra_losses: ClassVar[tuple[str, ...]] = auxiliary.NAMES

    def __init__(
        self,
        network: M2FNetwork,
        options: M2FOptions,
        deaf: M2FNetwork | None,
        notes: tuple[str, ...],
        losses: Collection[str],
        seed: int,
    ) -> None:
        config = network.config
        self.audio = AudioInput.log_mel() if config.audio == "log_mel" else AudioInput.embedding()
        self.image_size = config.image_size
        self.notes = notes
        self._options = options
        self._network = network
        self._deaf = deaf
        self.network: nn.Module = _Step(network, options, deaf, losses, seed)

    @classmethod
    def open(
        cls, options: Mapping[str, Any], start: Path | None, seed: int, where: str, losses: Collection[str] = ()
    ) -> Self:
        """Return the network of a recipe's options; `start`: a bundle, a run's folder, or a Mask2Former checkpoint folder.

        Raises `RecipeError` for bad options, `AdapterError` for a start that cannot be read.
        """
        chosen = read_fields(M2FOptions, options, where, "model.options.")
        config = _config(chosen, start, where)
        _check(chosen, config, where, losses)
        network = M2FNetwork.seeded(config, seed)
        notes = _fill_from(network, start) if start is not None else ("starts from nothing",)
        deaf = None if chosen.deaf is None else load_checkpoint(Path(chosen.deaf)).network.requires_grad_(False)
        return cls(network, chosen, deaf, notes, losses, seed)

    @property
    def similarity_widths(self) -> tuple[int, int]:
        """Widths of the projected sound and of the pooled mask features."""
        return self._network.config.hidden_dim, self._network.config.hidden_dim

    def adapter(self, device: torch.device) -> Adapter:
        """Return the adapter that evaluates this network."""
        loaded = LoadedNetwork(self._network, {"debias": self._options.debias}, LoadReport(0))
        if self._options.debias == "none":
            return M2F(loaded, Settings(), device)
        return M2FDebias(
            loaded, Settings(deaf=None if self._options.deaf is None else Path(self._options.deaf)), device
        )

    def export(self, path: Path, info: Mapping[str, str]) -> None:
        """Write a bundle in float16."""
        save_bundle(path, self._network, {**info, "debias": self._options.debias})


class _Step(nn.Module):
    """One pass of a batch through the network, as training sees it."""

    assignment: Tensor

    def __init__(
        self, network: M2FNetwork, options: M2FOptions, deaf: M2FNetwork | None, losses: Collection[str], seed: int
    ) -> None:
        super().__init__()
        self.network = network
        self._options = options
        self._losses = frozenset(losses)
        self.pixel_head: nn.Module | None = None
        if auxiliary.PIXEL_CLASSES in losses:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.pixel_head = nn.Linear(network.config.hidden_dim, len(AVSS_CLASSES))
        # In a list it is no submodule: neither trained nor stored.
        self._deaf = [] if deaf is None else [deaf]
        self.register_buffer("assignment", _assignment(options, network.config), persistent=False)

    def forward(self, batch: Batch) -> Predictions:
        """Return the predictions of the batch's scored frames."""
        return self._hear(batch) if self._options.learns == "sounds" else self._see_and_hear(batch)

    def _hear(self, batch: Batch) -> Predictions:
        sounds = auxiliary.mix_sounds(batch.audio[batch.scored], batch.heard[batch.scored], batch.seed)
        sound = self.network.embed_audio(sounds.audio)
        extra = self._of_gate(sounds, sound, batch.seed)
        return Predictions(sound.new_zeros(len(sound), 1, 1), sound, None, extra)

    def _see_and_hear(self, batch: Batch) -> Predictions:
        network, scored = self.network, batch.scored
        # Each picture passes backbone and pixel decoder once, whatever the number of sounds it is asked with.
        pictures = prepare_frames(batch.frames[scored[: len(batch.frames)]], network.config.image_size)
        place = batch.scored_picture
        own = network.encode(pictures)
        encoded = _take(own, place)
        sounds = auxiliary.Sounds.of(batch.audio[scored], batch.heard[scored])
        sound = network.embed_audio(sounds.audio)
        contrast = self._contrast(pictures[place], encoded, sound, batch.seed)
        queries, gates = network.ask(encoded, sound, self._known_gate(batch), contrast)
        logits = read_out(network.config, queries, gates)
        if contrast is not None:
            logits = contrast.finish(logits)
        extra = self._of_gate(sounds, sound, batch.seed) | self._of_picture(batch, own, queries[1:])
        if auxiliary.BIASED in self._losses:
            extra[auxiliary.BIASED] = self._biased(batch, queries, gates)
        if auxiliary.ROLES in self._losses:
            extra[auxiliary.ROLES] = auxiliary.roles(queries[0], batch.scored_target)
        return Predictions(logits, sound, encoded.mask_features.mean(dim=(2, 3)), extra)

    def _known_gate(self, batch: Batch) -> Tensor | None:
        """Return the gate of the labels, [N, Q]; None where the network's own is to learn from the masks."""
        if self.network.config.query_gate != "hard":
            return None
        categories = len(self._options.query_classes)
        return auxiliary.gate_of_labels(batch.heard[batch.scored], self.assignment, categories)

    def _contrast(self, pixels: Tensor, encoded: EncodedFrames, sound: Tensor, seed: int) -> Contrast | None:
        kind = self._options.debias
        if kind == "noise":
            # On the CPU, so that a seed means the same noise on every machine.
            generator = torch.Generator().manual_seed(seed)
            steps = torch.randint(0, STEPS, (len(pixels),), generator=generator)
            noise = torch.randn(len(pixels), self.network.config.hidden_dim, generator=generator)
            return NoisyAudio(alpha_bars()[steps].to(pixels.device), noise.to(pixels.device))
        if kind == "all_queries":
            # The sound of any other item: what all queries mark together must not hang on what is heard.
            order = torch.randperm(len(sound), generator=torch.Generator().manual_seed(seed))
            return AllQueries(sound[order.to(sound.device)])
        return None if kind == "none" else DeafModel(self._ask_deaf(pixels, encoded.mask_features.shape[-1]))

    @torch.no_grad()
    def _ask_deaf(self, pixels: Tensor, side: int) -> Tensor:
        deaf = self._deaf[0].to(pixels.device).eval()
        queries = deaf.decode(deaf.encode(pixels), None)
        opened = pixels.new_ones(len(pixels), deaf.config.num_queries)
        return resize(read_out(deaf.config, [queries], [opened]).float(), (side, side))

    def _of_gate(self, sounds: auxiliary.Sounds, projected: Tensor, seed: int) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        categories = len(self._options.query_classes)
        if auxiliary.ACTIVE_QUERIES in self._losses:
            losses[auxiliary.ACTIVE_QUERIES] = auxiliary.active_queries(
                auxiliary.gate_logits_of(self.network, projected),
                sounds.heard,
                self.assignment,
                categories,
                sounds.exact,
            )
        if auxiliary.QUIET_GATE in self._losses:
            losses[auxiliary.QUIET_GATE] = auxiliary.quiet_gate(self.network, sounds.audio, categories, seed)
        return losses

    def _of_picture(self, batch: Batch, own: EncodedFrames, biased: Sequence[QueryLogits]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        count, size = len(own.mask_features), (own.mask_features.shape[-2], own.mask_features.shape[-1])
        heard, target = batch.heard[batch.scored][:count], batch.scored_target[:count]
        frames = auxiliary.teachable(heard, target, size)
        if auxiliary.VISUAL_QUERIES in self._losses:
            # Asked without any sound where no biased branch has asked all queries with another one.
            asked = biased[0].masks[:count] if biased else self.network.decode(own, None).masks
            losses[auxiliary.VISUAL_QUERIES] = auxiliary.visual_queries(asked, frames, self.assignment)
        if self.pixel_head is not None:
            losses[auxiliary.PIXEL_CLASSES] = auxiliary.pixel_classes(self.pixel_head, own, frames)
        return losses

    def _biased(self, batch: Batch, queries: list[QueryLogits], gates: list[Tensor]) -> Tensor:
        biased = read_out(self.network.config, queries[1:], gates[1:])
        sounding = (batch.scored_target != 0).flatten(1).any(dim=1)
        if not sounding.any():
            return biased.sum() * 0
        weight = batch.per_scored_frame(batch.weight)[sounding]
        losses = mask_losses(biased[sounding], batch.scored_target[sounding], LossPart(), weight)
        return torch.stack(list(losses.values())).sum()


def _take(encoded: EncodedFrames, index: Tensor) -> EncodedFrames:
    return EncodedFrames(tuple(level[index] for level in encoded.levels), encoded.mask_features[index])


def _config(options: M2FOptions, start: Path | None, where: str) -> M2FConfig:
    base = PUBLISHED if options.size == "published" else M2FConfig()
    if start is not None and (start / "config.json").is_file():
        base = read_config(start / "config.json", base)
    return M2FConfig.from_dict({**asdict(base), **options.config}, named_by=f"{where}: key model.options.config")


def _check(options: M2FOptions, config: M2FConfig, where: str, losses: Collection[str]) -> None:
    if options.learns == "sounds" and not set(losses) <= set(auxiliary.OF_SOUNDS):
        raise RecipeError(
            f"{where}: key loss.extra: expected only {' and '.join(auxiliary.OF_SOUNDS)} with learns: sounds"
        )
    if options.learns == "sounds" and config.audio != "log_mel":
        raise RecipeError(f"{where}: key model.options.learns: 'sounds' needs config.audio: log_mel")
    for name in losses:
        if name in auxiliary.OF_THE_GATE and config.query_gate == "all":
            raise RecipeError(f"{where}: key loss.extra.{name}: needs model.options.config.query_gate: learned or hard")
    if auxiliary.ROLES in losses and not config.semantic:
        raise RecipeError(f"{where}: key loss.extra.{auxiliary.ROLES}: needs model.options.config.readout: semantic")
    if auxiliary.QUIET_GATE in losses and config.audio != "log_mel":
        raise RecipeError(f"{where}: key loss.extra.{auxiliary.QUIET_GATE}: needs model.options.config.audio: log_mel")
    if auxiliary.BIASED in losses and options.debias not in ("noise", "all_queries"):
        raise RecipeError(
            f"{where}: key loss.extra.{auxiliary.BIASED}: needs model.options.debias: noise or all_queries"
        )
    if (options.debias == "deaf") != (options.deaf is not None):
        raise RecipeError(
            f"{where}: key model.options.deaf: goes with debias: deaf, and only with it; correct the file"
        )
    if options.debias == "all_queries" and config.query_gate == "all":
        raise RecipeError(
            f"{where}: key model.options.debias: 'all_queries' is the opposite of a gate; expected "
            "config.query_gate: learned or hard"
        )
    # Against a visual prior, or where odds add up, closed queries mean no; else an active query must hold the background.
    spare = 0 if config.readout == "union" or options.debias in ("all_queries", "deaf") else 1
    if config.query_gate != "all" and len(options.query_classes) + spare > config.num_queries:
        raise RecipeError(
            f"{where}: key model.options.query_classes: found {len(options.query_classes)} categories for "
            f"{config.num_queries} queries; expected at most {config.num_queries - spare}; name fewer, or raise "
            "config.num_queries"
        )
    for name in options.query_classes:
        if name not in AVSS_CLASSES[1:]:
            raise RecipeError(f"{where}: key model.options.query_classes: '{name}' is no category of AVSBench-semantic")


def _assignment(options: M2FOptions, config: M2FConfig) -> Tensor:
    """Return which query each class speaks through, float32 [71, Q]."""
    assignment = torch.zeros(len(AVSS_CLASSES), config.num_queries)
    if config.query_gate != "all":
        for query, name in enumerate(options.query_classes):
            assignment[AVSS_CLASSES.index(name), query] = 1
    return assignment


def _fill_from(network: M2FNetwork, start: Path) -> tuple[str, ...]:
    """Copy what fits of a start into the network; return what did not, a line per kind."""
    if (start / "config.json").is_file():
        tensors = _stock_tensors(start)
    else:
        tensors = load_checkpoint(start / "best.safetensors" if start.is_dir() else start).network.state_dict()
    report = fill(network, tensors)
    if report.matched == 0:
        raise AdapterError(f"--init {start}: none of its tensors fits the recipe's network; name another start")
    return (f"starts from {start}: {report.matched} tensors", *report.lines())


def _stock_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a Mask2Former checkpoint folder, by our names; the library renames those of older versions."""
    from transformers import Mask2FormerForUniversalSegmentation

    if not any(folder.glob("*.safetensors")):
        raise AdapterError(
            f"--init {folder}: found no *.safetensors beside config.json; expected a Mask2Former checkpoint folder, "
            "weights as safetensors (pickles are not read)"
        )
    check_folder(folder, "--init")
    try:
        require_parameters(Mask2FormerForUniversalSegmentation, folder, "--init")
        stock = Mask2FormerForUniversalSegmentation.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except OptionError:
        raise
    except Exception as error:
        # The library raises many kinds for a damaged or foreign folder; all of it means the same to the user.
        raise AdapterError(
            f"--init {folder}: cannot be read as a Mask2Former ({error}); name another folder"
        ) from error
    return {f"mask2former.{name}": tensor for name, tensor in stock.state_dict().items()}
