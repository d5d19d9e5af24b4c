"""A toy data set and its build in one go, for training recipes that bring their own data.

Conventions
    ``<root>/toy-seed<seed>`` is the data root, its folder ``robust`` holds the builds; both are made where they are missing.
    The build is the recipe `standard` with seed 42, whatever the seed of the toy.
"""

from __future__ import annotations

from pathlib import Path

from avsrobust.building.build import build
from avsrobust.callbacks import MessageCallback, ProgressCallback
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import list_dataset
from avsrobust.manifest import MANIFEST_NAME, Manifest, load_manifest
from avsrobust.toy.write import write_toy

BUILD_SEED = 42


def toy_build(
    dataset: str,
    clips: int,
    seed: int,
    *,
    on_message: MessageCallback,
    progress: ProgressCallback | None = None,
    workers: int = 1,
    root: Path = Path("data"),
) -> Manifest:
    """Return the build of a toy data set, made below `root` unless it is there already.

    Args:
        dataset: s4, ms3 or avss.
        clips: Number of clips.
        seed: Seed of the toy.
        on_message: Called with a line for people before anything is made.
        progress: Called with the work done and in total, of the clips, of their checks and then of their build.
        workers: Processes that make them.
        root: Folder that the toy's own folder lies in.
    """
    data_root = root / f"toy-seed{seed}"
    output = data_root / "robust" / f"{dataset}-{clips}-seed{BUILD_SEED}"
    if not (output / MANIFEST_NAME).is_file():
        on_message(f"making {clips} toy clips of {dataset} in {data_root}")
        write_toy(data_root, dataset, clips=clips, seed=seed, workers=workers, progress=progress)
        source = list_dataset(dataset, data_root).checked(workers, whole_sounds=True, progress=progress)
        build(source, load_recipe("standard"), BUILD_SEED, output, workers=workers, progress=progress)
    return load_manifest(output / MANIFEST_NAME)
