"""`avsrobust adapters`: what can be named after --adapter."""

from __future__ import annotations

import click


@click.command()
def adapters() -> int:
    """List what can be named after --adapter, and what each needs."""
    from avsrobust.adapters.lookup import known_adapters

    entries = known_adapters()
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        click.echo(f"{entry.name:<{width}}  {entry.description}")
        if entry.needs:
            click.echo(f"{'':<{width}}  needs: {entry.needs}")
    click.echo(f"{'':<{width}}  or your own: package.module:Class, or file.py:Class")
    return 0
