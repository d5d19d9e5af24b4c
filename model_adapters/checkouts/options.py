"""Options that the adapters of published repositories share (``--option key=value``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avsrobust.errors import AdapterError, did_you_mean


def find_root(repo: str | None, marker: str, places: Sequence[str], model: str, source: str) -> Path:
    """Return the folder of the code in a checkout.

    Args:
        repo: The option's value, the checkout's folder.
        marker: File by which the folder of the code is recognised.
        places: Folders below `repo` that are searched, in this order.
        model: Name of the model, for messages.
        source: Address of the repository, for messages.

    Raises:
        AdapterError: No folder is named, or none holds the marker.
    """
    if repo is None:
        raise AdapterError(f"{model}: found no --option repo; expected repo=PATH, a checkout of {source}")
    path = Path(repo)
    if not path.is_dir():
        raise AdapterError(f"--option repo={repo}: found no such folder; expected a checkout of {source}")
    for place in places:
        if (path / place / marker).is_file():
            return path / place
    raise AdapterError(f"--option repo={repo}: holds no {marker}; expected a checkout of {source}")


def choice(option: str, value: str, known: Sequence[str]) -> str:
    """Return `value`.

    Raises:
        AdapterError: It is none of `known`.
    """
    if value not in known:
        raise AdapterError(f"--option {option}={value}: expected {' or '.join(known)}{did_you_mean(value, known)}")
    return value


def side(option: str, value: str) -> int:
    """Return the side length in pixels that the text `value` gives.

    Raises:
        AdapterError: It is no multiple of 32.
    """
    # Backbones halve five times.
    if not value.isascii() or not value.isdigit() or int(value) < 32 or int(value) % 32:
        raise AdapterError(f"--option {option}={value}: expected a multiple of 32 pixels")
    return int(value)
