"""`avsrobust export`: results for other tools, models and builds for Hugging Face, descriptions of builds."""

from __future__ import annotations

from pathlib import Path

import click

from avsrobust.cli.options import (
    ANYWHERE,
    HERE,
    complete_adapter,
    complete_protocol,
    data_root_option,
    key_values,
    protocols_option,
)
from avsrobust.cli.progress import print_result, progress_bar, warn
from avsrobust.vocabulary import TASKS

# As `exporting.trackers.TRACKERS`, which is not imported here for the sake of --help's speed.
TRACKERS = ("tensorboard", "mlflow", "wandb")


@click.group(short_help="Hand results, models and builds to other tools.")
def export() -> None:
    """Hand results, models and builds to other tools; nothing is sent anywhere."""


@export.command("results")
@click.argument("results", nargs=-1, type=ANYWHERE)
@click.option("--to", "tracker", required=True, metavar="|".join(TRACKERS), help="The experiment tracker.")
@click.option(
    "--output",
    required=True,
    metavar="DIR|URI",
    help="Folder of the runs; of MLflow also the address of a store, such as sqlite:///runs.db.",
)
@protocols_option
@click.option("--task", type=click.Choice(TASKS), help="As in report.")
@click.option("--project", metavar="NAME", help="Project of W&B, experiment of MLflow [default: avsrobust].")
@click.option("--artifacts", is_flag=True, help="Attach the files of each result, and its table (mlflow, wandb).")
def results_command(
    results: tuple[Path | str, ...],
    tracker: str,
    output: str,
    protocols: tuple[str, ...],
    task: str | None,
    project: str | None,
    artifacts: bool,
) -> None:
    """Write RESULTS (default: everything under 'results') as runs of an experiment tracker."""
    from avsrobust.exporting.trackers import check_target, export_results
    from avsrobust.metrics import DEFAULT_PROTOCOL
    from avsrobust.remote.inputs import with_folder
    from avsrobust.reporting.loading import load_results
    from avsrobust.reporting.selection import requested_protocols

    check_target(tracker, output, project=project, artifacts=artifacts)
    requested_protocols(protocols or (DEFAULT_PROTOCOL,))
    with progress_bar(f"exporting to {tracker}"):
        loaded = load_results(results or None)
        if artifacts:
            for scores in loaded:
                with_folder(Path(str(scores.source)))
        exported = export_results(
            loaded,
            tracker,
            output,
            protocols=protocols or (DEFAULT_PROTOCOL,),
            task=task,
            project=project,
            artifacts=artifacts,
        )
    for message in exported.warnings:
        warn(message)
    for place in exported.places:
        print_result(place)


@export.command("model")
@click.argument("output", type=HERE, metavar="DIR")
@click.option(
    "--adapter", required=True, shell_complete=complete_adapter, metavar="NAME|file.py:CLASS", help="As in evaluate."
)
@click.option("--checkpoint", type=ANYWHERE, metavar="FILE|URL", help="Weights of the model.")
@click.option("--option", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of the adapter; repeatable.")
@click.option("--name", metavar="NAME", help="Name of the model on the card [default: the adapter's].")
@click.option(
    "--results",
    multiple=True,
    type=ANYWHERE,
    metavar="DIR|URL",
    help="Its results, for the card; repeatable.",
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    metavar="NAME|all|file.py:OBJECT",
    shell_complete=complete_protocol,
    help="As in report. Repeatable [default: avsbench].",
)
def model_command(
    output: Path,
    adapter: str,
    checkpoint: Path | str | None,
    pairs: tuple[str, ...],
    name: str | None,
    results: tuple[Path | str, ...],
    protocols: tuple[str, ...],
) -> None:
    """Write a model to DIR in the layout of Hugging Face: config.json, model.safetensors, a card with its results."""
    from avsrobust.exporting.model_folder import export_model
    from avsrobust.metrics import DEFAULT_PROTOCOL
    from avsrobust.remote.inputs import local_place
    from avsrobust.reporting.loading import load_results
    from avsrobust.reporting.selection import requested_protocols

    requested_protocols(protocols or (DEFAULT_PROTOCOL,))
    folder = export_model(
        adapter,
        output,
        checkpoint=local_place(checkpoint),
        options=key_values(pairs),
        name=name,
        results=load_results(results) if results else (),
        protocols=protocols or (DEFAULT_PROTOCOL,),
    )
    print_result(folder)


@export.command("hf")
@click.argument("build", type=ANYWHERE)
@click.argument("output", type=HERE, metavar="DIR")
@click.option("--embed", is_flag=True, help="Store pictures and sounds in the files, not the paths of theirs.")
@click.option("--split", "splits", multiple=True, help="Only these splits; repeatable [default: all].")
@click.option("--condition", "conditions", multiple=True, help="Only these conditions; repeatable [default: all].")
@data_root_option
def hf_command(
    build: Path | str,
    output: Path,
    embed: bool,
    splits: tuple[str, ...],
    conditions: tuple[str, ...],
    data_root: Path | str | None,
) -> None:
    """Write BUILD to DIR as a data set of Hugging Face, with Image and Audio columns."""
    from avsrobust.evaluation_targets import check_selection
    from avsrobust.exporting.hf_dataset import export_hf
    from avsrobust.manifest import load_manifest

    manifest = load_manifest(build)
    check_selection([manifest], splits, conditions)
    chosen = manifest.select(splits or None, conditions or None)
    with progress_bar(f"exporting {manifest.info.dataset}") as progress:
        written = export_hf(chosen, output, embed=embed, data_root=data_root, progress=progress)
    print_result(written.folder)


@export.command("croissant")
@click.argument("build", type=ANYWHERE)
@click.option("--license", "license_name", metavar="TEXT", help="Licence, by name or address.")
@click.option("--cite", metavar="TEXT", help="How to cite the data.")
@click.option("--date", metavar="YYYY-MM-DD", help="Day of publication.")
@click.option("--output", type=HERE, metavar="FILE", help="Write to a new FILE, not to stdout.")
def croissant_command(
    build: Path | str, license_name: str | None, cite: str | None, date: str | None, output: Path | None
) -> None:
    """Describe BUILD in Croissant: its files, their checksums, the columns of its tables."""
    from avsrobust.exporting.croissant import Publication, croissant, export_croissant
    from avsrobust.manifest import load_manifest

    manifest = load_manifest(build)
    publication = Publication(license_name, cite, date)
    if output is None:
        click.echo(croissant(manifest, publication=publication), nl=False)
        return
    export_croissant(manifest, output, publication)
    print_result(output)
