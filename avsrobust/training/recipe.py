"""Training recipes: which model is trained on what, with which losses, for how long.

Conventions
    A recipe of ``kind: train`` lies in the same folder as those that build, and is found by name or by path alike.
    Steps count updates of the weights; `batch_size` counts samples per update, over all processes and accumulated parts.
    A sample is one annotated second of a clip (`excerpt: frame`) or a clip with all its seconds (`excerpt: clip`).
    Shares and weights are fractions; learning rates are those of AdamW.
    Types and bounds of single values are in the classes' annotations (`avsrobust.schemas`); rules between values in `_check`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field
from pydantic.dataclasses import dataclass

from avsrobust.conditions.recipe import find_recipe, read_yaml, recipe_name
from avsrobust.errors import RecipeError, did_you_mean
from avsrobust.files import SAFE_NAME, is_safe_name
from avsrobust.schemas import CLOSED, Count, Fraction, Integer, NonNegative, OneOf, Positive, read_schema
from avsrobust.vocabulary import ALIASES, DATASETS, NEGATIVES, SPLITS

KIND = "train"
Dataset = Annotated[str, OneOf(DATASETS)]
Split = Annotated[str, OneOf(SPLITS)]
CurriculumPart = Annotated[str, OneOf(tuple(ALIASES))]
NegativeCondition = Annotated[str, OneOf(NEGATIVES)]
# A trial's steps, and clips of a toy: as many as hold all of its splits and parts.
_SMOKE_STEPS, _SMOKE_CLIPS = 2, 60
_MOST_STEPS, _MOST_SAMPLES, _MOST_TOYS = 10_000_000, 1 << 16, 100_000


@dataclass(frozen=True, config=CLOSED)
class ModelPart:
    """The model that is trained.

    Attributes:
        family: Name of a model family, or MODULE:CLASS of an `avsrobust.training.model.Trainable`.
        trainable: Patterns of parameter names (``*`` stands for anything); only these parameters are trained.
        start_from: The recipe whose run this one starts from unless ``--init`` names another start; None: from nothing.
        options: The family's own options, which it checks itself.
    """

    family: str
    trainable: tuple[str, ...]
    start_from: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=CLOSED)
class ToyPart:
    """A procedural data set, made where the user names no build.

    Attributes:
        clips: Number of clips per data set.
        seed: Seed of the procedural data.
    """

    clips: dict[str, Integer]
    seed: Count


@dataclass(frozen=True, config=CLOSED)
class DataPart:
    """The data that the model is trained on.

    Attributes:
        datasets: Data sets whose builds are used.
        split: Split of the training clips.
        excerpt: One annotated second per sample ("frame"), or all seconds of a clip ("clip").
        mirror: Probability that a sample is mirrored.
        mix: Share of each data set in every batch; empty: by size.
        cache_mib: Decoded pictures kept in memory, in MiB.
        toy: The data set to make where no build is named.
    """

    datasets: tuple[Dataset, ...]
    split: Split = "train"
    excerpt: Literal["frame", "clip"] = "frame"
    mirror: Fraction = 0.5
    mix: dict[str, NonNegative] = field(default_factory=dict)
    cache_mib: Count = 2048
    toy: ToyPart | None = None


@dataclass(frozen=True, config=CLOSED)
class NegativesPart:
    """Robust training: audio that belongs to nothing in the picture, with an empty mask as the target.

    Attributes:
        share: Share of the samples whose audio is replaced by a negative one.
        kinds: Conditions of the negatives, each as likely; one that is named twice is twice as likely.
        extra: Further negative audio queries of each picture in the same step; the picture is encoded once for all. Recipes
            may also call it ``beside``.
        weight: Weight of the extra queries in the mask losses; a sample's own query has weight 1.
    """

    share: Fraction = 0.0
    kinds: tuple[NegativeCondition, ...] = ("offscreen", "silence")
    extra: Count = Field(default=0, le=8, validation_alias=AliasChoices("extra", "beside"))
    weight: NonNegative = 1.0

    @property
    def any(self) -> bool:
        """Whether there are negatives at all."""
        return self.share > 0 or self.extra > 0


@dataclass(frozen=True, config=CLOSED)
class LossPart:
    """Weights of the losses (`avsrobust.training.losses`); 0 leaves a loss out.

    Attributes:
        bce: Binary cross-entropy of the masks; cross-entropy where classes are scored.
        dice: Dice loss of the masks.
        similarity: Similarity of audio and picture.
        extra: Weights of the model's own losses.
    """

    bce: NonNegative = 1.0
    dice: NonNegative = 1.0
    similarity: NonNegative = 0.0
    extra: dict[str, NonNegative] = field(default_factory=dict)


@dataclass(frozen=True, config=CLOSED)
class OptimizerPart:
    """AdamW.

    Attributes:
        lr: Highest learning rate.
        weight_decay: Weight decay of matrices; biases, norms and scales have none.
        warmup_steps: Steps over which the learning rate rises linearly.
        schedule: Course of the learning rate over the run.
        clip_norm: Norm that gradients are clipped to; 0: not clipped.
    """

    lr: NonNegative
    weight_decay: NonNegative = 0.01
    warmup_steps: Count = 0
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: NonNegative = 1.0


@dataclass(frozen=True, config=CLOSED)
class RunPart:
    """Length and mode of a run.

    Attributes:
        steps: Updates of the weights.
        batch_size: Samples per update.
        accumulate: Parts that the samples of an update are split into on each process.
        precision: Type of activations and gradients.
        seed: Seed of everything that is drawn.
        checkpoint_every: Steps between checkpoints.
        validate_every: Steps between validations.
        validate_clips: Clips of the validation split per data set; 0: all.
    """

    steps: Positive
    batch_size: Positive
    accumulate: Positive = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: Count = 0
    checkpoint_every: Positive = 100
    validate_every: Positive = 200
    validate_clips: Count = 0


@dataclass(frozen=True, config=CLOSED)
class CurriculumStage:
    """A stage of a curriculum (avss).

    Attributes:
        until: Share of the run's steps at which the stage ends.
        parts: Parts of avss whose clips it draws from.
    """

    until: Fraction
    parts: tuple[CurriculumPart, ...] = ()


@dataclass(frozen=True, config=CLOSED)
class TrainRecipe:
    """A training recipe in full; the attributes are the keys of the file."""

    kind: Literal["train"]
    name: str
    description: str
    model: ModelPart
    data: DataPart
    optimizer: OptimizerPart
    run: RunPart
    loss: LossPart = field(default_factory=LossPart)
    negatives: NegativesPart = field(default_factory=NegativesPart)
    curriculum: tuple[CurriculumStage, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe, every default filled in, as plain JSON types; `parse_train_recipe` reads it back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def with_steps(self, steps: int | None) -> TrainRecipe:
        """Return the recipe for another number of steps (None: as it is); intervals stay."""
        return self if steps is None else replace(self, run=replace(self.run, steps=steps))

    def for_smoke(self, steps: int | None = None, *, on_cpu: bool = False, processes: int = 1) -> TrainRecipe:
        """Return the recipe for a trial: two steps (or `steps`), then one validation clip per data set, and a checkpoint.

        Args:
            steps: Instead of two.
            on_cpu: A trial without a GPU, whose memory cannot be tried then: steps of one sample of each data set in float32,
                which every CPU computes.
            processes: Processes that share a step; each has one sample at least.
        """
        steps = steps or _SMOKE_STEPS
        toy = self.data.toy
        if toy is not None:
            toy = replace(toy, clips={name: min(number, _SMOKE_CLIPS) for name, number in toy.clips.items()})
        run = replace(self.run, steps=steps, validate_every=steps, validate_clips=1, checkpoint_every=steps)
        data = replace(self.data, toy=toy)
        if on_cpu:
            datasets = data.datasets
            batch_size = -(-len(datasets) // processes) * processes
            run = replace(run, batch_size=batch_size, accumulate=1, precision="float32")
            data = replace(data, mix=dict.fromkeys(datasets, 1.0) if len(datasets) > 1 else {})
        return replace(self, run=run, data=data)


def load_train_recipe(name_or_path: str | Path) -> TrainRecipe:
    """Return a training recipe.

    Args:
        name_or_path: Name of a recipe that comes with avsrobust, or path of a YAML file.

    Raises:
        RecipeError: The name is unknown, the recipe describes a build, or a key is unknown or has a wrong value.
    """
    path = find_recipe(name_or_path, KIND)
    return parse_train_recipe(read_yaml(path), str(path))


def parse_train_recipe(content: Mapping[str, Any], where: str) -> TrainRecipe:
    """Return the training recipe that a mapping describes.

    Args:
        content: The mapping, as `TrainRecipe.as_dict` or a YAML file gives it.
        where: Origin of `content`, for messages.

    Raises:
        RecipeError: A key is unknown, missing or has a wrong value.
    """
    if content.get("kind") != KIND:
        raise RecipeError(
            f"{where}: key kind: found {content.get('kind')!r}; expected '{KIND}'; choose a recipe that trains "
            "(recipes that build are for 'avsrobust build')"
        )
    recipe = read_schema(TrainRecipe, content, where, RecipeError)
    recipe_name(content, where)
    _check(recipe, where)
    return recipe


def default_output(recipe: TrainRecipe, folder: Path | str = Path("training")) -> Path:
    """Return the folder that a recipe's run goes to by default, ``training/<name>``."""
    return Path(folder) / recipe.name


