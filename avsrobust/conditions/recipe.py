"""Recipes: which conditions a build makes, and how, from YAML files.

Conventions
    A build recipe has the keys kind ("build"), name, description, front_end, store_audio and conditions; each condition has its
    own options and may name another front_end. Every key is checked: a misspelt one is an error, never ignored.
    A condition's key is its name in the manifest. ``condition: NAME`` makes it another condition under that name (one with
    other options, say), ``condition: package.module:Class`` or ``condition: file.py:Class`` one that somebody wrote.
    A name means a file of the folder of recipes that comes with avsrobust; a path to a .yaml file wins where there is one.
    Recipes of other kinds (training) lie in the same folder and are told apart by `kind`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from avsrobust import textfiles
from avsrobust.audio.front_ends import FRONT_ENDS
from avsrobust.bundled import recipe_names, recipes_folder
from avsrobust.conditions.base import POOLS, SPLIT, Condition, options_of
from avsrobust.conditions.registry import CONDITIONS
from avsrobust.errors import RecipeError, did_you_mean
from avsrobust.files import SAFE_NAME, is_safe_name, sha256_of_file
from avsrobust.plugin_sources import changed_file
from avsrobust.plugins import one_line, spec_of
from avsrobust.schemas import read_schema

KIND = "build"
DEFAULT_FRONT_END = "vggish"
_SUFFIXES = (".yaml", ".yml")
_KEYS = ("kind", "name", "description", "front_end", "store_audio", "conditions")
UNSEEN = "unseen"
_ENTRY_KEYS = ("front_end", "front_end_sha256", "condition", "sha256")
_MOST_LEVELS = 100
_MOST_DRAWS = 100
_HIGHEST_LEVEL = 1e9


@dataclass(frozen=True)
class RecipeEntry:
    """One condition of a recipe.

    Attributes:
        name: Its name in the recipe, the manifest and the results.
        condition: The condition with its options.
        front_end: Front end of its log-mels (`avsrobust.audio.front_ends.FRONT_ENDS`).
        plugin: Spec of the condition's class, where it is not the name: the name of another condition,
            ``package.module:Class`` or ``file.py:Class``; empty otherwise.
        plugin_sha256: Checksum of the file of ``file.py:Class``; empty otherwise.
        front_end_sha256: Checksum of the file of a front end ``file.py:function``; empty otherwise.
    """

    name: str
    condition: Condition
    front_end: str
    plugin: str = ""
    plugin_sha256: str = ""
    front_end_sha256: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the entry with every default filled in, as plain JSON types."""
        named = {
            "condition": self.plugin,
            "sha256": self.plugin_sha256,
            "front_end_sha256": self.front_end_sha256,
        }
        return {
            "front_end": self.front_end,
            **{key: value for key, value in named.items() if value},
            **options_of(self.condition),
        }

    @property
    def facts(self) -> dict[str, Any]:
        """Facts about the condition that manifests keep, so that nobody need import it (plain JSON types)."""
        return {
            "polarity": self.condition.polarity,
            "levels": list(self.condition.levels),
            "level_unit": self.condition.level_unit,
            "draws": self.condition.draws,
        }


