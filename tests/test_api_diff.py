"""Changes of the public API that break callers are found, by the script that ``make api`` runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
OLD = """
from avsrobust.inner import Shape
LIMIT: int = 3
def area(shape: Shape, scale: float = 1.0) -> float: ...
def volume(shape: Shape) -> float: ...
def _private(a: int) -> int: ...
class Hidden:
    def call(self, a: int) -> int: ...
"""


@pytest.fixture(scope="module")
def api_diff() -> ModuleType:
    pytest.importorskip("griffe", reason="needs the extra lint")
    spec = importlib.util.spec_from_file_location("api_diff", ROOT / ".ci/api_diff.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checkout(
    folder: Path, shapes: str, inner: str = "class Shape:\n    def turn(self, by: float) -> None: ...\n"
) -> Path:
    """Write a package of that name with a module on an API page, one that is on none, and one shown in part."""
    files = {
        "avsrobust/__init__.py": "",
        "avsrobust/shapes.py": shapes.replace(
            "import Shape", "import Shape\n__all__ = ['Shape', 'LIMIT', 'area', 'volume']"
        ),
        "avsrobust/inner.py": inner,
        "avsrobust/partly.py": shapes.replace("from avsrobust.inner import Shape", "class Shape: ..."),
        "docs/api/shapes.md": "# Shapes\n\n::: avsrobust.shapes\n\n::: avsrobust.partly\n    options:\n      members: [area]\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_no_change_breaks_nothing(api_diff: ModuleType, tmp_path: Path) -> None:
    old, new = checkout(tmp_path / "old", OLD), checkout(tmp_path / "new", OLD + "\ndef more(a: int) -> int: ...\n")
    assert api_diff.breaking_changes(old, new) == []


def test_what_is_public_and_breaks_is_named(api_diff: ModuleType, tmp_path: Path) -> None:
    changed = OLD.replace("scale: float = 1.0", "factor: float").replace("def volume", "def _volume")
    changed = changed.replace("def _private(a: int)", "def _private()").replace("call(self, a: int)", "call(self)")
    inner = "class Shape:\n    def turn(self) -> None: ...\n"
    old, new = checkout(tmp_path / "old", OLD), checkout(tmp_path / "new", changed, inner)
    assert api_diff.breaking_changes(old, new) == [
        "avsrobust.inner.Shape.turn: Parameter was removed (by)",
        "avsrobust.partly.area: Parameter was added as required (factor)",
        "avsrobust.partly.area: Parameter was removed (scale)",
        "avsrobust.shapes.area: Parameter was added as required (factor)",
        "avsrobust.shapes.area: Parameter was removed (scale)",
        "avsrobust.shapes.volume: Public object was removed",
    ]


def test_a_definition_may_move_behind_its_re_export(api_diff: ModuleType, tmp_path: Path) -> None:
    old = checkout(tmp_path / "old", OLD)
    moved = checkout(tmp_path / "new", OLD.replace("avsrobust.inner", "avsrobust.outer"), "")
    (moved / "avsrobust/outer.py").write_text((old / "avsrobust/inner.py").read_text(), encoding="utf-8")
    assert api_diff.breaking_changes(old, moved) == []
    # What is re-exported is still compared with what it was.
    changed = checkout(
        tmp_path / "changed", "from avsrobust.inner import Shape\nfrom avsrobust.homes import LIMIT, area, volume\n"
    )
    (changed / "avsrobust/partly.py").write_text("from avsrobust.homes import area\n", encoding="utf-8")
    (changed / "avsrobust/homes.py").write_text(OLD.replace("= 1.0", "= 2.0"), encoding="utf-8")
    assert api_diff.breaking_changes(old, changed) == ["avsrobust.homes.area: Parameter default was changed (scale)"]
    gone = checkout(
        tmp_path / "gone",
        OLD.replace("from avsrobust.inner import Shape", "from avsrobust.inner import Other as Shape_"),
    )
    assert "avsrobust.shapes.Shape: Public object was removed" in api_diff.breaking_changes(old, gone)


def test_the_checkout_itself_is_read(api_diff: ModuleType) -> None:
    names = api_diff.public_names(ROOT)
    assert {"avsrobust.api.build", "avsrobust.manifest", "avsrobust.testing.check_adapter"} <= names
    assert not any("_" in name.split(".")[-1][:1] for name in names)
