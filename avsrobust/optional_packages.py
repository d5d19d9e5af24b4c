"""Packages of extras: why one cannot be imported, in words.

Conventions
    A package that is not there, one that lacks a package of its own, and one that is there and fails are told apart: only the
    first two are put right by installing something new.
"""

from __future__ import annotations

import importlib.util

_MOST_CHARACTERS = 300


def import_obstacle(error: ImportError | OSError, package: str, install: str) -> str:
    """Return why an optional package cannot be imported and what to do, for the end of a message.

    Args:
        error: The error of the import; an OSError is one of a compiled part.
        package: Name of the package.
        install: Arguments of pip that install it.

    >>> import_obstacle(ModuleNotFoundError("No module named 'parabeam'", name="parabeam"), "parabeam", "parabeam")
    'parabeam is not installed; run: pip install parabeam'
    >>> import_obstacle(ModuleNotFoundError("No module named 'cbeam'", name="cbeam.io"), "parabeam", "parabeam")
    'parabeam needs cbeam, which is not installed; run: pip install --upgrade parabeam'
    >>> import_obstacle(ImportError("cannot import name 'Beam'"), "parabeam", "parabeam")
    "parabeam is installed, but cannot be imported (cannot import name 'Beam'); run: pip install --upgrade parabeam"
    """
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        missing = error.name.partition(".")[0]
        if missing != package:
            return f"{package} needs {missing}, which is not installed; run: pip install --upgrade {install}"
        # Otherwise it lacks a module of its own: it is of another version.
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed; run: pip install {install}"
    return (
        f"{package} is installed, but cannot be imported ({import_causes(error)}); run: pip install --upgrade {install}"
    )


def import_causes(error: BaseException) -> str:
    """Return the message of an error and of the errors that it came of, in one line."""
    words: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        words.append(" ".join(str(cause).split()) or type(cause).__name__)
        cause = cause.__cause__
    return ": ".join(dict.fromkeys(words))[:_MOST_CHARACTERS]
