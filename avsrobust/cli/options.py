"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from avsrobust.errors import OptionError

data_root_option = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder the data sets lie in [default: $AVSROBUST_DATA, else 'data'].",
)

wait_option = click.option(
    "--wait", is_flag=True, help="Where another process works in the same folder, wait until it is done."
)


def key_values(pairs: Iterable[str]) -> dict[str, str]:
    """Parse ``key=value`` options.

    >>> key_values(["repo=/x", "a=b=c"])
    {'repo': '/x', 'a': 'b=c'}
    """
    options: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.isidentifier():
            raise OptionError(f"--option {pair}: expected key=value, for example --option repo=/path/to/checkout")
        if key in options:
            raise OptionError(f"--option {key}: given twice; leave one out")
        options[key] = value
    return options
