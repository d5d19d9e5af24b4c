"""`avsrobust pretransform`: class files: the classes of each sound, for models with active queries."""

from __future__ import annotations

from pathlib import Path

import click

from avsrobust.cli.options import ANYWHERE, HERE, data_root_option, wait_option
from avsrobust.cli.progress import note, print_result, progress_bar
from avsrobust.defaults import CLASSES_ROOT, build_name
from avsrobust.vocabulary import counted

_MOST_NAMES = 8


@click.command(short_help="Write class files for the rows of a manifest.")
@click.option(
    "--manifest", required=True, type=ANYWHERE, metavar="FILE|URL", help="Manifest or build folder, here or at s3://..."
)
@data_root_option
@click.option(
    "--output",
    type=ANYWHERE,
    metavar="DIR|URL",
    help="Folder, here or at s3://.. [default: classes/<build>-<encoder>].",
)
@click.option("--encoder", required=True, metavar="NAME", help="ast, clap, hubert, beats, vggish or log_mel.")
@click.option(
    "--checkpoint",
    type=ANYWHERE,
    metavar="FOLDER|FILE|URL",
    help="Its weights: a transformers folder (ast, clap, hubert) or a file (beats, vggish). Nothing is downloaded.",
)
@click.option("--queries", type=click.IntRange(min=1), help="Queries that the network has [default: 100].")
@click.option("--clusters", type=click.IntRange(min=1), metavar="K", help="Clusters of k-means [default: 30].")
@click.option(
    "--clusters-from",
    type=HERE,
    metavar="FILE",
    help="clusters.safetensors of an earlier run, for the same clusters and classes.",
)
@click.option("--classes/--no-classes", default=None, help="Use the encoder's classes [default: with ast and beats].")
@click.option("--class-threshold", type=float, help="Score above which a sound is of a class [default: 0.4].")
@click.option(
    "--class-map",
    type=HERE,
    metavar="FILE",
    help="YAML or JSON, label: query [default: the classes found in the fitted splits].",
)
@click.option(
    "--fit-split", "fit_splits", multiple=True, help="Split whose clean sounds are fitted; repeatable [default: train]."
)
@click.option("--seed", type=int, help="Seed of k-means [default: 42].")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where the encoder runs.")
@wait_option
def pretransform(
    manifest: Path | str,
    data_root: Path | str | None,
    output: Path | str | None,
    encoder: str,
    checkpoint: Path | str | None,
    queries: int | None,
    clusters: int | None,
    clusters_from: Path | None,
    classes: bool | None,
    class_threshold: float | None,
    class_map: Path | None,
    fit_splits: tuple[str, ...],
    seed: int | None,
    device: str,
    wait: bool,
) -> int:
    """Write class files for every row of a manifest, from its sound.

    \b
    avsrobust pretransform --manifest robust/s4-seed42 --encoder ast --checkpoint FOLDER
    avsrobust evaluate --adapter m2f --option queries=classes --option classes=classes/s4-seed42-ast
    """
    from avsrobust.evaluation_targets import check_device_name, find_device
    from avsrobust.manifest import load_manifest
    from avsrobust.pretransform.choices import DEFAULT_QUERIES, Choices, check_choices, names_classes, require_weights
    from avsrobust.remote import output_folder
    from avsrobust.remote.inputs import local_place

    names_classes(encoder, classes)
    check_device_name(device)
    choices = Choices(
        encoder,
        local_place(checkpoint),
        DEFAULT_QUERIES if queries is None else queries,
        clusters_from,
        clusters,
        classes,
        class_threshold,
        class_map,
        fit_splits,
        seed,
    )
    check_choices(choices)
    require_weights(encoder, choices.checkpoint)
    build = load_manifest(manifest)
    # They load torch, and so take seconds.
    from avsrobust.pretransform.write import CLASSES_KIND
    from avsrobust.pretransform.write import pretransform as write_class_files

    on = find_device(device)
    if output is None:
        recipe = str(build.info.recipe.get("name", "standard"))
        name = build_name(build.info.dataset, build.info.seed, recipe, build.info.release)
        output = CLASSES_ROOT / f"{name}-{encoder}"
    with (
        progress_bar(f"pretransform {build.info.dataset}") as progress,
        output_folder(output, "avsrobust pretransform", CLASSES_KIND, wait=wait) as folder,
    ):
        report = write_class_files(build, folder, choices, data_root=data_root, device=on, wait=wait, progress=progress)
    layout = report.layout
    made = f"{counted(report.files, 'class file')} of {counted(report.sounds, 'sound')}"
    note(
        f"{made}; queries 0 to {layout.first_cluster - 1} are classes, "
        f"{layout.first_cluster} to {layout.highest_query} clusters"
        if layout.class_map
        else f"{made}; queries 0 to {layout.highest_query} are clusters"
    )
    if report.skipped:
        names = ", ".join(report.skipped[:_MOST_NAMES]) + (", .." if len(report.skipped) > _MOST_NAMES else "")
        note(
            f"{len(report.skipped)} classes, the rarest, found no query: {names}; fewer --clusters or a --class-map make room"
        )
    print_result(output)
    return 0
