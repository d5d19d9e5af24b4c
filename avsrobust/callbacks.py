"""Callbacks by which long work reports to its caller. Imports nothing of the package."""

from __future__ import annotations

from collections.abc import Callable

# (units done, units in total)
ProgressCallback = Callable[[int, int], None]
# One line for people.
MessageCallback = Callable[[str], None]
