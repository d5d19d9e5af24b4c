"""Plug-ins: objects that other packages or a user's file define, found by name.

Conventions
    A registry has built-in names, each a lazy ``module:object`` string, so that listing them imports nothing. Other packages
    register names in an entry-point group; a user's definition wins over a built-in one of the same name, with a warning that
    names both. ``package.module:Object`` and ``file.py:Object`` name an object without registering it. A file is imported anew
    each time (`avsrobust.plugin_sources`), a module once, as Python does it.
    Whatever a plug-in's code raises while it is imported becomes one line.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from avsrobust.errors import AvsRobustError, did_you_mean, text_of
from avsrobust.plugin_sources import (
    FILE_MODULE,
    INSTALLED,
    PYTHON,
    importing_by_name,
    importing_from,
    is_current,
    note_file,
    settled_state,
)

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_MOST_CHARACTERS = 400
_OURS = frozenset({"avsrobust", "model_adapters"})
_NOT_THEIRS = (f"{Path(__file__).parent}{os.sep}",)


@dataclass(frozen=True)
class Registry(Generic[T]):
    """The objects of one kind that can be named.

    Attributes:
        noun: Noun of the kind, for messages ("condition").
        option: The option or key that names one, for messages ("--protocol").
        group: The entry-point group in which packages register theirs.
        built_in: ``module:object`` of each built-in name.
        check: Returns the found object as one of the kind, or raises an error that says what it is instead. Its arguments are
            the text that named the object, and the object.
        error: The error to raise.
        object_noun: Noun of the named object itself, for messages ("class"); "": any object.
    """

    noun: str
    option: str
    group: str
    built_in: Mapping[str, str]
    check: Callable[[str, object], T]
    error: type[AvsRobustError]
    object_noun: str = ""

    def names(self) -> tuple[str, ...]:
        """Return every name there is, the built-in ones first; imports nothing."""
        return tuple(dict.fromkeys([*self.built_in, *sorted(self.registered())]))

    def registered(self) -> dict[str, EntryPoint]:
        """Return the entry points of the group by name. Raises `error` where two packages register one name."""
        return registered_in(self.group, self.noun, self.error)

    def find(self, spec: str) -> T:
        """Return the object that `spec` names.

        Raises:
            AvsRobustError: An `error`, where the name is unknown, the module or file cannot be imported or has no such
                object, or the object is not of the kind.
        """
        place, separator, attribute = spec.rpartition(":")
        if place.endswith(".py"):
            return self.check(spec, self._attribute(spec, import_file(Path(place), self.noun, self.error), attribute))
        if separator and not (place and attribute):
            raise self.error(
                f"{self.option} {spec}: names no {'module' if attribute else self.object_noun or 'object'}; "
                f"expected package.module:{self._form} or file.py:{self._form}"
            )
        if separator and place.partition(".")[0] in _OURS:
            return self._import(spec, spec)
        if separator:
            with importing_by_name(place):
                return self._import(spec, spec)
        if spec.endswith(".py"):
            raise self.error(
                f"{self.option} {spec}: names no {self.object_noun or 'object'}; expected file.py:{self._form}"
            )
        point = self.registered().get(spec)
        if point is not None:
            if spec in self.built_in:
                _LOG.warning(
                    "%s '%s': %s (%s) is used instead of the built-in %s",
                    self.noun,
                    spec,
                    point.value,
                    distribution_of(point),
                    self.built_in[spec],
                )
            return self._import(spec, f"{point.module}:{point.attr}")
        if spec in self.built_in:
            return self._import(spec, self.built_in[spec])
        names = self.names()
        module, dot, last = spec.rpartition(".")
        meant = f"; did you mean '{module}:{last}'?" if dot and last[:1].isupper() else did_you_mean(spec, names)
        raise self.error(
            f"{self.option} {spec}: unknown; expected a name, package.module:{self._form} or file.py:{self._form}; known names: "
            f"{', '.join(names)}{meant}"
        )

    def find_current(self, spec: str) -> T:
        """Return what `find` returns, without importing a file again that holds, with its neighbours, what was imported."""
        place, _, attribute = spec.rpartition(":")
        module = sys.modules.get(_module_name(Path(place).resolve(), self.noun)) if place.endswith(".py") else None
        if module is None or module.__spec__ is None or not is_current(module.__spec__):
            return self.find(spec)
        return self.check(spec, self._attribute(spec, module, attribute))

    @property
    def _form(self) -> str:
        return (self.object_noun or "object").capitalize()

    def _import(self, spec: str, target: str) -> T:
        name, _, attribute = target.partition(":")
        with one_line(f"{self.option} {spec}: importing {name}", self.error):
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                    raise
                raise self.error(
                    f"{self.option} {spec}: found no module {error.name}; install its package, name a file "
                    f"(file.py:{self._form}), or add its folder to PYTHONPATH"
                ) from error
        return self.check(spec, self._attribute(spec, module, attribute))

    def _attribute(self, spec: str, module: ModuleType, name: str) -> object:
        try:
            return getattr(module, name)
        except AttributeError as error:
            defined = [
                key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__
            ]
            public = [key for key in vars(module) if not key.startswith("_")]
            hint = did_you_mean(name, public) or (f"; it has {', '.join(defined)}" if defined else "")
            kind = f"{self.object_noun} " if self.object_noun else ""
            raise self.error(f"{self.option} {spec}: {module.__file__} has no {kind}'{name}'{hint}") from error


def registered_in(group: str, noun: str, error: type[AvsRobustError]) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name. Raises `error` where two packages register one name."""
    found: dict[str, EntryPoint] = {}
    for point in _entry_points(group, tuple(_state_of(entry) for entry in sys.path)):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            raise error(
                f"{noun} '{point.name}': registered by {distribution_of(other)} ({other.value}) and by "
                f"{distribution_of(point)} ({point.value}); uninstall one of them"
            )
        found[point.name] = point
    return found


