"""Why an optional package cannot be imported."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from avsrobust.optional_packages import import_causes, import_obstacle


@pytest.mark.parametrize(
    ("content", "module", "expected"),
    [
        ("import no_such_package.deep", "extra_package", "extra_package needs no_such_package, which is not installed; run: "),
        ("from os import no_such_name", "extra_package", "{fails} (cannot import name"),
        ("raise OSError('libx.so:\\n gone')", "extra_package", "{fails} (libx.so: gone)"),
        ("", "extra_package.newer", "{fails} (No module named 'extra_package.newer')"),
    ],
)  # fmt: skip
def test_each_cause_has_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, module: str, expected: str
) -> None:
    (tmp_path / "extra_package").mkdir()
    (tmp_path / "extra_package/__init__.py").write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "extra_package", raising=False)
    with pytest.raises((ImportError, OSError)) as caught:
        importlib.import_module(module)
    found = import_obstacle(caught.value, "extra_package", "extra")
    assert found.startswith(expected.format(fails="extra_package is installed, but cannot be imported"))
    assert found.endswith("; run: pip install --upgrade extra")
    assert len(found.splitlines()) == 1
    sys.modules.pop("extra_package", None)


def test_a_missing_package_is_to_be_installed() -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("no_such_package")
    assert (
        import_obstacle(caught.value, "no_such_package", "extra")
        == "no_such_package is not installed; run: pip install extra"
    )


def test_causes_come_from_the_outside_in_and_are_bounded() -> None:
    error = ImportError("install it")
    error.__cause__ = ImportError("cannot import name 'x'")
    error.__cause__.__cause__ = OSError()
    assert import_causes(error) == "install it: cannot import name 'x': OSError"
    assert len(import_causes(ImportError("x" * 10_000))) == 300
