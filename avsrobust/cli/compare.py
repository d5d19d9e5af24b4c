"""`avsrobust compare`: does a difference between two models exceed sampling error?"""

from __future__ import annotations

from pathlib import Path

import click

from avsrobust.cli.completion import complete_protocol
from avsrobust.vocabulary import TASKS


@click.command()
@click.argument("result_a", type=click.Path(path_type=Path))
@click.argument("result_b", type=click.Path(path_type=Path))
@click.option("--protocol", default="avsbench", show_default=True, shell_complete=complete_protocol)
@click.option(
    "--task",
    type=click.Choice(TASKS),
    help="avss: by class (both results must have classes), or as sounding or not [default: the finest that both have].",
)
@click.option("--samples", default=10_000, show_default=True, type=click.IntRange(min=100), help="Bootstrap samples.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the bootstrap.")
@click.option("--format", "format_name", type=click.Choice(["md", "json"]), default="md", show_default=True)
def compare(
    result_a: Path, result_b: Path, protocol: str, task: str | None, samples: int, seed: int, format_name: str
) -> int:
    """Paired bootstrap over the clips that RESULT_A and RESULT_B share.

    A resample draws clips, with all their frames and sounds, the same ones for both; the data set's scores, those over classes
    included, are computed anew from the clips drawn.
    """
    from avsrobust import api
    from avsrobust.report.compare import comparison_json, render_comparison

    comparison = api.compare(result_a, result_b, protocol=protocol, samples=samples, seed=seed, task=task)
    click.echo(comparison_json(comparison) if format_name == "json" else render_comparison(comparison), nl=False)
    return 0
