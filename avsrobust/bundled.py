"""Files that come with avsrobust and are not code: recipes, guides to read offline, and the examples they name.

Conventions
    Recipes lie in the folder ``recipes`` of the package, or of the checkout that it is imported from.
    A guide is named by its path in the repository. A wheel holds a copy of each under ``avsrobust/guides``, at the same path, so
    that the links between them and the paths in their text stay right.
"""

from __future__ import annotations

import re
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_NAME = re.compile(r"(?<![\w/.-])(?:docs|examples)/[\w./-]*\w")


def guide(name: str) -> Path:
    """Return the path of a guide or example that comes with avsrobust.

    Args:
        name: Its path in the repository, such as ``docs/worker_combo.md`` or ``examples/worker_combo.py``.

    Returns:
        The absolute path of the file: inside an installed package, or in the checkout that the package is imported from.
    """
    return guides_folder() / name


def with_guide_paths(text: str) -> str:
    """Return a text with the names of guides replaced by their paths; names of other files stay as they are.

    >>> with_guide_paths("see docs/no_such_page.md").endswith("docs/no_such_page.md")
    True
    """
    return _NAME.sub(lambda name: str(guide(name[0])) if guide(name[0]).is_file() else name[0], text)


def guides_folder() -> Path:
    """Return the folder that holds ``docs/`` and ``examples/``: in the installed package, or the checkout around it."""
    return _installed("guides") or _PACKAGE.parent


def recipes_folder() -> Path:
    """Return the folder of the recipes that come with avsrobust: in the installed package, or in the checkout around it."""
    return _installed("recipes") or _PACKAGE.parent / "recipes"


def recipe_names(kind: str | None = None) -> list[str]:
    """Return the sorted names of the recipes that come with avsrobust: of one kind, "build" or "train", or all.

    >>> recipe_names("build")
    ['extended', 'reference', 'standard']
    """
    # Read as text: parsing every file would take longer than a reader waits.
    return [
        path.stem
        for path in sorted(recipes_folder().glob("*.yaml"))
        if kind is None or f"kind: {kind}\n" in path.read_text(encoding="utf-8")
    ]


def _installed(name: str) -> Path | None:
    """Return a folder that a wheel puts into the package; None in a checkout."""
    folder = _PACKAGE / name
    return folder if folder.is_dir() else None
