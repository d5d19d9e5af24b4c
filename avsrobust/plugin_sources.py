"""The folders that plug-ins are imported from, and the states of their files then: what a long session knows of its imports.

Conventions
    A call finds what it would find in a new process. Modules of a plug-in's folder are kept for its next import, unless a file
    of one has changed: then all of them are imported anew, since they hold one another. Those that the user's own code has
    imported stay: only `importlib.reload` replaces them.
    A module that is named (``package.module:Object``) is looked for in the working folder of the call, behind all that can be
    imported anyway, and not in those of earlier calls.
    A module's own import is told from later ones by its `ModuleSpec`, which each import and each reload makes anew.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import ref

from avsrobust.files import FileState, file_state, sha256_of_file

# Of modules that are a plug-in's file itself; each is imported by its path, and never by this name.
FILE_MODULE = "avsrobust_file_"
INSTALLED = frozenset({"site-packages", "dist-packages"})
PYTHON = f"{sysconfig.get_paths()['stdlib']}{os.sep}"
# Some file systems keep times to two seconds.
_COARSEST_NS = 2_000_000_000
_OWN = tuple(f"{Path(__file__).parent.parent / name}{os.sep}" for name in ("avsrobust", "model_adapters"))


@dataclass(frozen=True)
class _Source:
    """The file of a module, as it was when the module was imported, or soon after.

    Attributes:
        path: The file.
        state: Its state; None where it had changed a moment before, and may again without another time.
        sha256: Its checksum.
        is_users: The user's own code has imported it.
    """

    path: Path
    state: FileState | None
    sha256: str
    is_users: bool = False

    def is_current(self) -> bool:
        """Return whether the file still holds what was imported."""
        if self.state is not None and file_state(self.path) == self.state:
            return True
        return _checksum(self.path) == self.sha256


# Folders of plug-ins; those that were the working folder when a module was named; entries that were put on the import path.
_FOLDERS: set[Path] = set()
_WORKING: set[Path] = set()
_ADDED: set[str] = set()
# Number of modules, and the name of the newest, when they were noted last.
_NEWEST: list[tuple[int, str]] = []
# By the identity of a module's spec, which has no hash; each with a reference by which its end is known.
_SOURCES: dict[int, tuple[ref[ModuleSpec], _Source]] = {}


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Import from `folder` first; afterwards last, for what a plug-in imports later without shadowing anything."""
    _begin(folder)
    entry = str(folder)
    # Also where it is there already: other plug-ins' folders may come before it.
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        # The file's own code may have taken it away.
        if entry in sys.path:
            sys.path.remove(entry)
        if entry not in sys.path:
            sys.path.append(entry)
        _note_all()


@contextmanager
def importing_by_name(name: str) -> Iterator[None]:
    """Import a module by name, from the working folder as well: last, so that nothing there shadows an installed package.

    Of working folders of earlier calls nothing is found meanwhile.
    """
    here = Path.cwd()
    earlier = {str(folder) for folder in _WORKING - {here}} & _ADDED
    hidden = [entry for entry in sys.path if entry in earlier]
    if hidden:
        # A new list: an import under way in another thread goes on through the one that it began with.
        sys.path = [entry for entry in sys.path if entry not in earlier]
    if str(here) not in sys.path:
        sys.path.append(str(here))
        _ADDED.add(str(here))
    top = name.partition(".")[0]
    home = _home(sys.modules.get(top))
    if home is not None and home in _WORKING and home != here and str(home) not in sys.path:
        for other in [other for other in sys.modules if other.partition(".")[0] == top]:
            del sys.modules[other]
    _WORKING.add(here)
    _begin(here)
    try:
        yield
    finally:
        sys.path += [entry for entry in hidden if entry not in sys.path]
        _note_all()


def note_imports() -> None:
    """Note the files of modules that were imported from plug-ins' folders since the last time; quick where none were."""
    if _FOLDERS and (len(sys.modules), next(reversed(sys.modules))) not in _NEWEST:
        _note_all()


def _note_all() -> None:
    _NEWEST[:] = [(len(sys.modules), next(reversed(sys.modules)))]
    for name, module in list(sys.modules.items()):
        spec = _spec_of(module)
        if spec is not None and _known(spec) is None:
            path = _file_from(name, module, _FOLDERS)
            if path is not None:
                _note(spec, _source_of(path))


def settled_state(path: Path) -> FileState | None:
    """Return the state of a file where a later change of it cannot have the same times."""
    state = file_state(path)
    return state if state is not None and max(state[:2]) < time.time_ns() - _COARSEST_NS else None


def note_file(spec: ModuleSpec, path: Path, content: bytes, state: FileState | None) -> None:
    """Note the content of a plug-in's file that is being imported, and the file's state before it was read."""
    _note(spec, _Source(path, state, hashlib.sha256(content).hexdigest()))


def is_current(spec: ModuleSpec) -> bool:
    """Return whether a plug-in's file, noted by `note_file`, and the modules of its folder still hold what was imported."""
    source = _known(spec)
    return source is not None and source.is_current() and not _changed(source.path.parent)


def checksum_when_imported(spec: ModuleSpec, path: Path) -> str:
    """Return the SHA-256 that the file of a module had when it was imported; where nobody noted it, that of now, noted.

    Args:
        spec: The module's ``__spec__``.
        path: Its file.
    """
    source = _known(spec)
    if source is None:
        _note(spec, source := _source_of(path))
    return source.sha256


