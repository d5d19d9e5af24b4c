"""Options and default paths that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from avsrobust.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    import torch

ROBUST_ROOT = Path("robust")
RESULTS_ROOT = Path("results")
DEFAULT_DATA_ROOT = Path("data")
DEFAULT_SEED = 42
DEFAULT_RECIPE = "standard"

data_root_option = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder the data sets lie in [default: $AVSROBUST_DATA, else 'data'].",
)

wait_option = click.option(
    "--wait", is_flag=True, help="Where another process works in the same folder, wait until it is done."
)


def given_data_root(data_root: Path | None) -> Path:
    """Return the data root of the option, else of the environment, else ``data``."""
    if data_root is not None:
        return data_root
    return Path(os.environ.get("AVSROBUST_DATA") or DEFAULT_DATA_ROOT)


def build_name(dataset: str, seed: int, recipe: str, release: str = "") -> str:
    """Return a build's folder name: ``<dataset>-seed<seed>``, and whatever is not the usual: semantic S4 or MS3, the recipe.

    >>> build_name("s4", 42, "standard"), build_name("s4", 42, "reference"), build_name("ms3", 1, "standard", "semantic")
    ('s4-seed42', 's4-seed42-reference', 'ms3-seed1-semantic')
    """
    form = "-semantic" if release == "semantic" and dataset != "avss" else ""
    return f"{dataset}-seed{seed}{form}" + ("" if recipe == DEFAULT_RECIPE else f"-{recipe}")


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


def torch_device(name: str) -> torch.device:
    """Return the device of ``--device``; auto takes a GPU where there is one. Raises `OptionError` for any other name."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise OptionError(
            f"--device {name}: expected auto, cpu, cuda or cuda:N{did_you_mean(name, ['auto', 'cpu', 'cuda'])}"
        )
    if name != "cpu" and not torch.cuda.is_available():
        raise OptionError(f"--device {name}: torch {torch.__version__} sees no GPU here; use --device cpu or auto")
    return torch.device(name)
