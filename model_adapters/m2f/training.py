"""Training of this family: its implementation of `avsrobust.training.model.Trainable`.

Conventions
    The family's own losses (auxiliary.py) are weighed under `loss.extra`; only those with a weight are computed.
    `learns: sounds` trains the audio encoder and the gate on audio alone: a start for the others, as the published models start
    from a VGGish trained on AudioSet. Its masks are those of a network that has seen no picture.
    In training a hard gate is that of the labels; afterwards it is the learned one (`active_queries`).
    In training the noise step is uniform over 0..99, in evaluation it is the last (bias_in_AVS, train.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import AliasChoices, BeforeValidator, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.checkpoint_folder import check_folder, require_parameters
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import AdapterError, OptionError, RecipeError, did_you_mean
from avsrobust.schemas import CLOSED, read_schema
from avsrobust.training.losses import mask_losses
from avsrobust.training.model import Batch, Predictions
from avsrobust.training.recipe import LossPart
from avsrobust.vocabulary import counted
from model_adapters.m2f import auxiliary
from model_adapters.m2f.adapter import M2F, M2FDebias
from model_adapters.m2f.checkpoint import LoadedNetwork, LoadReport, fill, load_checkpoint, save_bundle
from model_adapters.m2f.config import PUBLISHED, M2FConfig, read_config
from model_adapters.m2f.debias import STEPS, AllQueries, Contrast, NoisyAudio, VisualOnly, alpha_bars
from model_adapters.m2f.decoder import EncodedFrames
from model_adapters.m2f.folder import is_own
from model_adapters.m2f.network import M2FNetwork, prepare_frames
from model_adapters.m2f.readout import QueryLogits, read_out, resize
from model_adapters.m2f.settings import Debias, Settings, current_name


def _current_value(value: object) -> object:
    return current_name(value) if isinstance(value, str) else value


@dataclass(frozen=True, config=CLOSED)
class M2FOptions:
    """A recipe's `model.options`.

    Attributes:
        size: Base configuration.
        learns: "masks" trains the whole network; "sounds" audio encoder and gate on audio alone.
        config: Keys of `M2FConfig` over the base.
        debias: The biased branch in training and in inference (debias.py). Recipes may also say "deaf" for "visual_only".
        visual_only: File of the frozen network for debias "visual_only". Recipes may also call it ``deaf``.
        query_classes: Category of query 0, 1, .. where the gate is learned or hard; queries beyond these are always active and
            hold the background.
    """

    size: Literal["toy", "published"] = "toy"
    learns: Literal["masks", "sounds"] = "masks"
    config: dict[str, Any] = field(default_factory=dict)
    debias: Annotated[Debias, BeforeValidator(_current_value)] = "none"
    visual_only: str | None = Field(default=None, validation_alias=AliasChoices("visual_only", "deaf"))
    query_classes: tuple[str, ...] = AVSS_CLASSES[1:]


class M2FTraining:
    """A network of this family that can be trained (`avsrobust.training.model.Trainable`)."""

    extra_losses: ClassVar[tuple[str, ...]] = auxiliary.NAMES

    def __init__(
        self,
        network: M2FNetwork,
        options: M2FOptions,
        visual_only: M2FNetwork | None,
        notes: tuple[str, ...],
        losses: Collection[str],
        seed: int,
    ) -> None:
        config = network.config
        self.audio = AudioInput.log_mel() if config.audio == "log_mel" else AudioInput.embedding()
        self.image_size = config.image_size
        self.reads_pictures = options.learns != "sounds"
        self.notes = notes
        self._options = options
        self._network = network
        self._step = _Step(network, options, visual_only, losses, seed)
        self.network: nn.Module = self._step

    @classmethod
    def open(
        cls, options: Mapping[str, Any], start: Path | None, seed: int, where: str, losses: Collection[str] = ()
    ) -> Self:
        """Return the network that a recipe describes (see `Trainable.open`).

        Args:
            options: The recipe's `model.options` (`M2FOptions`).
            start: A bundle or its folder (`folder`), a run's folder, or a Mask2Former checkpoint folder; None: random weights.
            seed: Seed of random weights.
            where: The recipe, for messages.
            losses: Names of the wanted losses of auxiliary.py.

        Raises:
            RecipeError: An option is unknown, has a wrong value, or does not fit the others.
            AdapterError: The start cannot be read, or the configuration makes no network.
        """
        chosen = read_schema(M2FOptions, dict(options), where, RecipeError, prefix="model.options.")
        config = _config(chosen, start, where)
        _check(chosen, config, where, losses)
        network = M2FNetwork.seeded(config, seed)
        notes = _fill_from(network, start) if start is not None else ("starts from nothing",)
        path = chosen.visual_only
        visual_only = None if path is None else load_checkpoint(Path(path)).network.requires_grad_(False)
        return cls(network, chosen, visual_only, notes, losses, seed)

    @property
    def similarity_widths(self) -> tuple[int, int]:
        """Widths of the projected audio and of the pooled mask features."""
        return self._network.config.hidden_dim, self._network.config.hidden_dim

    def adapter(self, device: torch.device) -> Adapter:
        """Return the adapter that evaluates this network."""
        loaded = LoadedNetwork(self._network, {"debias": self._options.debias}, LoadReport(0))
        if self._options.debias == "none":
            return M2F(loaded, Settings(), device)
        return M2FDebias(
            loaded,
            Settings(visual_only=None if self._options.visual_only is None else Path(self._options.visual_only)),
            device,
        )

    def compile(self) -> None:
        """Compile the network's layers for training (`M2FNetwork.compile_parts`)."""
        self._network.compile_parts(training_alone=True)

    def draw(self, batch: Batch) -> Mapping[str, Tensor]:
        """Return the noise of a batch, drawn from its seed on the host, so that a seed means the same on every machine."""
        return self._step.draw(batch)

    def export(self, path: Path, info: Mapping[str, str]) -> None:
        """Write a bundle in float16."""
        save_bundle(path, self._network, {**info, "debias": self._options.debias})


