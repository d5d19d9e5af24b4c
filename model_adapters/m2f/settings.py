"""What ``--option key=value`` says to the adapters of this family, checked.

Conventions
    Every key is optional; None stands for what the checkpoint or the adapter takes by itself. README.md explains each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, cast

from avsrobust.errors import AdapterError, did_you_mean
from model_adapters.m2f.config import Readout
from model_adapters.m2f.debias import LAST_STEP, Behaviour

Debias = Literal["none", "noise", "all_queries", "deaf"]

_CHOICES = {
    "behaviour": ("paper", "reference"),
    "head": ("binary", "semantic"),
    "queries": ("all", "classes"),
    "debias": ("none", "noise", "all_queries", "deaf"),
    "precision": ("float32", "bfloat16"),
    "unexpected": ("refuse", "accept"),
}
_FILES = ("config", "deaf")
_NUMBERS = {"image_size": (32, 4096), "timestep": (0, LAST_STEP)}


@dataclass(frozen=True)
class Settings:
    """The options, as values."""

    behaviour: Behaviour = "paper"
    head: Readout | None = None
    queries: str | None = None
    classes: Path | None = None
    debias: Debias | None = None
    deaf: Path | None = None
    timestep: int = LAST_STEP
    config: Path | None = None
    image_size: int | None = None
    precision: str = "float32"
    unexpected: str = "refuse"
    weights: str | None = None


def parse_options(options: Mapping[str, str]) -> Settings:
    """Return the settings that `options` ask for. Raises `AdapterError` for unknown keys and unusable values."""
    known = [field.name for field in fields(Settings)]
    values: dict[str, object] = {}
    for key, text in options.items():
        if key not in known:
            raise AdapterError(f"--option {key}: unknown{did_you_mean(key, known)}; expected one of {', '.join(known)}")
        values[key] = _value(key, text)
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
    if settings.debias == "deaf" and settings.deaf is None:
        raise AdapterError("--option debias=deaf: needs the deaf model's weights; add --option deaf=FILE")
    if settings.deaf is not None and settings.debias not in (None, "deaf"):
        raise AdapterError(f"--option deaf={settings.deaf}: has no part in debias={settings.debias}; leave one out")


def strategy(settings: Settings, default: str) -> Debias:
    """Return how to debias: as asked for, else by the deaf model where one is named, else `default`."""
    chosen = settings.debias or ("deaf" if settings.deaf is not None else default)
    if chosen not in _CHOICES["debias"]:
        raise AdapterError(f"the checkpoint asks for debias={chosen}; expected {' or '.join(_CHOICES['debias'])}")
    return cast("Debias", chosen)