@lru_cache(maxsize=64)
def _entry_points(group: str, _path: tuple[tuple[str, int], ...]) -> EntryPoints:
    """Return the entry points of a group: every installed package is looked into, once for each state of the path."""
    return entry_points(group=group)


def _state_of(folder: str) -> tuple[str, int]:
    """Return an entry of the import path, and when something was last put into it or taken out, in ns; 0 where there is none."""
    try:
        found = Path(folder).absolute()
        return str(found), found.stat().st_mtime_ns
    except (OSError, ValueError):
        return folder, 0


def import_file(path: Path, noun: str, error: type[AvsRobustError]) -> ModuleType:
    """Import a Python file anew; its own folder can be imported from meanwhile, as when Python runs the file.

    Raises `error` where it is not there or cannot be imported; `noun` says what it defines.
    """
    path = path.resolve()
    if not path.is_file():
        raise error(f"{path}: not found; expected a Python file that defines the {noun}")
    name = _module_name(path, noun)
    loader = SourceFileLoader(name, str(path))
    found = ModuleSpec(name, loader, origin=str(path))
    found.has_location = True
    module = importlib.util.module_from_spec(found)
    with importing_from(path.parent), one_line(f"{path}: importing it", error):
        state = settled_state(path)
        content = loader.get_data(str(path))
        # Dataclasses and pickle look a class's module up by name.
        sys.modules[name] = module
        try:
            # Not by what was compiled before: within one second it may be of another content.
            exec(loader.source_to_code(content, str(path)), module.__dict__)  # noqa: S102
        except BaseException:
            del sys.modules[name]
            raise
        note_file(found, path, content, state)
    return module


def _module_name(path: Path, noun: str) -> str:
    """Return the name of the module that a file is imported as."""
    return f"{FILE_MODULE}{noun.replace(' ', '_')}_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def spec_of(plugin: type) -> str:
    """Return the text by which `Registry.find` finds a class, from any folder and in any process.

    >>> spec_of(Registry)
    'avsrobust.plugins:Registry'
    """
    module = sys.modules[plugin.__module__]
    is_file = plugin.__module__.startswith(FILE_MODULE) and module.__file__ is not None
    return f"{module.__file__ if is_file else plugin.__module__}:{plugin.__qualname__}"


def distribution_of(point: EntryPoint) -> str:
    """Return the name of the package that registers an entry point."""
    return point.dist.name if point.dist is not None else "an installed package"


@contextmanager
def one_line(what: str, error_class: type[AvsRobustError]) -> Iterator[None]:
    """Turn whatever another's code raises in the block (quit() included) into one line that begins with `what`."""
    try:
        yield
    except (AvsRobustError, KeyboardInterrupt):
        raise
    except BaseException as error:
        where = "".join(f" ({file}, line {line})" for file, line in place_of(error)[:1])
        raise error_class(f"{what} raised {described(error)}{where}; put that right first") from error


def bounded_line(text: str) -> str:
    """Return a text of somebody else's code in one line of bounded length."""
    return " ".join(text.split())[:_MOST_CHARACTERS]


def described(error: BaseException) -> str:
    """Return an exception's type and message in one line of bounded length.

    >>> described(ValueError("two\\nlines")), described(AssertionError())
    ('ValueError: two lines', 'AssertionError')
    """
    # Some messages, such as those of SyntaxError, name the place themselves, which comes behind them anyway.
    text = error.msg if isinstance(error, SyntaxError) and error.msg else text_of(error)
    if isinstance(error, SystemExit) and not isinstance(error.code, str):
        return f"SystemExit: it called exit, with the status {error.code or 0}"
    message = bounded_line(text)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def place_of(error: BaseException) -> list[tuple[str, int]]:
    """Return file and line of the last call in a user's own code that led to an exception; [] where there is none.

    A user's own code is not this package's nor, where there is other code, Python's or an installed package's.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return [(error.filename, error.lineno)]
    outside = [
        (frame.filename, frame.lineno or 0)
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", *_NOT_THEIRS))
    ]
    own = [entry for entry in outside if not (entry[0].startswith(PYTHON) or INSTALLED & set(Path(entry[0]).parts))]
    return (own or outside)[-1:]
