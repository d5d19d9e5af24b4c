"""The samples of each training step, as a function of (seed, step) alone.

Conventions
    A stage of a run draws from a mixture: components that each fill a fixed share of every batch. A component is a set of
    samples that is drawn from without end, epoch after epoch, each in an order of its own. Without a curriculum a run is one
    stage. Without a mix all samples are one component; with one, each data set is a component. A curriculum (avss) adds parts
    of the data set stage by stage; source: README of bias_in_AVS, "we gradually add v1s, v2, v1m in the data pool".
    Steps are counted from 0. Nothing here depends on the number of processes: each takes its part of the same batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avsrobust.errors import OptionError
from avsrobust.training.recipe import TrainRecipe

# The first number of each seed, so that no two purposes share random numbers.
_PERMUTATION, _SAMPLE, _NOISE = 1, 2, 3


@dataclass(frozen=True)
class SampleIndex:
    """Index into a `TrainingSet`: a sample and the epoch it is drawn in.

    Attributes:
        sample: Number of the sample.
        epoch: Epoch of its component.
        seed: Seed of everything that is drawn for this sample in this epoch (mirroring, negatives).
    """

    sample: int
    epoch: int
    seed: tuple[int, ...]

    def generator(self) -> np.random.Generator:
        """Return a new generator of everything that is drawn for this sample in this epoch."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True)
class MixtureComponent:
    """Samples that are drawn from together.

    Attributes:
        samples: Their numbers.
        share: Share of every batch that is theirs.
        key: Number that tells the components of a run apart, in seeds.
    """

    samples: tuple[int, ...]
    share: float
    key: int


@dataclass(frozen=True)
class Stage:
    """The mixture from step `start` up to step `stop` (exclusive)."""

    start: int
    stop: int
    mixture: tuple[MixtureComponent, ...]


@dataclass(frozen=True)
class Sampler:
    """The batches of a whole run.

    Attributes:
        seed: Seed of the run.
        batch_size: Samples per step, over all processes.
        stages: The stages, one after the other.
    """

    seed: int
    batch_size: int
    stages: tuple[Stage, ...]

    def batch(self, step: int) -> list[SampleIndex]:
        """Return the samples of a step, over all processes, component by component."""
        number, stage = next((n, stage) for n, stage in enumerate(self.stages) if stage.start <= step < stage.stop)
        counts = quotas([component.share for component in stage.mixture], self.batch_size)
        batch: list[SampleIndex] = []
        for component, count in zip(stage.mixture, counts, strict=True):
            first = (step - stage.start) * count
            batch += [self._index(component, number, position) for position in range(first, first + count)]
        return batch

    def _index(self, component: MixtureComponent, stage: int, position: int) -> SampleIndex:
        epoch, place = divmod(position, len(component.samples))
        order = _permutation(self.seed, stage, component.key, epoch, len(component.samples))
        sample = component.samples[int(order[place])]
        return SampleIndex(sample, epoch, (_SAMPLE, self.seed, stage, epoch, sample))


def stages_of(recipe: TrainRecipe, datasets: Sequence[str], parts: Sequence[str]) -> tuple[Stage, ...]:
    """Return the stages of a recipe's run.

    Args:
        recipe: The recipe.
        datasets: Data set of each sample.
        parts: Part of avss (v1s, v1m, v2) of each sample, "" elsewhere.

    Raises:
        OptionError: A component has no sample.
    """
    steps = recipe.run.steps
    if not recipe.curriculum:
        return (Stage(0, steps, _mixture(recipe, datasets)),)
    stages = []
    start = 0
    for stage in recipe.curriculum:
        stop = round(stage.until * steps)
        samples = tuple(sample for sample, part in enumerate(parts) if part in stage.parts)
        _require_samples(samples, f"curriculum: no labelled frame in {', '.join(stage.parts)}")
        if stop > start:
            stages.append(Stage(start, stop, (MixtureComponent(samples, 1.0, 0),)))
            start = stop
    return tuple(stages)


def part_of(batch: Sequence[SampleIndex], part: int, parts: int) -> list[SampleIndex]:
    """Return part `part` of `parts` of a batch: every `parts`-th sample, so that each part has its share of each component."""
    return list(batch[part::parts])


def noise_seed(seed: int, step: int, part: int) -> int:
    """Return the seed of a model's noise in one part of one step, an integer in [0, 2**63)."""
    return int(np.random.SeedSequence([_NOISE, seed, step, part]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def quotas(shares: Sequence[float], total: int) -> list[int]:
    """Return how many of `total` samples each share gets: rounded down, the rest to the largest remainders.

    >>> quotas([0.5, 0.5], 16), quotas([0.7, 0.3], 16), quotas([1.0], 4)
    ([8, 8], [11, 5], [4])
    """
    exact = np.array(shares, dtype=np.float64) / sum(shares) * total
    counts = np.floor(exact + 1e-9).astype(int)
    behind = np.argsort(counts - exact, kind="stable")
    counts[behind[: total - int(counts.sum())]] += 1
    return [int(count) for count in counts]


def _mixture(recipe: TrainRecipe, datasets: Sequence[str]) -> tuple[MixtureComponent, ...]:
    _require_samples(datasets, f"no labelled frame in split '{recipe.data.split}'")
    if not recipe.data.mix:
        return (MixtureComponent(tuple(range(len(datasets))), 1.0, 0),)
    components = []
    for key, dataset in enumerate(recipe.data.datasets):
        samples = tuple(sample for sample, name in enumerate(datasets) if name == dataset)
        _require_samples(samples, f"no labelled frame of {dataset} in split '{recipe.data.split}'")
        components.append(MixtureComponent(samples, recipe.data.mix[dataset], key))
    return tuple(components)


def _require_samples(samples: Sequence[object], problem: str) -> None:
    if not samples:
        raise OptionError(f"training data: {problem}; expected one at least; build more clips")


@lru_cache(maxsize=16)
def _permutation(seed: int, stage: int, key: int, epoch: int, size: int) -> NDArray[np.intp]:
    return np.random.default_rng((_PERMUTATION, seed, stage, key, epoch)).permutation(size)
