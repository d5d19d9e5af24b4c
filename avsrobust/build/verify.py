"""Verify a build: is everything its manifest names there, unchanged and consistent?

Conventions
    A manifest that cannot be read, or whose data root is unknown, is an error; everything else that is wrong is a problem,
    one line each, and all of them are found. Damaged files of the build are made again by deleting them and building again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avsrobust.audio.features import BANDS, STEPS
from avsrobust.build.plan import EVERY_CLIP
from avsrobust.conditions.base import RELEASED
from avsrobust.conditions.recipe import parse_recipe
from avsrobust.conditions.registry import CONDITIONS
from avsrobust.conditions.seeds import row_seed
from avsrobust.errors import AvsRobustError, ManifestError
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest, ManifestInfo, Row, check_fingerprints, load_manifest


@dataclass(frozen=True)
class VerifyReport:
    """Problems found (none: all in order), and the number of rows checked."""

    problems: tuple[str, ...]
    rows: int


def verify(manifest_path: Path | str, data_root: Path | None = None) -> VerifyReport:
    """Check every file and every row of a manifest.

    Checked are the sounds' checksums, presence of frames and masks, the log-mel arrays (readable, shape, finite), the data's
    fingerprint, seeds, polarity, partners, sort order and completeness. `data_root`: where the data lies now.
    Raises `ManifestError` where the manifest cannot be read or the data root is not there.
    """
    # What contradicts itself is listed below, row by row.
    manifest = load_manifest(manifest_path, consistent=False)
    root = manifest.data_root(data_root)
    problems = [
        *_check_rows(manifest),
        *_check_completeness(manifest),
        *_check_pictures(manifest, root),
        *_check_fingerprints(manifest, root),
        *_check_sounds(manifest, root),
        *_check_log_mels(manifest),
    ]
    return VerifyReport(tuple(problems), len(manifest.rows))


def _check_rows(manifest: Manifest) -> Iterator[str]:
    """Check what follows from the rows alone."""
    keys = [row.key for row in manifest.rows]
    if not keys:
        yield f"{manifest.path}: found no rows; build again"
    if keys != sorted(keys):
        yield f"{manifest.path}: rows are not sorted by split, clip_id, condition, level; build again"
    for (split, clip_id, condition, level), count in Counter(keys).items():
        if count > 1:
            yield f"row {split}/{clip_id}/{condition}/{level}: is there {count} times; expected once; build again"
    for row in manifest.rows:
        for found, expected in _contradictions(manifest, row):
            yield f"row {_name(row)}: found {found}; expected {expected}; build again"


def _contradictions(manifest: Manifest, row: Row) -> Iterator[tuple[str, str]]:
    """Yield (found, expected) of a row's columns that contradict each other or the metadata."""
    info = manifest.info
    if row.dataset != info.dataset:
        yield f"data set {row.dataset}", f"{info.dataset}"
    seed = row_seed(info.seed, row.dataset, row.clip_id, row.condition, row.level)
    if row.seed != seed:
        yield f"seed {row.seed}", f"{seed}"
    condition = CONDITIONS.get(row.condition)
    if condition is None:
        yield f"condition {row.condition}", f"one of {', '.join(CONDITIONS)}"
    elif row.polarity != condition.polarity:
        yield f"polarity {row.polarity}", condition.polarity
    if row.num_frames != len(row.frames) or len(row.masks) != len(row.frames):
        yield f"{len(row.frames)} frames and {len(row.masks)} masks", f"{row.num_frames} of each"
    if row.source_clip_id == row.clip_id:
        yield "its own clip as source", "another one"
    shared = sorted(set(row.source_labels or ()) & set(row.labels))
    if shared and not _is_released(info, row.condition):
        yield f"a source that shares the category {', '.join(shared)}", "one that shares none"


def _is_released(info: ManifestInfo, condition: str) -> bool:
    """Tell whether the released generator chose the sound: its fallbacks may share a category."""
    options = info.recipe.get("conditions", {}).get(condition, {})
    return bool(options.get("generator") == RELEASED)


