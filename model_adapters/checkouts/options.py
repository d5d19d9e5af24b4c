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


def find_file(option: str, value: str, root: Path) -> Path:
    """Return the file that an option names, below the checkout or anywhere.

    Args:
        option: Name of the option, for messages.
        value: The text that was given.
        root: Folder of the checkout's code.

    Raises:
        AdapterError: There is no such file.
    """
    for path in (root / value, Path(value)):
        if path.is_file():
            return path
    raise AdapterError(f"--option {option}={value}: found no such file, neither below {root} nor here")


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


def whole_number(option: str, value: str, least: int, most: int) -> int:
    """Return the value of an option for a whole number.

    Args:
        option: Name of the option, for messages.
        value: The text that was given.
        least: The smallest possible value.
        most: The largest possible value.

    Raises:
        AdapterError: It is no such number.
    """
    if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
        raise AdapterError(f"--option {option}={value}: expected a whole number from {least} to {most}")
    return int(value)


def fraction(option: str, value: str) -> float:
    """Return the value of an option for a probability.

    Args:
        option: Name of the option, for messages.
        value: The text that was given.

    Raises:
        AdapterError: It is no number from 0 to 1.
    """
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise AdapterError(f"--option {option}={value}: expected a number from 0 to 1")
    return number
