"""Names and headings of data sets, builds, models and tasks that keep several seeds, recipes and releases apart.

Conventions
    A split key is (data set, release, split): results with the same key were scored on the same data and share tables. The
    release is named where a data set has several (avss has one). Names say the seed and the recipe of the build as soon as
    results with one split key differ in them. Results of one model that agree in all of this are numbered in the order of their
    files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from avsrobust.reporting.escape import one_line
from avsrobust.reporting.split_results import SplitKey, SplitResult
from avsrobust.vocabulary import CLASS_DATASET, DATASETS, SEMANTIC


@dataclass(frozen=True)
class Label:
    """Names of one result.

    Attributes:
        name: Name for people, with the seed and recipe of the build where they tell results apart.
        model: Name for programs: the model, with a number where nothing else tells two results apart.
    """

    name: str
    model: str


def split_order(key: SplitKey) -> tuple[tuple[int, str], str, str]:
    """Return the sort key of a split key: data set (s4, ms3, avss, then others by name), release, split."""
    dataset, release, split = key
    position = DATASETS.index(dataset) if dataset in DATASETS else len(DATASETS)
    return (position, dataset), release, split


def dataset_title(dataset: str, release: str) -> str:
    """Return a data set for headings, with its release where there are two.

    >>> dataset_title("ms3", "object"), dataset_title("avss", "semantic")
    ('ms3, object release', 'avss')
    """
    return ", ".join([dataset, *_release(dataset, release)])


def split_title(key: SplitKey) -> str:
    """Return a split key for headings.

    >>> split_title(("s4", "semantic", "test")), split_title(("avss", "semantic", "val"))
    ('s4, semantic release, test', 'avss, val')
    """
    dataset, release, split = key
    return f"{dataset_title(dataset, release)}, {split}"


def split_name(key: SplitKey) -> str:
    """Return a split key for sentences.

    >>> split_name(("ms3", "object", "test")), split_name(("s4", "", "test"))
    ('ms3/test (object release)', 's4/test')
    """
    dataset, release, split = key
    return " ".join([f"{dataset}/{split}", *(f"({title})" for title in _release(dataset, release))])


def build_title(result: SplitResult) -> str:
    """Return the build of a result for sentences: its seed, and its recipe where that is known."""
    return f"seed {result.seed}" + (f", recipe {result.recipe}" if result.recipe else "")


def task_title(task: str, dataset: str) -> str:
    """Return the task for headings, with a comma before it; nothing where a data set has no classes.

    >>> task_title("semantic", "avss"), task_title("binary", "avss"), task_title("binary", "s4")
    (', semantic segmentation', ', binary segmentation', '')
    """
    return f", {task} segmentation" if task == SEMANTIC or dataset == CLASS_DATASET else ""


def labels(results: Sequence[SplitResult]) -> list[Label]:
    """Return the label of each result; results with one split key are given in the order of their files."""
    seeds = _several((result.split_key, result.seed) for result in results)
    recipes = _several((result.split_key, result.recipe) for result in results)
    keys = [(result.split_key, one_line(result.model), result.seed, result.recipe) for result in results]
    found = []
    for result, number in zip(results, _numbers(keys), strict=True):
        parts = [f"seed {result.seed}"] if result.split_key in seeds else []
        parts += [f"recipe {result.recipe or 'unknown'}"] if result.split_key in recipes else []
        parts += [] if number is None else [str(number)]
        name = f"{result.model} ({', '.join(parts)})" if parts else result.model
        found.append(Label(name, result.model if number is None else f"{result.model} ({number})"))
    return found


def _release(dataset: str, release: str) -> list[str]:
    """The release in words, where the data set has two."""
    return [f"{release} release"] if release and dataset != CLASS_DATASET else []


def _several(pairs: Iterable[tuple[SplitKey, Hashable]]) -> set[SplitKey]:
    """Return the split keys with more than one value."""
    count = Counter(key for key, _ in set(pairs))
    return {key for key, number in count.items() if number > 1}


def _numbers(keys: Sequence[Hashable]) -> list[int | None]:
    """Return for each key its position among equal ones, counted from 1; None where it stands alone."""
    total, so_far = Counter(keys), Counter[Hashable]()
    numbers: list[int | None] = []
    for key in keys:
        so_far[key] += 1
        numbers.append(so_far[key] if total[key] > 1 else None)
    return numbers
