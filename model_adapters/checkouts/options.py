"""Options that the adapters of published repositories share (``--option key=value``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avsrobust.errors import AdapterError, did_you_mean


def find_root(repo: str | None, marker: str, folders: Sequence[str], model: str, source: str) -> Path:
    """Return the folder of the code in a checkout.

    Args:
        repo: The option's value, the checkout's folder.
        marker: File by which the folder of the code is recognised.
        folders: Folders below `repo` that are searched, in this order.
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
    for folder in folders:
        if (path / folder / marker).is_file():
            return path / folder
    raise AdapterError(f"--option repo={repo}: holds no {marker}; expected a checkout of {source}")


def choice(option: str, value: str, known: Sequence[str]) -> str:
    """Return the value of an option that has a few.

    Args:
        option: Name of the option, for messages.
        value: The text that was given.
        known: The possible values.

    Returns:
        `value`.

    Raises:
        AdapterError: It is none of `known`.
    """
    if value not in known:
        raise AdapterError(f"--option {option}={value}: expected {' or '.join(known)}{did_you_mean(value, known)}")
    return value


def side(option: str, value: str) -> int:
    """Return the value of an option for the side of square pictures.

    Args:
        option: Name of the option, for messages.
        value: The text that was given.

    Returns:
        The side in pixels.

    Raises:
        AdapterError: It is no multiple of 32.
    """
    # Backbones halve five times.
    if not value.isascii() or not value.isdigit() or int(value) < 32 or int(value) % 32:
        raise AdapterError(f"--option {option}={value}: expected a multiple of 32 pixels")
    return int(value)
