"""Folders of ours: a marker file says what a folder holds, so that nothing of the user's is ever taken for it.

Conventions
    ``.avsrobust.json`` is the first file in a folder of ours and names its kind ("build", "results", ..) and that kind's
    format. A folder without it is ours only if it is empty or does not exist. Only files whose names the kind's own code
    writes are ever replaced or deleted, and only in a folder with the marker.
"""

from __future__ import annotations

import json
from pathlib import Path

from avsrobust.errors import OptionError
from avsrobust.files import TEMPORARY_SUFFIX, make_folder, write_text
from avsrobust.locks import LOCK_NAME, OWNER_NAME

MARKER_NAME = ".avsrobust.json"
_MOST_NAMED = 5
_MOST_BYTES = 4096


def ensure_output_dir(folder: Path, kind: str, format_version: int) -> None:
    """Make `folder` ours: make it, or check that it is empty or marked as one of this kind and format, and mark it.

    Raises `OptionError` where it holds anything that is not ours, or is of another kind or format. Nothing is changed then.
    """
    found = read_marker(folder)
    if found is None:
        foreign = foreign_entries(folder)
        if foreign:
            names = ", ".join(foreign[:_MOST_NAMED]) + (", .." if len(foreign) > _MOST_NAMED else "")
            raise OptionError(
                f"{folder}: holds {names}, which avsrobust did not write there (no {MARKER_NAME}); "
                "expected a new, an empty or an own folder; choose another one"
            )
        make_folder(folder)
        write_text(folder / MARKER_NAME, json.dumps({"kind": kind, "format": format_version}, sort_keys=True) + "\n")
    elif found != (kind, format_version):
        raise OptionError(
            f"{folder}: holds a {found[0]} of format {found[1]}; expected a {kind} of format {format_version}; "
            "choose another folder"
        )


def read_marker(folder: Path) -> tuple[str, int] | None:
    """Return kind and format of a folder of ours, None where it is not ours. Raises `OptionError` for a damaged marker."""
    path = folder / MARKER_NAME
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            content = json.loads(stream.read(_MOST_BYTES))
        kind, version = content["kind"], content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"{path}: is damaged ({error}); expected avsrobust's own marker; choose another folder"
        ) from error
    if not (isinstance(kind, str) and kind.isidentifier() and isinstance(version, int)):
        raise OptionError(f"{path}: is damaged; expected a kind and a format; choose another folder")
    return kind, version


def foreign_entries(folder: Path) -> list[str]:
    """Return the sorted names in a folder that are not leftovers of ours; empty where there is no folder."""
    ours = (LOCK_NAME, OWNER_NAME, MARKER_NAME)
    try:
        entries = sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OptionError(
            f"{folder}: cannot be used ({error.strerror or error}); expected a folder; choose another one"
        ) from error
    return [name for name in entries if name not in ours and not name.endswith(TEMPORARY_SUFFIX)]
