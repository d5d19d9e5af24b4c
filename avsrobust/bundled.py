"""Files that come with avsrobust and are not code: guides to read offline, and the examples they name.

Conventions
    A guide is named by its path in the repository. A wheel holds a copy of each under ``avsrobust/guides``, at the same path, so
    that the links between them and the paths in their text stay right.
"""

from __future__ import annotations

from pathlib import Path


def guide(name: str) -> Path:
    """Return the path of a guide or example that comes with avsrobust.

    Args:
        name: Its path in the repository, such as ``docs/worker_combo.md`` or ``examples/worker_combo.py``.

    Returns:
        The absolute path of the file: inside an installed package, or in the checkout that the package is imported from.
    """
    return guides_folder() / name


def guides_folder() -> Path:
    """Return the folder that holds ``docs/`` and ``examples/``: in the installed package, or the checkout around it."""
    package = Path(__file__).resolve().parent
    installed = package / "guides"
    return installed if installed.is_dir() else package.parent
