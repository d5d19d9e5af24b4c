"""Options that several commands share, and shell completion of the values that options take.

Conventions
    ``eval "$(_AVSROBUST_COMPLETE=bash_source avsrobust)"`` (or zsh_source, fish_source) turns completion on. A completer returns
    the names that begin with the text typed so far, and never fails: a broken plug-in must not break the shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from avsrobust.defaults import NO_TEXT, is_text
from avsrobust.errors import OptionError
from avsrobust.vocabulary import DATASETS

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


class PathOrUrl(click.Path):
    """A path, or the address of a folder on another machine, which stays as it was typed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a `Path`, or the address as a text."""
        _require_text(value, param)
        if not _is_remote_place(value):
            return super().convert(value, param, ctx)
        if value.startswith("memory:"):
            raise OptionError(
                f"{value}: would be gone when this command ends; expected a path, or an address such as s3://.."
            )
        return value


class LocalPath(click.Path):
    """A path of this machine: an address would else become a folder called ``s3:``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a `Path`. Raises `OptionError` for an address."""
        _require_text(value, param)
        if _is_remote_place(value):
            name = f"{param.opts[0]} " if isinstance(param, click.Option) else ""
            raise OptionError(f"{name}{value}: is an address; expected a path of this machine; copy it there and back")
        return super().convert(value, param, ctx)


def _require_text(value: Any, param: click.Parameter | None) -> None:
    """Raise `OptionError` for a path that is no text.

    An empty one is what a shell makes of a variable that is not set, and would mean the folder one is in. Bytes that are no text
    in the locale's encoding cannot be written into the files that name their folder.
    """
    name = "path" if param is None else param.opts[0] if isinstance(param, click.Option) else str(param.name).upper()
    if value == "":
        raise OptionError(f"{name}: found an empty text; expected a path; write '.' for the folder you are in")
    if not is_text(found := str(Path(value).absolute())):
        raise OptionError(f"{name}: found {found!a}, {NO_TEXT}")


def _is_remote_place(value: Any) -> bool:
    # Not above: --help would wait for it.
    from avsrobust.remote import is_remote_place

    return is_remote_place(value)


ANYWHERE = PathOrUrl(path_type=Path)
HERE = LocalPath(path_type=Path)

data_root_option = click.option(
    "--data-root",
    type=ANYWHERE,
    metavar="DIR|URL",
    help="Folder the data sets lie in, here or at s3://.. [default: $AVSROBUST_DATA, else 'data'].",
)


allow_limited_option = click.option(
    "--allow-limited", is_flag=True, help="Take results of smoke runs (evaluate --limit) too."
)

allow_different_builds_option = click.option(
    "--allow-different-builds",
    is_flag=True,
    help="Take results of different builds of a split too, whose negatives are others.",
)

negatives_option = click.option(
    "--negatives",
    multiple=True,
    metavar="NAME[,NAME...]",
    help="Negative conditions that the G scores average over [default: silence,noise,offscreen].",
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


def complete_dataset(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of data sets, and files for ``file.py:Class``."""
    from avsrobust.datasets.registry import dataset_names

    try:
        names = dataset_names()
    except Exception:
        names = DATASETS
    return _matching(names, incomplete) or [CompletionItem(incomplete, type="file")]


def complete_toy(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the data sets whose layouts the toy has."""
    return _matching(DATASETS, incomplete)


def complete_adapter(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of adapters, and files for ``file.py:Class``."""
    from avsrobust.adapters.catalogue import known_adapters

    try:
        names = [entry.name for entry in known_adapters()]
    except Exception:
        names = []
    return _matching(names, incomplete) or [CompletionItem(incomplete, type="file")]


def complete_protocol(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of protocols."""
    from avsrobust.metrics import protocol_names

    try:
        names = protocol_names()
    except Exception:
        names = ()
    return _matching(names, incomplete)


protocols_option = click.option(
    "--protocol",
    "protocols",
    multiple=True,
    metavar="NAME|all|file.py:OBJECT",
    shell_complete=complete_protocol,
    help="A registered protocol, all of them, or one of your own. Repeatable [default: avsbench].",
)


def complete_recipe(kind: str) -> Completer:
    """Return a completer of the recipes that come with avsrobust and are of one kind, "build" or "train"."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from avsrobust.bundled import recipe_names

        return _matching(recipe_names(kind), incomplete) or [CompletionItem(incomplete, type="file")]

    return complete


def _matching(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
