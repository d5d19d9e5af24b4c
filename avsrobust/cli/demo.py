"""`avsrobust demo`: the whole chain on procedural data."""

from __future__ import annotations

from pathlib import Path

import click

from avsrobust.cli.options import HERE
from avsrobust.cli.progress import note


@click.command(short_help="Make toy data, build, evaluate and report.")
@click.option(
    "--output",
    type=HERE,
    default=Path("avsrobust-demo"),
    show_default=True,
    metavar="DIR",
    help="Folder of everything the demo makes.",
)
def demo(output: Path) -> int:
    """Make toy data, build, evaluate and report: no download, no GPU."""
    from avsrobust.demo import run_demo

    outcome = run_demo(output, on_message=note)
    note(f"the same as a page: {outcome.page}")
    click.echo(outcome.table, nl=False)
    return 0
