"""Where training data comes from: builds that are named, builds that lie in the working folder, or a toy made on the spot.

Conventions
    A recipe's data sets are looked for as ``robust/<dataset>-seed42``, or any other build of them below ``robust``; a recipe
    with `data.toy` has its own data, in a folder of its own, which is made on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from avsrobust.errors import ManifestError, OptionError
from avsrobust.evaluation.samples import check_data
from avsrobust.manifest import MANIFEST_NAME, Manifest, load_manifest
from avsrobust.training.data import Source
from avsrobust.training.recipe import ToyPart, TrainRecipe

TOY_BUILD_SEED = 42
_VALIDATION_SPLIT = "val"
Tell = Callable[[str], None]


def open_sources(
    recipe: TrainRecipe,
    manifests: Sequence[Path | str],
    data_root: Path | str | None,
    builds: Path | str,
    *,
    toys: Path | str = Path("data"),
    tell: Tell = lambda _line: None,
) -> list[Source]:
    """Return the builds that a recipe is trained on, in the order of its data sets.

    `manifests` are those named by the user; without any, builds below `builds` are taken, or, where the recipe has a toy,
    that one, made below `toys`. Raises `OptionError` or `ManifestError` where one is missing, given twice or not its own.
    """
    if manifests:
        found = [load_manifest(path) for path in manifests]
    elif recipe.data.toy is not None:
        found = [_toy(dataset, recipe.data.toy, Path(toys), tell) for dataset in recipe.data.datasets]
    else:
        found = [_standing(dataset, Path(builds)) for dataset in recipe.data.datasets]
    by_dataset = {manifest.info.dataset: manifest for manifest in found}
    if len(by_dataset) < len(found):
        raise OptionError("--manifest: found two builds of one data set; expected one of each; name one of the two")
    sources = []
    for dataset in recipe.data.datasets:
        if dataset not in by_dataset:
            raise OptionError(
                f"--manifest: found builds of {', '.join(sorted(by_dataset))}; recipe '{recipe.name}' also needs {dataset}; "
                "add --manifest with a build of it"
            )
        manifest = by_dataset.pop(dataset)
        root = manifest.data_root(data_root)
        check_data(manifest, root, [recipe.data.split, _VALIDATION_SPLIT])
        sources.append(Source(manifest, root))
    if by_dataset:
        raise OptionError(
            f"--manifest: found a build of {', '.join(sorted(by_dataset))}; recipe '{recipe.name}' is for "
            f"{', '.join(recipe.data.datasets)}; leave it out"
        )
    return sources


def _standing(dataset: str, builds: Path) -> Manifest:
    usual = builds / f"{dataset}-seed42" / MANIFEST_NAME
    found = [usual] if usual.is_file() else sorted(builds.glob(f"{dataset}-seed*/{MANIFEST_NAME}"))
    if len(found) != 1:
        what = "several builds" if found else "no build"
        raise ManifestError(
            f"{builds}/: found {what} of {dataset}; expected one; run 'avsrobust build --dataset {dataset} --seed 42', "
            "or name one with --manifest"
        )
    return load_manifest(found[0])


def _toy(dataset: str, toy: ToyPart, toys: Path, tell: Tell) -> Manifest:
    """Return the build of a toy data set, made below `toys` unless it is there already."""
    from avsrobust.building.build import build
    from avsrobust.conditions.recipe import load_recipe
    from avsrobust.datasets.read import read_dataset
    from avsrobust.toy.write import write_toy

    if dataset not in toy.clips:
        raise OptionError(f"data.toy.clips: has no number of clips for {dataset}; add it to the recipe")
    clips = toy.clips[dataset]
    root = toys / f"toy-seed{toy.seed}"
    output = root / "robust" / f"{dataset}-{clips}-seed{TOY_BUILD_SEED}"
    if not (output / MANIFEST_NAME).is_file():
        tell(f"making {clips} toy clips of {dataset} in {root}")
        write_toy(root, dataset, clips=clips, seed=toy.seed)
        build(read_dataset(dataset, root), load_recipe("standard"), TOY_BUILD_SEED, output)
    return load_manifest(output / MANIFEST_NAME)
