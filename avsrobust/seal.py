"""``seal.json``: the SHA-256 of a build's small files, the manifest among them, which nothing else vouches for.

Conventions
    The seal is written just before the manifest, whose bytes are known by then. It covers those of `SEALED_NAMES` that are there,
    and itself: so a flipped bit in the seal is not taken for one in the files it vouches for.
    ``checksums.parquet`` vouches for all other files that a build's rows name (`avsrobust.checksums`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from avsrobust.errors import ManifestError
from avsrobust.files import open_regular, sha256_of_file, write_bytes
from avsrobust.folders import MARKER_NAME
from avsrobust.textfiles import parse_json

SEAL_NAME = "seal.json"
SEALED_NAMES = (MARKER_NAME, "build.json", "checksums.parquet", "manifest.parquet")
_OWN = "seal"
_MOST_BYTES = 4096
_BY_BUILDING = "delete it and build again with the same command"
_ELSEWHERE = "restore it, or build again into another folder"
_REMEDIES = {"build.json": _ELSEWHERE, MARKER_NAME: _ELSEWHERE}


def write_seal(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write the seal of `folder`; `contents` are files, by name, that will be written next, the others are read."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    for name in SEALED_NAMES:
        if name not in sums and (folder / name).is_file():
            sums[name] = sha256_of_file(folder / name)
    write_bytes(folder / SEAL_NAME, _text(sums))


def broken_seals(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of every sealed file in `folder` that is not what was built, and a line that says so.

    Nothing is yielded for a folder without a seal. Where the seal itself is damaged, that alone is.
    """
    try:
        sums = read_seal(folder)
    except ManifestError as error:
        yield SEAL_NAME, str(error)
        return
    for name, expected in sums.items():
        path, remedy = folder / name, _REMEDIES.get(name, _BY_BUILDING)
        try:
            found = sha256_of_file(path)
        except OSError as error:
            yield (
                name,
                f"{path}: cannot be read ({error.strerror or error}); expected the file that was built; {remedy}",
            )
            continue
        if found != expected:
            yield name, f"{path}: found sha256 {found}; expected {expected}; {remedy}"


def is_intact(folder: Path) -> bool:
    """Return whether `folder` has a seal and every file under it is what was built."""
    return (folder / SEAL_NAME).is_file() and not any(broken_seals(folder))


def require_sealed(manifest: Path) -> None:
    """Raise `ManifestError` where the bytes of the manifest's file, or of its folder's seal, are not what was built."""
    for name, problem in broken_seals(manifest.parent):
        if name in (SEAL_NAME, manifest.name):
            raise ManifestError(problem)


def read_seal(folder: Path) -> dict[str, str]:
    """Return the checksums in the seal of `folder` by name; empty where there is none.

    Raises `ManifestError` for a damaged seal.
    """
    path = folder / SEAL_NAME
    try:
        with open_regular(path) as stream:
            text = stream.read(_MOST_BYTES)
        content = parse_json(text)
        sums = {name: content[name] for name in SEALED_NAMES if name in content}
        is_whole = text == _text(sums)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ManifestError(f"{path}: is damaged ({reason}); expected the seal of a build; {_BY_BUILDING}") from error
    if not is_whole:
        raise ManifestError(
            f"{path}: is damaged (its own checksum is wrong); expected the seal of a build; {_BY_BUILDING}"
        )
    return sums


def _text(sums: Mapping[str, str]) -> bytes:
    """Return the content of ``seal.json``, which covers itself."""
    own = hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**sums, _OWN: own}, indent=2, sort_keys=True) + "\n").encode()
