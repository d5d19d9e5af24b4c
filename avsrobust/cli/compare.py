"""`avsrobust compare`: paired bootstrap over clips."""

from __future__ import annotations

from pathlib import Path

import click

from avsrobust.cli.options import allow_limited_option, complete_protocol
from avsrobust.vocabulary import TASKS


@click.command()
@click.argument("result_a", type=click.Path(path_type=Path))
@click.argument("result_b", type=click.Path(path_type=Path))
@click.option(
    "--protocol",
    default="avsbench",
    show_default=True,
    metavar="NAME|file.py:OBJECT",
    shell_complete=complete_protocol,
    help="A registered protocol, or one of your own.",
)
@click.option(
    "--task",
    type=click.Choice(TASKS),
    help="AVSS: 'semantic' compares per-class results, which both must have; 'binary' compares foreground/background "
    "[default: semantic where available].",
)
@click.option("--samples", default=10_000, show_default=True, type=click.IntRange(min=100), help="Bootstrap samples.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the bootstrap.")
@allow_limited_option
@click.option("--format", "format_name", type=click.Choice(["md", "json"]), default="md", show_default=True)
def compare(
    result_a: Path,
    result_b: Path,
    protocol: str,
    task: str | None,
    samples: int,
    seed: int,
    allow_limited: bool,
    format_name: str,
) -> int:
    """Paired bootstrap over clips: does a difference between two models exceed sampling error?

    A resample draws from the clips that RESULT_A and RESULT_B share, with all their frames and conditions, the same ones for
    both; the data set's scores, means over classes included, are computed anew from the clips drawn.
    """
    from avsrobust import api
    from avsrobust.reporting.compare import comparison_json, render_comparison

    comparison = api.compare(
        result_a, result_b, protocol=protocol, samples=samples, seed=seed, task=task, allow_limited=allow_limited
    )
    click.echo(comparison_json(comparison) if format_name == "json" else render_comparison(comparison), nl=False)
    return 0
