"""The training loop, on accelerate: one CPU or GPU, or several GPUs. A killed run is continued from its last checkpoint.

Conventions
    The batch of a step is a function of (seed, step), the noise of a step one of (seed, step, process, part): a run that is
    continued from a checkpoint repeats the steps of the killed one exactly, and ends with the same weights.
    One folder, which is marked as ours and locked by the main process, holds a run: checkpoints/, best.safetensors (by validation
    G-mIoU), final.safetensors, log.csv, validation.csv, parameters.csv, run.json, tensorboard/.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from avsrobust.callbacks import MessageCallback, ProgressCallback
from avsrobust.errors import OptionError, RecipeError, did_you_mean
from avsrobust.evaluation.sound import check_weights
from avsrobust.files import remove_temporaries
from avsrobust.folders import hold_output_dir
from avsrobust.locks import require_held
from avsrobust.training.arrivals import TrainingArrivals
from avsrobust.training.checkpoints import (
    TRAINING_FORMAT,
    TRAINING_KIND,
    Progress,
    acquire_run,
    export_info,
    latest_checkpoint,
    restore,
    save_checkpoint,
)
from avsrobust.training.data import TrainingBuild, TrainingSet
from avsrobust.training.devices import computes, open_accelerator
from avsrobust.training.graphs import check_graphed
from avsrobust.training.inputs import VALIDATION_SPLIT
from avsrobust.training.loading import TrainingBatches
from avsrobust.training.logs import PARAMETERS, RunLog, write_parameters
from avsrobust.training.losses import Similarity
from avsrobust.training.model import Batch, Trainable, find_family
from avsrobust.training.optimizer import choose_trained, learning_rate, parameter_groups
from avsrobust.training.recipe import TrainRecipe
from avsrobust.training.sampler import Sampler, noise_seed, part_of, stages_of
from avsrobust.training.step import Losses, Pending, Update
from avsrobust.training.validation import Validation, validate
from avsrobust.vocabulary import counted

BEST, FINAL = "best.safetensors", "final.safetensors"
PICTURES = "pictures"


@dataclass(frozen=True)
class TrainReport:
    """Outcome of a run.

    Attributes:
        best: File of the network with the best validation.
        final: File of the network after the last step.
        steps: Steps done.
        resumed_from: Steps that an earlier call had done.
        best_step: Step of the best validation, or None.
        best_score: Its mean strict G-mIoU, or None.
    """

    best: Path
    final: Path
    steps: int
    resumed_from: int
    best_step: int | None
    best_score: float | None


@dataclass(frozen=True)
class TrainOptions:
    """A user's choices that are no part of the recipe. Paths may be given as text.

    Attributes:
        output: The run's folder.
        start: Weights to start from; None: random ones.
        device: auto, cpu or cuda.
        workers: Processes that read samples; 0: the training process itself.
        checkpoint_every: Steps between checkpoints; None: as the recipe says.
        vggish: VGGish's weights, for models that take its embedding.
        wait: Whether to wait while another process holds the folder.
        pictures: Folder of the resized pictures; None: ``pictures`` in the run's folder.
        compiled: Whether the model is compiled (torch.compile).
        cuda_graph: Whether forward and backward pass are replayed as a CUDA graph (`avsrobust.training.graphs`).
    """

    output: Path
    start: Path | None = None
    device: str = "auto"
    workers: int = 0
    checkpoint_every: int | None = None
    vggish: Path | None = None
    wait: bool = False
    pictures: Path | None = None
    compiled: bool = False
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        for name in ("output", "start", "vggish", "pictures"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))


def train(
    recipe: TrainRecipe,
    builds: Sequence[TrainingBuild] | Callable[[], Sequence[TrainingBuild]],
    options: TrainOptions,
    *,
    where: str,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
    on_saved: Callable[[], None] | None = None,
    on_stage: MessageCallback | None = None,
) -> TrainReport:
    """Train by a recipe, or continue where an earlier call stopped.

    Args:
        recipe: The recipe.
        builds: Builds to train and validate on, or a function that makes them: it is called when the folder is held, and the
            recipe, the start and the other options have been found good.
        options: The user's other choices.
        where: Name of the recipe, for messages.
        progress: Called with (steps done, steps in total).
        on_message: Called with lines for people.
        on_saved: Called in the main process after each validation and checkpoint but the last, while nothing is written.
        on_stage: Called with the name of each stage as it begins, for progress: a step may take minutes.

    Raises:
        RecipeError: The recipe does not fit the model.
        OptionError: An option has a wrong value, the folder is in use or another run's, or a loss is not finite.
        AdapterError: The start cannot be read.
        DataSetError, AudioError, ManifestError: Data cannot be read.
    """
    accelerator = open_accelerator(recipe.run.precision, options.device)
    with _held(options, is_main=accelerator.is_main_process):
        run = _Run(
            recipe,
            builds,
            options,
            where,
            accelerator,
            progress or (lambda _done, _total: None),
            on_message or (lambda _line: None),
            on_stage or (lambda _text: None),
        )
        run.on_saved = on_saved
        return run.run()


def _held(options: TrainOptions, *, is_main: bool) -> AbstractContextManager[None]:
    """Hold the run's folder in the main process."""
    if not is_main:
        return nullcontext()
    return hold_output_dir(options.output, TRAINING_KIND, TRAINING_FORMAT, "avsrobust train", wait=options.wait)


