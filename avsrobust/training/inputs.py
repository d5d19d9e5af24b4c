"""Inputs of a run: the builds that it is trained on, and the weights that it starts from.

Conventions
    A recipe's data sets are looked for as ``robust/<dataset>-seed42``, or any other build of them below ``robust``; a recipe
    with `data.toy` has its own data, in a folder of its own, which is made on first use (by the caller: `MakeToy`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from avsrobust.callbacks import MessageCallback
from avsrobust.errors import ManifestError, OptionError
from avsrobust.evaluation.clip_data import check_data
from avsrobust.manifest import MANIFEST_NAME, Manifest, load_manifest
from avsrobust.remote.inputs import local_build, local_data_root, local_place
from avsrobust.training.data import TrainingBuild
from avsrobust.training.recipe import TrainRecipe

RUNS_ROOT = Path("training")
# No recipe has a name that begins with a dot.
PICTURES_ROOT = RUNS_ROOT / ".pictures"
VALIDATION_SPLIT = "val"


class MakeToy(Protocol):
    """Makes the build of a toy data set, unless it is there, and returns it."""

    def __call__(self, dataset: str, clips: int, seed: int, *, on_message: MessageCallback) -> Manifest:
        """Return the build of `clips` toy clips of `dataset`, drawn from `seed`."""


def open_builds(
    recipe: TrainRecipe,
    manifests: Sequence[Path | str],
    data_root: Path | str | None,
    builds_root: Path | str,
    *,
    make_toy: MakeToy | None = None,
    on_message: MessageCallback = lambda _line: None,
) -> list[TrainingBuild]:
    """Return the builds that a recipe is trained on, in the order of its data sets.

    Files of those on other machines are copied as they are read (`avsrobust.training.arrivals`).

    Args:
        recipe: The recipe.
        manifests: Builds that the user names. Without any, the recipe's toy is made, or, where it has none, the builds below
            `builds_root` are taken.
        data_root: Folder of all builds' data; None: the one that each build remembers.
        builds_root: Folder below which builds are looked for.
        make_toy: Makes a toy data set's build; None: recipes with a toy need `manifests`.
        on_message: Called with lines for people.

    Raises:
        OptionError: A build is missing, given twice, or none of the recipe's.
        ManifestError: No build, or more than one, lies below `builds_root`, or one is damaged.
    """
    datasets = recipe.data.datasets
    if manifests:
        found = [load_manifest(local_build(path, on_demand=True)) for path in manifests]
    elif recipe.data.toy is not None and make_toy is not None:
        found = [_toy(recipe, dataset, make_toy, on_message) for dataset in datasets]
    else:
        found = [_only_build(dataset, Path(builds_root)) for dataset in datasets]
    by_dataset = {manifest.info.dataset: manifest for manifest in found}
    if len(by_dataset) < len(found):
        raise OptionError("--manifest: found two builds of one data set; expected one of each; name one of the two")
    named = ", ".join(sorted(by_dataset))
    for dataset in datasets:
        if dataset not in by_dataset:
            raise OptionError(
                f"--manifest: found builds of {named}; recipe '{recipe.name}' also needs {dataset}; "
                "add --manifest with a build of it"
            )
    if by_dataset.keys() - set(datasets):
        raise OptionError(
            f"--manifest: found a build of {', '.join(sorted(by_dataset.keys() - set(datasets)))}; recipe '{recipe.name}' is for "
            f"{', '.join(datasets)}; leave it out"
        )
    splits = [recipe.data.split, VALIDATION_SPLIT]
    chosen = [by_dataset[dataset] for dataset in datasets]
    place = local_data_root(data_root, chosen, splits, on_demand=True)
    builds = [TrainingBuild(manifest, manifest.data_root(place)) for manifest in chosen]
    for build in builds:
        check_data(build.manifest, build.data_root, splits)
    return builds


def find_start(recipe: TrainRecipe, init: Path | str | None, runs_root: Path | str = RUNS_ROOT) -> Path | None:
    """Return the file or folder that training starts from, or None for random weights.

    Args:
        recipe: The recipe; its `model.start_from` names the run it builds on.
        init: The user's ``--init``, which goes first.
        runs_root: Folder below which runs are looked for.

    Raises:
        OptionError: The start is not there.
    """
    if init is not None:
        init = local_place(init) or Path()
        if not init.exists():
            raise OptionError(
                f"--init {init}: not found; expected a run's folder, a bundle (.safetensors) or a checkpoint folder"
            )
        return init
    if recipe.model.start_from is None:
        return None
    best = Path(runs_root) / recipe.model.start_from / "best.safetensors"
    if lacks_start(recipe, runs_root):
        raise OptionError(
            f"--init: not given, and {best} is not there; recipe '{recipe.name}' starts from a run of "
            f"'{recipe.model.start_from}'; train that first, or name a start with --init"
        )
    return best


def lacks_start(recipe: TrainRecipe, runs_root: Path | str = RUNS_ROOT) -> bool:
    """Return whether a recipe starts from a run that is not there (yet)."""
    run = recipe.model.start_from
    return run is not None and not (Path(runs_root) / run / "best.safetensors").is_file()


def _only_build(dataset: str, builds_root: Path) -> Manifest:
    usual = builds_root / f"{dataset}-seed42" / MANIFEST_NAME
    found = [usual] if usual.is_file() else sorted(builds_root.glob(f"{dataset}-seed*/{MANIFEST_NAME}"))
    if len(found) != 1:
        number = "several builds" if found else "no build"
        raise ManifestError(
            f"{builds_root}/: found {number} of {dataset}; expected one; run 'avsrobust build --dataset {dataset} --seed 42', "
            "or name one with --manifest"
        )
    return load_manifest(found[0])


def _toy(recipe: TrainRecipe, dataset: str, make_toy: MakeToy, on_message: MessageCallback) -> Manifest:
    toy = recipe.data.toy
    if toy is None or dataset not in toy.clips:
        raise OptionError(f"data.toy.clips: has no number of clips for {dataset}; add it to the recipe")
    return make_toy(dataset, toy.clips[dataset], toy.seed, on_message=on_message)
