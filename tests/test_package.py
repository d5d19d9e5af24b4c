"""What a wheel holds: the library, the model adapters and the recipes, usable without the repository."""

from __future__ import annotations

import subprocess
import sys
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
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), *folder.glob("*.whl")], check=True)
    return folder


def _python(installed: Path, code: str) -> str:
    # -S keeps the development install out; its site-packages come after the wheel's.
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    start = f"import sys; sys.path[:0] = [{str(installed / 'site')!r}, {packages!r}]; "
    command = [sys.executable, "-S", "-c", start + code]
    return subprocess.run(command, cwd=installed, check=True, capture_output=True, text=True).stdout.strip()


def test_everything_is_in_the_wheel(installed: Path) -> None:
    names = set(zipfile.ZipFile(next(installed.glob("*.whl"))).namelist())
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout: nothing says what belongs to the project")
    wanted = [
        name.replace("recipes/", "avsrobust/recipes/", 1) if name.startswith("recipes/") else name
        for name in tracked.stdout.splitlines()
        if name.startswith(("avsrobust/", "model_adapters/", "recipes/")) and (ROOT / name).exists()
    ]
    assert len(wanted) > 60
    assert [name for name in wanted if name not in names] == []
    assert not any(name.startswith("tests/") for name in names)


def test_it_works_from_the_wheel(installed: Path) -> None:
    site = str(installed / "site")
    assert _python(installed, "import avsrobust; print(avsrobust.__file__)").startswith(site)
    assert _python(installed, "import model_adapters; print(model_adapters.__file__)").startswith(site)
    code = "from avsrobust.conditions.recipe import load_recipe; print(load_recipe('standard').name)"
    assert _python(installed, code) == "standard"
    code = "from avsrobust.cli.main import invoke; raise SystemExit(invoke(['toy', 'toy', '--dataset', 's4', '--clips', '2']))"
    assert _python(installed, code) == "toy"
