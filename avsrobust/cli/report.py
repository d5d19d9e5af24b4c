"""`avsrobust report`: tables from stored results."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from avsrobust.cli.options import complete_protocol, data_root_option
from avsrobust.cli.progress import print_result, warn
from avsrobust.errors import OptionError
from avsrobust.vocabulary import TASKS

# As `reporting.breakdowns.GROUPINGS`, which is not imported here for the sake of --help's speed.
BY = ("category", "train_source", "avs_v3")


@click.command()
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_name",
    default="md",
    show_default=True,
    metavar="csv|md|latex|json|parquet|html|file.py:OBJECT",
    help="A registered format, or a function of your own.",
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    default=("avsbench",),
    show_default=True,
    metavar="NAME|file.py:OBJECT",
    shell_complete=complete_protocol,
    help="A registered protocol, or one of your own. Repeatable.",
)
@click.option("--by", type=click.Choice(BY), help="A line per category (or class), or per part, as well.")
@click.option(
    "--negatives",
    multiple=True,
    metavar="NAME[,NAME...]",
    help="Negative conditions that the G scores average over [default: silence,noise,offscreen].",
)
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
    "--gallery",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --format html: show the N worst clips of each split, with frames, masks and sounds; needs stored masks.",
)
@data_root_option
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE, not to stdout.")
def report(
    results: tuple[Path, ...],
    format_name: str,
    protocols: tuple[str, ...],
    by: str | None,
    negatives: tuple[str, ...],
    scores: tuple[str, ...],
    task: str | None,
    gallery: int | None,
    data_root: Path | None,
    output: Path | None,
) -> int:
    """Turn RESULTS (default: everything under 'results') into one table."""
    from avsrobust.files import write_bytes
    from avsrobust.reporting.report import load_results
    from avsrobust.reporting.report import report as render_report

    loaded = load_results(results or None)
    media = None
    if gallery is not None:
        if format_name != "html":
            raise OptionError(
                f"--gallery: found --format {format_name}; expected --format html, which alone shows a gallery"
            )
        from avsrobust.gallery.collect import make_gallery

        media = make_gallery(
            loaded, gallery, data_root=data_root, relative_to=None if output is None else output.absolute().parent
        )
    rendered = render_report(loaded, protocols, by, format_name, task, negatives or None, scores, media)
    for message in rendered.warnings:
        warn(message)
    content = rendered.content.encode() if isinstance(rendered.content, str) else rendered.content
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        write_bytes(output, content)
        print_result(output)
    return 0
