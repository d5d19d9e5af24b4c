"""The project's own files agree with each other: versions, lower bounds, packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import avsrobust

ROOT = Path(__file__).parents[1]
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
    found = (re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?>=([\d.]+)", requirement) for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", match[1]).lower(): match[2] for match in found if match}


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
