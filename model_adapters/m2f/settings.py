"""The adapters' options (``--option key=value``), as checked values.

Conventions
    Every key is optional; None stands for the choice of the checkpoint or the adapter. README.md explains each.
    Options are texts, so that each is converted here, by hand; recipes and configurations are read by `avsrobust.schemas`.
    ``deaf`` is an old name of ``visual_only``, as a key and as a value of ``debias``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, cast, get_args

from avsrobust.errors import AdapterError, did_you_mean
from model_adapters.m2f.config import Readout
from model_adapters.m2f.debias import LAST_STEP, Behaviour

Debias = Literal["none", "noise", "all_queries", "visual_only"]

_CHOICES = {
    "behaviour": ("paper", "reference"),
    "head": ("binary", "semantic"),
    "queries": ("all", "classes"),
    "debias": get_args(Debias),
    "precision": ("float32", "bfloat16"),
    "unexpected": ("refuse", "accept"),
    "compile": ("no", "yes"),
}
_FILES = ("config", "visual_only")
_OLD_NAME, _NEW_NAME = "deaf", "visual_only"
_NUMBERS = {"image_size": (32, 4096), "timestep": (0, LAST_STEP)}


@dataclass(frozen=True)
class Settings:
    """The options, as values; the attributes are named like them."""

    behaviour: Behaviour = "paper"
    head: Readout | None = None
    queries: str | None = None
    classes: Path | None = None
    debias: Debias | None = None
    visual_only: Path | None = None
    timestep: int = LAST_STEP
    config: Path | None = None
    image_size: int | None = None
    precision: str = "float32"
    unexpected: str = "refuse"
    weights: str | None = None
    compile: str = "no"


def parse_options(options: Mapping[str, str]) -> Settings:
    """Return the options as values.

    Args:
        options: The options' texts by key.

    Raises:
        AdapterError: A key is unknown, or has a value that cannot be used, alone or with the others.
    """
    known = [field.name for field in fields(Settings)]
    values: dict[str, object] = {}
    for given, text in options.items():
        key = current_name(given)
        if key not in known:
            raise AdapterError(f"--option {key}: unknown{did_you_mean(key, known)}; expected one of {', '.join(known)}")
        values[key] = _value(key, current_name(text) if key == "debias" else text)
    settings = Settings(**values)  # type: ignore[arg-type]
    _check_together(settings)
    return settings


def _value(key: str, text: str) -> object:
    if key in _CHOICES:
        if text not in _CHOICES[key]:
            near = did_you_mean(text, _CHOICES[key])
            raise AdapterError(f"--option {key}={text}: expected {' or '.join(_CHOICES[key])}{near}")
        return {"binary": "foreground"}.get(text, text) if key == "head" else text
    if key in _NUMBERS:
        low, high = _NUMBERS[key]
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise AdapterError(f"--option {key}={text}: expected a whole number from {low} to {high}")
        return int(text)
    path = Path(text)
    if key in _FILES and not path.is_file():
        raise AdapterError(f"--option {key}={text}: no such file; name an existing one")
    if key == "classes" and not path.is_dir():
        raise AdapterError(f"--option classes={text}: no such folder; name the folder with the class files")
    return path if key in (*_FILES, "classes") else text


def _check_together(settings: Settings) -> None:
    if settings.queries == "classes" and settings.classes is None:
        raise AdapterError("--option queries=classes: needs the class files; add --option classes=DIR")
    if settings.queries == "all" and settings.classes is not None:
        raise AdapterError(f"--option classes={settings.classes}: has no part in queries=all; leave one out")
    if settings.debias == "visual_only" and settings.visual_only is None:
        raise AdapterError(
            "--option debias=visual_only: needs the weights of the network without audio; add --option visual_only=FILE"
        )
    if settings.visual_only is not None and settings.debias not in (None, "visual_only"):
        raise AdapterError(
            f"--option visual_only={settings.visual_only}: has no part in debias={settings.debias}; leave one out"
        )


def strategy(settings: Settings, default: str) -> Debias:
    """Return the way of debiasing: the option's, else "visual_only" where that network is named, else `default`.

    Args:
        settings: The options.
        default: The way that the checkpoint or the adapter names.

    Raises:
        AdapterError: `default`, which the checkpoint names, is unknown.
    """
    chosen = settings.debias or ("visual_only" if settings.visual_only is not None else current_name(default))
    if chosen not in _CHOICES["debias"]:
        raise AdapterError(f"the checkpoint names debias={chosen}; expected {' or '.join(_CHOICES['debias'])}")
    return cast("Debias", chosen)


def current_name(name: str) -> str:
    """Return the present name of an option or of a way of debiasing, given the present or an old one.

    >>> current_name("deaf"), current_name("noise")
    ('visual_only', 'noise')
    """
    return _NEW_NAME if name == _OLD_NAME else name
