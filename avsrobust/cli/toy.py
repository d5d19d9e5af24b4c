"""`avsrobust toy`: write the procedural data set."""

from __future__ import annotations

from pathlib import Path

import click

from avsrobust.cli.options import HERE, complete_toy, wait_option
from avsrobust.cli.progress import print_result, progress_bar


@click.command(short_help="Write a procedural data set in AVSBench's layout.")
@click.argument("out", type=HERE)
@click.option(
    "--dataset",
    required=True,
    shell_complete=complete_toy,
    metavar="s4|ms3|avss",
    help="The data set whose layout is written.",
)
@click.option("--clips", default=60, show_default=True, type=click.IntRange(1, 1_000_000), help="Number of clips.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of everything drawn.")
@wait_option
def toy(out: Path, dataset: str, clips: int, seed: int, wait: bool) -> int:
    """Write a procedural data set to the folder OUT, in AVSBench's own layout."""
    from avsrobust.datasets.registry import canonical_name
    from avsrobust.toy.write import write_toy

    with progress_bar(f"toy {dataset}") as progress:
        write_toy(out, canonical_name(dataset), clips=clips, seed=seed, wait=wait, progress=progress)
    print_result(out)
    return 0
