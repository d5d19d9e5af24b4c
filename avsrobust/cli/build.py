"""`avsrobust build`: make the robust variants of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from avsrobust.cli.main import STATUS_INCOMPLETE
from avsrobust.cli.options import ANYWHERE, HERE, complete_dataset, complete_recipe, data_root_option, wait_option
from avsrobust.cli.progress import note, print_result, progress_bar, warn
from avsrobust.defaults import RECIPE, SEED
from avsrobust.vocabulary import counted

if TYPE_CHECKING:
    from avsrobust.building.build import BuildReport
    from avsrobust.building.describe import Summary
    from avsrobust.callbacks import ProgressCallback
    from avsrobust.conditions.recipe import Recipe
    from avsrobust.datasets.dataset import DataSet

_MOST_SKIPPED = 20


@click.command(short_help="Make the conditions of a recipe for a data set.")
@click.option(
    "--dataset",
    "dataset_name",
    required=True,
    shell_complete=complete_dataset,
    metavar="s4|ms3|avss|MODULE:CLASS|FILE.py:CLASS",
    help="The data set (v1s, v1m, v2 too), or a plug-in's.",
)
@click.option("--seed", default=SEED, show_default=True, type=int, help="Seed of every draw.")
@data_root_option
@click.option(
    "--output",
    type=ANYWHERE,
    metavar="DIR|URL",
    help="Folder, here or at s3://.. [default: robust/<dataset>-seed<seed>].",
)
@click.option(
    "--recipe",
    "recipe_name",
    default=RECIPE,
    show_default=True,
    shell_complete=complete_recipe("build"),
    metavar="NAME|FILE",
)
@click.option("--split", "splits", multiple=True, help="Only these splits; repeatable [default: all].")
@click.option(
    "--release",
    metavar="object|semantic",
    help="Form of s4 or ms3 [default: AVSBench-object's where it is there, else AVSBench-semantic's].",
)
@click.option("--dry-run", is_flag=True, help="Say what was found and what would be made; write nothing.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Processes.")
@click.option("--engine", default="local", show_default=True, metavar="local|dask")
@click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler, for example tcp://10.0.0.1:8786.")
@click.option("--on-error", default="fail", show_default=True, metavar="fail|skip", help="What to do with bad clips.")
@click.option(
    "--store-audio/--no-store-audio",
    default=None,
    help="Keep, or not, sounds that a manifest row can define as files too [default: as the recipe says].",
)
@click.option(
    "--recordings",
    type=HERE,
    metavar="DIR",
    help="Your own recordings, for the condition 'unseen', which is added to the recipe.",
)
@click.option("--export", metavar="avsbench", help="Also write the trees that AVSBench-Robust's loaders read.")
@wait_option
def build(
    dataset_name: str,
    seed: int,
    data_root: Path | str | None,
    output: Path | str | None,
    recipe_name: str,
    splits: tuple[str, ...],
    release: str | None,
    dry_run: bool,
    workers: int,
    engine: str,
    scheduler: str | None,
    on_error: str,
    store_audio: bool | None,
    recordings: Path | None,
    export: str | None,
    wait: bool,
) -> int:
    """Make the seeded conditions of a recipe for a data set, and their manifest."""
    from avsrobust import api
    from avsrobust.building.build import check_options
    from avsrobust.building.remote_data import local_data_set
    from avsrobust.conditions.recipe import load_recipe
    from avsrobust.datasets.registry import find_dataset

    recipe = load_recipe(recipe_name).adapted(store_audio=store_audio, recordings=recordings)
    if dry_run:
        check_options(find_dataset(dataset_name).name, seed, workers, engine, scheduler, on_error, export)
        root = local_data_set(data_root, dataset_name, splits, release, recipe)
        with progress_bar(f"looking at {dataset_name}") as progress:
            dataset = api.read_dataset(
                dataset_name, root, splits=splits, release=release, workers=workers, progress=progress
            )
            summary = _describe(dataset, recipe, seed, workers, progress)
        for line in summary.lines():
            print_result(line)
        return STATUS_INCOMPLETE if summary.findings else 0
    with progress_bar(f"building {dataset_name}") as progress:
        report = api.build(
            dataset_name,
            recipe=recipe,
            seed=seed,
            data_root=data_root,
            output=output,
            splits=splits,
            release=release,
            workers=workers,
            engine=engine,
            scheduler=scheduler,
            on_error=on_error,
            export=export,
            wait=wait,
            progress=progress,
        )
    return _print_report(report)


def _describe(dataset: DataSet, recipe: Recipe, seed: int, workers: int, progress: ProgressCallback) -> Summary:
    from avsrobust.building.describe import describe
    from avsrobust.building.dry_run import survey_sample
    from avsrobust.building.lenders import read_lenders
    from avsrobust.building.listing import read_listing
    from avsrobust.building.plan import plan

    survey = survey_sample(dataset, threads=workers if workers > 1 else None, progress=progress)
    bad = {finding.clip_id for finding in survey.findings}
    clips = [clip for clip in survey.applied_to(dataset.clips) if clip.clip_id not in bad]
    lenders = read_lenders(dataset, recipe, workers)
    planned = plan(
        clips,
        recipe,
        seed,
        dataset.off_screen_obstacle,
        read_listing(dataset, recipe),
        lenders.clips,
        lenders.recordings,
    )
    return describe(dataset, planned, survey, lenders)


def _print_report(report: BuildReport) -> int:
    for message in report.notes:
        note(message)
    for line in report.survey:
        note(line)
    for entry in report.skipped[:_MOST_SKIPPED]:
        note(f"  {entry.clip_id}{f', {entry.condition}' if entry.condition else ''}: {entry.reason}")
    if len(report.skipped) > _MOST_SKIPPED:
        note(f"  ... and {len(report.skipped) - _MOST_SKIPPED} more, in the manifest's metadata")
    if report.skipped:
        warn(f"skipped {len(report.skipped):,} of the clips or their rows; the manifest lists them")
    note(f"{counted(report.rows, 'row')}; {counted(report.rendered, 'file')} made, {report.reused} found")
    print_result(report.manifest)
    return STATUS_INCOMPLETE if report.skipped else 0
