"""`avsrobust adapters`: names, what each needs, whether it can run here, where to read on."""

from __future__ import annotations

from pathlib import Path

import pytest

from avsrobust.adapters import catalogue
from avsrobust.adapters.catalogue import BUILT_IN, AdapterEntry
from avsrobust.cli.main import invoke

ROOT = Path(__file__).parents[1]


def listing(capsys: pytest.CaptureFixture[str]) -> str:
    assert invoke(["adapters"]) == 0
    return capsys.readouterr().out


def test_what_lacks_a_package_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    there = AdapterEntry("there", "json:loads", "us", "runs", "--option a=FILE", more="docs/there.md")
    lacking = AdapterEntry("lacking", "x:Y", "us", "does not", packages=("no_such_package",), install="pip install it")
    monkeypatch.setattr(catalogue, "BUILT_IN", (there, lacking))
    lines = [line.strip() for line in listing(capsys).splitlines()]
    first, second = lines.index("there    runs"), lines.index("lacking  does not")
    assert lines[first + 1 : second] == ["needs: --option a=FILE", "more: docs/there.md"]
    assert lines[second + 1] == "cannot run here: no_such_package not installed; pip install it"
    assert lines[-1] == "Cannot run here, as said above: lacking. The others can, given what they need."


def test_nothing_lacking_is_told_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(catalogue, "BUILT_IN", (AdapterEntry("there", "json:loads", "us", "runs"),))
    out = listing(capsys)
    assert "--adapter file.py:Class" in out
    assert out.splitlines()[-1] == "All of them can run here, given what they need."


def test_documents_that_are_named_are_there() -> None:
    named = [
        word.strip(";:,") for entry in BUILT_IN for word in entry.more.split() if word.strip(";:,").endswith(".md")
    ]
    assert "docs/worker_combo.md" in named
    for document in named:
        assert (ROOT / document).is_file(), document
