"""Guides that come with avsrobust, in a checkout; tests/test_package.py has those of a wheel."""

from __future__ import annotations

import pytest

from avsrobust.bundled import guide, guides_folder, with_guide_paths
from avsrobust.cli.main import invoke


def test_a_guide_is_a_file() -> None:
    for name in ("docs/published_models.md", "docs/worker_combo.md", "examples/README.md", "examples/worker_combo.py"):
        assert guide(name).is_absolute()
        assert guide(name).is_file()


def test_names_of_guides_become_paths_and_others_stay() -> None:
    text = "examples/README.md; COMBO: docs/worker_combo.md; my/docs/worker_combo.md, docs/none.md."
    folder = guides_folder()
    expected = (
        f"{folder}/examples/README.md; COMBO: {folder}/docs/worker_combo.md; my/docs/worker_combo.md, docs/none.md."
    )
    assert with_guide_paths(text) == expected


def test_adapters_are_listed_with_the_paths_of_their_guides(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["adapters"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert f"more: {guide('docs/published_models.md')}" in lines
    assert any(str(guide("examples/README.md")) in line for line in lines)
