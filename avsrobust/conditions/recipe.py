"""Recipes: which conditions a build makes, and how, from YAML files.

Conventions
    A build recipe has the keys kind ("build"), name, description, front_end and conditions; each condition has its own
    options and may name another front_end. Every key is checked: a misspelt one is an error, never ignored.
    A name means a file of the folder of recipes that comes with avsrobust; a path to a .yaml file wins where there is one.
    Recipes of other kinds (training) lie in the same folder and are told apart by `kind`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import avsrobust
from avsrobust import textfiles
from avsrobust.audio.features import FRONT_ENDS
from avsrobust.conditions.base import Condition, options_of
from avsrobust.conditions.registry import CONDITIONS
from avsrobust.errors import RecipeError, did_you_mean
from avsrobust.files import SAFE_NAME, is_safe_name

KIND = "build"
DEFAULT_FRONT_END = "vggish"
_SUFFIXES = (".yaml", ".yml")
_KEYS = ("kind", "name", "description", "front_end", "conditions")


@dataclass(frozen=True)
class Entry:
    """One condition of a recipe, and the front end (a key of `avsrobust.audio.features.FRONT_ENDS`) of its log-mels."""

    condition: Condition
    front_end: str


@dataclass(frozen=True)
class Recipe:
    """A build recipe; `entries` are sorted by the condition's name."""

    name: str
    description: str
    front_end: str
    entries: tuple[Entry, ...]

    @property
    def condition_names(self) -> tuple[str, ...]:
        """Names of the conditions, sorted."""
        return tuple(entry.condition.name for entry in self.entries)

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe in full, every default filled in, as plain JSON types; `parse_recipe` reads it back."""
        return {
            "kind": KIND,
            "name": self.name,
            "description": self.description,
            "front_end": self.front_end,
            "conditions": {
                entry.condition.name: {"front_end": entry.front_end, **options_of(entry.condition)}
                for entry in self.entries
            },
        }


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Return a build recipe by the name of one that comes with avsrobust, or by the path of a YAML file.

    Raises `RecipeError` for an unknown name, a file that is no YAML, and every key that is unknown or has a wrong value.
    """
    path = find_recipe(name_or_path)
    return parse_recipe(read_yaml(path), str(path))


def find_recipe(name_or_path: str | Path) -> Path:
    """Return the file of a recipe of any kind. Raises `RecipeError`, with a suggestion, where there is none."""
    path, name_or_path = Path(name_or_path), str(name_or_path)
    if path.suffix in _SUFFIXES:
        # Anything but a folder: what is no regular file is refused where it is read, with the reason.
        if path.exists() and not path.is_dir():
            return path
        raise RecipeError(f"--recipe {name_or_path}: found no such file; expected a YAML file; check the path")
    if name_or_path == "-" or path.is_fifo():
        raise RecipeError(
            f"--recipe {name_or_path}: found a pipe; expected a file; save the recipe to a .yaml file first"
        )
    bundled = recipes_folder() / f"{name_or_path}.yaml"
    if Path(name_or_path).name == name_or_path and bundled.is_file():
        return bundled
    known = sorted(path.stem for path in recipes_folder().glob("*.yaml"))
    raise RecipeError(
        f"--recipe {name_or_path}: found no recipe of that name{did_you_mean(name_or_path, known)}; "
        f"expected one of {', '.join(known)}, or the path of a .yaml file"
    )


def recipes_folder() -> Path:
    """Return the folder of the recipes that come with avsrobust: in the package, or in a checkout beside it."""
    package = Path(avsrobust.__file__).resolve().parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Read a YAML file that holds one mapping. Raises `RecipeError` where it does not, or names a key twice."""
    try:
        content = textfiles.read_yaml(path, RecipeError)
    except OSError as error:
        raise RecipeError(
            f"{path}: {error.strerror or error}; expected a YAML file; save the recipe to a file and name that"
        ) from error
    except ValueError as error:
        raise RecipeError(
            f"{path}: cannot be read as YAML ({' '.join(str(error).split())}); correct the file"
        ) from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: found {_type_of(content)}; expected a mapping of keys to values; correct the file")
    return content


def parse_recipe(content: Mapping[str, Any], where: str) -> Recipe:
    """Return the build recipe that `content` describes; `where` names its origin in messages. Raises `RecipeError`."""
    kind = content.get("kind")
    if kind != KIND:
        raise RecipeError(
            f"{where}: key kind: found {kind!r}; expected '{KIND}'; choose a recipe that describes a build "
            "(recipes that train are for 'avsrobust train')"
        )
    _refuse_unknown(content, _KEYS, where, "key")
    conditions = content.get("conditions")
    if not isinstance(conditions, dict) or not conditions:
        raise RecipeError(f"{where}: key conditions: found {_type_of(conditions)}; expected a mapping of conditions")
    front_end = _front_end(content.get("front_end", DEFAULT_FRONT_END), where, "front_end")
    _refuse_unknown(conditions, CONDITIONS, where, "condition")
    return Recipe(
        name=recipe_name(content, where),
        description=_text(content, "description", where),
        front_end=front_end,
        entries=tuple(_entry(name, conditions[name], front_end, where) for name in sorted(conditions)),
    )


def recipe_name(content: Mapping[str, Any], where: str) -> str:
    """Return the recipe's name, which becomes part of folder names. Raises `RecipeError` where it can be none."""
    name = _text(content, "name", where)
    if not is_safe_name(name):
        raise RecipeError(f"{where}: key name: found {name[:200]!r}; expected {SAFE_NAME}; correct the file")
    return name


def _entry(name: str, given: object, front_end: str, where: str) -> Entry:
    key = f"conditions.{name}"
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise RecipeError(f"{where}: key {key}: found {_type_of(given)}; expected a mapping of options, {{}} for none")
    condition = CONDITIONS[name]
    checks = {entry.name: entry.metadata["check"] for entry in fields(condition)}
    _refuse_unknown(given, ["front_end", *checks], where, f"key {key}.")
    options: dict[str, Any] = {}
    for option, check in checks.items():
        if option in given:
            try:
                options[option] = check(given[option])
            except ValueError as error:
                raise RecipeError(
                    f"{where}: key {key}.{option}: found {given[option]!r}; expected {error}; correct the file"
                ) from error
    return Entry(condition(**options), _front_end(given.get("front_end", front_end), where, f"{key}.front_end"))


def _front_end(value: object, where: str, key: str) -> str:
    if not isinstance(value, str) or value not in FRONT_ENDS:
        near = did_you_mean(value, FRONT_ENDS) if isinstance(value, str) else ""
        raise RecipeError(f"{where}: key {key}: found {value!r}; expected one of {', '.join(FRONT_ENDS)}{near}")
    return value


def _text(content: Mapping[str, Any], key: str, where: str) -> str:
    value = content.get(key)
    if not isinstance(value, str) or not value.strip():
        found = "an empty text" if isinstance(value, str) else _type_of(value)
        raise RecipeError(f"{where}: key {key}: found {found}; expected a text; correct the file")
    return value


def _refuse_unknown(given: Mapping[Any, Any], known: Any, where: str, what: str) -> None:
    for key in given:
        if key not in known:
            separator = "" if what.endswith(".") else " "
            raise RecipeError(
                f"{where}: {what}{separator}{key}: not known{did_you_mean(str(key), known)}; "
                f"expected one of {', '.join(known)}"
            )


def _type_of(value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), repr(value))
