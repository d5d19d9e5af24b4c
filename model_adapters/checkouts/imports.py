"""Importing a user's checkout: its modules, and only while its code runs.

Conventions
    A checkout is a folder of somebody else's Python code whose top-level names (model, utils, config, ..) are everybody's.
    `Checkout.active` puts its modules into ``sys.modules`` and takes them out again, so that two checkouts, and the
    user's own modules of these names, never meet. Call its code inside `active` only: it may import when it is called.
    While active: whatever names a GPU goes to the checkout's device, and nothing is downloaded (`redirects`); prints go to
    stderr, since stdout is ours; packages that are not installed come from `standins`; nothing is written into the folder
    (no ``__pycache__``).
    Nothing of this is seen by other threads but ``sys.modules`` itself.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import runpy
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from avsrobust.errors import AdapterError
from model_adapters.checkouts.redirects import cuda_means, no_downloads
from model_adapters.checkouts.standins import StandIns, is_stand_in

_LOG = logging.getLogger(__name__)
_RUNNING = threading.RLock()


class Checkout:
    """The code of a checkout, importable while it is active.

    Args:
        root: Folder that the checkout's top-level modules lie in.
        device: Device that stands for "cuda" while the code runs.
        borrowed: Files elsewhere, by the full names of modules that the checkout imports but does not hold.

    Attributes:
        root: The folder, resolved.
        device: As given.
    """

    def __init__(self, root: Path, device: torch.device, borrowed: Mapping[str, Path] | None = None) -> None:
        self.root = root.resolve()
        self.device = device
        self._finder = _CheckoutFinder(self.root, dict(borrowed or {}))
        self._stand_ins = StandIns()
        self._modules: dict[str, ModuleType] = {}
        self._warned: set[str] = set()
        self._is_active = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the checkout's code run inside the block (see the module's conventions); blocks may be nested."""
        if self._is_active:
            yield
            return
        with (
            _RUNNING,
            self._swapped_in(),
            cuda_means(self.device),
            no_downloads(str(self.root)),
            _no_bytecode(),
            contextlib.redirect_stdout(sys.stderr),
        ):
            yield
        self._warn_of_stand_ins()

    def import_module(self, name: str) -> ModuleType:
        """Import one of the checkout's modules.

        Args:
            name: Its full name, such as ``model.pvt``.

        Returns:
            The module. Call its code inside `active` only.

        Raises:
            AdapterError: It imports a package that is not installed.
        """
        with self.active():
            try:
                return importlib.import_module(name)
            except ModuleNotFoundError as error:
                raise AdapterError(
                    f"{self.root}: importing '{name}' found no module '{error.name}'; install its package here, or run "
                    "the model in an environment of its own with --adapter worker"
                ) from error

    def run_file(self, path: Path) -> dict[str, Any]:
        """Run a Python file of settings.

        Args:
            path: The file, such as a configuration of the checkout.

        Returns:
            The file's global names and their values.
        """
        with self.active():
            return runpy.run_path(str(path))

    @contextmanager
    def _swapped_in(self) -> Iterator[None]:
        others = _take_out(self._is_ours)
        sys.modules.update(self._modules)
        self._is_active = True
        sys.meta_path.insert(0, self._finder)
        sys.meta_path.append(self._stand_ins)
        try:
            yield
        finally:
            self._is_active = False
            sys.meta_path.remove(self._finder)
            sys.meta_path.remove(self._stand_ins)
            self._modules = _take_out(lambda name, module: self._is_ours(name, module) or is_stand_in(module))
            sys.modules.update(others)

    def _is_ours(self, name: str, module: ModuleType) -> bool:
        return name.partition(".")[0] in self._finder.paths

    def _warn_of_stand_ins(self) -> None:
        new = self._stand_ins.used - self._warned
        if new:
            self._warned |= new
            _LOG.warning("%s: not installed, avsrobust's stand-ins are used: %s", self.root, ", ".join(sorted(new)))


class _CheckoutFinder(MetaPathFinder):
    """Finds top-level modules in one folder, before anything installed; packages find their own submodules.

    Attributes:
        paths: File or folder of each top-level name.
    """

    def __init__(self, root: Path, borrowed: Mapping[str, Path]) -> None:
        self.paths = {
            entry.stem: entry
            # Folders first, as Python itself prefers packages.
            for entry in sorted(root.iterdir(), key=lambda entry: (entry.is_dir(), entry.name))
            if entry.stem not in sys.stdlib_module_names and _can_be_imported(entry)
        }
        self.paths.update({name: path for name, path in borrowed.items() if "." not in name})
        self._borrowed = borrowed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the checkout's module of this name, None where it has none."""
        if fullname in self._borrowed:
            return importlib.util.spec_from_file_location(fullname, self._borrowed[fullname])
        if path is not None or fullname not in self.paths:
            return None
        found = self.paths[fullname]
        if found.is_file():
            return importlib.util.spec_from_file_location(fullname, found)
        initial = found / "__init__.py"
        if initial.is_file():
            return importlib.util.spec_from_file_location(fullname, initial, submodule_search_locations=[str(found)])
        # Without __init__.py, Python would prefer an installed package of the same name.
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(found)]
        return spec


def _can_be_imported(entry: Path) -> bool:
    """Return whether an entry of the folder is a module or a package; data folders, which can be huge, are not searched."""
    if entry.is_file():
        return entry.suffix == ".py" and entry.stem.isidentifier()
    if not entry.is_dir() or not entry.name.isidentifier():
        return False
    return any(next(entry.glob(pattern), None) is not None for pattern in ("*.py", "*/*.py"))


def _take_out(wanted: Callable[[str, ModuleType], bool]) -> dict[str, ModuleType]:
    """Remove the modules for which `wanted` (name, module) is true from ``sys.modules``, and return them."""
    taken = {name: module for name, module in list(sys.modules.items()) if wanted(name, module)}
    for name in taken:
        del sys.modules[name]
    return taken


@contextmanager
def _no_bytecode() -> Iterator[None]:
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
