"""The public functions: each does what the command of its name does, and returns values instead of printing.

Conventions
    Paths are text or `pathlib.Path`; folders that are read or written may be URLs (``s3://bucket/folder``, as text), which
    messages then name; what is returned has the paths of the copy on this machine. Defaults are those of the commands
    (`avsrobust.defaults`). Every error that the caller can put right is an `avsrobust.errors.AvsRobustError` with a message of
    one line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from avsrobust import defaults
from avsrobust.callbacks import MessageCallback, ProgressCallback
from avsrobust.evaluation_targets import (
    check_selection,
    evaluate_into,
    find_device,
    local_data_root,
    results_folders,
    select_builds,
)
from avsrobust.remote import naming_addresses

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from avsrobust.adapters.base import Adapter
    from avsrobust.building.build import BuildReport
    from avsrobust.conditions.recipe import Recipe
    from avsrobust.datasets.dataset import DataSet
    from avsrobust.datasets.spec import DataSetSpec
    from avsrobust.evaluation.runner import EvaluationReport
    from avsrobust.exporting.frames import ScoreTable
    from avsrobust.manifest import Manifest
    from avsrobust.reporting.compare import Comparison, Comparisons
    from avsrobust.reporting.media import Gallery
    from avsrobust.reporting.report import Rendered
    from avsrobust.results import Scores

AnyPath = Path | str


@naming_addresses()
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
    from avsrobust.remote import join, output_folder, published
    from avsrobust.seal import is_intact

    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe))
    chosen = chosen.adapted(store_audio=store_audio, recordings=recordings)
    if isinstance(dataset, str | type):
        root = local_data_set(data_root, dataset, splits, release, chosen)
        found: ListedDataSet | DataSet = list_dataset(dataset, root, splits=splits or None, release=release)
    else:
        found = dataset
    name = defaults.build_name(found.name, seed, chosen.name, found.release)
    place = join(defaults.BUILDS_ROOT, name) if output is None else output
    check_options(found.name, seed, workers, engine, scheduler, on_error, export)
    with output_folder(place, "avsrobust build", BUILD_KIND, wait=wait) as folder:
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
            progress=progress,
        )
    return dataclasses.replace(report, manifest=published(report.manifest))


@naming_addresses()
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


@naming_addresses()
def evaluate(
    adapter: str | type[Any] | Adapter,
    manifests: AnyPath | Manifest | Sequence[AnyPath | Manifest] | None = None,
    *,
    dataset: str | None = None,
    name: str | None = None,
    checkpoint: AnyPath | None = None,
    options: Mapping[str, str] | None = None,
    device: str | torch.device = "auto",
    splits: Sequence[str] = ("test",),
    conditions: Sequence[str] | None = None,
    batch_size: int | None = None,
    save_masks: bool = False,
    data_root: AnyPath | None = None,
    output: AnyPath = defaults.RESULTS_ROOT,
    check: bool = True,
    replace: bool = False,
    wait: bool = False,
    score_size: str | int | None = None,
    progress: ProgressCallback | None = None,
    readers: int | None = None,
    limit: int | None = None,
    shard: str | None = None,
    engine: str = "local",
    scheduler: str | None = None,
) -> list[EvaluationReport]:
    """Run a model over builds, and add the statistics per frame to its results.

    Args:
        adapter: A name, ``package.module:Class`` or ``file.py:Class``; an adapter class; or a loaded adapter.
        manifests: Manifests, their paths or their folders (default: every build under ``robust``).
        dataset: Only builds of this data set.
        name: Name of the model in tables (default: the adapter's, or its class's).
        checkpoint: Weights of the model.
        options: The adapter's options.
        device: "auto", "cpu", "cuda", "cuda:N" or a torch device.
        splits: Splits to evaluate.
        conditions: Conditions to evaluate (default: all).
        batch_size: Clips at a time; scores do not depend on it (default: on a GPU what its memory holds, else 1).
        save_masks: Keep the masks too.
        data_root: Folder that the data set lies in now, where it has moved.
        output: Root of the results: they lie in ``output/<model>/<build>``.
        check: First run a few clips twice, to find models that keep state.
        replace: Let results of another model in the same folder give way to these.
        wait: Wait until another process gives the folder up, instead of refusing.
        score_size: Size at which masks are scored: 224, "384:bilinear" (how the annotated masks get there; default: nearest),
            or "frame" (default: the mask files' own size). Results at different sizes do not mix.
        progress: Called with (clips done, clips in total) of each build.
        readers: Threads that read clips (default: by the number of cores); scores do not depend on it.
        limit: A smoke run: the first so many clips of each build; tables refuse such results.
        engine: "local" runs the model in this process; "dask" in the workers of a cluster, each with a model of its own:
            `adapter` is then a text, or a class that workers can import.
        scheduler: Address of a running dask scheduler, for the engine "dask".
        shard: "2/4": the second of four parts of the clips; `evaluation.merging.merge_shards` puts the parts together.

    Returns:
        One report for each build.

    Raises:
        AdapterError: The adapter cannot be found, loaded or run.
        ManifestError: There is no build, or its data is not the manifest's.
        OptionError: A selection has no rows, or a folder belongs to another model or is in use.
    """
    from avsrobust.adapters.lookup import load_adapter
    from avsrobust.dask_client import check_engine, connect
    from avsrobust.errors import OptionError
    from avsrobust.evaluation.cluster import ClusterAdapter
    from avsrobust.evaluation.runner import evaluate as run_evaluation
    from avsrobust.evaluation.shards import Shard
    from avsrobust.plugins import spec_of
    from avsrobust.remote.inputs import local_place

    check_engine(engine, scheduler, own_cluster=False)
    if scheduler is not None and not isinstance(adapter, str | type):
        raise OptionError(
            f"adapter: is a loaded {type(adapter).__name__}, which cannot be sent to the workers of a cluster; expected a name, "
            "package.module:Class, file.py:Class or a class"
        )
    chosen = select_builds(manifests, dataset)
    check_selection(chosen, splits, conditions or ())
    root = local_data_root(data_root, chosen, splits, on_demand=True)
    part = None if shard is None else Shard.parse(shard)
    on = find_device(device) if scheduler is None else None
    spec = adapter if isinstance(adapter, str) else _class_of(adapter).__name__
    model = defaults.model_name(spec) if name is None else name
    folders = results_folders(output, {spec: model}, chosen)[spec]
    weights = local_place(checkpoint)
    with nullcontext() if scheduler is None else connect(scheduler) as client:
        loaded: Any = adapter
        if isinstance(adapter, str | type):
            loaded = (
                ClusterAdapter(client, adapter if isinstance(adapter, str) else spec_of(adapter), str(device))
                if on is None
                else load_adapter(adapter, checkpoint=weights, device=on, options=dict(options or {}))
            )
        run = partial(
            run_evaluation,
            adapter=loaded,
            name=model,
            spec=spec,
            splits=tuple(splits),
            conditions=conditions or None,
            data_root=root,
            device=on,
            batch_size=batch_size,
            readers=readers,
            save_masks=save_masks,
            checkpoint=weights,
            options=options,
            check=check,
            replace=replace,
            wait=wait,
            score_size=score_size,
            limit=limit,
            shard=part,
            progress=progress,
        )
        return [
            evaluate_into(folder, partial(run, manifest), part, wait=wait)
            for manifest, folder in zip(chosen, folders, strict=True)
        ]


@naming_addresses()
def report(
    results: AnyPath | Sequence[AnyPath] | Results | None = None,
    *,
    protocols: Sequence[str] | None = None,
    by: str | None = None,
    format: str = "md",  # noqa: A002 - the option's name
    task: str | None = None,
    negatives: Sequence[str] | None = None,
    scores: Sequence[str] = (),
    layout: str = "full",
    preset: str | None = None,
    columns: Sequence[str] = (),
    digits: str | int | None = None,
    width: str | float | None = None,
    caption: str | None = None,
    label: str | None = None,
    renames: Mapping[str, str] | None = None,
    reported: bool = False,
    reported_files: Sequence[AnyPath] = (),
    intervals: bool = False,
    aggregate: str | None = None,
    common_clips: bool = False,
    compare: bool = False,
    gallery: int | None = None,
    rerun: bool = False,
    data_root: AnyPath | None = None,
    allow_limited: bool = False,
    allow_different_builds: bool = False,
) -> Rendered:
    """Turn results into one table.

    Args:
        results: Results, or their paths or folders (default: everything under ``results``).
        protocols: Names of protocols, or "all" (default: avsbench, or those of the preset).
        by: None, or a breakdown for a line per part as well: "category", "train_source" or "avs_v3".
        format: Name of a report format.
        task: "semantic", "binary", or None: semantic where available.
        negatives: Negative conditions that the G scores average over (default: silence, noise, offscreen).
        scores: Groups of extra scores: "levels", "iiou", "activation", "overlap", "threshold", "natural", or "all".
        layout: "full", or "wide": the table for a paper, data sets side by side (md, latex, html).
        preset: The columns, digits and protocols of a paper, in the wide layout: "avsbench_robust" or "bias_in_avs".
        columns: Wide: columns of each data set, in order (default: mIoU, G_mIoU, G_FPR).
        digits: Wide: decimals of all columns, or of some, as "1,G_FPR=3".
        width: Wide: width of the LaTeX table, "page", "column", "neurips", "two-column", or points.
        caption: Wide: caption (default: how to read the table).
        label: Wide: LaTeX label (default: "tab:avsrobust").
        renames: Names to show, by those of models; wide: of columns and data sets too.
        reported: Show published scores next to the measured ones.
        reported_files: Files of further published scores.
        intervals: Whether to show 95 % intervals.
        common_clips: Whether to score every split on the clips alone that all its models were scored on.
        aggregate: "seeds": one line, with mean and spread, for all results of a model that differ in seeds alone.
        compare: Format html: compare all pairs of models, as `compare_models` does.
        gallery: Format html: show so many of the worst clips of each split, from stored masks (`evaluate`'s `save_masks`).
        rerun: With `gallery`: run models on the clips shown where their masks are not stored; named readouts too.
        data_root: Folder that the data set of the gallery lies in now, where it has moved.
        allow_limited: Take results of smoke runs (`evaluate`'s `limit`) too.
        allow_different_builds: Take results of different builds of a split too, whose negatives are others.

    Returns:
        The rendered table and its warnings.

    Raises:
        OptionError: A protocol, breakdown, format, task, negative, group of scores, column or name is unknown, or another option
            cannot be used.
        ResultsError: There are no results, or they cannot be read.
    """
    from avsrobust.reporting.loading import require_complete
    from avsrobust.reporting.report import check_page_option, report_options
    from avsrobust.reporting.report import report as render
    from avsrobust.reporting.same_build import require_one_build

    options = report_options(
        protocols=protocols or (),
        layout=layout,
        preset=preset,
        columns=columns,
        digits=digits,
        width=width,
        caption=caption,
        label=label,
        renames=renames or {},
        reported=reported,
        reported_files=reported_files,
    )
    found = results if isinstance(results, Results) else load_results(results)
    require_complete(found.scores, allow_limited=allow_limited)
    if not allow_different_builds:
        require_one_build(found.scores, aggregate=aggregate)
    media = None
    if gallery is not None:
        check_page_option("--gallery", format, options["layout"])
        media = make_gallery(found.scores, gallery, data_root=data_root, rerun=rerun)
    return render(
        found.scores,
        by=by,
        format=format,
        task=task,
        negatives=negatives,
        scores=scores,
        intervals=intervals,
        common_clips=common_clips,
        compare=compare,
        aggregate=aggregate,
        gallery=media,
        **options,
    )


@naming_addresses()
def make_gallery(
    results: Sequence[Scores],
    number: int,
    *,
    data_root: AnyPath | None = None,
    relative_to: Path | None = None,
    rerun: bool = False,
    on_message: MessageCallback = lambda _message: None,
) -> Gallery:
    """Return the media of the worst clips of some results, for `reporting.report.report`.

    Args:
        results: Stored results.
        number: Clips to show of each split and build.
        data_root: Folder of the data set; None: the one that each build remembers.
        relative_to: Folder of the page, to which the links are relative; None: the working folder.
        rerun: Run models on these clips where their masks are not stored; named readouts too.
        on_message: Called with a line for people before a model runs.

    Raises:
        OptionError: No results hold masks, and none are to be made.
        ResultsError: A build is not there any more, or a model is another one now.
        AdapterError: An adapter or its checkpoint is not there, or fails.
        ManifestError: A build's data is not there any more.
    """
    from avsrobust.gallery.collect import make_gallery as collect

    if not rerun:
        return collect(results, number, data_root=data_root, relative_to=relative_to)
    from avsrobust.clip_reruns import ClipReruns

    with TemporaryDirectory(prefix="avsrobust-") as folder:
        reruns = ClipReruns(Path(folder), data_root, on_message=on_message)
        return collect(results, number, data_root=data_root, relative_to=relative_to, rerun=reruns)


@naming_addresses()
def compare(
    a: AnyPath | Scores,
    b: AnyPath | Scores,
    *,
    protocol: str = "avsbench",
    samples: int = 10_000,
    seed: int = 0,
    task: str | None = None,
    negatives: Sequence[str] | None = None,
    changed: int = 0,
    allow_limited: bool = False,
    allow_different_builds: bool = False,
) -> Comparison:
    """Compare two models on the clips both were scored on, by a paired bootstrap over clips.

    Args:
        a: Results of one model, or their folder.
        b: Results of the other model, or their folder.
        protocol: Name of the protocol.
        samples: Number of resamples.
        seed: Seed of the resamples.
        task: "semantic", "binary", or None: the finest that both have.
        negatives: The negative conditions that the G scores average over; None: silence, noise and offscreen.
        changed: How many of the clips that changed most to list of each split.
        allow_limited: Take results of smoke runs (`evaluate`'s `limit`) too.
        allow_different_builds: Take results of different builds of a split too, whose negatives are others.

    Returns:
        The differences a - b with intervals and p, by split.

    Raises:
        OptionError: The protocol or task is unknown.
        ResultsError: The results cannot be read or compared.
    """
    from avsrobust.reporting.compare import compare as compare_scores
    from avsrobust.reporting.loading import load_result, require_complete
    from avsrobust.reporting.same_build import require_one_build

    one, other = (load_result(side) if isinstance(side, Path | str) else side for side in (a, b))
    require_complete([one, other], allow_limited=allow_limited)
    if not allow_different_builds:
        require_one_build([one, other], can_aggregate=False)
    return compare_scores(one, other, protocol, samples, seed, task, negatives, changed)


@naming_addresses()
def compare_models(
    results: Sequence[AnyPath | Scores],
    *,
    reference: str | None = None,
    protocol: str = "avsbench",
    samples: int = 10_000,
    seed: int = 0,
    task: str | None = None,
    negatives: Sequence[str] | None = None,
    changed: int = 0,
    common_clips: bool = False,
    allow_limited: bool = False,
    allow_different_builds: bool = False,
) -> Comparisons:
    """Compare any number of models, on each data set by itself, with p corrected for several comparisons.

    Args:
        results: Results of models, or folders of them.
        reference: The model that all others are compared with; None: all pairs are compared.
        protocol: Name of the protocol.
        samples: Number of resamples.
        seed: Seed of the resamples.
        task: "semantic", "binary", or None: the finest that both of a pair have.
        negatives: The negative conditions that the G scores average over; None: silence, noise and offscreen.
        changed: How many of the clips that changed most to list of each split and pair.
        common_clips: Compare on the clips that all models of a data set were scored on.
        allow_limited: Take results of smoke runs (`evaluate`'s `limit`) too.
        allow_different_builds: Take results of different builds of a split too, whose negatives are others.

    Returns:
        The comparison of each pair.

    Raises:
        OptionError: An option's value is unknown.
        ResultsError: The results cannot be read or compared.
    """
    from avsrobust.reporting.compare import compare_models as compare_scores
    from avsrobust.reporting.loading import load_each, require_complete
    from avsrobust.reporting.same_build import require_one_build

    loaded = [
        scores for entry in results for scores in (load_each([entry]) if isinstance(entry, Path | str) else [entry])
    ]
    require_complete(loaded, allow_limited=allow_limited)
    if not allow_different_builds:
        require_one_build(loaded, can_aggregate=False)
    return compare_scores(loaded, reference, protocol, samples, seed, task, negatives, changed, common_clips)


@dataclass(frozen=True)
class Results:
    """Stored results of models on builds.

    Attributes:
        scores: The statistics per frame of each model on each build.
    """

    scores: tuple[Scores, ...]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Scores]:
        return iter(self.scores)

    def __repr__(self) -> str:
        names = ", ".join(f"{entry.info.model} on {entry.info.dataset}" for entry in self.scores)
        return f"Results({names})"

    def to_pandas(
        self,
        protocols: Sequence[str] = ("avsbench",),
        task: str | None = None,
        *,
        allow_different_builds: bool = False,
    ) -> pd.DataFrame:
        """Return the report's table: a row per model, data set, split and protocol; undefined scores are NaN."""
        import io

        import pandas as pd

        found = report(
            self, protocols=protocols, task=task, format="csv", allow_different_builds=allow_different_builds
        )
        return pd.read_csv(io.StringIO(str(found.content)))

    def table(
        self,
        protocols: Sequence[str] = ("avsbench",),
        task: str | None = None,
        *,
        by: str | None = None,
        negatives: Sequence[str] | None = None,
        intervals: bool = False,
        aggregate: str | None = None,
        allow_different_builds: bool = False,
    ) -> ScoreTable:
        """Return the report's table as a data frame that a notebook shows in percent, with the best scores marked.

        Args:
            protocols: Protocols of the scores.
            task: "semantic", "binary", or None: semantic where available.
            by: A breakdown for a row per part as well, such as "category".
            negatives: Negative conditions that G averages over (default: silence, noise, offscreen).
            intervals: Add 95 % intervals, in columns that end in ``_low`` and ``_high``.
            aggregate: "seeds": one row for a model's results of several seeds.
            allow_different_builds: Take results of different builds of a split too, whose negatives are others.

        Returns:
            A row per line of the report, with the csv's columns; fractions, NaN is undefined.

        Raises:
            OptionError: An argument is unknown.
            ResultsError: There are no results, or they cannot be true.
        """
        from avsrobust.exporting.frames import score_table
        from avsrobust.reporting.same_build import require_one_build

        if not allow_different_builds:
            require_one_build(self.scores, aggregate=aggregate)
        return score_table(
            self.scores, protocols, task, by=by, negatives=negatives, intervals=intervals, aggregate=aggregate
        )

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


@naming_addresses()
def load_results(paths: AnyPath | Sequence[AnyPath] | None = None) -> Results:
    """Read stored results.

    Args:
        paths: Folders, searched through, or files ``scores.parquet`` (default: everything under ``results``).

    Raises:
        ResultsError: There are none, or one cannot be read.
    """
    from avsrobust.reporting.loading import load_results as load

    listed = [paths] if isinstance(paths, Path | str) else paths
    return Results(tuple(load(None if not listed else list(listed))))


def _class_of(adapter: type[Any] | Adapter) -> type[Any]:
    return adapter if isinstance(adapter, type) else type(adapter)
