"""`avsrobust adapters`: what can be named after --adapter."""

from __future__ import annotations

from pathlib import Path

import click

WORKER_FILE = Path(__file__).parents[1] / "adapters" / "remote" / "avsrobust_worker.py"


@click.command()
@click.option("--worker-file", is_flag=True, help="Print the file that a worker's environment needs, and nothing else.")
def adapters(worker_file: bool) -> int:
    """List what can be named after --adapter, what each needs, and whether it can run here."""
    from avsrobust.adapters.lookup import known_adapters, obstacle

    if worker_file:
        click.echo(WORKER_FILE.read_text(encoding="utf-8"), nl=False)
        return 0

    entries = known_adapters()
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        click.echo(f"{entry.name:<{width}}  {entry.description}")
        if entry.needs:
            click.echo(f"{'':<{width}}  needs: {entry.needs}")
        if reason := obstacle(entry):
            click.echo(f"{'':<{width}}  cannot run here: {reason}")
    click.echo(f"{'':<{width}}  or your own: package.module:Class, or file.py:Class")
    return 0
