"""The project's own files agree with each other: versions, lower bounds, packages."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import avsrobust

ROOT = Path(__file__).parents[1]
# What a module is installed by, where that has another name.
INSTALLED_BY = {
    "PIL": "pillow",
    "distributed": "dask",
    "pydantic_core": "pydantic",
    "sklearn": "scikit-learn",
    # On machines with a GPU.
    "triton": "torch",
    "yaml": "pyyaml",
}
# Needed by libraries that import them in our stead: pydub, and torch.utils.tensorboard.
NEEDED_BY_LIBRARIES = {"audioop-lts", "s3fs", "tensorboard"}
# Extras that the package's own code uses; the others are for those who work on it.
EXTRAS_OF_THE_PACKAGE = (
    "torchaudio",
    "dask",
    "pictures",
    "s3",
    "m2f",
    "train",
    "torchmetrics",
    "tensorboard",
    "mlflow",
    "wandb",
)
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name: str) -> dict[str, str]:
    """Exact versions of a constraints file, by normalised name."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    return {
        re.sub(r"[-_.]+", "-", package).lower(): version
        for package, _, version in (line.partition("==") for line in lines)
    }


def bounds(requirements: list[str]) -> dict[str, str]:
    """Lower bounds by normalised name."""
    found = (re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?>=([\d.]+)(?:; .+)?", requirement) for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", match[1]).lower(): match[2] for match in found if match}


def imported(folder: str) -> set[str]:
    """The top-level modules that a package's files import, without Python's own and ours."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"avsrobust", "model_adapters"}


def release(version: str) -> tuple[int, ...]:
    """`2.13.0` and `2.13` alike."""
    numbers = tuple(int(part) for part in version.split("."))
    return numbers + (0,) * (4 - len(numbers))


def test_the_version_is_stated_alike() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == avsrobust.__version__ == citation["version"]


def test_author_licence_and_address_are_stated_alike() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["authors"] == PROJECT["authors"]
    assert citation["license"] == PROJECT["license"]
    address = PROJECT["urls"]["Homepage"]
    assert citation["repository-code"] == citation["url"] == address
    files = [
        *ROOT.glob("*.md"),
        *(ROOT / ".github").rglob("*.*"),
        *ROOT.glob("*.cff"),
        *ROOT.glob("*.toml"),
        *ROOT.glob("*.yml"),
    ]
    for path in files:
        for found in re.findall(r"https://[\w.]+/[\w-]+/avsrobust\b", path.read_text()):
            assert found == address, path


def test_lowest_versions_are_the_bounds() -> None:
    lowest = pins("constraints-lowest.txt")
    for name, bound in bounds(PROJECT["dependencies"]).items():
        assert release(lowest[name]) == release(bound), name
    assert len(bounds(PROJECT["dependencies"])) == len(PROJECT["dependencies"])


@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_exact_versions_satisfy_the_bounds(extra: str) -> None:
    exact = pins("constraints.txt")
    asked = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    for name, bound in bounds(asked).items():
        # torchaudio is for those who ask for it: no version of it is installed by `make setup`.
        if extra != "torchaudio" or name in exact:
            assert tuple(map(int, exact[name].split(".")[:2])) >= release(bound)[:2], name


def test_workflows_and_templates_are_yaml() -> None:
    files = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]
    assert len(files) > 6
    for path in files:
        assert isinstance(yaml.safe_load(path.read_text()), dict), path


def test_every_dependency_is_imported_and_every_import_is_declared() -> None:
    extras = [asked for extra in EXTRAS_OF_THE_PACKAGE for asked in PROJECT["optional-dependencies"][extra]]
    declared = set(bounds([*PROJECT["dependencies"], *extras]))
    used = {INSTALLED_BY.get(name, name) for name in imported("avsrobust") | imported("model_adapters")}
    assert sorted(used - declared) == []
    assert sorted(declared - used - NEEDED_BY_LIBRARIES) == []


def test_what_always_is_imported_is_no_extra() -> None:
    """An extra's module may be imported where it is asked for; the others must be there after a plain installation."""
    always = set(bounds(PROJECT["dependencies"]))
    optional = {INSTALLED_BY.get(name, name) for name in imported("avsrobust")} - always
    assert optional == {
        "accelerate",
        "dask",
        "fsspec",
        "imagecodecs",
        "mlflow",
        "torchaudio",
        "torchmetrics",
        "transformers",
        "wandb",
    }
