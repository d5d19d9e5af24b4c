"""Which build results are of: headings and names that keep several seeds, recipes and releases apart.

Conventions
    A place is (data set, release, split): what is at one place was scored on the same data and shares tables. The release is
    named where a data set has two (s4, ms3). At one place names say the seed and the recipe of the build as soon as two are
    there. Results of one model that agree in all of this are numbered in the order of their files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from avsrobust.report.escape import one_line
from avsrobust.report.evaluations import Evaluation, place_of_dataset

Place = tuple[str, str, str]
# AVSBench-object has these, and AVSBench-semantic has them with other masks; AVSS is in the latter alone.
_OF_TWO_RELEASES = ("s4", "ms3")


@dataclass(frozen=True)
class Label:
    """The name of results for people, and `model`, the name for programs: with a number where nothing else tells twins apart."""

    name: str
    model: str


def place_order(place: Place) -> tuple[tuple[int, str], str, str]:
    """Return where a place stands in reports: by data set (s4, ms3, avss), release and split."""
    dataset, release, split = place
    return place_of_dataset(dataset), release, split


def dataset_title(dataset: str, release: str) -> str:
    """Return a data set for headings, with its release where there are two.

    >>> dataset_title("ms3", "object"), dataset_title("avss", "semantic")
    ('ms3, object release', 'avss')
    """
    return ", ".join([dataset, *_release(dataset, release)])


def place_title(place: Place) -> str:
    """Return a place for headings.

    >>> place_title(("s4", "semantic", "test")), place_title(("avss", "semantic", "val"))
    ('s4, semantic release, test', 'avss, val')
    """
    dataset, release, split = place
    return f"{dataset_title(dataset, release)}, {split}"


def place_name(place: Place) -> str:
    """Return a place for sentences.

    >>> place_name(("ms3", "object", "test")), place_name(("s4", "", "test"))
    ('ms3/test (object release)', 's4/test')
    """
    dataset, release, split = place
    return " ".join([f"{dataset}/{split}", *(f"({title})" for title in _release(dataset, release))])


def build_title(entry: Evaluation) -> str:
    """Return the build of `entry` for sentences: its seed, and its recipe where that is known."""
    return f"seed {entry.seed}" + (f", recipe {entry.recipe}" if entry.recipe else "")


def labels(entries: Sequence[Evaluation]) -> list[Label]:
    """Return the label of each of `entries`, of which those of one place are in the order of their files."""
    seeds = _several((entry.place, entry.seed) for entry in entries)
    recipes = _several((entry.place, entry.recipe) for entry in entries)
    keys = [(entry.place, one_line(entry.model), entry.seed, entry.recipe) for entry in entries]
    numbers = _numbers(keys)
    found = []
    for entry, number in zip(entries, numbers, strict=True):
        parts = [f"seed {entry.seed}"] if entry.place in seeds else []
        parts += [f"recipe {entry.recipe or 'unknown'}"] if entry.place in recipes else []
        parts += [] if number is None else [str(number)]
        name = f"{entry.model} ({', '.join(parts)})" if parts else entry.model
        found.append(Label(name, entry.model if number is None else f"{entry.model} ({number})"))
    return found


def _release(dataset: str, release: str) -> list[str]:
    return [f"{release} release"] if release and dataset in _OF_TWO_RELEASES else []


def _several(pairs: Iterable[tuple[Place, Hashable]]) -> set[Place]:
    """Return the places with more than one value."""
    count = Counter(place for place, _ in set(pairs))
    return {place for place, number in count.items() if number > 1}


def _numbers(keys: Sequence[Hashable]) -> list[int | None]:
    """Return for each key its place among equal ones, counted from 1; None where it stands alone."""
    total, so_far = Counter(keys), Counter[Hashable]()
    numbers: list[int | None] = []
    for key in keys:
        so_far[key] += 1
        numbers.append(so_far[key] if total[key] > 1 else None)
    return numbers
