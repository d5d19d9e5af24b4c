"""Which build lies in a folder: so that a build is continued by the same command and by no other.

Conventions
    ``build.json`` is the first file of a build and stays with it. It names data set, recipe, seed and version, the
    fingerprint of the data (names and sizes of all files of the clips, before any is left out), and checksums of the sounds
    and of the plan. Its bytes follow from these alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsrobust import __version__
from avsrobust.build.layout import Layout
from avsrobust.conditions.recipe import Recipe
from avsrobust.datasets.clips import Clip, DataSet
from avsrobust.errors import AvsRobustError, ManifestError, OptionError
from avsrobust.files import TEMPORARY_SUFFIX, require_writable, write_text
from avsrobust.manifest import DATA_PREFIX, MANIFEST_NAME, Manifest, fingerprint, load_manifest

IDENTITY_NAME = "build.json"
_ADVICE = "choose another --output, or delete that folder"
# In the order in which a difference explains itself.
_TITLES = {
    "dataset": "another data set",
    "seed": "another seed",
    "recipe": "another recipe",
    "avsrobust": "another version of avsrobust",
    "splits": "other splits",
    "data": "other data (names or sizes of its files)",
    "sounds": "other data (contents of its sounds)",
    "plan": "another plan",
}


@dataclass(frozen=True)
class Identity:
    """What tells one build from another; `content` holds plain JSON types."""

    content: dict[str, Any]

    @classmethod
    def of(cls, dataset: DataSet, recipe: Recipe, seed: int) -> Identity:
        """Return what is known before the sounds are decoded. Raises `ManifestError` where a file is missing."""
        return cls(
            {
                "dataset": dataset.name,
                "seed": seed,
                "recipe": recipe.as_dict(),
                "avsrobust": __version__,
                "splits": sorted({clip.split for clip in dataset.clips}),
                "data": fingerprint(dataset.root, _files(dataset.clips), named_by="the data set's tables"),
            }
        )

    def completed(self, layout: Layout, checksums: Mapping[str, str]) -> Identity:
        """Return the whole identity: `checksums` hold those of the data set's sounds, by the manifest's `audio`."""
        used = sorted({row.audio for row in layout.rows if row.audio.startswith(DATA_PREFIX)})
        return Identity(
            {
                **self.content,
                "sounds": _digest(f"{audio} {checksums[audio]}" for audio in used),
                "plan": _digest(repr(entry) for entry in (*layout.rows, *layout.sounds, *layout.shards)),
            }
        )

    def text(self) -> str:
        """Return the content of ``build.json``."""
        return json.dumps(self.content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def check_output(output: Path, identity: Identity) -> None:
    """Check that `output` can be written and holds nothing, or this very build as far as it is known. Leaves no trace.

    Raises `OptionError` otherwise.
    """
    try:
        present = sorted(entry.name for entry in output.iterdir() if not entry.name.endswith(TEMPORARY_SUFFIX))
    except FileNotFoundError:
        require_writable(_nearest_folder(output))
        return
    except OSError as error:
        raise OptionError(
            f"--output {output}: cannot be used ({error.strerror or error}); expected a folder; choose another one"
        ) from error
    require_writable(output)
    if IDENTITY_NAME in present:
        _compare(output, identity)
    elif {MANIFEST_NAME, "audio", "log_mel", "avsbench"} & set(present):
        raise OptionError(f"--output {output}: holds files but no {IDENTITY_NAME} that says what they are; {_ADVICE}")


def claim_output(output: Path, identity: Identity) -> None:
    """Write ``build.json``, where it is not there yet."""
    path = output / IDENTITY_NAME
    if not path.is_file():
        write_text(path, identity.text())


def finished_manifest(output: Path) -> Manifest | None:
    """Return the manifest of a finished build, or None where there is none that can be read."""
    try:
        return load_manifest(output)
    except ManifestError:
        return None


def _compare(output: Path, identity: Identity) -> None:
    try:
        there = json.loads((output / IDENTITY_NAME).read_text(encoding="utf-8"))
        known = [key for key in _TITLES if key in identity.content]
        differing = [_TITLES[key] for key in known if there[key] != identity.content[key]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(f"--output {output}: its {IDENTITY_NAME} is damaged; {_ADVICE}") from error
    if differing:
        raise OptionError(
            f"--output {output}: holds a build of {differing[0]}; expected this one or nothing; {_ADVICE}"
        )


def _nearest_folder(path: Path) -> Path:
    for folder in path.absolute().parents:
        if folder.exists():
            return folder
    raise AvsRobustError(f"--output {path}: has no parent folder that exists; choose another one")


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
