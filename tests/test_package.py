"""A wheel holds library, model adapters, recipes and guides, usable without the repository; an sdist holds the project."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, "wheel", *options, str(ROOT)], check=True)
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-compile", "--target", str(folder / "site"), *folder.glob("*.whl")],
        check=True,
    )
    return folder


def _python(installed: Path, code: str) -> str:
    # -S keeps the development install out; its site-packages come after the wheel's.
    packages = [path for path in sys.path if path.endswith("site-packages")]
    start = f"import sys; sys.path[:0] = {[str(installed / 'site'), *packages]}; "
    command = [sys.executable, "-S", "-c", start + code]
    return subprocess.run(command, cwd=installed, check=True, capture_output=True, text=True).stdout.strip()


def test_everything_is_in_the_wheel(installed: Path) -> None:
    names = set(zipfile.ZipFile(next(installed.glob("*.whl"))).namelist())
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout: nothing says what belongs to the project")
    homes = {"avsrobust/": "", "model_adapters/": "", "recipes/": "avsrobust/", "examples/": "avsrobust/guides/"}
    wanted = [
        homes[folder] + name
        for name in tracked.stdout.splitlines()
        for folder in homes
        if name.startswith(folder) and (ROOT / name).exists()
    ]
    assert len(wanted) > 60
    assert [name for name in wanted if name not in names] == []
    assert not any(name.startswith("tests/") or "__pycache__" in name for name in names)


def test_an_sdist_holds_what_the_tests_and_the_documentation_need(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout: nothing says what belongs to the project")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)], cwd=ROOT, capture_output=True
    )
    assert built.returncode == 0, built.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name for name in tracked.stdout.splitlines() if (ROOT / name).exists()} - names == set()


def test_it_works_from_the_wheel(installed: Path) -> None:
    site = str(installed / "site")
    assert _python(installed, "import avsrobust; print(avsrobust.__file__)").startswith(site)
    assert _python(installed, "import model_adapters; print(model_adapters.__file__)").startswith(site)
    code = "from avsrobust.conditions.recipe import load_recipe; print(load_recipe('standard').name)"
    assert _python(installed, code) == "standard"
    code = "from avsrobust.cli.main import invoke; raise SystemExit(invoke(['toy', 'toy', '--dataset', 's4', '--clips', '2']))"
    assert _python(installed, code) == "toy"


def test_paths_that_adapters_prints_are_there(installed: Path) -> None:
    code = "from avsrobust.cli.main import invoke; raise SystemExit(invoke(['adapters']))"
    printed = _python(installed, code)
    site = installed / "site"
    found = re.findall(rf"{re.escape(str(site))}[^\s;]*", printed)
    assert len(found) >= 6
    assert [path for path in found if not Path(path).is_file()] == []
    # Nothing is named by its path in a repository that is not there.
    assert not re.search(r"(?<![\w/])(docs|examples|tests)/", printed)


def test_guides_lead_to_files_of_the_wheel(installed: Path) -> None:
    guides = installed / "site/avsrobust/guides"
    pages = [page for page in sorted(guides.rglob("*.*")) if page.suffix in (".md", ".py")]
    assert len([page for page in pages if page.suffix == ".md"]) == 3
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"(?<![\w/])((?:examples|docs)/[\w/]+\.(?:py|md))", text):
            assert (guides / name).is_file(), f"{page}: {name}"
        for target in re.findall(r"\]\(([^)\s:#]+)\)", text):
            assert (page.parent / target).is_file(), f"{page}: {target}"