class _Step(nn.Module):
    """The forward pass of training: a batch in, predictions and this family's losses out."""

    assignment: Tensor

    def __init__(
        self,
        network: M2FNetwork,
        options: M2FOptions,
        visual_only: M2FNetwork | None,
        losses: Collection[str],
        seed: int,
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
        self._visual_only = [] if visual_only is None else [visual_only]
        self._categories = len(options.query_classes)
        self.register_buffer("assignment", _assignment(options, network.config), persistent=False)

    def forward(self, batch: Batch) -> Predictions:
        """Return the predictions of the batch's scored frames."""
        return self._predict_audio(batch) if self._options.learns == "sounds" else self._predict_masks(batch)

    def draw(self, batch: Batch) -> dict[str, Tensor]:
        """Return all that is drawn for a batch, on the host."""
        count, drawn = int(batch.scored.sum()), dict[str, Tensor]()
        if self._options.learns == "sounds":
            drawn |= vars(auxiliary.Mixture.drawn(count, batch.seed))
        elif self._options.debias == "noise":
            generator = torch.Generator().manual_seed(batch.seed)
            drawn["share"] = alpha_bars()[torch.randint(0, STEPS, (count,), generator=generator)]
            drawn["noise"] = torch.randn(count, self.network.config.hidden_dim, generator=generator)
        elif self._options.debias == "all_queries":
            drawn["order"] = torch.randperm(count, generator=torch.Generator().manual_seed(batch.seed))
        if auxiliary.QUIET_GATE in self._losses:
            shape = (count, *batch.audio.shape[2:])
            drawn["quiet"] = auxiliary.coloured_noise(shape, torch.Generator().manual_seed(batch.seed))
        return drawn

    def _drawn(self, batch: Batch) -> Mapping[str, Tensor]:
        if batch.drawn is not None:
            return batch.drawn
        return {name: part.to(batch.frames.device) for name, part in self.draw(batch).items()}

    def _predict_audio(self, batch: Batch) -> Predictions:
        drawn = self._drawn(batch)
        mixture = auxiliary.Mixture(drawn["other"], drawn["chosen"], drawn["level"])
        labelled = auxiliary.mix_audio(batch.of_scored(batch.audio), batch.of_scored(batch.audio_labels), mixture)
        audio, quiet = self._embed(labelled.audio, drawn)
        extra = self._gate_losses(labelled, audio, quiet)
        return Predictions(audio.new_zeros(len(audio), 1, 1), audio, None, extra)

    def _predict_masks(self, batch: Batch) -> Predictions:
        network, drawn = self.network, self._drawn(batch)
        # Each picture passes backbone and pixel decoder once, whatever the number of its audio queries.
        pictures = prepare_frames(batch.of_scored(batch.frames), network.config.image_size)
        encoded = own = network.encode(pictures)
        labelled = auxiliary.LabelledAudio.of(batch.of_scored(batch.audio), batch.of_scored(batch.audio_labels))
        if len(labelled.audio) != len(pictures):
            index = batch.scored_picture
            encoded, pictures = own.take(index), pictures[index]
        audio, quiet = self._embed(labelled.audio, drawn)
        contrast = self._contrast(pictures, encoded, audio, drawn)
        queries, gates = network.decode_queries(encoded, audio, self._label_gate(batch), contrast)
        logits = read_out(network.config, queries, gates)
        if contrast is not None:
            logits = contrast.finish(logits)
        extra = self._gate_losses(labelled, audio, quiet) | self._picture_losses(batch, own, queries[1:])
        if auxiliary.BIASED in self._losses:
            extra[auxiliary.BIASED] = self._biased_loss(batch, queries, gates)
        if auxiliary.ROLES in self._losses:
            extra[auxiliary.ROLES] = auxiliary.roles(queries[0], batch.scored_target)
        return Predictions(logits, audio, encoded.mask_features.mean(dim=(2, 3)), extra)

    def _embed(self, audio: Tensor, drawn: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the projected audio [N, H], and that of the noise that closes the gate, [N, H], where it is wanted."""
        if "quiet" not in drawn:
            return self.network.embed_audio(audio), None
        together = self.network.embed_audio(torch.cat((audio, drawn["quiet"])))
        sound, quiet = together.chunk(2)
        return sound, quiet

    def _label_gate(self, batch: Batch) -> Tensor | None:
        """Return the gate of the labels, [N, Q]; None where the network's own gate learns from the masks."""
        if self.network.config.query_gate != "hard":
            return None
        categories = self._categories
        return auxiliary.gate_of_labels(batch.of_scored(batch.audio_labels), self.assignment, categories)

    def _contrast(
        self, pixels: Tensor, encoded: EncodedFrames, audio: Tensor, drawn: Mapping[str, Tensor]
    ) -> Contrast | None:
        debias = self._options.debias
        if debias == "noise":
            return NoisyAudio(drawn["share"], drawn["noise"])
        if debias == "all_queries":
            # The audio of any other sample: what all queries mark together must not depend on the audio.
            return AllQueries(audio[drawn["order"]])
        return (
            None if debias == "none" else VisualOnly(self._visual_only_logits(pixels, encoded.mask_features.shape[-1]))
        )

    @torch.no_grad()
    def _visual_only_logits(self, pixels: Tensor, side: int) -> Tensor:
        network = self._visual_only[0].to(pixels.device).eval()
        queries = network.decode(network.encode(pixels), None)
        opened = pixels.new_ones(len(pixels), network.config.num_queries)
        return resize(read_out(network.config, [queries], [opened]).float(), (side, side))

    def _gate_losses(
        self, labelled: auxiliary.LabelledAudio, projected: Tensor, quiet: Tensor | None
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        categories = self._categories
        if auxiliary.ACTIVE_QUERIES in self._losses:
            losses[auxiliary.ACTIVE_QUERIES] = auxiliary.active_queries(
                auxiliary.gate_logits_of(self.network, projected),
                labelled.labels,
                self.assignment,
                categories,
                labelled.exact,
            )
        if quiet is not None:
            losses[auxiliary.QUIET_GATE] = auxiliary.quiet_gate(self.network, quiet, categories)
        return losses

    def _picture_losses(self, batch: Batch, own: EncodedFrames, biased: Sequence[QueryLogits]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        count, size = len(own.mask_features), (own.mask_features.shape[-2], own.mask_features.shape[-1])
        labels, target = batch.of_scored(batch.audio_labels)[:count], batch.scored_target[:count]
        frames = auxiliary.teachable(labels, target, size)
        if auxiliary.VISUAL_QUERIES in self._losses:
            # Decoded without audio where no biased branch has decoded all queries with other audio.
            masks = biased[0].masks[:count] if biased else self.network.decode(own, None).masks
            losses[auxiliary.VISUAL_QUERIES] = auxiliary.visual_queries(
                masks, frames, self.assignment, self._categories
            )
        if self.pixel_head is not None:
            losses[auxiliary.PIXEL_CLASSES] = auxiliary.pixel_classes(self.pixel_head, own, frames)
        return losses

    def _biased_loss(self, batch: Batch, queries: list[QueryLogits], gates: list[Tensor]) -> Tensor:
        biased = read_out(self.network.config, queries[1:], gates[1:])
        has_foreground = (batch.scored_target != 0).flatten(1).any(dim=1)
        weight = batch.per_scored_frame(batch.weight) * has_foreground
        losses = mask_losses(biased, batch.scored_target, LossPart(), weight)
        return torch.stack(list(losses.values())).sum()


def _config(options: M2FOptions, start: Path | None, where: str) -> M2FConfig:
    base = PUBLISHED if options.size == "published" else M2FConfig()
    if start is not None and (start / "config.json").is_file() and not is_own(start):
        base = read_config(start / "config.json", base)
    return M2FConfig.from_dict({**asdict(base), **options.config}, named_by=where, prefix="model.options.config.")


def _check(options: M2FOptions, config: M2FConfig, where: str, losses: Collection[str]) -> None:
    if options.learns == "sounds" and not set(losses) <= set(auxiliary.AUDIO_LOSSES):
        raise RecipeError(
            f"{where}: key loss.extra: expected only {' and '.join(auxiliary.AUDIO_LOSSES)} with learns: sounds"
        )
    if options.learns == "sounds" and config.audio != "log_mel":
        raise RecipeError(f"{where}: key model.options.learns: 'sounds' needs config.audio: log_mel")
    for name in losses:
        if name in auxiliary.GATE_LOSSES and config.query_gate == "all":
            raise RecipeError(f"{where}: key loss.extra.{name}: needs model.options.config.query_gate: learned or hard")
    if auxiliary.ROLES in losses and not config.semantic:
        raise RecipeError(f"{where}: key loss.extra.{auxiliary.ROLES}: needs model.options.config.readout: semantic")
    if auxiliary.QUIET_GATE in losses and config.audio != "log_mel":
        raise RecipeError(f"{where}: key loss.extra.{auxiliary.QUIET_GATE}: needs model.options.config.audio: log_mel")
    if auxiliary.BIASED in losses and options.debias not in ("noise", "all_queries"):
        raise RecipeError(
            f"{where}: key loss.extra.{auxiliary.BIASED}: needs model.options.debias: noise or all_queries"
        )
    if (options.debias == "visual_only") != (options.visual_only is not None):
        raise RecipeError(
            f"{where}: key model.options.visual_only: goes with debias: visual_only, and only with it; correct the file"
        )
    if options.debias == "all_queries" and config.query_gate == "all":
        raise RecipeError(
            f"{where}: key model.options.debias: 'all_queries' is the opposite of a gate; expected "
            "config.query_gate: learned or hard"
        )
    # Against a visual prior, or where odds add up, closed queries mean no; else an active query must hold the background.
    spare = 0 if config.readout == "union" or options.debias in ("all_queries", "visual_only") else 1
    if config.query_gate != "all" and len(options.query_classes) + spare > config.num_queries:
        raise RecipeError(
            f"{where}: key model.options.query_classes: found {counted(len(options.query_classes), 'category')} for "
            f"{counted(config.num_queries, 'query')}; expected at most {config.num_queries - spare}; name fewer, or raise "
            "config.num_queries"
        )
    for name in options.query_classes:
        if name not in AVSS_CLASSES[1:]:
            raise RecipeError(
                f"{where}: key model.options.query_classes: '{name}' is no category of AVSBench-semantic"
                f"{did_you_mean(name, AVSS_CLASSES[1:])}"
            )


def _assignment(options: M2FOptions, config: M2FConfig) -> Tensor:
    """Return the queries of the categories, float32 [71, Q], 1 where a query has a category."""
    assignment = torch.zeros(len(AVSS_CLASSES), config.num_queries)
    if config.query_gate != "all":
        for query, name in enumerate(options.query_classes):
            assignment[AVSS_CLASSES.index(name), query] = 1
    return assignment


def _fill_from(network: M2FNetwork, start: Path) -> tuple[str, ...]:
    """Copy the tensors of a start that fit into the network; return a line per kind of difference."""
    if is_own(start):
        tensors = load_checkpoint(start).network.state_dict()
    elif (start / "config.json").is_file():
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
            f"--init {folder}: found no *.safetensors next to config.json; expected a Mask2Former checkpoint folder, "
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