def changed_file(name: str) -> Path | None:
    """Return the file of a loaded module of others where it no more holds what was imported; None where it does."""
    module = sys.modules.get(name)
    spec, path = _spec_of(module), _file_of(module)
    if spec is None or path is None or checksum_when_imported(spec, path) == _checksum(path):
        return None
    return path


def imported_files() -> frozenset[tuple[Path, FileState | None]]:
    """Return the files of plug-ins and of their folders that this process has imported, with their states now."""
    paths = {source.path for _, source in list(_SOURCES.values())}
    return frozenset((path, file_state(path)) for path in paths)


def _begin(folder: Path) -> None:
    """Let a plug-in in `folder` import its own neighbours, as they are now, not those of the same name in others' folders.

    Two checkouts that both hold a ``network.py`` are common; the earlier plug-in keeps the modules it has imported.
    """
    _note_all()
    # Else a file that is new in a folder may not be found within the same tick of the folder's clock.
    importlib.invalidate_caches()
    for name in _namesakes(folder):
        del sys.modules[name]
    if folder not in _FOLDERS:
        for name, module in list(sys.modules.items()):
            spec, path = _spec_of(module), _file_from(name, module, {folder})
            if spec is not None and path is not None and _known(spec) is None:
                _note(spec, _source_of(path, is_users=True))
        _FOLDERS.add(folder)
    if changed := _changed(folder):
        for path in changed:
            # Compiled within the same second, it would be taken for that of a file of the same size.
            with suppress(OSError, NotImplementedError):
                Path(importlib.util.cache_from_source(str(path))).unlink()
        for name, _ in _neighbours(folder):
            del sys.modules[name]


def _changed(folder: Path) -> list[Path]:
    """Return the files of plug-ins' modules in a folder that hold something else by now."""
    return [source.path for _, source in _neighbours(folder) if not source.is_current()]


def _neighbours(folder: Path) -> list[tuple[str, _Source]]:
    """Return the loaded modules, by name, that plug-ins in a folder have imported from it."""
    if not any(source.path.is_relative_to(folder) for _, source in list(_SOURCES.values())):
        return []
    found = []
    for name, module in list(sys.modules.items()):
        spec = _spec_of(module)
        source = None if spec is None else _known(spec)
        if source is not None and not source.is_users and _file_from(name, module, {folder}) is not None:
            found.append((name, source))
    return found


def _namesakes(folder: Path) -> list[str]:
    """Return the loaded modules from below other plug-ins' folders that an import from this one would take for its own."""
    others = [other for other in _FOLDERS if other != folder]
    found = []
    for name, module in list(sys.modules.items()) if others else ():
        path = _file_of(module)
        if path is None or path.is_relative_to(folder) or not any(path.is_relative_to(other) for other in others):
            continue
        if _holds(folder, name):
            found.append(name)
    return found


def _holds(folder: Path, name: str) -> bool:
    """Return whether a folder has the module of a name, or its first package."""
    parts = name.split(".")
    for place in (folder / parts[0], folder.joinpath(*parts)):
        if place.with_name(f"{place.name}.py").is_file() or (place / "__init__.py").is_file():
            return True
    return False


def _attributes(module: object) -> dict[str, Any]:
    """Return a module's own attributes: asked for another, some import something, or fail."""
    return getattr(module, "__dict__", {})


def _spec_of(module: object) -> ModuleSpec | None:
    spec = _attributes(module).get("__spec__")
    return spec if isinstance(spec, ModuleSpec) else None


def _file_of(module: object) -> Path | None:
    """Return the file of a module that is neither Python's, nor ours, nor of an installed package."""
    file = _attributes(module).get("__file__")
    # Both may be in a folder below the user's, as in a virtual environment.
    if not isinstance(file, str) or file.startswith((PYTHON, *_OWN)) or INSTALLED.intersection(Path(file).parts):
        return None
    return Path(file)


def _file_from(name: str, module: object, folders: set[Path]) -> Path | None:
    """Return the file of a module that is importable by its name from one of the folders itself; None for others."""
    path = None if not folders or name.startswith(FILE_MODULE) else _file_of(module)
    if path is None:
        return None
    depth = name.count(".") + (path.stem == "__init__")
    return path if len(path.parents) > depth and path.parents[depth] in folders else None


def _home(module: ModuleType | None) -> Path | None:
    """Return the folder that a first module or package was imported from; None where that is not known."""
    file = _file_of(module)
    if file is not None:
        return file.parents[file.stem == "__init__"]
    # A folder without a file of its own is a package, too.
    places = list(_attributes(module).get("__path__", ()))
    return Path(places[0]).parent if places else None


def _known(spec: ModuleSpec) -> _Source | None:
    reference, source = _SOURCES.get(id(spec), (None, None))
    return source if reference is not None and reference() is spec else None


def _note(spec: ModuleSpec, source: _Source) -> None:
    key = id(spec)

    def end(reference: ref[ModuleSpec]) -> None:
        if _SOURCES.get(key, (None,))[0] is reference:
            del _SOURCES[key]

    _SOURCES[key] = ref(spec, end), source


def _source_of(path: Path, *, is_users: bool = False) -> _Source:
    state = settled_state(path)
    return _Source(path, state, _checksum(path), is_users)


def _checksum(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except (OSError, ValueError):
        return ""
