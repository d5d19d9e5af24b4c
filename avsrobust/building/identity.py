"""The identity of the build in a folder: a build is continued by the same command and by no other.

Conventions
    ``build.json`` is the first file of a build beside the marker, and stays with it. It names data set, recipe, seed and format,
    the fingerprint of the data (names and sizes of all files of the clips, before any is left out), and checksums of the sounds
    and of the plan. It also says which version of avsrobust began the build, which its manifest goes on saying: another
    version of the same format continues the build and changes no byte of it. Its bytes follow from these alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsrobust import __version__
from avsrobust.building.layout import Layout
from avsrobust.clips import Clip
from avsrobust.conditions.recipe import Recipe
from avsrobust.datasets.dataset import DataSet
from avsrobust.errors import ManifestError, OptionError
from avsrobust.files import read_regular, write_text
from avsrobust.folders import foreign_entries
from avsrobust.limits import TEXT_BYTES
from avsrobust.manifest import (
    BUILD_FORMAT,
    COLUMNS,
    DATA_PREFIX,
    Manifest,
    Row,
    fingerprint,
    load_manifest,
    sound_files,
)
from avsrobust.textfiles import parse_json

BUILD_KIND = "build"
IDENTITY_NAME = "build.json"
_VERSION = "begun_by"
_LAST = "foreground"
_ADVICE = "choose another --output, or delete that folder"
# In the order in which a difference explains itself.
_TITLES = {
    "dataset": "another data set",
    "seed": "another seed",
    "recipe": "another recipe",
    "format": "another format",
    "splits": "other splits",
    "data": "other data (sizes of its files, or their names below --data-root)",
    "sounds": "other data (contents of its sounds)",
    "plan": "another plan",
}


@dataclass(frozen=True)
class Identity:
    """Facts in which two builds differ; `content` holds plain JSON types."""

    content: dict[str, Any]

    @classmethod
    def of(cls, dataset: DataSet, recipe: Recipe, seed: int) -> Identity:
        """Return the facts that are known before the sounds are decoded. Raises `ManifestError` where a file is missing."""
        return cls(
            {
                "dataset": dataset.name,
                "seed": seed,
                "recipe": recipe.as_dict(),
                "format": BUILD_FORMAT,
                _VERSION: __version__,
                "splits": sorted({clip.split for clip in dataset.clips}),
                "data": fingerprint(dataset.root, _files(dataset.clips), named_by="the data set's tables"),
            }
        )

    def completed(self, layout: Layout, checksums: Mapping[str, str]) -> Identity:
        """Return the whole identity: `checksums` hold those of the data set's sounds, by the manifest's `audio`."""
        sounds = {name for row in layout.rows for name in sound_files(row)}
        used = sorted(name for name in sounds if name.startswith(DATA_PREFIX))
        return Identity(
            {
                **self.content,
                "sounds": _digest(f"{audio} {checksums[audio]}" for audio in used),
                "plan": _digest(
                    (
                        *(_row_text(row) for row in layout.rows),
                        *(repr(entry) for entry in (*layout.sounds, *layout.shards, *layout.pictures)),
                    )
                ),
            }
        )

    def text(self) -> str:
        """Return the content of ``build.json``."""
        return json.dumps(self.content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def check_output(output: Path, identity: Identity) -> None:
    """Check that `output`, a folder of ours, holds nothing, or this very build as far as it is known. Leaves no trace.

    Raises `OptionError` otherwise.
    """
    present = foreign_entries(output)
    if IDENTITY_NAME in present:
        _compare(output, identity)
    elif present:
        raise OptionError(
            f"--output {output}: holds {present[0]} but no {IDENTITY_NAME} that says what build that is of; {_ADVICE}"
        )


def write_identity(output: Path, identity: Identity) -> None:
    """Write ``build.json``, where it is not there yet."""
    path = output / IDENTITY_NAME
    if not path.is_file():
        write_text(path, identity.text())


def begun_by(output: Path) -> str:
    """Return the version of avsrobust that began the build in `output`."""
    return str(_read(output).get(_VERSION, __version__))


def finished_manifest(output: Path) -> Manifest | None:
    """Return the manifest of a finished build, or None where there is none that can be read."""
    try:
        return load_manifest(output)
    except ManifestError:
        return None


def _compare(output: Path, identity: Identity) -> None:
    there = _read(output)
    differing = [_TITLES[key] for key in _TITLES if key in identity.content and there.get(key) != identity.content[key]]
    if differing:
        raise OptionError(
            f"--output {output}: holds a build of {differing[0]}; expected this one or nothing; {_ADVICE}"
        )


def _read(output: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_regular(output / IDENTITY_NAME, TEXT_BYTES, OptionError), finite=False)
    except (OSError, ValueError) as error:
        raise OptionError(f"--output {output}: its {IDENTITY_NAME} is damaged; {_ADVICE}") from error
    if not isinstance(content, dict) or not content.keys() >= {"dataset", "seed", "recipe"}:
        raise OptionError(f"--output {output}: its {IDENTITY_NAME} is damaged; {_ADVICE}")
    return content


def _row_text(row: Row) -> str:
    """Return a row as builds of format 2 have always written it: columns that came later only where they hold something."""
    names = [entry.name for entry in COLUMNS.values() if entry.name != _LAST and not entry.is_optional] + [_LAST]
    names += [
        entry.name for entry in COLUMNS.values() if entry.is_optional and getattr(row, entry.name) != entry.default
    ]
    return f"Row({', '.join(f'{name}={getattr(row, name)!r}' for name in names)})"


def _files(clips: Iterable[Clip]) -> set[str]:
    files: set[str] = set()
    for clip in clips:
        files.update(clip.frames, (mask for mask in clip.masks if mask is not None), (clip.audio,))
    return files


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "backslashreplace") + b"\n")
    return digest.hexdigest()