class _Run:
    """One run, all choices made."""

    on_saved: Callable[[], None] | None = None

    def __init__(
        self,
        recipe: TrainRecipe,
        builds: Sequence[TrainingBuild] | Callable[[], Sequence[TrainingBuild]],
        options: TrainOptions,
        where: str,
        accelerator: Accelerator,
        progress: ProgressCallback,
        on_message: MessageCallback,
        on_stage: MessageCallback,
    ) -> None:
        self.recipe, self.options, self.accelerator = recipe, options, accelerator
        self.progress, self.on_message, self.on_stage = progress, on_message, on_stage
        on_stage("the model is made")
        family = find_family(recipe.model.family, where)
        own_losses = _own_losses(recipe, family, where)
        self.model: Trainable = family.open(recipe.model.options, options.start, recipe.run.seed, where, own_losses)
        _check_similarity(recipe, self.model, where)
        if options.compiled:
            _compile(self.model, recipe.model.family)
        self.losses = Losses(self.model.network, recipe.loss, _similarity(recipe, self.model))
        self.trained = choose_trained(self.model.network, recipe.model.trainable, where)
        groups = parameter_groups(self.losses, recipe.optimizer)
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.optimizer.lr, fused=True)
        if callable(builds):
            check_weights(self.model.audio, options.vggish)
            on_stage("the data are made")
        self.builds = builds() if callable(builds) else builds
        on_stage("the samples are gathered")
        self.samples = TrainingSet(
            self.builds,
            recipe.data,
            recipe.negatives,
            audio=self.model.audio,
            image_size=self.model.image_size,
            vggish=options.vggish,
            sees=getattr(self.model, "reads_pictures", True),
        )
        self.arrivals = TrainingArrivals((build.data_root, build.manifest.folder) for build in self.builds)
        run = recipe.run
        stages = stages_of(recipe, self.samples.datasets, self.samples.parts)
        self.sampler = Sampler(run.seed, run.batch_size, stages)
        self.parts = self.accelerator.num_processes * run.accumulate
        if run.batch_size % self.parts:
            raise OptionError(
                f"run.batch_size {run.batch_size}: cannot be shared by {counted(self.accelerator.num_processes, 'process')} in "
                f"{counted(run.accumulate, 'part')} each; start another number of processes"
            )

    def run(self) -> TrainReport:
        """Train from the last checkpoint, or from the start, to the end."""
        output, main = self.options.output, self.accelerator.is_main_process
        if main:
            acquire_run(output, self.recipe, self.builds, self.options.start)
            remove_temporaries(output)
        self.accelerator.wait_for_everyone()
        checkpoint = latest_checkpoint(output)
        done = Progress() if checkpoint is None else checkpoint.progress
        self._decode_once(done)
        module, optimizer = self.accelerator.prepare(self.losses, self.optimizer)
        if checkpoint is not None:
            restore(checkpoint, self.losses, self.optimizer)
        self._describe(done)
        resumed_from = done.step
        names = _loss_names(self.recipe)
        self.progress(done.step, self.recipe.run.steps)
        update = self._update(module, optimizer)
        with RunLog(output, names, done.step) if main else nullcontext() as log:
            pending = Pending(self.accelerator, log.losses if log is not None else lambda _step, _numbers: None)
            module.train()
            for step, micro in enumerate(self._batches(done.step), start=done.step):
                # The first takes minutes where the model is compiled, unless an earlier run did so.
                first = ", compiled if need be" if self.options.compiled and step == resumed_from else ""
                self.on_stage(self._named(step, f"forward and backward pass of {_samples(micro)}{first}"))
                rate = learning_rate(self.recipe.optimizer, step, self.recipe.run.steps)
                pending.add(step + 1, update(micro, rate))
                done = replace(done, step=step + 1)
                if self._is_due(done):
                    pending.read()
                    done = self._validate_and_save(done, log)
                    module.train()
                self.progress(done.step, self.recipe.run.steps)
        self.on_stage(f"{FINAL} is written")
        if main:
            self.model.export(output / FINAL, export_info(self.recipe, self.builds, done))
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return TrainReport(output / BEST, output / FINAL, done.step, resumed_from, done.best_step, done.best_score)

    def _decode_once(self, done: Progress) -> None:
        """Fill the cache of pictures, where the steps to come look at each picture once at least, and open it."""
        run = self.recipe.run
        if (run.steps - done.step) * run.batch_size < self.samples.pictures:
            return
        root = self.options.pictures or self.options.output / PICTURES
        self.on_stage("pictures are decoded")
        if self.accelerator.is_main_process:
            self.samples.decode_once(root, progress=self.progress, on_message=self.on_message, arrivals=self.arrivals)
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            self.samples.decode_once(root)

    def _update(self, module: Any, optimizer: Any) -> Update:
        graphed = self.options.cuda_graph
        if graphed:
            check_graphed(self.recipe, self.model, self.accelerator)
        return Update(
            self.accelerator, module, optimizer, self.recipe.optimizer, graphed=graphed, on_message=self.on_message
        )

    def _is_due(self, done: Progress) -> bool:
        """Return whether a step is followed by a validation or a checkpoint."""
        run = self.recipe.run
        intervals = (run.validate_every, self.options.checkpoint_every or run.checkpoint_every)
        return done.step == run.steps or any(done.step % interval == 0 for interval in intervals)

    def _validate_and_save(self, done: Progress, log: RunLog | None) -> Progress:
        """Validate and save a checkpoint at the steps where that is due."""
        run = self.recipe.run
        last = done.step == run.steps
        require_held(self.options.output)
        if last or done.step % run.validate_every == 0:
            if log is not None:
                done = self._validate(done, log)
            self.accelerator.wait_for_everyone()
        if log is not None and (last or done.step % (self.options.checkpoint_every or run.checkpoint_every) == 0):
            self.on_stage(f"step {done.step}: a checkpoint is written")
            save_checkpoint(self.options.output, done, self.losses, self.optimizer)
        if log is not None and self.on_saved is not None and not last:
            log.flush()
            self.on_saved()
        return done

    def _validate(self, done: Progress, log: RunLog) -> Progress:
        self.model.network.eval()
        device = self.accelerator.device
        found: Validation = validate(
            self.model.adapter(device),
            self.builds,
            split=VALIDATION_SPLIT,
            clips=self.recipe.run.validate_clips,
            device=device,
            vggish=self.options.vggish,
            on_stage=lambda text: self.on_stage(f"validation after step {done.step}: {text}"),
        )
        for dataset in found.scores:
            log.validation(done.step, dataset, found.columns(dataset))
        self.on_message(f"step {done.step}: strict G-mIoU {found.g_miou:.4f} on validation clips")
        if done.best_score is not None and found.g_miou <= done.best_score:
            return done
        done = replace(done, best_step=done.step, best_score=found.g_miou)
        self.model.export(self.options.output / BEST, export_info(self.recipe, self.builds, done))
        return done

    def _batches(self, first: int) -> Iterator[list[Batch]]:
        """Yield this process's parts of the batch of each step from `first` on."""
        accumulate, rank = self.recipe.run.accumulate, self.accelerator.process_index
        indices = [
            [part_of(self.sampler.batch(step), rank * accumulate + number, self.parts) for number in range(accumulate)]
            for step in range(first, self.recipe.run.steps)
        ]
        # Put together in the workers: a batch's tensors are then passed on as a few large ones.
        reading = TrainingBatches(self.samples, [part for parts in indices for part in parts])
        pinned = self.accelerator.device.type == "cuda"
        batches = iter(reading.loader(self.options.workers, pinned=pinned, arrivals=self.arrivals))
        for step in range(first, self.recipe.run.steps):
            self.on_stage(self._named(step, "its samples are read"))
            seeds = (noise_seed(self.recipe.run.seed, step, rank * accumulate + part) for part in range(accumulate))
            yield [self._with_noise(next(batches)._replace(seed=seed)) for seed in seeds]

    def _named(self, step: int, stage: str) -> str:
        return f"step {step + 1} of {self.recipe.run.steps}: {stage}"

    def _with_noise(self, batch: Batch) -> Batch:
        draw = getattr(self.model, "draw", None)
        return batch.known()._replace(drawn=None if draw is None else draw(batch))

    def _describe(self, done: Progress) -> None:
        if not self.accelerator.is_main_process:
            return
        write_parameters(self.options.output / PARAMETERS, self.trained)
        for note in self.model.notes if done.step == 0 else ():
            self.on_message(note)
        trained = [math.prod(shape) for shape, chosen in self.trained.values() if chosen]
        everything = sum(math.prod(shape) for shape, _ in self.trained.values())
        self.on_message(
            f"trains {len(trained)} of {len(self.trained)} tensors, {sum(trained):,} of {everything:,} parameters, on "
            f"{counted(len(self.samples), 'item')}, in {counted(self.accelerator.num_processes, 'process')} on "
            f"{self.accelerator.device}; all are listed in {self.options.output / PARAMETERS}"
        )
        if not computes(self.recipe.run.precision, self.accelerator.device):
            self.on_message(
                f"run.precision {self.recipe.run.precision}: this CPU has no instructions for it, and is ten times as slow as "
                "in float32 or worse"
            )
        if done.step:
            self.on_message(f"goes on after step {done.step}")


