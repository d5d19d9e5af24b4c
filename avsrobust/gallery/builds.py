"""The build that results were scored on: found again by its checksum, its files read with theirs.

Conventions
    The manifest is found as `reporting.build_files` says.
    frames: uint8 [T, H, W, 3]. masks: bool [T, h, w], the foreground that sounds; frames without a mask have an empty one.
    sounds: mono float64 [S] in [-1, 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avsrobust.audio.io import FULL_SCALE, read_samples
from avsrobust.audio.made import FileReader, render_row
from avsrobust.audio.resample import to_mono
from avsrobust.checksums import Checksums, load_checksums
from avsrobust.datasets.masks import read_frame, read_mask
from avsrobust.errors import ResultsError
from avsrobust.files import FileState, file_state
from avsrobust.manifest import MADE_PREFIX, Manifest, Row, load_manifest, picture_entry
from avsrobust.manifest_rows import column_of, rows_at
from avsrobust.remote.inputs import local_data_root, with_folder
from avsrobust.reporting.build_files import manifest_file
from avsrobust.results import Run
from avsrobust.row_keys import ClipKey
from avsrobust.vocabulary import CLEAN, NEGATIVES

# Longer recordings are cut: a page is no archive.
LONGEST_S = 30.0


class Build:
    """A build whose clips are shown.

    Args:
        manifest: Its manifest.
        data_root: Folder of the data set; None: the one that the build remembers.

    Raises:
        ManifestError: The data root is not there any more, or the checksums are damaged.
    """

    def __init__(self, manifest: Manifest, data_root: Path | str | None = None) -> None:
        self.manifest = manifest
        self._root = manifest.data_root(local_data_root(data_root, [manifest]))
        self._sums: Checksums | None = load_checksums(manifest)
        self._files = FileReader(self._checked)
        # Rows are made when they are asked for: those of a large build would take ten times the manifest's memory.
        self._positions: dict[ClipKey, list[int]] = {}
        clips = zip(*(column_of(manifest.rows, name) for name in ("split", "clip_id")), strict=True)
        for position, clip in enumerate(clips):
            self._positions.setdefault(clip, []).append(position)

    def rows(self, clip: ClipKey) -> tuple[Row, ...]:
        """Return the rows of a clip, clean first, then silence, noise and off-screen; none where the build does not have it."""
        positions = np.array(self._positions.get(clip, ()), dtype=np.int64)
        return tuple(sorted(rows_at(self.manifest.rows, positions), key=_order))

    def frames(self, row: Row) -> npt.NDArray[np.uint8]:
        """Return a row's frames. Raises `AvsRobustError` where one cannot be read or is not the one that was built."""
        pictures = [read_frame(self._picture(name), self._check(name)).transpose(1, 2, 0) for name in row.frames]
        if len({picture.shape for picture in pictures}) > 1:
            raise ResultsError(f"{row.clip_id}: found frames of several sizes; expected one")
        return np.stack(pictures)

    def masks(self, row: Row) -> list[npt.NDArray[np.bool_] | None]:
        """Return a row's true masks, None for frames without one. Raises `AvsRobustError` as `frames`."""
        return [
            None
            if name is None
            else read_mask(self._picture(name), row.dataset, row.labels, row.foreground, self._check(name)) != 0
            for name in row.masks
        ]

    def sound(self, row: Row) -> tuple[npt.NDArray[np.float64], int]:
        """Return a row's sound and its rate in Hz, at most `LONGEST_S` of it. Raises `AvsRobustError` as `frames`."""
        if row.audio.startswith(MADE_PREFIX):
            rendered, rate = render_row(row, self._files)
            samples = rendered.samples / FULL_SCALE
        else:
            samples, rate = read_samples(self._checked(row.audio), longest_s=LONGEST_S)
        return to_mono(samples)[: int(min(LONGEST_S, row.duration_s) * rate)], rate

    def files(self, row: Row) -> Iterator[tuple[str, Path]]:
        """Yield the names and paths of a row's files: the sound, where it is one, and the first frame and mask."""
        if not row.audio.startswith(MADE_PREFIX):
            yield "sound", self.manifest.audio_path(row, self._root)
        yield "first frame", self._picture(row.frames[0])
        first = next((name for name in row.masks if name is not None), None)
        if first is not None:
            yield "first mask", self._picture(first)

    def _picture(self, name: str) -> Path:
        return self.manifest.picture_path(name, self._root)

    def _check(self, name: str) -> partial[None] | None:
        return None if self._sums is None else partial(self._sums.check, picture_entry(name))

    def _checked(self, name: str) -> Path:
        path = self.manifest.file(name, self._root)
        if self._sums is not None:
            self._sums.check_file(name, path)
        return path


def _order(row: Row) -> tuple[int, tuple[object, ...]]:
    """Clean first, then the negatives of the G scores, then the others."""
    first = (CLEAN, *NEGATIVES)
    return (first.index(row.condition) if row.condition in first else len(first), row.key)


def find_manifest(results: Path, run: Run) -> Manifest:
    """Return the manifest that a run was scored on.

    Args:
        results: Folder of the results.
        run: Its ``run.json``.

    Raises:
        ResultsError: ``run.json`` names none, or it is not there any more.
    """
    path = with_folder(manifest_file(results, run.details))
    return _load(path, path.absolute(), file_state(path))


# Many results share a build. A path alone tells neither a file that has changed nor another working folder's file.
@lru_cache(8)
def _load(path: Path, _absolute: Path, _state: FileState | None) -> Manifest:
    return load_manifest(path)
