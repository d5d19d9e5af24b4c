"""`avsrobust compare`: paired bootstrap over clips."""

from __future__ import annotations

from pathlib import Path

import click

from avsrobust.cli.options import (
    ANYWHERE,
    allow_different_builds_option,
    allow_limited_option,
    complete_protocol,
    negatives_option,
)
from avsrobust.cli.progress import progress_bar
from avsrobust.vocabulary import TASKS


@click.command(short_help="Compare models by a paired bootstrap over clips.")
@click.argument("results", nargs=-1, required=True, type=ANYWHERE)
@click.option(
    "--reference",
    metavar="MODEL",
    help="Compare all others with this model, which is then B [default: every pair, in the order given].",
)
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
@negatives_option
@click.option(
    "--common-clips",
    is_flag=True,
    help="Compare on the clips that all models were scored on [default: each pair on those of both].",
)
@click.option(
    "--changed",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    metavar="N",
    help="List the N clips of each pair and split that changed most.",
)
@click.option(
    "--samples", default=10_000, show_default=True, type=click.IntRange(100, 1_000_000), help="Bootstrap samples."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the bootstrap.")
@allow_limited_option
@allow_different_builds_option
@click.option("--format", "format_name", type=click.Choice(["md", "json"]), default="md", show_default=True)
def compare(
    results: tuple[Path | str, ...],
    reference: str | None,
    protocol: str,
    task: str | None,
    negatives: tuple[str, ...],
    common_clips: bool,
    changed: int,
    samples: int,
    seed: int,
    allow_limited: bool,
    allow_different_builds: bool,
    format_name: str,
) -> int:
    """Paired bootstrap over clips: does a difference between models exceed sampling error?

    RESULTS are results of two models or more, or folders above them, here or at s3://..; models are compared on each data set by
    itself. A resample draws source videos, and under borrowed sounds the sounds' sources too, of the clips that two models share,
    with all frames and conditions, the same for both; the data set's scores, means over classes included, are computed anew from
    it. p is corrected by Holm's method.
    """
    from avsrobust import api
    from avsrobust.reporting.compare import comparisons_json, render_comparisons

    with progress_bar("compare"):
        found = api.compare_models(
            results,
            reference=reference,
            protocol=protocol,
            samples=samples,
            seed=seed,
            task=task,
            negatives=negatives or None,
            changed=changed,
            common_clips=common_clips,
            allow_limited=allow_limited,
            allow_different_builds=allow_different_builds,
        )
    click.echo(comparisons_json(found) if format_name == "json" else render_comparisons(found), nl=False)
    return 0