def _samples(micro: Sequence[Batch]) -> str:
    count = sum(len(batch.frames) for batch in micro)
    parts = f" in {len(micro)} parts" if len(micro) > 1 else ""
    return counted(count, "sample") + parts


def _compile(model: Trainable, family: str) -> None:
    compile_model = getattr(model, "compile", None)
    if not callable(compile_model):
        raise OptionError(f"--compile: model family '{family}' cannot be compiled (no method 'compile'); leave it out")
    compile_model()


def _similarity(recipe: TrainRecipe, model: Trainable) -> Similarity | None:
    if recipe.loss.similarity == 0 or model.similarity_widths is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.run.seed)
        return Similarity(*model.similarity_widths)


def _own_losses(recipe: TrainRecipe, family: type[Trainable], where: str) -> list[str]:
    """Return the model's own losses that the recipe weighs. Raises `RecipeError` for one that it does not have."""
    for name in recipe.loss.extra:
        if name not in family.extra_losses:
            raise RecipeError(
                f"{where}: key loss.extra.{name}: the model has no such loss{did_you_mean(name, family.extra_losses)}; "
                f"expected one of {', '.join(family.extra_losses) or 'none'}"
            )
    return sorted(name for name, weight in recipe.loss.extra.items() if weight > 0)


def _check_similarity(recipe: TrainRecipe, model: Trainable, where: str) -> None:
    if recipe.loss.similarity and model.similarity_widths is None:
        raise RecipeError(
            f"{where}: key loss.similarity: the model yields no projected sound and pooled picture; expected 0"
        )


def _loss_names(recipe: TrainRecipe) -> list[str]:
    plain = {
        "bce": recipe.loss.bce,
        "dice": recipe.loss.dice,
        "similarity": recipe.loss.similarity,
        **recipe.loss.extra,
    }
    return sorted(name for name, weight in plain.items() if weight)