@dataclass(frozen=True)
class Recipe:
    """A build recipe.

    Attributes:
        name: Its name, part of folder names.
        description: One sentence.
        front_end: The default of the entries.
        entries: Sorted by name.
        store_audio: Sounds that a manifest can define are stored as files too, and their log-mels.
    """

    name: str
    description: str
    front_end: str
    entries: tuple[RecipeEntry, ...]
    store_audio: bool = True

    @property
    def condition_names(self) -> tuple[str, ...]:
        """Names of the conditions, sorted."""
        return tuple(entry.name for entry in self.entries)

    @property
    def pool(self) -> str:
        """The widest pool of source clips that a condition draws from."""
        pools = [entry.condition.pool for entry in self.entries]
        return max(pools, key=POOLS.index, default=SPLIT)

    def adapted(self, *, store_audio: bool | None = None, recordings: Path | str | None = None) -> Recipe:
        """Return the recipe with what a user asks for besides.

        Args:
            store_audio: Instead of the recipe's own (None: that stays).
            recordings: Folder of the user's recordings: for the condition `unseen`, whose other options stay, and which is
                added where it is not there.
        """
        entries = self.entries
        if recordings is not None:
            there = next((entry.as_dict() for entry in entries if entry.name == UNSEEN), {})
            options = {**there, "folder": str(recordings)}
            entry = _entry(UNSEEN, options, self.front_end, "--recordings", None)
            others = (entry for entry in entries if entry.name != UNSEEN)
            entries = tuple(sorted((*others, entry), key=lambda entry: entry.name))
        return replace(self, entries=entries, store_audio=self.store_audio if store_audio is None else store_audio)

    def require_current(self) -> None:
        """Check that the code of plug-ins is what it was when the recipe was read: processes of a build import it anew.

        Raises:
            RecipeError: A file has changed.
        """
        for entry in self.entries:
            for spec, expected in (
                (spec_of(type(entry.condition)), entry.plugin_sha256),
                (entry.front_end, entry.front_end_sha256),
            ):
                file = _plugin_file(spec, None)
                if file is not None and not (file.is_file() and sha256_of_file(file) == expected):
                    raise RecipeError(
                        f"recipe {self.name}: {file}: has changed since the recipe was read; read the recipe again"
                    )
                if file is None and (changed := changed_file(spec.rpartition(":")[0])) is not None:
                    raise RecipeError(
                        f"recipe {self.name}: {changed}: has changed since it was imported; start Python again, or import it "
                        "anew (importlib.reload) and read the recipe again"
                    )

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe in full, every default filled in, as plain JSON types; `parse_recipe` reads it back."""
        return {
            "kind": KIND,
            "name": self.name,
            "description": self.description,
            "front_end": self.front_end,
            **({} if self.store_audio else {"store_audio": False}),
            "conditions": {entry.name: entry.as_dict() for entry in self.entries},
        }


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Return a build recipe by the name of one that comes with avsrobust, or by the path of a YAML file.

    Raises `RecipeError` for an unknown name, a file that is no YAML, and every key that is unknown or has a wrong value.
    """
    path = find_recipe(name_or_path, KIND)
    return parse_recipe(read_yaml(path), str(path), path.parent)


def find_recipe(name_or_path: str | Path, kind: str | None = None) -> Path:
    """Return the file of a recipe of any kind. Raises `RecipeError`, with suggestions of `kind`, where there is none."""
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
    known = recipe_names(kind)
    raise RecipeError(
        f"--recipe {name_or_path}: found no recipe of that name{did_you_mean(name_or_path, known)}; "
        f"expected one of {', '.join(known)}, or the path of a .yaml file"
    )


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


def parse_recipe(content: Mapping[str, Any], where: str, folder: Path | None = None) -> Recipe:
    """Return the build recipe that `content` describes.

    Args:
        content: Keys and values, as YAML or a manifest has them.
        where: Their origin, for messages.
        folder: Folder that ``file.py:Class`` is relative to (None: the current folder).

    Raises:
        RecipeError: A key is unknown or has a wrong value, or a condition cannot be imported.
    """
    kind = content.get("kind")
    if kind != KIND:
        raise RecipeError(
            f"{where}: key kind: found {kind!r}; expected '{KIND}'; choose a recipe that describes a build "
            "(recipes that train are for 'avsrobust train')"
        )
    _refuse_unknown(content, _KEYS, where, "key")
    conditions = content.get("conditions")
    if not isinstance(conditions, dict) or not conditions:
        found = "an empty mapping" if conditions == {} else _type_of(conditions)
        raise RecipeError(f"{where}: key conditions: found {found}; expected a mapping with one condition or more")
    front_end = _front_end(content.get("front_end", DEFAULT_FRONT_END), where, "front_end", folder)
    store_audio = content.get("store_audio", True)
    if not isinstance(store_audio, bool):
        raise RecipeError(f"{where}: key store_audio: found {store_audio!r}; expected true or false; correct the file")
    return Recipe(
        name=recipe_name(content, where),
        description=_text(content, "description", where),
        front_end=front_end,
        entries=tuple(_entry(name, conditions[name], front_end, where, folder) for name in sorted(conditions, key=str)),
        store_audio=store_audio,
    )


def recipe_name(content: Mapping[str, Any], where: str) -> str:
    """Return the recipe's name, which becomes part of folder names. Raises `RecipeError` where it can be none."""
    name = _text(content, "name", where)
    if not is_safe_name(name):
        raise RecipeError(f"{where}: key name: found {name[:200]!r}; expected {SAFE_NAME}; correct the file")
    return name


