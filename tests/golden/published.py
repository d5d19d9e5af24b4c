"""Load modules of a published repository from a checkout, for the scripts that remake the golden files.

Conventions
    A script runs in a process of its own: what is put into ``sys.modules`` and ``sys.path`` stays until it ends.
    Packages that the published modules import at their top and that the functions called here never use (drawing, video,
    configuration) need not be installed: a stand-in of the same name answers every attribute, and any real use fails.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent


class StandIn(types.ModuleType):
    """A module in whose place nothing is installed: importable, with any attribute, of no use."""

    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> StandIn:
        """Return a stand-in for what the module would hold."""
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self.__name__}.{name}")


def parse_arguments(golden: str, *checkouts: str) -> argparse.Namespace:
    """Read the command line: one folder per checkout, and ``--output FILE`` (default: the committed golden file)."""
    parser = argparse.ArgumentParser(description=f"Remake {golden} by running the published code of {checkouts}.")
    for name in checkouts:
        parser.add_argument(name, type=Path, help="folder with a checkout of that repository")
    parser.add_argument("--output", type=Path, default=HERE / golden, help="default: %(default)s")
    return parser.parse_args()


def load_module(path: Path, *, missing: Sequence[str] = ()) -> Any:
    """Import the file ``path`` as a module of its own; ``missing`` names packages that may be absent."""
    if not path.is_file():
        sys.exit(f"{path}: no such file; expected a checkout of the published repository")
    with stand_ins(missing):
        spec = importlib.util.spec_from_file_location(f"published_{path.stem}_{abs(hash(path))}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def load_package_module(folder: Path, name: str) -> Any:
    """Import ``name`` with ``folder`` on the path, for modules that import their siblings."""
    if not folder.is_dir():
        sys.exit(f"{folder}: no such folder; expected a checkout of the published repository")
    sys.path.insert(0, str(folder))
    return importlib.import_module(name)


@contextmanager
def stand_ins(names: Sequence[str]) -> Iterator[None]:
    """Put a stand-in where a package of these names cannot be imported."""
    absent = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = StandIn(name)
            absent.append(name)
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def silence() -> Iterator[None]:
    """Drop what the published code prints."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        kept, sys.stdout = sys.stdout, nowhere
        try:
            yield
        finally:
            sys.stdout = kept


def read_arrays(golden: str) -> dict[str, np.ndarray]:
    """Read the committed file, whose inputs a script feeds to the published code."""
    with np.load(HERE / golden, allow_pickle=False) as archive:
        return dict(archive)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write a golden npz."""
    np.savez_compressed(path, **{name: np.asarray(value) for name, value in arrays.items()})


def read_json(golden: str) -> Any:
    """Read the committed json, whose inputs a script feeds to the published code."""
    return json.loads((HERE / golden).read_text())
