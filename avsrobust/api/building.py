"""Reading data sets, and making the conditions of a recipe for them (`avsrobust.api`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avsrobust import defaults
from avsrobust.callbacks import ProgressCallback
from avsrobust.plain_arguments import with_plain_arguments
from avsrobust.remote import naming_addresses

if TYPE_CHECKING:
    from avsrobust.building.build import BuildReport
    from avsrobust.conditions.recipe import Recipe
    from avsrobust.datasets.dataset import DataSet
    from avsrobust.datasets.spec import DataSetSpec

AnyPath = Path | str


@naming_addresses()
@with_plain_arguments
def build(
    dataset: str | type[DataSetSpec] | DataSet,
    *,
    seed: int = defaults.SEED,
    recipe: str | Path | Recipe = defaults.RECIPE,
    data_root: AnyPath | None = None,
    output: AnyPath | None = None,
    splits: Sequence[str] | None = None,
    release: str | None = None,
    workers: int = 1,
    engine: str = "local",
    scheduler: str | None = None,
    on_error: str = "fail",
    store_audio: bool | None = None,
    recordings: AnyPath | None = None,
    export: str | None = None,
    wait: bool = False,
    progress: ProgressCallback | None = None,
) -> BuildReport:
    """Make the conditions of a recipe for a data set, and their manifest; complete a build that was interrupted.

    Args:
        dataset: "s4", "ms3", "avss", a data set of a plug-in (its name, ``package.module:Class``, ``file.py:Class`` or its
            class), or a data set from `read_dataset`.
        seed: Seed of every draw.
        recipe: Name of a recipe that comes with avsrobust, path of a YAML file, or a recipe.
        data_root: Folder that the data sets lie in (default: ``$AVSROBUST_DATA``, else ``data``).
        output: Folder of the build (default: ``robust/<dataset>-seed<seed>``).
        splits: Splits to build (default: all).
        release: "object" or "semantic": the form of S4 or MS3 (default: object where it is there).
        workers: Processes, or threads that read the data set.
        engine: "local" or "dask".
        scheduler: Address of a Dask scheduler.
        on_error: "fail" refuses a data set with findings, "skip" skips such clips and lists them.
        store_audio: Keep, or not, sounds that a manifest row can define as files too (default: as the recipe says).
        recordings: Folder of the user's own recordings, for the condition `unseen`, which is added to the recipe.
        export: "avsbench" also writes the trees that AVSBench-Robust's loaders read.
        wait: Wait until another process gives the folder up, instead of refusing.
        progress: Called with (units done, units in total): of the clips that are checked, then of the build.

    Returns:
        The path of the manifest, and counts of rows, of files made and found, and of what was skipped.

    Raises:
        DataSetError: The data set is missing or has findings, all of which the error holds.
        OptionError: An option or the output folder cannot be used.
        RecipeError: The recipe is unknown, malformed, or does not fit the data set.
    """
    from avsrobust.building.build import build as build_dataset
    from avsrobust.building.build import check_options
    from avsrobust.building.identity import BUILD_KIND
    from avsrobust.building.remote_data import local_data_set
    from avsrobust.conditions.recipe import Recipe, load_recipe
    from avsrobust.datasets.read import ListedDataSet, list_dataset
    from avsrobust.datasets.registry import find_dataset
    from avsrobust.folders import ensure_own
    from avsrobust.remote import join, output_folder, published, put_so_far
    from avsrobust.seal import is_intact

    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe))
    chosen = chosen.adapted(store_audio=store_audio, recordings=recordings)
    name = find_dataset(dataset).name if isinstance(dataset, str | type) else dataset.name
    check_options(name, seed, workers, engine, scheduler, on_error, export)
    if isinstance(dataset, str | type):
        root = local_data_set(data_root, dataset, splits, release, chosen)
        found: ListedDataSet | DataSet = list_dataset(dataset, root, splits=splits or None, release=release)
    else:
        found = dataset
    folder_name = defaults.build_name(found.name, seed, chosen.name, found.release)
    place = join(defaults.BUILDS_ROOT, folder_name) if output is None else output
    with output_folder(place, "avsrobust build", BUILD_KIND, wait=wait) as folder:
        # Before the data set is read, which takes its time.
        ensure_own(folder, BUILD_KIND)

        def advance(done: int, total: int) -> None:
            if progress is not None:
                progress(done, total)
            put_so_far(folder, often=True)

        if isinstance(found, ListedDataSet):
            # A finished build knows the contents of the recordings; for another, header and contents come from one reading.
            found = found.checked(workers, whole_sounds=not is_intact(folder), progress=progress)
        report = build_dataset(
            found,
            chosen,
            seed,
            folder,
            workers=workers,
            engine=engine,
            scheduler=scheduler,
            on_error=on_error,
            export=export,
            wait=wait,
            progress=advance,
        )
    return dataclasses.replace(report, manifest=published(report.manifest))


@naming_addresses()
@with_plain_arguments
def read_dataset(
    name: str | type[DataSetSpec],
    data_root: AnyPath | None = None,
    *,
    splits: Sequence[str] | None = None,
    release: str | None = None,
    workers: int = 1,
    progress: ProgressCallback | None = None,
) -> DataSet:
    """Read a data set: find its tree, list its clips, check their files.

    Args:
        name: "s4", "ms3", "avss", or a data set of a plug-in: its name, ``package.module:Class``, ``file.py:Class``, or its
            class.
        data_root: Folder that the data sets lie in (default: ``$AVSROBUST_DATA``, else ``data``).
        splits: Splits to read (default: all).
        release: "object" or "semantic": the form of S4 or MS3 (default: object where it is there).
        workers: Threads that check files.
        progress: Called with (clips checked, clips in total).

    Returns:
        The clips that are in order, the findings about all others, and notes.

    Raises:
        DataSetError: There is no such data set below the root, or its table cannot be read.
        OptionError: The name is unknown.
    """
    from avsrobust.building.remote_data import local_data_set
    from avsrobust.datasets.read import read_dataset as read

    root = local_data_set(data_root, name, splits, release)
    return read(name, root, splits=splits or None, release=release, workers=workers, progress=progress)