def _entry(name: object, given: object, front_end: str, where: str, folder: Path | None) -> RecipeEntry:
    key = f"conditions.{name}"
    if given is None:
        given = {}
    if isinstance(given, dict) and "condition" in given:
        plugin = given["condition"]
        if not isinstance(plugin, str) or not isinstance(name, str) or not is_safe_name(name):
            raise RecipeError(
                f"{where}: key {key}: found the condition {plugin!r:.100}; expected a text, under a key that is {SAFE_NAME}"
            )
    else:
        plugin = ""
        _refuse_unknown({name: given}, CONDITIONS.names(), where, "condition")
    if not isinstance(given, dict):
        raise RecipeError(f"{where}: key {key}: found {_type_of(given)}; expected a mapping of options, {{}} for none")
    file = _plugin_file(plugin, folder)
    spec = _absolute(plugin, folder)
    try:
        condition = CONDITIONS.find(spec or str(name))
    except RecipeError as error:
        raise RecipeError(f"{where}: key {key}: {error}") from error
    known = ["front_end", "front_end_sha256", *(entry.name for entry in fields(condition))]
    _refuse_unknown(given, [*known, *(_ENTRY_KEYS if plugin else ())], where, f"key {key}.")
    options = {option: value for option, value in given.items() if option not in _ENTRY_KEYS}
    with one_line(f"{where}: key {key}: making the condition", RecipeError):
        made = read_schema(condition, options, where, RecipeError, prefix=f"{key}.")
        problem = _problem_of(made) or made.conflict
    if problem is not None:
        raise RecipeError(f"{where}: key {key}: {problem}; correct the file")
    front_end = _front_end(given.get("front_end", front_end), where, f"{key}.front_end", folder)
    return RecipeEntry(
        name=str(name),
        condition=made,
        front_end=front_end,
        plugin=plugin,
        plugin_sha256=_checksum(file, given.get("sha256"), f"{where}: key {key}.sha256"),
        front_end_sha256=_checksum(
            _plugin_file(front_end, folder), given.get("front_end_sha256"), f"{where}: key {key}.front_end_sha256"
        ),
    )


def _problem_of(condition: Condition) -> str | None:
    """Return the fault in the facts that a condition states, those of plug-ins included; None: there is none."""
    levels, draws, unit = condition.levels, condition.draws, condition.level_unit
    if not isinstance(levels, tuple) or not 1 <= len(levels) <= _MOST_LEVELS:
        return f"levels: found {levels!r:.100}; expected a tuple of 1 to {_MOST_LEVELS} levels"
    for level in levels:
        if level is not None and (
            isinstance(level, bool) or not isinstance(level, int | float) or not abs(level) <= _HIGHEST_LEVEL
        ):
            return f"levels: found {level!r:.100}; expected numbers up to {_HIGHEST_LEVEL:g}, or None"
    if isinstance(draws, bool) or not isinstance(draws, int) or not 1 <= draws <= _MOST_DRAWS:
        return f"draws: found {draws!r:.100}; expected a whole number from 1 to {_MOST_DRAWS}"
    if unit is not None and not (isinstance(unit, str) and is_safe_name(unit)):
        return f"level_unit: found {unit!r:.100}; expected {SAFE_NAME}, or None"
    if condition.pool not in POOLS:
        return f"pool: found {condition.pool!r:.100}; expected one of {', '.join(POOLS)}"
    return None


def _absolute(spec: str, folder: Path | None) -> str:
    """Return a plug-in's spec with the whole path of its file, where it names one."""
    file = _plugin_file(spec, folder)
    return spec if file is None else f"{file}:{spec.rpartition(':')[2]}"


def _plugin_file(plugin: str, folder: Path | None) -> Path | None:
    """Return the file of ``file.py:Class``, relative to the recipe's folder; None for other forms."""
    name = plugin.rpartition(":")[0]
    if not name.endswith(".py"):
        return None
    beside = (folder or Path()) / name
    return (beside if beside.exists() else Path(name)).resolve()


def _checksum(file: Path | None, expected: object, where: str) -> str:
    """Return the checksum of a plug-in's file, "" where it is in none; `expected` is the one that a recipe names, or None."""
    if file is None:
        return ""
    found = sha256_of_file(file)
    if expected is not None and expected != found:
        raise RecipeError(f"{where}: found {expected!r:.80}; expected {found}, which {file} has; remove the key")
    return found


def _front_end(value: object, where: str, key: str, folder: Path | None) -> str:
    known = FRONT_ENDS.names()
    if isinstance(value, str) and (value in known or ":" in value):
        spec = _absolute(value, folder)
        if value not in FRONT_ENDS.built_in:
            try:
                FRONT_ENDS.find(spec)
            except RecipeError as error:
                raise RecipeError(f"{where}: key {key}: {error}") from error
        return spec
    near = did_you_mean(value, known) if isinstance(value, str) else ""
    raise RecipeError(f"{where}: key {key}: found {value!r}; expected one of {', '.join(known)}{near}")


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
