"""`avsrobust report`: tables from stored results."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from avsrobust.cli.options import (
    ANYWHERE,
    HERE,
    allow_different_builds_option,
    allow_limited_option,
    data_root_option,
    negatives_option,
    protocols_option,
)
from avsrobust.cli.progress import note, print_result, progress_bar, warn
from avsrobust.vocabulary import TASKS

# As `reporting.breakdowns.GROUPINGS`, which is not imported here for the sake of --help's speed.
BY = ("category", "train_source", "avs_v3")
# As `reporting.paper.render.LAYOUTS`.
LAYOUTS = ("full", "wide")


@click.command(short_help="Turn results into one table.")
@click.argument("results", nargs=-1, type=ANYWHERE)
@click.option(
    "--format",
    "format_name",
    metavar="csv|md|latex|json|parquet|html|file.py:OBJECT",
    help="A registered format, or a function of your own [default: that of --output's suffix, else md].",
)
@protocols_option
@click.option("--by", type=click.Choice(BY), help="A line per category (or class), or per part, as well.")
@negatives_option
@click.option(
    "--scores",
    multiple=True,
    metavar="levels|iiou|activation|overlap|threshold|natural|all",
    help="Extra scores from the stored statistics. Repeatable, or separated by commas.",
)
@click.option(
    "--task",
    type=click.Choice(TASKS),
    help="AVSS: 'semantic' keeps models with per-class results; 'binary' scores all as foreground/background "
    "[default: semantic where available].",
)
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    default="full",
    show_default=True,
    help="'wide': the table for a paper, data sets side by side (md, latex, html).",
)
@click.option(
    "--preset",
    metavar="avsbench_robust|bias_in_avs",
    help="The columns, digits and protocol of a paper; implies --layout wide.",
)
@click.option(
    "--columns",
    multiple=True,
    metavar="NAME[,NAME...]",
    help="Wide: the columns of each data set, in order [default: mIoU,G_mIoU,G_FPR].",
)
@click.option("--digits", metavar="N|NAME=N[,...]", help="Wide: decimals, of all columns or of one [default: 2].")
@click.option(
    "--width",
    metavar="page|column|neurips|two-column|POINTS",
    help="Wide: width that the LaTeX table may have [default: page].",
)
@click.option("--caption", metavar="TEXT", help="Wide: caption [default: how to read the table].")
@click.option("--label", metavar="NAME", help="Wide: LaTeX label [default: tab:avsrobust].")
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="OLD=NEW",
    help="Show a model under another name; wide: a column or data set too. Repeatable.",
)
@click.option("--reported", is_flag=True, help="Show published numbers next to the measured ones, marked as reported.")
@click.option(
    "--reported-file",
    "reported_files",
    multiple=True,
    type=HERE,
    metavar="FILE",
    help="Published numbers of your own, in YAML. Repeatable.",
)
@click.option(
    "--aggregate",
    metavar="seeds",
    help="One line for a model's results of several seeds, as mean and spread; training seeds too, by --rename.",
)
@click.option(
    "--intervals",
    is_flag=True,
    help="95 % intervals by a bootstrap over source videos, and over the sources of borrowed sounds.",
)
@click.option(
    "--common-clips",
    is_flag=True,
    help="Score every split on the clips alone that all its models were scored on.",
)
@click.option(
    "--compare",
    is_flag=True,
    help="With --format html: all pairs of models, as the command compare does with 10,000 resamples.",
)
@click.option(
    "--gallery",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --format html: the N worst clips of each split, with frames, masks and sounds; needs stored masks, or --rerun.",
)
@click.option(
    "--rerun",
    is_flag=True,
    help="With --gallery: run models on the clips shown where their masks are not stored; named readouts too.",
)
@data_root_option
@allow_limited_option
@allow_different_builds_option
@click.option("--output", type=HERE, metavar="FILE", help="Write to FILE, not to stdout.")
def report(
    results: tuple[Path | str, ...],
    format_name: str | None,
    protocols: tuple[str, ...],
    by: str | None,
    negatives: tuple[str, ...],
    scores: tuple[str, ...],
    task: str | None,
    layout: str,
    preset: str | None,
    columns: tuple[str, ...],
    digits: str | None,
    width: str | None,
    caption: str | None,
    label: str | None,
    renames: tuple[str, ...],
    reported: bool,
    reported_files: tuple[Path, ...],
    aggregate: str | None,
    intervals: bool,
    common_clips: bool,
    compare: bool,
    gallery: int | None,
    rerun: bool,
    data_root: Path | str | None,
    allow_limited: bool,
    allow_different_builds: bool,
    output: Path | None,
) -> int:
    """Turn RESULTS, here or at s3://.. (default: everything under 'results'), into one table."""
    from avsrobust import api
    from avsrobust.files import write_bytes
    from avsrobust.folders import require_no_file_of_ours
    from avsrobust.reporting.earlier import require_replaceable
    from avsrobust.reporting.formats import format_of_file
    from avsrobust.reporting.selection import requested_renames

    if format_name is None and output is not None:
        format_name = format_of_file(output)
    if output is not None:
        require_no_file_of_ours(output)
        require_replaceable(output, format_name or "md")
    with progress_bar("report"):
        rendered = api.report(
            results or None,
            protocols=protocols,
            by=by,
            format=format_name or "md",
            task=task,
            negatives=negatives or None,
            scores=scores,
            layout=layout,
            preset=preset,
            columns=columns,
            digits=digits,
            width=width,
            caption=caption,
            label=label,
            renames=requested_renames(renames),
            reported=reported,
            reported_files=reported_files,
            intervals=intervals,
            aggregate=aggregate,
            common_clips=common_clips,
            compare=compare,
            gallery=gallery,
            rerun=rerun,
            data_root=data_root,
            allow_limited=allow_limited,
            allow_different_builds=allow_different_builds,
            relative_to=None if output is None else output.absolute().parent,
            on_message=note,
        )
    for message in rendered.warnings:
        warn(message)
    content = rendered.content.encode() if isinstance(rendered.content, str) else rendered.content
    if output is not None:
        write_bytes(output, content)
        print_result(output)
    elif format_name is None and sys.stdout.isatty():
        from avsrobust.cli.tables import print_markdown

        print_markdown(rendered.content)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    return 0
