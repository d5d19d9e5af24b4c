"""The source code of an adapter: the file that defines its class, and the neighbouring files that it imports.

Conventions
    Imports are followed as they are written, through the adapter's own package, or, where it is a file by itself, through the
    files and packages in its folder; modules that are loaded by name at run time are not seen. Of installed packages, and of
    avsrobust itself, only the adapter's own package, or file, is read.
    Files that have changed since this process imported them are refused: what runs is no more what they hold.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from avsrobust.errors import AdapterError
from avsrobust.files import sha256_of_file
from avsrobust.plugin_sources import checksum_when_imported

_INSTALLED = ("site-packages", "dist-packages")
_PACKAGE = Path(__file__).resolve().parent.parent
_MOST_FILES = 2000


def source_file(adapter: object) -> Path | None:
    """Return the file that defines the class of an adapter, or None where there is none (a notebook)."""
    try:
        return Path(inspect.getfile(type(adapter)))
    except (TypeError, OSError):
        return None


def source_sha256(adapter: object) -> str | None:
    """Return a checksum of an adapter's source code, or None where there is no file.

    Neither the folder of the files nor the name of the first one enters the checksum.

    Raises:
        AdapterError: A file has changed since it was imported.
    """
    path = source_file(adapter)
    if path is None or not path.is_file():
        return None
    path = path.resolve()
    root = _root(path)
    others = sorted(_imported(path, root) - {path})
    specs = _specs(others)
    lines = [_checksum(path, _spec_of(type(adapter)))]
    for file in others:
        lines.append(f"{file.relative_to(root).as_posix()}\t{_checksum(file, specs.get(file))}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _checksum(path: Path, spec: ModuleSpec | None) -> str:
    found = sha256_of_file(path)
    if spec is not None and checksum_when_imported(spec, path) != found:
        raise AdapterError(
            f"{path}: has changed since this process imported it, so that a run would be of other code than its results say; "
            "start Python again, or import it anew (importlib.reload) and make the adapter again"
        )
    return found


def _spec_of(adapter_class: type) -> ModuleSpec | None:
    """Return the spec of the module that defines a class, by its methods: another one may have the module's name by now."""
    for value in vars(adapter_class).values():
        spec = getattr(getattr(value, "__func__", value), "__globals__", {}).get("__spec__")
        if isinstance(spec, ModuleSpec) and spec.name == adapter_class.__module__:
            return spec
    return getattr(sys.modules.get(adapter_class.__module__), "__spec__", None)


def _specs(files: Sequence[Path]) -> dict[Path, ModuleSpec]:
    """Return the specs of the loaded modules that are of some files."""
    names, wanted = {file.name for file in files}, set(files)
    found: dict[Path, ModuleSpec] = {}
    for module in list(sys.modules.values()) if files else ():
        # Asked for other attributes than their own, some import something, or fail.
        own = getattr(module, "__dict__", {})
        file, spec = own.get("__file__"), own.get("__spec__")
        if isinstance(file, str) and Path(file).name in names and isinstance(spec, ModuleSpec):
            path = Path(file).resolve()
            if path in wanted:
                found[path] = spec
    return found


def _root(path: Path) -> Path:
    """Return the folder that the file's absolute imports start from."""
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        folder = folder.parent
    return folder


def _imported(path: Path, root: Path) -> set[Path]:
    if path.is_relative_to(_PACKAGE):
        return {path}
    own = path.relative_to(root).parts[0]
    only_own = len(path.relative_to(root).parts) > 1
    if not only_own and any(part in _INSTALLED for part in path.parts):
        return {path}
    found, waiting = {path}, [path]
    while waiting and len(found) < _MOST_FILES:
        for file in _neighbours(waiting.pop(), root):
            if file not in found and (not only_own or file.relative_to(root).parts[0] == own):
                found.add(file)
                waiting.append(file)
    return found


def _neighbours(path: Path, root: Path) -> Iterator[Path]:
    """Yield the files below `root` that a file's import statements name."""
    try:
        statements = _imports(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for level, module, names in statements:
        base = root if level == 0 else path.parents[min(level, len(path.parents)) - 1]
        yield from _files(root, base, module)
        for name in names:
            yield from _files(root, base, [*module, name])


@lru_cache(maxsize=_MOST_FILES)
def _imports(source: bytes) -> list[tuple[int, list[str], list[str]]]:
    """Return a file's import statements: the level, the parts of the module's name, and the names imported from it."""
    found: list[tuple[int, list[str], list[str]]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(0, alias.name.split("."), []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            found.append((node.level, module, [alias.name for alias in node.names]))
    return found


def _files(root: Path, base: Path, names: list[str]) -> Iterator[Path]:
    """Yield the files that importing ``names`` from the folder `base` runs."""
    for count in range(1, len(names) + 1):
        place = base.joinpath(*names[:count])
        for candidate in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            file = candidate.resolve() if candidate.is_file() else None
            if file is not None and file.is_relative_to(root):
                yield file