def _check_completeness(manifest: Manifest) -> Iterator[str]:
    """Check that every clip is there under every condition of the recipe, or is listed as left out."""
    try:
        recipe = parse_recipe(manifest.info.recipe, "the recipe in the metadata")
    except AvsRobustError as error:
        yield f"{manifest.path}: {error}; build again"
        return
    left_out = {(entry.clip_id, entry.condition) for entry in manifest.info.skipped}
    present: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in manifest.rows:
        present[row.split, row.clip_id][row.condition] += 1
    for (split, clip_id), conditions in present.items():
        for entry in recipe.entries:
            name, levels = entry.condition.name, len(entry.condition.levels)
            if {(clip_id, name), (EVERY_CLIP, name)} & left_out:
                continue
            if conditions[name] != levels:
                yield f"clip {split}/{clip_id}: found {conditions[name]} rows of {name}; expected {levels}; build again"


def _check_pictures(manifest: Manifest, root: Path) -> Iterator[str]:
    named = {path for row in manifest.rows for path in (*row.frames, *row.masks) if path is not None}
    for path in sorted(named):
        if not (root / path).is_file():
            yield f"{root / path}: not found; expected a frame or mask; restore the data set"


def _check_fingerprints(manifest: Manifest, root: Path) -> Iterator[str]:
    for split in sorted({row.split for row in manifest.rows}):
        try:
            check_fingerprints(manifest, root, [split])
        except ManifestError as error:
            yield str(error)


def _check_sounds(manifest: Manifest, root: Path) -> Iterator[str]:
    expected: dict[str, set[str]] = defaultdict(set)
    paths: dict[str, Path] = {}
    for row in manifest.rows:
        expected[row.audio].add(row.audio_sha256)
        paths[row.audio] = manifest.audio_path(row, root)
    for audio in sorted(expected):
        path = paths[audio]
        try:
            found = sha256_of_file(path)
        except OSError as error:
            yield f"{path}: cannot be read ({error.strerror or error}); expected a sound; {_remedy(manifest, path)}"
            continue
        if expected[audio] != {found}:
            yield f"{path}: found sha256 {found}; expected {' or '.join(sorted(expected[audio]))}; {_remedy(manifest, path)}"


def _check_log_mels(manifest: Manifest) -> Iterator[str]:
    by_file: dict[str, list[Row]] = defaultdict(list)
    for row in manifest.rows:
        by_file[row.log_mel].append(row)
    for rows in (by_file[name] for name in sorted(by_file)):
        path = manifest.log_mel_path(rows[0])
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            yield f"{path}: cannot be read ({' '.join(str(error).split())}); expected log-mels; {_remedy(manifest, path)}"
            continue
        yield from _check_array(manifest, path, array, rows)


def _check_array(
    manifest: Manifest, path: Path, array: np.ndarray[Any, np.dtype[Any]], rows: Iterable[Row]
) -> Iterator[str]:
    if array.dtype != np.float32 or array.ndim != 5 or array.shape[2:] != (1, STEPS, BANDS):
        expected = f"float32 [n, T, 1, {STEPS}, {BANDS}]"
        yield f"{path}: found {array.dtype} {list(array.shape)}; expected {expected}; {_remedy(manifest, path)}"
        return
    bad = {index for index, log_mel in enumerate(array) if not np.isfinite(log_mel).all()}
    for row in rows:
        if not 0 <= row.log_mel_row < len(array) or row.num_frames != array.shape[1]:
            found = f"{array.shape[1]} frames in {len(array)} rows"
            yield f"{path}: found {found}; row {_name(row)} expects {row.num_frames} frames in row {row.log_mel_row}; build again"
        elif row.log_mel_row in bad:
            yield f"{path}: found NaN or infinity in row {row.log_mel_row} ({_name(row)}); {_remedy(manifest, path)}"


def _remedy(manifest: Manifest, path: Path) -> str:
    if path.is_relative_to(manifest.folder):
        return "delete it and build again with the same command"
    return "restore the data set"


def _name(row: Row) -> str:
    level = "" if row.level is None else f"/{row.level:g} dB"
    return f"{row.split}/{row.clip_id}/{row.condition}{level}"
