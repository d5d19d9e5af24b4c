"""Empty modules in the place of what a published repository imports and its forward pass does not use.

For the scripts beside this file that run in a repository's own environment: the standard library alone.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Collection


class Anything(types.ModuleType):
    """A module in which every name is there, can be called or derived from, and does nothing."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name)

    def __call__(self, *arguments: object, **named: object) -> object:
        return self

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return ()


class EmptyModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers imports of packages of these names."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Anything(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def install(names: Collection[str]) -> None:
    """Answer these imports from now on, also where such a package is installed."""
    sys.meta_path.insert(0, EmptyModules(names))
