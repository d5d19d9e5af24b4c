"""Training recipes: which model is trained on what, with which losses, for how long.

Conventions
    A recipe of ``kind: train`` lies in the same folder as those that build, and is found by name or by path alike.
    Steps count updates of the weights; `batch_size` counts items per update, over all processes and accumulated parts.
    An item is one labelled second of a clip (`excerpt: frame`) or a clip with all its seconds (`excerpt: clip`).
    Shares and weights are fractions; learning rates are those of AdamW.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from avsrobust.conditions.recipe import find_recipe, read_yaml, recipe_name
from avsrobust.errors import RecipeError, did_you_mean
from avsrobust.files import SAFE_NAME, is_safe_name
from avsrobust.training.parsing import bounded, read_fields
from avsrobust.vocabulary import DATASETS, SPLITS

KIND = "train"
CURRICULUM_PARTS = ("v1s", "v1m", "v2")
_MOST_STEPS, _MOST_ITEMS, _MOST_TOYS = 10_000_000, 1 << 16, 100_000
NEGATIVE_KINDS = ("offscreen", "silence", "noise")


@dataclass(frozen=True)
class ModelPart:
    """What is trained.

    `family`: a model's name, or MODULE:CLASS of a `avsrobust.training.model.Trainable`. `options`: the family's own, checked
    by it. `trainable`: patterns of parameter names (``*`` stands for anything); only these are trained. `start_from`: the
    recipe whose run this one starts from, unless ``--init`` names another start; None: from nothing.
    """

    family: str
    trainable: tuple[str, ...]
    start_from: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ToyPart:
    """A procedural data set that is made where no build is named: clips per data set, and its seed."""

    clips: dict[str, int]
    seed: int = bounded(0)


@dataclass(frozen=True)
class DataPart:
    """What it is trained on: the builds of `datasets`; `mix` gives their shares of each batch (default: by size).

    `mirror`: the chance that an item is mirrored. `cache_mib`: decoded pictures kept in memory, in MiB.
    """

    datasets: tuple[str, ...]
    split: str = "train"
    excerpt: Literal["frame", "clip"] = "frame"
    mirror: float = bounded(0, 1, 0.5)
    mix: dict[str, float] = field(default_factory=dict)
    cache_mib: int = bounded(0, None, 2048)
    toy: ToyPart | None = None


@dataclass(frozen=True)
class NegativesPart:
    """Robust training: sounds that belong to nothing in the picture, with an empty mask.

    `share` of the items have a negative sound in place of their own. `beside`: further negative sounds with which each
    picture is asked in the same step, in `weight` times an item's weight; a picture is encoded once for all its sounds.
    `kinds` are each as likely; one that is named twice, twice as likely.
    """

    share: float = bounded(0, 1, 0.0)
    kinds: tuple[str, ...] = ("offscreen", "silence")
    beside: int = bounded(0, 8, 0)
    weight: float = bounded(0, None, 1.0)

    @property
    def any(self) -> bool:
        """Whether there are negatives at all."""
        return self.share > 0 or self.beside > 0


@dataclass(frozen=True)
class LossPart:
    """Weights of the losses (`avsrobust.training.losses`); 0 leaves one out. `extra`: weights of the model's own losses."""

    bce: float = bounded(0, None, 1.0)
    dice: float = bounded(0, None, 1.0)
    similarity: float = bounded(0, None, 0.0)
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerPart:
    """AdamW: learning rate with linear warm-up over `warmup_steps`, then `schedule`; gradients clipped to `clip_norm`."""

    lr: float = bounded(0)
    weight_decay: float = bounded(0, None, 0.01)
    warmup_steps: int = bounded(0, None, 0)
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: float = bounded(0, None, 1.0)


@dataclass(frozen=True)
class RunPart:
    """How long and how. `validate_clips`: clips of the validation split per data set (0: all)."""

    steps: int = bounded(1)
    batch_size: int = bounded(1)
    accumulate: int = bounded(1, None, 1)
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = bounded(0, None, 0)
    checkpoint_every: int = bounded(1, None, 100)
    validate_every: int = bounded(1, None, 200)
    validate_clips: int = bounded(0, None, 0)


@dataclass(frozen=True)
class Stage:
    """A stage of a curriculum (avss): up to which share of the steps it lasts, and the parts whose clips it draws from."""

    until: float = bounded(0, 1)
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainRecipe:
    """A training recipe in full."""

    kind: str
    name: str
    description: str
    model: ModelPart
    data: DataPart
    optimizer: OptimizerPart
    run: RunPart
    loss: LossPart = field(default_factory=LossPart)
    negatives: NegativesPart = field(default_factory=NegativesPart)
    curriculum: tuple[Stage, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe, every default filled in, as plain JSON types; `parse_train_recipe` reads it back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def with_steps(self, steps: int | None) -> TrainRecipe:
        """Return the recipe for another number of steps (None: as it is); intervals stay."""
        return self if steps is None else replace(self, run=replace(self.run, steps=steps))


def load_train_recipe(name_or_path: str | Path) -> TrainRecipe:
    """Return a training recipe by the name of one that comes with avsrobust, or by the path of a YAML file.

    Raises `RecipeError` for an unknown name, a recipe that builds, and every key that is unknown or has a wrong value.
    """
    path = find_recipe(name_or_path)
    return parse_train_recipe(read_yaml(path), str(path))


def parse_train_recipe(content: Mapping[str, Any], where: str) -> TrainRecipe:
    """Return the training recipe that `content` describes; `where` names its origin. Raises `RecipeError`."""
    if content.get("kind") != KIND:
        raise RecipeError(
            f"{where}: key kind: found {content.get('kind')!r}; expected '{KIND}'; choose a recipe that trains "
            "(recipes that build are for 'avsrobust build')"
        )
    recipe = read_fields(TrainRecipe, content, where)
    recipe_name(content, where)
    _check(recipe, where)
    return recipe


def _check(recipe: TrainRecipe, where: str) -> None:
    data, run = recipe.data, recipe.run
    _known(where, "data.datasets", data.datasets, DATASETS)
    _known(where, "data.split", (data.split,), SPLITS)
    _known(where, "data.mix", data.mix, data.datasets)
    _known(where, "data.toy.clips", data.toy.clips if data.toy else (), data.datasets)
    _known(where, "negatives.kinds", recipe.negatives.kinds, NEGATIVE_KINDS)
    _require(where, "data.datasets", data.datasets, bool(data.datasets), "one data set at least")
    # Lists as long are made of them.
    _require(where, "run.steps", run.steps, run.steps <= _MOST_STEPS, f"at most {_MOST_STEPS}")
    _require(where, "run.batch_size", run.batch_size, run.batch_size <= _MOST_ITEMS, f"at most {_MOST_ITEMS}")
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
        _known(where, f"curriculum[{number}].parts", stage.parts, CURRICULUM_PARTS)
        _require(where, f"curriculum[{number}].parts", [], bool(stage.parts), "one part at least")


def _known(where: str, key: str, values: Any, known: tuple[str, ...]) -> None:
    for value in values:
        if value not in known:
            raise RecipeError(
                f"{where}: key {key}: found {value!r}; expected one of {', '.join(known)}{did_you_mean(value, known)}"
            )


def _require(where: str, key: str, found: object, holds: bool, expected: str) -> None:
    if not holds:
        raise RecipeError(f"{where}: key {key}: found {found!r}; expected {expected}; correct the file")


def default_output(recipe: TrainRecipe, folder: Path | str = Path("training")) -> Path:
    """Return the folder that a recipe's run goes to by default, ``training/<name>``."""
    return Path(folder) / recipe.name