def _check(recipe: TrainRecipe, where: str) -> None:
    """Check the rules between values, which no type can say."""
    data, run = recipe.data, recipe.run
    _require_known(where, "data.mix", data.mix, data.datasets)
    _require_known(where, "data.toy.clips", data.toy.clips if data.toy else (), data.datasets)
    _require(where, "data.datasets", data.datasets, bool(data.datasets), "one data set at least")
    # Lists as long are made of them.
    _require(where, "run.steps", run.steps, run.steps <= _MOST_STEPS, f"at most {_MOST_STEPS}")
    _require(where, "run.batch_size", run.batch_size, run.batch_size <= _MOST_SAMPLES, f"at most {_MOST_SAMPLES}")
    clips = data.toy.clips if data.toy else {}
    few = all(0 < number <= _MOST_TOYS for number in clips.values())
    _require(where, "data.toy.clips", clips, few, f"from 1 to {_MOST_TOYS} of each")
    start = recipe.model.start_from
    _require(where, "model.start_from", start, start is None or is_safe_name(start), f"a recipe's name: {SAFE_NAME}")
    _require(where, "model.trainable", recipe.model.trainable, bool(recipe.model.trainable), "one pattern at least")
    if data.mix:
        complete = set(data.mix) == set(data.datasets) and all(share > 0 for share in data.mix.values())
        _require(where, "data.mix", data.mix, complete, "a share above 0 for each data set")
    if recipe.negatives.any:
        _require(where, "negatives.kinds", [], bool(recipe.negatives.kinds), "one kind at least")
    parts = run.batch_size % run.accumulate == 0
    _require(where, "run.accumulate", run.accumulate, parts, f"a divisor of batch_size, {run.batch_size}")
    _check_curriculum(recipe, where)


def _check_curriculum(recipe: TrainRecipe, where: str) -> None:
    stages = recipe.curriculum
    if not stages:
        return
    only_avss = recipe.data.datasets == ("avss",) and not recipe.data.mix
    _require(where, "curriculum", "stages", only_avss, "data.datasets [avss], whose parts it names")
    ends = [stage.until for stage in stages]
    rising = all(low < high for low, high in zip([0.0, *ends], ends, strict=False)) and ends[-1] == 1
    _require(where, "curriculum", ends, rising, "stages whose 'until' rise up to 1")
    for number, stage in enumerate(stages):
        _require(where, f"curriculum[{number}].parts", [], bool(stage.parts), "one part at least")


def _require_known(where: str, key: str, values: Any, known: tuple[str, ...]) -> None:
    for value in values:
        if value not in known:
            raise RecipeError(
                f"{where}: key {key}: found {value!r}; expected one of {', '.join(known)}{did_you_mean(value, known)}"
            )


def _require(where: str, key: str, found: object, holds: bool, expected: str) -> None:
    if not holds:
        raise RecipeError(f"{where}: key {key}: found {found!r}; expected {expected}; correct the file")
