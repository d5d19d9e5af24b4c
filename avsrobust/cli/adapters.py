"""`avsrobust adapters`: what can be named after --adapter."""

from __future__ import annotations

from pathlib import Path

import click

from avsrobust.bundled import with_guide_paths
from avsrobust.cli.progress import print_result

WORKER_FILE = Path(__file__).parents[1] / "adapters" / "remote" / "avsrobust_worker.py"


@click.command(short_help="List what can be named after --adapter.")
@click.option("--worker-file", is_flag=True, help="Print the file that a worker's environment needs, and nothing else.")
def adapters(worker_file: bool) -> int:
    """List what can be named after --adapter, what each needs, and whether it can run here."""
    from avsrobust.adapters.catalogue import known_adapters, obstacle
    from avsrobust.adapters.published import published_by

    if worker_file:
        click.echo(WORKER_FILE.read_text(encoding="utf-8"), nl=False)
        return 0

    entries = known_adapters()
    width = max(len(entry.name) for entry in entries)
    obstacles = {entry.name: obstacle(entry) for entry in entries}
    for entry in entries:
        print_result(f"{entry.name:<{width}}  {entry.description}")
        said = {"needs": entry.needs, "cannot run here": obstacles[entry.name], "more": with_guide_paths(entry.more)}
        for title, text in said.items():
            if text:
                print_result(f"{'':<{width}}  {title}: {text}")
        for model in published_by(entry.name):
            for line in (
                f"{model.model}: {model.paper}; github.com/{model.repository}, licence: {model.licence}",
                f"runs: {model.runs}",
                f"tried: {model.tried}",
                f"options: {model.options}",
                f"quirks: {model.quirks}",
            ):
                print_result(f"{'':<{width}}    {line}")
    click.echo("\nOr your own: --adapter package.module:Class, or --adapter file.py:Class.")
    stopped = [name for name, reason in obstacles.items() if reason]
    if stopped:
        print_result(f"Cannot run here, as said above: {', '.join(stopped)}. The others can, given what they need.")
    else:
        click.echo("All of them can run here, given what they need.")
    return 0
