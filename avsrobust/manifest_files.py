"""The files that a manifest's rows name, and how ``checksums.parquet`` and fingerprints know them.

Conventions
    A file's name there is its path below the build's folder, or, with the prefix ``data:``, below the data root; rows write the
    data set's pictures without it (`avsrobust.manifest_values`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from avsrobust.errors import ManifestError
from avsrobust.files import resolve_inside
from avsrobust.manifest_values import Row
from avsrobust.remote.on_demand import listed_sizes
from avsrobust.textfiles import parse_json

DATA_PREFIX = "data:"
MADE_PREFIX = "made:"
BUILD_PREFIX = "build:"


def used_files(rows: Iterable[Row], *, sound: bool = True, log_mel: bool = True) -> set[str]:
    """Return every file that these rows name, as ``checksums.parquet`` does: with ``data:`` below the data root, else the build.

    Recordings that a row's sound is made from are among them.

    Args:
        rows: The rows.
        sound: Whether sounds are among them; those that a log-mel without a file is made from are in any case.
        log_mel: Whether files of log-mels are.
    """
    return set(_files_of(rows, sound=sound, log_mel=log_mel))


def data_files(rows: Iterable[Row]) -> set[str]:
    """Return the data set's files that these rows use, relative to the data root."""
    return {path.removeprefix(DATA_PREFIX) for path in _files_of(rows) if path.startswith(DATA_PREFIX)}


def _files_of(rows: Iterable[Row], *, sound: bool = True, log_mel: bool = True) -> Iterator[str]:
    """Yield the files of `used_files`, some of them several times."""
    before: tuple[object, ...] = ()
    for row in rows:
        pictures = (row.frames, row.masks, row.annotated)
        # The rows of a clip follow one another, and mostly have the same pictures.
        if pictures != before:
            yield from (picture_entry(name) for names in pictures for name in names or () if name is not None)
            before = pictures
        is_made = row.log_mel.startswith(MADE_PREFIX)
        if sound or is_made:
            yield from sound_files(row)
        if log_mel and not is_made:
            yield row.log_mel


def audio_files(row: Row, *, log_mel: bool) -> tuple[str, ...]:
    """Return the files that a row's sound, or its log-mel, is read or made from, as `used_files` names them."""
    return (row.log_mel,) if log_mel and not row.log_mel.startswith(MADE_PREFIX) else sound_files(row)


def picture_entry(picture: str) -> str:
    """Return the name by which ``checksums.parquet`` knows a row's picture.

    >>> picture_entry("s4/a_1.png"), picture_entry("build:pictures/ab/c.png")
    ('data:s4/a_1.png', 'pictures/ab/c.png')
    """
    if picture.startswith(BUILD_PREFIX):
        return picture.removeprefix(BUILD_PREFIX)
    return DATA_PREFIX + picture


def sound_files(row: Row) -> tuple[str, ...]:
    """Return the files that a row's sound is, or is made from, as ``checksums.parquet`` knows them.

    Raises `ManifestError` for a definition that is none.
    """
    if not row.audio.startswith(MADE_PREFIX):
        return (row.audio,)
    try:
        definition = parse_json(row.sound or "")
    except ValueError as error:
        raise ManifestError(
            f"row {row.clip_id}/{row.condition}: its sound is no definition ({error}); build again"
        ) from error
    return tuple(dict.fromkeys(_files_in(definition)))


def _files_in(definition: object) -> Iterator[str]:
    """Yield the recordings in a definition (`avsrobust.audio.definitions`), which no others than its keys "file" name."""
    if isinstance(definition, dict):
        for key, value in definition.items():
            if key == "file" and isinstance(value, str):
                yield value
            else:
                yield from _files_in(value)


def made_sha256(row: Row, checksums: Mapping[str, str]) -> str:
    """Return what `audio_sha256` is for a row without a sound file: a checksum of the definition and of the files it uses.

    `checksums` maps names as of `sound_files` to the SHA-256 of the files.
    """
    lines = [row.sound or "", *(f"{name} {checksums[name]}" for name in sound_files(row))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def fingerprint(data_root: Path, files: Iterable[str], *, named_by: Path | str) -> str:
    """Return the SHA-256 over the sorted names and sizes (bytes) of `files` below `data_root`.

    Sizes, not contents: it must cost seconds on 50,000 files. Contents of sounds are checked by `audio_sha256`.
    Raises `ManifestError` naming the first file that is missing.
    """
    digest = hashlib.sha256()
    # Of files that are fetched when they are read.
    sizes = listed_sizes(data_root)
    for relative in sorted(files):
        path = resolve_inside(data_root, relative, named_by=named_by)
        try:
            size = sizes[relative] if relative in sizes else path.stat().st_size
        except OSError as error:
            raise ManifestError(
                f"{path}: not found, but {named_by} needs it; expected the data set the build was made from; "
                "name its root with --data-root, or build again"
            ) from error
        digest.update(f"{relative}\t{size}\n".encode())
    return digest.hexdigest()
