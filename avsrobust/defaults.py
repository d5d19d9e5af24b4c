"""Default folders and names, by which the commands find each other's output without an option."""

from __future__ import annotations

import os
from pathlib import Path

from avsrobust.errors import OptionError
from avsrobust.vocabulary import CLASS_DATASET, OBJECT_RELEASE

ENVIRONMENT_DATA_ROOT = "AVSROBUST_DATA"
DATA_ROOT = Path("data")
BUILDS_ROOT = Path("robust")
RESULTS_ROOT = Path("results")
CLASSES_ROOT = Path("classes")
NO_TEXT = "whose name holds bytes that are no text here; expected a name in UTF-8; rename it, or set LC_ALL=C.UTF-8"
SEED = 42
RECIPE = "standard"


def default_data_root(data_root: Path | str | None = None) -> Path:
    """Return `data_root`, or, where it is None, the folder that the environment names, else ``data``.

    Raises `OptionError` where the environment names one that is no text.
    """
    if data_root is not None:
        return Path(data_root)
    named = Path(os.environ.get(ENVIRONMENT_DATA_ROOT) or DATA_ROOT)
    if not is_text(str(named)):
        raise OptionError(f"{ENVIRONMENT_DATA_ROOT}: found {str(named)!a}, {NO_TEXT}")
    return named


def is_text(path: str) -> bool:
    """Return whether a path is a text: Python puts surrogates in place of bytes that are none in the locale's encoding.

    >>> is_text("dätä"), is_text(os.fsdecode(b"d\\xe4t\\xe4"))
    (True, False)
    """
    return not any("\ud800" <= character <= "\udfff" for character in path)


def build_name(dataset: str, seed: int, recipe: str, release: str = "") -> str:
    """Return the name of a build's folder.

    It is ``<dataset>-seed<seed>``, followed by the release where it is another than "object" (``-semantic`` for S4 and MS3 in the
    form of AVSBench-semantic), and by the recipe's name where that is not `RECIPE`.

    >>> build_name("s4", 42, "standard"), build_name("s4", 42, "reference"), build_name("ms3", 1, "standard", "semantic")
    ('s4-seed42', 's4-seed42-reference', 'ms3-seed1-semantic')
    """
    form = f"-{release}" if release not in ("", OBJECT_RELEASE) and dataset != CLASS_DATASET else ""
    return f"{dataset}-seed{seed}{form}" + ("" if recipe == RECIPE else f"-{recipe}")


def model_name(spec: str) -> str:
    """Return the name that tables give the model of an adapter's spec: the adapter's name, or that of its class.

    >>> model_name("oracle"), model_name("my/model.py:MyModel"), model_name("package.module:Net")
    ('oracle', 'MyModel', 'Net')
    """
    return spec.rpartition(":")[2] if ":" in spec else spec
